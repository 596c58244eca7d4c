#include "model/json_text.h"

#include <stdlib.h>
#include <string.h>

static char *print(const json_t *json, size_t flags, const char *end, size_t *n, struct error *err)
{
    const size_t size = json_dumpb(json, NULL, 0, flags), tail = strlen(end);
    char *text = size > 0 ? malloc(size + tail + 1) : NULL;
    *n = size + tail;
    if (text && json_dumpb(json, text, size, flags) == size) {
        memcpy(text + size, end, tail + 1);
        return text;
    }
    free(text);
    error_set_no_memory(err, *n, "JSON text");
    return NULL;
}

char *json_text_print(const json_t *json, size_t flags, size_t *n, struct error *err)
{
    return print(json, flags, "", n, err);
}

char *json_text_print_line(const json_t *json, size_t flags, size_t *n, struct error *err)
{
    return print(json, flags, "\n", n, err);
}
