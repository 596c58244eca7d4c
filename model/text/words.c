#include "model/text/words.h"

#include <stdlib.h>
#include <string.h>
#include <wctype.h>

#include "base/locale.h"
#include "base/size.h"
#include "model/text/casing_table.h"

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
    if (lower && !(rules->locale = locale_utf8("lower-casing", err))) return false;
    return code_map_init(&rules->separators, err) && add_separators(rules, err);
}

void word_rules_free(struct word_rules *rules)
{
    free(rules->filters);
    code_map_free(&rules->separators);
    memset(rules, 0, sizeof *rules);
}

/* ---- lower-casing ---- */

#define CAPITAL_SIGMA    0x03A3u
#define FINAL_SIGMA      0x03C2u
#define CAPITAL_DOTTED_I 0x0130u
#define COMBINING_DOT    0x0307u
#define COUNT(ranges)    (sizeof(ranges) / sizeof *(ranges))

static bool is_among(uint32_t code, const struct code_range *ranges, size_t count)
{
    size_t low = 0, high = count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (code > ranges[middle].last)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && code >= ranges[low].first;
}

/* The character that ends before text[*at]; *at becomes its start. False: there is none. */
static bool step_back(const char *text, size_t *at, uint32_t *code)
{
    const size_t end = *at;
    if (end == 0) return false;
    do --*at;
    while (*at > 0 && ((unsigned char)text[*at] & 0xC0) == 0x80);
    return utf8_decode(text + *at, end - *at, code) > 0;
}

static bool follows_cased(const char *text, size_t at)
{
    uint32_t code;
    while (step_back(text, &at, &code)) {
        if (is_among(code, case_ignorable, COUNT(case_ignorable))) continue;
        return is_among(code, cased, COUNT(cased));
    }
    return false;
}

static bool precedes_cased(const char *text, size_t n, size_t at)
{
    uint32_t code;
    for (size_t length; (length = utf8_decode(text + at, n - at, &code)) > 0; at += length) {
        if (is_among(code, case_ignorable, COUNT(case_ignorable))) continue;
        return is_among(code, cased, COUNT(cased));
    }
    return false;
}

struct word_letter word_rules_lower(const struct word_rules *rules, uint32_t code_point, const char *text, size_t n,
                                    size_t at, size_t length)
{
    if (code_point < 0x80) return (struct word_letter){.code = code_point - 'A' < 26 ? code_point + 32 : code_point};
    if (code_point == CAPITAL_DOTTED_I) return (struct word_letter){.code = 'i', .mark = COMBINING_DOT};
    if (code_point == CAPITAL_SIGMA && follows_cased(text, at) && !precedes_cased(text, n, at + length))
        return (struct word_letter){.code = FINAL_SIGMA};
    return (struct word_letter){.code = (uint32_t)towlower_l((wint_t)code_point, rules->locale)};
}

size_t word_rules_prefix(const char *text, size_t n)
{
    uint32_t code;
    for (size_t end = n, at = n; step_back(text, &at, &code); end = at)
        if (!is_among(code, case_ignorable, COUNT(case_ignorable)) && !is_among(code, cased, COUNT(cased))) return end;
    return n;
}

/* ---- words ---- */

static bool is_separator(const struct word_reader *reader, uint32_t code_point)
{
    return code_map_get(&reader->rules->separators, code_point) != CODE_MAP_NONE;
}

static bool keep_lowered(struct word_reader *reader, struct word_letter letter, struct error *err)
{
    if (reader->capacity - reader->length < 2 * UTF8_MAX_BYTES) {
        size_t capacity;
        if (!size_add(reader->capacity, reader->capacity / 2 + 64, &capacity))
            return error_set(err, ERROR_TOO_LARGE, "a word is too long");
        char *buffer = realloc(reader->buffer, capacity);
        if (!buffer) return error_set_no_memory(err, capacity, "a word");
        reader->buffer = buffer;
        reader->capacity = capacity;
    }
    reader->length += utf8_encode(letter.code, reader->buffer + reader->length);
    if (letter.mark) reader->length += utf8_encode(letter.mark, reader->buffer + reader->length);
    return true;
}

bool word_reader_next(struct word_reader *reader, struct error *err)
{
    struct word_letter letter;
    reader->word = NULL;
    reader->length = 0;
    for (; reader->position < reader->n;) {
        size_t length = word_rules_read(reader->rules, reader->text, reader->n, reader->position, &letter);
        if (length == 0) return error_set_invalid_utf8(err, reader->position);
        if (is_separator(reader, letter.code)) {
            reader->position += length;
            if (reader->word) break;
            continue;
        }
        if (!reader->word) {
            reader->start = reader->position;
            reader->word = reader->text + reader->start;
        }
        if (reader->rules->lower && !keep_lowered(reader, letter, err)) return false;
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
