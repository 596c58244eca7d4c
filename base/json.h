/* JSON as text, for files and answers: jansson 2.14 without what it does wrong where memory runs out; and JSON strings
 * of bytes that may be no UTF-8. */
#ifndef LSTMD_BASE_JSON_H
#define LSTMD_BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/* The text of a value, printed with the JSON_* flags; *n bytes and a NUL, the caller's (free()); NULL with
 * ERROR_NO_MEMORY. It stands for json_dumps(), which may leave out an object's key where memory runs out while its
 * buffer grows; here there is no buffer that grows. Thread-safe. */
char *json_text_print(const json_t *json, size_t flags, size_t *n, struct error *err);
/* The same with a newline at its end, for the body of an answer: a terminal's prompt begins on a line of its own. */
char *json_text_print_line(const json_t *json, size_t flags, size_t *n, struct error *err);

/* Parses as json_loadb() does; NULL with *where, which must not be NULL. It stands for json_loadb(), whose lexer does
 * not look whether its buffer grew: the text then lacks a character, or the lexer runs past its end. Thread-safe. */
json_t *json_text_parse(const char *text, size_t n, size_t flags, json_error_t *where);

/* Whether json_text_parse() failed for want of memory. The text is then not at fault. */
bool json_text_lacked_memory(const json_error_t *where);

/* A JSON string of n bytes, each invalid byte of UTF-8 as U+FFFD; NULL where memory is out. jansson refuses such bytes.
 * Thread-safe. */
json_t *json_safe_string(const char *text, size_t n);

#endif
