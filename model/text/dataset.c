#include "model/text/dataset.h"

#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "base/size.h"
#include "base/utf8.h"
#include "model/text/words.h"

#define RNG_STREAM_SPLIT UINT64_C(0x73706c6974000000) /* stream of the run's seed, for this alone */

/* ---- splitting ---- */

static void borrow_document(struct corpus *to, const struct document *document, size_t characters)
{
    to->documents[to->count++] = *document;
    to->bytes += document->n;
    to->characters += characters;
}

/* In a corpus whose characters are all bytes, each document's are, too. */
static size_t characters_of(const struct corpus *corpus, const struct document *document)
{
    return corpus->bytes == corpus->characters ? document->n : utf8_count(document->text, document->n);
}

/* Of `total` parts, how many validate: the first int(total * (1 - fraction)) train, and each side gets at least one. */
static size_t validation_share(size_t total, double fraction)
{
    size_t train = (size_t)((double)total * (1.0 - fraction));
    if (train < 1) train = 1;
    if (train > total - 1) train = total - 1;
    return total - train;
}

/* The byte offset where the last `count` characters of a running text begin (bytes, where all characters are bytes).
 * The search starts at the end, because the validation part is the smaller one. */
static size_t offset_of_last(const struct corpus *corpus, size_t count)
{
    const char *text = corpus->documents[0].text;
    size_t at = corpus->documents[0].n;
    if (corpus->bytes == corpus->characters) return at - count;
    while (count > 0) count -= ((unsigned char)text[--at] & 0xC0) != 0x80;
    return at;
}

static void split_stream(const struct corpus *corpus, double fraction, struct corpus *train, struct corpus *validation)
{
    struct document first = corpus->documents[0], last = first;
    const size_t share = validation_share(corpus->characters, fraction), cut = offset_of_last(corpus, share);
    first.n = cut;
    last.text += cut;
    last.n -= cut;
    borrow_document(train, &first, corpus->characters - share);
    borrow_document(validation, &last, share);
}

/* Selection sampling (Knuth, The Art of Computer Programming, 3.4.2, algorithm S): every choice of the wanted size has
 * the same chance. One pass, in order. */
static bool split_documents(const struct corpus *corpus, double fraction, uint64_t seed, struct corpus *train,
                            struct corpus *validation, struct error *err)
{
    struct rng rng;
    rng_seed(&rng, seed, RNG_STREAM_SPLIT);
    size_t wanted = validation_share(corpus->count, fraction);
    for (size_t i = 0; i < corpus->count; i++) {
        bool chosen = rng_below(&rng, corpus->count - i) < wanted;
        wanted -= chosen;
        const struct document *document = &corpus->documents[i];
        borrow_document(chosen ? validation : train, document, characters_of(corpus, document));
        if (!corpus_go_on(corpus, err)) return false;
    }
    return true;
}

bool corpus_split(const struct corpus *corpus, double fraction, uint64_t seed, struct corpus *train,
                  struct corpus *validation, struct error *err)
{
    *train = *validation =
        (struct corpus){.one_stream = corpus->one_stream, .stop = corpus->stop, .directory = corpus->directory};
    if (!(fraction >= 0.0 && fraction < 1.0))
        return error_set(err, ERROR_INVALID, "the validation fraction must be at least 0 and below 1, not %g",
                         fraction);
    size_t parts = corpus->one_stream ? corpus->characters : corpus->count;
    if (fraction > 0.0 && parts < 2)
        return error_set(err, ERROR_INVALID,
                         "a corpus of one %s cannot be split: give validation data, or a validation fraction of 0",
                         corpus->one_stream ? "character" : "document");
    size_t kept = fraction > 0.0 && !corpus->one_stream ? validation_share(corpus->count, fraction) : 1;
    if (!corpus_reserve(train, corpus->count, err) || !corpus_reserve(validation, kept, err)) return false;
    if (fraction > 0.0 && !corpus->one_stream) return split_documents(corpus, fraction, seed, train, validation, err);
    if (fraction > 0.0)
        split_stream(corpus, fraction, train, validation);
    else
        for (size_t i = 0; i < corpus->count; i++)
            borrow_document(train, &corpus->documents[i], characters_of(corpus, &corpus->documents[i]));
    return true;
}

