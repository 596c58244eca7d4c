/* Counts the tokens of a corpus and chooses those that get an id. */
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "base/utf8.h"
#include "model/text/vocabulary_internal.h"

struct vocabulary_builder {
    struct vocabulary_options options;
    struct word_rules rules;
    struct string_table tokens; /* the distinct tokens in order of first appearance */
    struct code_map codes;      /* level char and byte: code point or byte -> index in tokens */
    uint64_t *counts;           /* by index in tokens */
    size_t capacity;            /* of counts */
    struct string_table labels;
};

static bool check_options(const struct vocabulary_options *options, struct error *err)
{
    if (options->lower && options->level == TOKEN_LEVEL_BYTE)
        return error_set(err, ERROR_INVALID, "bytes cannot be lower-cased: choose level char or word");
    if (options->max_tokens > VOCABULARY_MAX_TOKENS)
        return error_set(err, ERROR_TOO_LARGE, "a vocabulary may have at most %u tokens, not %u", VOCABULARY_MAX_TOKENS,
                         (unsigned)options->max_tokens);
    return true;
}

struct vocabulary_builder *vocabulary_builder_new(const struct vocabulary_options *options, struct error *err)
{
    if (!check_options(options, err)) return NULL;
    struct vocabulary_builder *builder = calloc(1, sizeof *builder);
    if (!builder) {
        error_set_no_memory(err, sizeof *builder, "a vocabulary builder");
        return NULL;
    }
    builder->options = *options;
    const char *filters = options->filters ? options->filters : VOCABULARY_KERAS_FILTERS;
    if (word_rules_init(&builder->rules, options->lower, filters, err) && code_map_init(&builder->codes, err))
        return builder;
    vocabulary_builder_free(builder);
    return NULL;
}

void vocabulary_builder_free(struct vocabulary_builder *builder)
{
    if (!builder) return;
    word_rules_free(&builder->rules);
    string_table_free(&builder->tokens);
    code_map_free(&builder->codes);
    free(builder->counts);
    string_table_free(&builder->labels);
    free(builder);
}

/* Starts the count of the token that was added last. */
static bool add_count(struct vocabulary_builder *builder, struct error *err)
{
    if (builder->tokens.count > builder->capacity) {
        size_t capacity = builder->capacity * 2 + 64;
        uint64_t *counts = realloc(builder->counts, capacity * sizeof *counts);
        if (!counts) return error_set_no_memory(err, capacity * sizeof *counts, "token counts");
        builder->counts = counts;
        builder->capacity = capacity;
    }
    builder->counts[builder->tokens.count - 1] = 0;
    return true;
}

static bool add_code(struct vocabulary_builder *builder, uint32_t code, struct error *err)
{
    char text[UTF8_MAX_BYTES] = {(char)code};
    size_t n = builder->options.level == TOKEN_LEVEL_BYTE ? 1 : utf8_encode(code, text);
    return string_table_append(&builder->tokens, text, n, err) && add_count(builder, err) &&
           code_map_set(&builder->codes, code, builder->tokens.count - 1, err);
}

static inline bool count_code(struct vocabulary_builder *builder, uint32_t code, struct error *err)
{
    uint32_t index = code_map_get(&builder->codes, code);
    if (index == CODE_MAP_NONE) {
        if (!add_code(builder, code, err)) return false;
        index = builder->tokens.count - 1;
    }
    builder->counts[index]++;
    return true;
}

static bool count_characters(struct vocabulary_builder *builder, const char *text, size_t n, struct error *err)
{
    for (size_t i = 0; i < n;) {
        struct word_letter letter;
        size_t length = word_rules_read(&builder->rules, text, n, i, &letter);
        if (length == 0) return error_set_invalid_utf8(err, i);
        if (!count_code(builder, letter.code, err) || (letter.mark && !count_code(builder, letter.mark, err)))
            return false;
        i += length;
    }
    return true;
}

static bool count_bytes(struct vocabulary_builder *builder, const char *text, size_t n, struct error *err)
{
    for (size_t i = 0; i < n; i++) {
        if (!count_code(builder, (unsigned char)text[i], err)) return false;
    }
    return true;
}

static bool count_words(struct vocabulary_builder *builder, const char *text, size_t n, struct error *err)
{
    struct word_reader reader = {.rules = &builder->rules, .text = text, .n = n};
    bool ok;
    while ((ok = word_reader_next(&reader, err)) && reader.word) {
        uint32_t index;
        bool added;
        ok = string_table_insert(&builder->tokens, reader.word, reader.length, &index, &added, err) &&
             (!added || add_count(builder, err));
        if (!ok) break;
        builder->counts[index]++;
    }
    word_reader_close(&reader);
    return ok;
}

bool vocabulary_builder_add(struct vocabulary_builder *builder, const char *text, size_t n, struct error *err)
{
    switch (builder->options.level) {
    case TOKEN_LEVEL_CHAR:
        return count_characters(builder, text, n, err);
    case TOKEN_LEVEL_BYTE:
        return count_bytes(builder, text, n, err);
    case TOKEN_LEVEL_WORD:
        return count_words(builder, text, n, err);
    }
    return false;
}

