#include "model/text/vocabulary.h"

#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "base/utf8.h"
#include "model/text/vocabulary_internal.h"

static const char *const level_names[] = {
    [TOKEN_LEVEL_CHAR] = "char",
    [TOKEN_LEVEL_WORD] = "word",
    [TOKEN_LEVEL_BYTE] = "byte",
};

const char *token_level_name(enum token_level level)
{
    return level_names[level];
}

bool token_level_parse(const char *name, enum token_level *level)
{
    for (size_t i = 0; i < sizeof level_names / sizeof *level_names; i++) {
        if (strcmp(name, level_names[i]) != 0) continue;
        *level = (enum token_level)i;
        return true;
    }
    return false;
}

/* ---- lists ---- */

/* Grows an array to `least` items or by half; *capacity becomes the new number. */
static void *grow_array(void *items, size_t *capacity, size_t least, size_t size, struct error *err)
{
    size_t wanted, bytes;
    if (!size_add(*capacity, *capacity / 2 + 16, &wanted) ||
        !size_multiply(wanted < least ? least : wanted, size, &bytes)) {
        error_set(err, ERROR_TOO_LARGE, "a list of tokens is too long");
        return NULL;
    }
    void *grown = realloc(items, bytes);
    if (!grown)
        error_set_no_memory(err, bytes, "a list of tokens");
    else
        *capacity = bytes / size;
    return grown;
}

bool token_list_reserve(struct token_list *list, size_t more, struct error *err)
{
    size_t need;
    if (!size_add(list->count, more, &need)) return error_set(err, ERROR_TOO_LARGE, "a list of tokens is too long");
    if (need <= list->capacity) return true;
    uint32_t *ids = grow_array(list->ids, &list->capacity, need, sizeof *ids, err);
    if (!ids) return false;
    list->ids = ids;
    return true;
}

bool token_list_append(struct token_list *list, uint32_t id, struct error *err)
{
    if (list->count == list->capacity && !token_list_reserve(list, 1, err)) return false;
    list->ids[list->count++] = id;
    return true;
}

void token_list_free(struct token_list *list)
{
    free(list->ids);
    memset(list, 0, sizeof *list);
}

void unknown_list_free(struct unknown_list *list)
{
    free(list->items);
    memset(list, 0, sizeof *list);
}

/* ---- making ---- */

struct vocabulary *vocabulary_new(enum token_level level, bool lower, const char *filters, uint32_t size,
                                  struct error *err)
{
    struct vocabulary *vocabulary = calloc(1, sizeof *vocabulary);
    if (!vocabulary) {
        error_set_no_memory(err, sizeof *vocabulary, "a vocabulary");
        return NULL;
    }
    vocabulary->level = level;
    vocabulary->eos = vocabulary->pad = vocabulary->unknown = TOKEN_NONE;
    vocabulary->capacity = size;
    vocabulary->special = calloc(size, 1);
    vocabulary->labels = calloc(size, sizeof *vocabulary->labels);
    if (!vocabulary->special || !vocabulary->labels) {
        error_set_no_memory(err, size * (1 + sizeof *vocabulary->labels), "a vocabulary");
        goto out;
    }
    if (word_rules_init(&vocabulary->rules, lower, filters ? filters : VOCABULARY_KERAS_FILTERS, err) &&
        code_map_init(&vocabulary->codes, err))
        return vocabulary;
out:
    vocabulary_free(vocabulary);
    return NULL;
}

void vocabulary_free(struct vocabulary *vocabulary)
{
    if (!vocabulary) return;
    word_rules_free(&vocabulary->rules);
    string_table_free(&vocabulary->tokens);
    code_map_free(&vocabulary->codes);
    free(vocabulary->special);
    string_table_free(&vocabulary->label_names);
    free(vocabulary->labels);
    free(vocabulary);
}

bool vocabulary_add_special(struct vocabulary *vocabulary, const char *text, size_t n, struct error *err)
{
    uint32_t id = vocabulary->tokens.count;
    if (!string_table_append(&vocabulary->tokens, text, n, err)) return false;
    vocabulary->special[id] = 1;
    return true;
}

