/* Strict UTF-8 (RFC 3629): no overlong forms, no surrogates, nothing above U+10FFFF. Pure functions, thread-safe. */
#ifndef LSTMD_BASE_UTF8_H
#define LSTMD_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UTF8_MAX_BYTES   4
#define UTF8_REPLACEMENT 0xFFFDu

enum utf8_scan {
    UTF8_VALID,      /* a whole character */
    UTF8_INVALID,    /* not UTF-8 */
    UTF8_INCOMPLETE, /* valid so far, and the text ends inside the character */
};

/* Looks at the start of text[0..n), n >= 1. *length: bytes of the character, of the maximal invalid sequence (at least
 * 1), or of the unfinished character. */
enum utf8_scan utf8_scan(const char *text, size_t n, size_t *length, uint32_t *code_point);

/* Decodes the character at the start of text[0..n). Returns its length in bytes (1..4) and sets *code_point, or 0 if
 * the bytes are not valid UTF-8 or end inside a character. */
size_t utf8_decode(const char *text, size_t n, uint32_t *code_point);

/* Writes the character; returns 1..4, or 0 if the code point cannot be encoded. */
size_t utf8_encode(uint32_t code_point, char out[UTF8_MAX_BYTES]);

/* The number of leading bytes of text[0..n) that are valid; n if all are. */
size_t utf8_valid_prefix(const char *text, size_t n);

/* Bytes of the byte order mark that some editors put before a text: 3, or 0 if there is none. */
size_t utf8_mark(const char *text, size_t n);

/* n minus the bytes of an unfinished character at the end (0..3). So many bytes of a stream may be sent now; invalid
 * bytes count as finished. */
size_t utf8_complete_prefix(const char *text, size_t n);

/* The length of the last item of text[0..n), n >= 1: a character (*valid true), or bytes that become one U+FFFD
 * (false). */
size_t utf8_last(const char *text, size_t n, bool *valid);

/* The number of characters in valid text. */
size_t utf8_count(const char *text, size_t n);

/* Copies text with every maximal invalid sequence replaced by U+FFFD. `out` has room for 3 * n bytes; returns bytes
 * written. */
size_t utf8_sanitize(const char *text, size_t n, char *out);

#endif