bool vocabulary_builder_add_label(struct vocabulary_builder *builder, const char *name, struct error *err)
{
    uint32_t index;
    return string_table_insert(&builder->labels, name, strlen(name), &index, NULL, err);
}

/* ---- choosing ---- */

struct candidate {
    uint64_t count;
    uint32_t index; /* order of first appearance */
};

static int compare_candidates(const void *left, const void *right)
{
    const struct candidate *a = left, *b = right;
    if (a->count != b->count) return a->count > b->count ? -1 : 1;
    return a->index < b->index ? -1 : 1;
}

/* All tokens, the most frequent first. */
static struct candidate *rank_tokens(const struct vocabulary_builder *builder, struct error *err)
{
    uint32_t n = builder->tokens.count;
    struct candidate *candidates = calloc(n, sizeof *candidates);
    if (!candidates) {
        error_set_no_memory(err, n * sizeof *candidates, "token counts");
        return NULL;
    }
    for (uint32_t i = 0; i < n; i++) candidates[i] = (struct candidate){builder->counts[i], i};
    qsort(candidates, n, sizeof *candidates, compare_candidates);
    return candidates;
}

/* How many of the ranked tokens get an id, and whether the vocabulary has <unk>. */
struct choice {
    uint32_t kept;
    bool unknown;
};

static bool choose_tokens(const struct vocabulary_builder *builder, const struct candidate *ranked,
                          struct choice *choice, struct error *err)
{
    const struct vocabulary_options *options = &builder->options;
    uint32_t total = builder->tokens.count, kept = 0;
    while (kept < total && ranked[kept].count >= options->min_count) kept++;
    if (kept == 0)
        return error_set(err, ERROR_INVALID,
                         "no token occurs %llu times, the minimum count: the most frequent has %llu",
                         (unsigned long long)options->min_count, (unsigned long long)ranked[0].count);
    uint64_t limit = options->max_tokens ? options->max_tokens : UINT64_MAX;
    uint64_t specials = 1 + (uint64_t)builder->labels.count;
    choice->unknown = options->unknown || kept < total || kept + specials > limit;
    specials += choice->unknown;
    if (limit <= specials)
        return error_set(err, ERROR_INVALID,
                         "a vocabulary of at most %u tokens has no room for text beside %llu special ones",
                         (unsigned)options->max_tokens, (unsigned long long)specials);
    choice->kept = kept + specials > limit ? (uint32_t)(limit - specials) : kept;
    if (choice->kept + specials > VOCABULARY_MAX_TOKENS)
        return error_set(
            err, ERROR_TOO_LARGE,
            "%llu distinct tokens, more than the %u a vocabulary may have: set a maximum or a minimum count",
            choice->kept + (unsigned long long)specials, VOCABULARY_MAX_TOKENS);
    return true;
}

static bool add_specials(struct vocabulary *vocabulary, bool unknown, struct error *err)
{
    vocabulary->eos = 0;
    if (!vocabulary_add_special(vocabulary, "<eos>", 5, err)) return false;
    if (!unknown) return true;
    vocabulary->unknown = 1;
    return vocabulary_add_special(vocabulary, "<unk>", 5, err);
}

static bool add_tokens(struct vocabulary *vocabulary, const struct vocabulary_builder *builder,
                       const struct candidate *ranked, uint32_t kept, struct error *err)
{
    size_t n;
    bool added;
    for (uint32_t i = 0; i < kept; i++) {
        const char *text = string_table_get(&builder->tokens, ranked[i].index, &n);
        if (!vocabulary_add_text(vocabulary, text, n, &added, err)) return false;
    }
    for (uint32_t i = 0; i < builder->labels.count; i++) {
        const char *name = string_table_get(&builder->labels, i, &n);
        if (!vocabulary_add_label(vocabulary, name, n, &added, err)) return false;
    }
    return true;
}

static struct vocabulary *assemble_vocabulary(const struct vocabulary_builder *builder, const struct candidate *ranked,
                                              struct error *err)
{
    struct choice choice = {0};
    if (!choose_tokens(builder, ranked, &choice, err)) return NULL;
    const struct vocabulary_options *options = &builder->options;
    uint32_t size = 1 + choice.unknown + choice.kept + builder->labels.count;
    struct vocabulary *vocabulary = vocabulary_new(options->level, options->lower, builder->rules.filters, size, err);
    if (!vocabulary) return NULL;
    if (add_specials(vocabulary, choice.unknown, err) && add_tokens(vocabulary, builder, ranked, choice.kept, err))
        return vocabulary;
    vocabulary_free(vocabulary);
    return NULL;
}

struct vocabulary *vocabulary_builder_finish(struct vocabulary_builder *builder, struct error *err)
{
    struct vocabulary *vocabulary = NULL;
    if (builder->tokens.count < 2) {
        error_set(err, ERROR_INVALID, "the text has %s: at least 2 different %s are needed",
                  builder->tokens.count ? "one token, repeated" : "no token",
                  builder->options.level == TOKEN_LEVEL_WORD ? "words" : "characters");
    } else {
        struct candidate *ranked = rank_tokens(builder, err);
        if (ranked) vocabulary = assemble_vocabulary(builder, ranked, err);
        free(ranked);
    }
    vocabulary_builder_free(builder);
    return vocabulary;
}
