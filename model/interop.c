#include "model/interop.h"

#include <stdarg.h>
#include <stdio.h>

void foreign_close(struct foreign *foreign)
{
    network_close(&foreign->network);
    json_decref(foreign->tokens);
    json_decref(foreign->notes);
    arena_free(&foreign->arena);
    *foreign = (struct foreign){0};
}

bool foreign_note(struct foreign *foreign, struct error *err, const char *format, ...)
{
    char text[ERROR_MESSAGE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (!foreign->notes) foreign->notes = json_array();
    if (json_array_append_new(foreign->notes, json_string(text)) == 0) return true;
    return error_set(err, ERROR_NO_MEMORY, "out of memory for a note on an imported model");
}
