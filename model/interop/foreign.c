#include "model/interop/foreign.h"

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
    struct error note = {0}; /* error_set() makes names of a stranger's file one line of UTF-8 */
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    error_set(&note, ERROR_INVALID, "%s", text);
    if (!foreign->notes) foreign->notes = json_array();
    if (json_array_append_new(foreign->notes, json_string(note.message)) == 0) return true;
    return error_set(err, ERROR_NO_MEMORY, "out of memory for a note on an imported model");
}

bool foreign_scale_ids(struct foreign *foreign, struct error *err)
{
    struct network *network = &foreign->network;
    const uint32_t count = network->architecture.vocabulary_size;
    for (uint32_t id = 0; id < count; id++) network->embedding[id] = (float)((double)id / count);
    return foreign_note(
        foreign, err, "Every step's input is the token's id divided by %u, kept as an embedding of one number.", count);
}