bool vocabulary_add_label(struct vocabulary *vocabulary, const char *name, size_t n, bool *added, struct error *err)
{
    uint32_t id = vocabulary->tokens.count, index;
    if (!string_table_insert(&vocabulary->label_names, name, n, &index, added, err)) return false;
    if (*added) vocabulary->labels[index] = id;
    return vocabulary_add_special(vocabulary, name, n, err);
}

bool vocabulary_add_text(struct vocabulary *vocabulary, const char *text, size_t n, bool *added, struct error *err)
{
    if (n > vocabulary->max_token_bytes) vocabulary->max_token_bytes = n;
    uint32_t id = vocabulary->tokens.count;
    if (vocabulary->level == TOKEN_LEVEL_WORD)
        return string_table_insert(&vocabulary->tokens, text, n, &id, added, err);
    uint32_t code = (unsigned char)*text;
    if (vocabulary->level == TOKEN_LEVEL_CHAR) utf8_decode(text, n, &code);
    *added = code_map_get(&vocabulary->codes, code) == CODE_MAP_NONE;
    return code_map_set(&vocabulary->codes, code, id, err) && string_table_append(&vocabulary->tokens, text, n, err);
}

/* ---- asking ---- */

enum token_level vocabulary_level(const struct vocabulary *vocabulary)
{
    return vocabulary->level;
}

uint32_t vocabulary_size(const struct vocabulary *vocabulary)
{
    return vocabulary->tokens.count;
}

uint32_t vocabulary_eos(const struct vocabulary *vocabulary)
{
    return vocabulary->eos;
}

uint32_t vocabulary_start(const struct vocabulary *vocabulary)
{
    return vocabulary->eos_only_ends ? TOKEN_NONE : vocabulary->eos;
}

void vocabulary_let_eos_start(struct vocabulary *vocabulary)
{
    vocabulary->eos_only_ends = false;
}

uint32_t vocabulary_pad(const struct vocabulary *vocabulary)
{
    return vocabulary->pad;
}

uint32_t vocabulary_unknown(const struct vocabulary *vocabulary)
{
    return vocabulary->unknown;
}

uint32_t vocabulary_label_count(const struct vocabulary *vocabulary)
{
    return vocabulary->label_names.count;
}

uint32_t vocabulary_label(const struct vocabulary *vocabulary, uint32_t index)
{
    return vocabulary->labels[index];
}

uint32_t vocabulary_find_label(const struct vocabulary *vocabulary, const char *name)
{
    uint32_t index = string_table_find(&vocabulary->label_names, name, strlen(name));
    return index == STRING_TABLE_NONE ? TOKEN_NONE : vocabulary->labels[index];
}

bool vocabulary_is_special(const struct vocabulary *vocabulary, uint32_t id)
{
    return vocabulary->special[id];
}

const char *vocabulary_token(const struct vocabulary *vocabulary, uint32_t id, size_t *n)
{
    return string_table_get(&vocabulary->tokens, id, n);
}

size_t vocabulary_max_token_bytes(const struct vocabulary *vocabulary)
{
    return vocabulary->max_token_bytes;
}

/* ---- text <-> ids ---- */

struct encoding {
    const struct vocabulary *vocabulary;
    struct token_list *ids;
    struct unknown_list *unknown;
};

static bool add_unknown(const struct encoding *encoding, size_t offset, size_t length, struct error *err)
{
    uint32_t id = encoding->vocabulary->unknown;
    if (id != TOKEN_NONE) return token_list_append(encoding->ids, id, err);
    struct unknown_list *list = encoding->unknown;
    if (!list) return true;
    list->total++;
    if (list->count >= list->most) return true;
    if (list->count == list->capacity) {
        struct unknown_text *items = grow_array(list->items, &list->capacity, 0, sizeof *items, err);
        if (!items) return false;
        list->items = items;
    }
    list->items[list->count++] = (struct unknown_text){.offset = offset, .length = length};
    return true;
}

/* Counts the characters of text that got no token. */
static void skip_text(const struct encoding *encoding, const char *text, size_t n)
{
    const bool skipped = encoding->unknown && encoding->vocabulary->unknown == TOKEN_NONE;
    if (skipped) encoding->unknown->characters += utf8_count(text, n);
}

