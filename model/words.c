#include "model/words.h"

#include <stdlib.h>
#include <string.h>
#include <wctype.h>

#include "base/size.h"

bool error_set_invalid_utf8(struct error *err, size_t offset)
{
    return error_set(err, ERROR_INVALID, "invalid UTF-8 at byte offset %zu", offset);
}

static bool add_separators(struct word_rules *rules, struct error *err)
{
    if (!code_map_set(&rules->separators, ' ', 1, err)) return false;
    size_t n = strlen(rules->filters);
    for (size_t i = 0; i < n;) {
        uint32_t code_point;
        size_t length = utf8_decode(rules->filters + i, n - i, &code_point);
        if (length == 0) return error_set_invalid_utf8(err, i) || error_add_context(err, "filters");
        if (!code_map_set(&rules->separators, code_point, 1, err)) return false;
        i += length;
    }
    return true;
}

bool word_rules_init(struct word_rules *rules, bool lower, const char *filters, struct error *err)
{
    memset(rules, 0, sizeof *rules);
    rules->lower = lower;
    rules->filters = strdup(filters);
    if (!rules->filters) return error_set_no_memory(err, strlen(filters) + 1, "word filters");
    if (lower) {
        rules->locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
        if (!rules->locale) return error_set(err, ERROR_IO, "lower-casing needs the locale C.UTF-8, which is missing");
    }
    return code_map_init(&rules->separators, err) && add_separators(rules, err);
}

void word_rules_free(struct word_rules *rules)
{
    if (rules->locale) freelocale(rules->locale);
    free(rules->filters);
    code_map_free(&rules->separators);
    memset(rules, 0, sizeof *rules);
}

uint32_t word_rules_lower(const struct word_rules *rules, uint32_t code_point)
{
    if (code_point < 0x80) return code_point - 'A' < 26 ? code_point + ('a' - 'A') : code_point;
    return (uint32_t)towlower_l((wint_t)code_point, rules->locale);
}

static bool is_separator(const struct word_reader *reader, uint32_t code_point)
{
    return code_map_get(&reader->rules->separators, code_point) != CODE_MAP_NONE;
}

static bool keep_lowered(struct word_reader *reader, uint32_t code_point, struct error *err)
{
    if (reader->capacity - reader->length < UTF8_MAX_BYTES) {
        size_t capacity;
        if (!size_add(reader->capacity, reader->capacity / 2 + 64, &capacity))
            return error_set(err, ERROR_TOO_LARGE, "a word is too long");
        char *buffer = realloc(reader->buffer, capacity);
        if (!buffer) return error_set_no_memory(err, capacity, "a word");
        reader->buffer = buffer;
        reader->capacity = capacity;
    }
    reader->length += utf8_encode(code_point, reader->buffer + reader->length);
    return true;
}

bool word_reader_next(struct word_reader *reader, struct error *err)
{
    uint32_t code_point;
    reader->word = NULL;
    reader->length = 0;
    for (; reader->position < reader->n;) {
        size_t length =
            word_rules_read(reader->rules, reader->text + reader->position, reader->n - reader->position, &code_point);
        if (length == 0) return error_set_invalid_utf8(err, reader->position);
        if (is_separator(reader, code_point)) {
            reader->position += length;
            if (reader->word) break;
            continue;
        }
        if (!reader->word) {
            reader->start = reader->position;
            reader->word = reader->text + reader->start;
        }
        if (reader->rules->lower && !keep_lowered(reader, code_point, err)) return false;
        reader->position += length;
        reader->end = reader->position;
    }
    if (!reader->word) return true;
    if (reader->rules->lower)
        reader->word = reader->buffer;
    else
        reader->length = reader->end - reader->start;
    return true;
}

void word_reader_close(struct word_reader *reader)
{
    free(reader->buffer);
    reader->buffer = NULL;
    reader->capacity = 0;
}
