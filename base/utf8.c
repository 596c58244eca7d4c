#include "base/utf8.h"

#include <string.h>

/* What a first byte says: the length of the character, and the range of its second byte. That range excludes overlong
 * forms (E0, F0), surrogates (ED) and code points above U+10FFFF (F4) (Unicode, table 3-7). */
struct lead {
    size_t length; /* 0: never a first byte */
    unsigned char second_least, second_most;
};

static struct lead lead_of(unsigned char byte)
{
    if (byte < 0x80) return (struct lead){1, 0, 0};
    if (byte < 0xC2) return (struct lead){0, 0, 0};
    if (byte < 0xE0) return (struct lead){2, 0x80, 0xBF};
    if (byte == 0xE0) return (struct lead){3, 0xA0, 0xBF};
    if (byte == 0xED) return (struct lead){3, 0x80, 0x9F};
    if (byte < 0xF0) return (struct lead){3, 0x80, 0xBF};
    if (byte == 0xF0) return (struct lead){4, 0x90, 0xBF};
    if (byte < 0xF4) return (struct lead){4, 0x80, 0xBF};
    if (byte == 0xF4) return (struct lead){4, 0x80, 0x8F};
    return (struct lead){0, 0, 0};
}

enum utf8_scan utf8_scan(const char *text, size_t n, size_t *length, uint32_t *code_point)
{
    const unsigned char *bytes = (const unsigned char *)text;
    struct lead lead = lead_of(bytes[0]);
    *length = 1;
    *code_point = bytes[0];
    if (lead.length == 0) return UTF8_INVALID;
    if (lead.length == 1) return UTF8_VALID;
    *code_point = bytes[0] & (0x7Fu >> lead.length);
    for (size_t i = 1; i < lead.length; i++) {
        if (i == n) return UTF8_INCOMPLETE;
        unsigned char least = i == 1 ? lead.second_least : 0x80, most = i == 1 ? lead.second_most : 0xBF;
        if (bytes[i] < least || bytes[i] > most) return UTF8_INVALID;
        *code_point = *code_point << 6 | (bytes[i] & 0x3Fu);
        *length = i + 1;
    }
    return UTF8_VALID;
}

size_t utf8_decode(const char *text, size_t n, uint32_t *code_point)
{
    size_t length;
    uint32_t decoded;
    if (n == 0 || utf8_scan(text, n, &length, &decoded) != UTF8_VALID) return 0;
    *code_point = decoded;
    return length;
}

size_t utf8_encode(uint32_t code_point, char out[UTF8_MAX_BYTES])
{
    static const unsigned char marks[] = {0, 0, 0xC0, 0xE0, 0xF0};
    if (code_point > 0x10FFFF || (code_point >= 0xD800 && code_point <= 0xDFFF)) return 0;
    size_t length = code_point < 0x80 ? 1 : code_point < 0x800 ? 2 : code_point < 0x10000 ? 3 : 4;
    for (size_t i = length - 1; i > 0; i--) {
        out[i] = (char)(0x80u | (code_point & 0x3Fu));
        code_point >>= 6;
    }
    out[0] = (char)(marks[length] | code_point);
    return length;
}

/* Checks eight bytes at once, because corpora are gigabytes of mostly ASCII. */
#define WORD       8
#define EVERY_BYTE UINT64_C(0x0101010101010101)

static uint64_t load_word(const char *text)
{
    uint64_t word;
    memcpy(&word, text, sizeof word);
    return word;
}

static size_t ascii_prefix(const char *text, size_t n)
{
    size_t at = 0;
    while (n - at >= WORD && (load_word(text + at) & (EVERY_BYTE << 7)) == 0) at += WORD;
    while (at < n && (unsigned char)text[at] < 0x80) at++;
    return at;
}

size_t utf8_valid_prefix(const char *text, size_t n)
{
    size_t at = 0, length;
    uint32_t code_point;
    for (;;) {
        at += ascii_prefix(text + at, n - at);
        if (at == n || utf8_scan(text + at, n - at, &length, &code_point) != UTF8_VALID) return at;
        at += length;
    }
}

size_t utf8_complete_prefix(const char *text, size_t n)
{
    for (size_t back = 1; back < UTF8_MAX_BYTES && back <= n; back++) {
        size_t length;
        uint32_t code_point;
        if (utf8_scan(text + n - back, back, &length, &code_point) == UTF8_INCOMPLETE) return n - back;
    }
    return n;
}

/* No character continues with a first byte, so the last first byte in the text decides. */
size_t utf8_last(const char *text, size_t n, bool *valid)
{
    for (size_t back = 1; back <= UTF8_MAX_BYTES && back <= n; back++) {
        size_t length;
        uint32_t code_point;
        if (lead_of((unsigned char)text[n - back]).length == 0) continue;
        *valid = utf8_scan(text + n - back, back, &length, &code_point) == UTF8_VALID;
        if (length == back) return length;
        break;
    }
    *valid = false;
    return 1;
}

size_t utf8_count(const char *text, size_t n)
{
    size_t at = 0, followers = 0; /* continuation bytes (10xxxxxx) */
    for (; n - at >= WORD; at += WORD) {
        uint64_t word = load_word(text + at);
        followers += (size_t)(((word >> 7 & ~(word >> 6) & EVERY_BYTE) * EVERY_BYTE) >> 56);
    }
    for (; at < n; at++) followers += ((unsigned char)text[at] & 0xC0) == 0x80;
    return n - followers;
}

size_t utf8_sanitize(const char *text, size_t n, char *out)
{
    size_t written = 0, length;
    for (size_t at = 0; at < n; at += length) {
        uint32_t code_point;
        if (utf8_scan(text + at, n - at, &length, &code_point) == UTF8_VALID) {
            memcpy(out + written, text + at, length);
            written += length;
        } else {
            written += utf8_encode(UTF8_REPLACEMENT, out + written);
        }
    }
    return written;
}

size_t utf8_mark(const char *text, size_t n)
{
    static const char mark[] = "\xEF\xBB\xBF";
    return n >= sizeof mark - 1 && memcmp(text, mark, sizeof mark - 1) == 0 ? sizeof mark - 1 : 0;
}