static bool encode_code(const struct encoding *encoding, uint32_t code, const char *text, size_t offset, size_t length,
                        struct error *err)
{
    const uint32_t id = code_map_get(&encoding->vocabulary->codes, code);
    if (id != CODE_MAP_NONE) return token_list_append(encoding->ids, id, err);
    skip_text(encoding, text + offset, length);
    return add_unknown(encoding, offset, length, err);
}

/* Encodes the second code point of a letter. The first one has counted the character. */
static bool encode_mark(const struct encoding *encoding, uint32_t mark, size_t offset, size_t length, struct error *err)
{
    const uint32_t id = code_map_get(&encoding->vocabulary->codes, mark);
    if (id != CODE_MAP_NONE) return token_list_append(encoding->ids, id, err);
    return add_unknown(encoding, offset, length, err);
}

static bool encode_characters(const struct encoding *encoding, const char *text, size_t n, struct error *err)
{
    for (size_t i = 0; i < n;) {
        struct word_letter letter;
        size_t length = word_rules_read(&encoding->vocabulary->rules, text, n, i, &letter);
        if (length == 0) return error_set_invalid_utf8(err, i);
        if (!encode_code(encoding, letter.code, text, i, length, err)) return false;
        if (letter.mark && !encode_mark(encoding, letter.mark, i, length, err)) return false;
        i += length;
    }
    return true;
}

static bool encode_bytes(const struct encoding *encoding, const char *text, size_t n, struct error *err)
{
    for (size_t i = 0; i < n; i++)
        if (!encode_code(encoding, (unsigned char)text[i], text, i, 1, err)) return false;
    return true;
}

/* Encodes one word. `gap` is where the word before it ended. Skipped words at the start of a text take the separators
 * behind them along. */
static bool encode_word(const struct encoding *encoding, const struct word_reader *reader, size_t gap, bool *known,
                        struct error *err)
{
    const uint32_t id = string_table_find(&encoding->vocabulary->tokens, reader->word, reader->length);
    if (id == STRING_TABLE_NONE) {
        skip_text(encoding, reader->text + gap, reader->end - gap);
        return add_unknown(encoding, reader->start, reader->end - reader->start, err);
    }
    if (!*known && gap > 0) skip_text(encoding, reader->text + gap, reader->start - gap);
    *known = true;
    return token_list_append(encoding->ids, id, err);
}

static bool encode_words(const struct encoding *encoding, const char *text, size_t n, struct error *err)
{
    struct word_reader reader = {.rules = &encoding->vocabulary->rules, .text = text, .n = n};
    size_t gap = 0;
    bool ok, known = encoding->unknown && encoding->unknown->word_known;
    while ((ok = word_reader_next(&reader, err)) && reader.word) {
        ok = encode_word(encoding, &reader, gap, &known, err);
        if (!ok) break;
        gap = reader.end;
    }
    if (!known) skip_text(encoding, text + gap, n - gap);
    if (encoding->unknown) encoding->unknown->word_known = known;
    word_reader_close(&reader);
    return ok;
}

size_t vocabulary_encoded_characters(const char *text, size_t n, const struct unknown_list *unknown)
{
    return utf8_count(text, n) - unknown->characters;
}

bool vocabulary_encode(const struct vocabulary *vocabulary, const char *text, size_t n, struct token_list *ids,
                       struct unknown_list *unknown, struct error *err)
{
    struct encoding encoding = {.vocabulary = vocabulary, .ids = ids, .unknown = unknown};
    switch (vocabulary->level) {
    case TOKEN_LEVEL_CHAR:
        return encode_characters(&encoding, text, n, err);
    case TOKEN_LEVEL_BYTE:
        return encode_bytes(&encoding, text, n, err);
    case TOKEN_LEVEL_WORD:
        return encode_words(&encoding, text, n, err);
    }
    return false;
}

size_t vocabulary_decode(const struct vocabulary *vocabulary, uint32_t id, bool first, char *out)
{
    if (vocabulary->special[id]) return 0;
    size_t n, space = vocabulary->level == TOKEN_LEVEL_WORD && !first;
    const char *text = string_table_get(&vocabulary->tokens, id, &n);
    if (space) *out = ' ';
    memcpy(out + space, text, n);
    return space + n;
}
