#include "model/json_text.h"

#include <stdlib.h>

char *json_text_print(const json_t *json, size_t flags, size_t *n, struct error *err)
{
    *n = json_dumpb(json, NULL, 0, flags);
    char *text = *n > 0 ? malloc(*n + 1) : NULL;
    if (text && json_dumpb(json, text, *n, flags) == *n) {
        text[*n] = '\0';
        return text;
    }
    free(text);
    error_set_no_memory(err, *n, "JSON text");
    return NULL;
}
