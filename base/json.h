/* JSON as text, for files and answers. It prints and parses with jansson 2.14 and avoids jansson's faults when memory
 * runs out. It also makes JSON strings of bytes that may not be UTF-8. */
#ifndef LSTMD_BASE_JSON_H
#define LSTMD_BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/* The text of a value, printed with the JSON_* flags; *n bytes and a NUL, the caller's (free()); NULL with
 * ERROR_NO_MEMORY. Use it instead of json_dumps(), which may leave out an object's key if memory runs out while its
 * buffer grows; this function's buffer never grows. Thread-safe. */
char *json_text_print(const json_t *json, size_t flags, size_t *n, struct error *err);
/* The same with a newline at its end, for the body of an answer: the terminal's next prompt starts on a new line. */
char *json_text_print_line(const json_t *json, size_t flags, size_t *n, struct error *err);

/* Parses as json_loadb() does; NULL with *where, which must not be NULL. Use it instead of json_loadb(), whose lexer
 * does not check that its buffer grew: it then drops a character or reads past the buffer's end. Thread-safe. */
json_t *json_text_parse(const char *text, size_t n, size_t flags, json_error_t *where);

/* Whether json_text_parse() failed because memory ran out; the text may be correct. */
bool json_text_lacked_memory(const json_error_t *where);

/* A JSON string of n bytes; each invalid byte becomes U+FFFD, because jansson refuses such bytes. NULL: out of memory.
 * Thread-safe. */
json_t *json_safe_string(const char *text, size_t n);

#endif