bool corpus_join(const struct corpus *const *parts, size_t count, struct corpus *joined, struct error *err)
{
    size_t total = 0;
    for (size_t i = 0; i < count; i++) total += parts[i]->count;
    *joined = (struct corpus){.one_stream = total == 1 && parts[0]->one_stream,
                              .format = parts[0]->format,
                              .stop = parts[0]->stop,
                              .directory = parts[0]->directory};
    if (!corpus_reserve(joined, total, err)) return false;
    for (size_t i = 0; i < count; i++) {
        if (parts[i]->count > 0)
            memcpy(joined->documents + joined->count, parts[i]->documents, parts[i]->count * sizeof *joined->documents);
        joined->count += parts[i]->count;
        joined->bytes += parts[i]->bytes;
        joined->characters += parts[i]->characters;
        if (!corpus_go_on(joined, err)) return false;
    }
    return true;
}

/* ---- pieces ---- */

/* How much of a long text may be read by itself: whole characters (and what their lower case depends on), whole
 * words. */
static size_t piece_size(enum token_level level, const char *text, size_t n)
{
    if (n <= CORPUS_PIECE) return n;
    if (level == TOKEN_LEVEL_BYTE) return CORPUS_PIECE;
    if (level == TOKEN_LEVEL_CHAR) return word_rules_prefix(text, utf8_complete_prefix(text, CORPUS_PIECE));
    const char *space = memchr(text + CORPUS_PIECE, ' ', n - CORPUS_PIECE);
    return space ? (size_t)(space - text) : n;
}

/* ---- vocabulary ---- */

static bool add_text(struct vocabulary_builder *builder, const struct corpus *corpus, const struct document *document,
                     enum token_level level, struct error *err)
{
    const char *text = document->text;
    for (size_t n = document->n, size; n > 0; text += size, n -= size) {
        size = piece_size(level, text, n);
        if (!vocabulary_builder_add(builder, text, size, err) || !corpus_go_on(corpus, err)) return false;
    }
    return true;
}

static bool add_documents(struct vocabulary_builder *builder, const struct corpus *corpus, enum token_level level,
                          struct error *err)
{
    const char *last = NULL; /* in a loaded corpus equal labels are one string, and often neighbours */
    for (size_t i = 0; i < corpus->count; i++) {
        const struct document *document = &corpus->documents[i];
        if (!add_text(builder, corpus, document, level, err)) return false;
        if (!document->label || document->label == last) continue;
        last = document->label;
        if (!vocabulary_builder_add_label(builder, last, err)) return false;
    }
    return true;
}

struct vocabulary *vocabulary_build(const struct corpus *corpus, const struct vocabulary_options *options,
                                    struct error *err)
{
    struct vocabulary_builder *builder = vocabulary_builder_new(options, err);
    if (!builder) return NULL;
    if (add_documents(builder, corpus, options->level, err)) return vocabulary_builder_finish(builder, err);
    vocabulary_builder_free(builder);
    return NULL;
}

/* ---- encoding ---- */

#define LABEL_SKIP_PERIOD 10 /* every tenth document stays without its label */

struct encoder {
    const struct corpus *corpus;
    const struct vocabulary *vocabulary;
    struct tokens *tokens;
    size_t count;
    struct token_list ids;       /* of the current piece */
    struct unknown_list unknown; /* text that was skipped */
    struct skipped_text skipped; /* its first pieces by name */
    size_t unknown_labels;
};

static bool append_ids(struct encoder *encoder, const uint32_t *ids, size_t n, struct error *err)
{
    const size_t needed = encoder->count + n, half_more = needed + needed / 2;
    if (needed > encoder->tokens->capacity && !tokens_grow(encoder->tokens, half_more, err)) return false;
    for (size_t i = 0; i < n; i++) tokens_set(encoder->tokens, encoder->count++, ids[i]);
    return true;
}

static bool encode_label(struct encoder *encoder, const char *name, struct error *err)
{
    uint32_t label = vocabulary_find_label(encoder->vocabulary, name);
    if (label != TOKEN_NONE) return append_ids(encoder, &label, 1, err);
    encoder->unknown_labels++;
    return true;
}

/* Does nothing where the vocabulary has no <eos>. */
static bool append_eos(struct encoder *encoder, struct error *err)
{
    const uint32_t eos = vocabulary_eos(encoder->vocabulary);
    return eos == TOKEN_NONE || append_ids(encoder, &eos, 1, err);
}

