/* JSON values as text, for files and answers. */
#ifndef LSTMD_MODEL_JSON_TEXT_H
#define LSTMD_MODEL_JSON_TEXT_H

#include <jansson.h>
#include <stddef.h>

#include "base/error.h"

/* The text of a value, printed with the JSON_* flags; *n bytes and a NUL, the caller's (free()); NULL with
 * ERROR_NO_MEMORY. It stands for json_dumps(), which may leave out an object's key where memory runs out while its
 * buffer grows (jansson 2.14); here there is no buffer that grows. Thread-safe. */
char *json_text_print(const json_t *json, size_t flags, size_t *n, struct error *err);
/* The same with a newline at its end, for the body of an answer: a terminal's prompt begins on a line of its own. */
char *json_text_print_line(const json_t *json, size_t flags, size_t *n, struct error *err);

#endif