/* Encodes in pieces, so that the ids in between need little memory. */
static bool encode_text(struct encoder *encoder, const char *text, size_t n, struct error *err)
{
    encoder->unknown.word_known = false;
    for (size_t size; n > 0; text += size, n -= size) {
        size = piece_size(vocabulary_level(encoder->vocabulary), text, n);
        encoder->ids.count = 0;
        encoder->unknown.most = skipped_text_wanted(&encoder->skipped);
        if (!vocabulary_encode(encoder->vocabulary, text, size, &encoder->ids, &encoder->unknown, err)) return false;
        skipped_text_add(&encoder->skipped, text, &encoder->unknown);
        if (!append_ids(encoder, encoder->ids.ids, encoder->ids.count, err) || !corpus_go_on(encoder->corpus, err))
            return false;
    }
    return true;
}

static bool encode_document(struct encoder *encoder, size_t index, struct error *err)
{
    const struct document *document = &encoder->corpus->documents[index];
    bool labelled = document->label && index % LABEL_SKIP_PERIOD != LABEL_SKIP_PERIOD - 1;
    if (!append_eos(encoder, err)) return false;
    if (labelled && !encode_label(encoder, document->label, err)) return false;
    return encode_text(encoder, document->text, document->n, err) || error_add_context(err, "document %zu", index + 1);
}

/* Makes room for all tokens at once where their number is known. For words it is not, and the list grows. */
static bool reserve_tokens(struct encoder *encoder, const char *directory, struct error *err)
{
    const struct corpus *corpus = encoder->corpus;
    enum token_level level = vocabulary_level(encoder->vocabulary);
    size_t text = level == TOKEN_LEVEL_CHAR ? corpus->characters : level == TOKEN_LEVEL_BYTE ? corpus->bytes : 0;
    size_t marks, total; /* <eos> and label of each document, and the last <eos> */
    if (!size_multiply(corpus->count, 2, &marks) || !size_add(marks, text + 1, &total))
        return error_set(err, ERROR_TOO_LARGE, "the corpus is too large");
    return tokens_open(encoder->tokens, vocabulary_size(encoder->vocabulary), total, directory, err);
}

static bool encode_documents(struct encoder *encoder, const char *directory, size_t *starts, struct error *err)
{
    if (!reserve_tokens(encoder, directory, err)) return false;
    for (size_t i = 0; i < encoder->corpus->count; i++) {
        starts[i] = encoder->count;
        if (!encode_document(encoder, i, err)) return false;
    }
    starts[encoder->corpus->count] = encoder->count;
    return append_eos(encoder, err);
}

/* How many characters the tokens stand for; bytes, where the corpus counts bytes. */
static size_t encoded_characters(const struct encoder *encoder)
{
    const struct corpus *corpus = encoder->corpus;
    const bool one_each =
        vocabulary_level(encoder->vocabulary) == TOKEN_LEVEL_BYTE && corpus->characters == corpus->bytes;
    return corpus->characters - (one_each ? encoder->unknown.total : encoder->unknown.characters);
}

bool dataset_encode(struct dataset *dataset, const struct corpus *corpus, const struct vocabulary *vocabulary,
                    const char *directory, size_t *skipped, struct error *err)
{
    struct encoder encoder = {.corpus = corpus, .vocabulary = vocabulary, .tokens = &dataset->tokens};
    *dataset = (struct dataset){.document_count = corpus->count,
                                .one_stream = corpus->one_stream,
                                .lacks_eos = vocabulary_eos(vocabulary) == TOKEN_NONE,
                                .eos_only_ends = vocabulary_start(vocabulary) != vocabulary_eos(vocabulary),
                                .pad = vocabulary_pad(vocabulary),
                                .vocabulary_size = vocabulary_size(vocabulary),
                                .directory = directory,
                                .stop = corpus->stop};
    if (!scratch_reserve_array(&dataset->start_list, corpus->count + 1, sizeof *dataset->starts, directory, "a dataset",
                               err))
        return false;
    dataset->starts = dataset->start_list.data;
    bool ok = encode_documents(&encoder, directory, dataset->starts, err);
    token_list_free(&encoder.ids);
    scratch_let_go(&dataset->tokens.scratch);
    dataset->token_count = encoder.count;
    dataset->characters = encoded_characters(&encoder);
    dataset->skipped = encoder.skipped;
    dataset->skipped.pieces = encoder.unknown.total;
    dataset->skipped.characters = corpus->characters - dataset->characters;
    if (ok && skipped) *skipped = encoder.unknown.total + encoder.unknown_labels;
    unknown_list_free(&encoder.unknown);
    return ok;
}

void dataset_close(struct dataset *dataset)
{
    tokens_close(&dataset->tokens);
    scratch_close(&dataset->start_list);
    *dataset = (struct dataset){0};
}
