/* An arena: many allocations, one free.
 *
 * Everything that lives as long as one object (a network's buffers, a parsed file) comes from the object's arena, so an
 * error path frees one thing and nothing leaks. Memory is zeroed and aligned to 64 bytes (a cache line, and the widest
 * vector register); an allocation of 2 MiB or more uses large pages if the system grants them. An arena is not
 * thread-safe; any thread may use the memory it handed out.
 *
 * Life cycle: `struct arena a = {0};` is a valid empty arena; arena_free() returns it to that state.
 */
#ifndef LSTMD_BASE_ARENA_H
#define LSTMD_BASE_ARENA_H

#include <stddef.h>

#include "base/error.h"

#define ARENA_ALIGNMENT 64

struct arena_block;

struct arena {
    struct arena_block *blocks; /* newest first */
    size_t total;               /* bytes handed out, padding included */
};

/* count * size zeroed bytes, or NULL with ERROR_TOO_LARGE (overflow) or ERROR_NO_MEMORY. A request of zero bytes gives
 * a valid pointer. `what` names the thing in the error message. */
void *arena_alloc(struct arena *arena, size_t count, size_t size, const char *what, struct error *err);

/* A copy of n bytes with a NUL after them. */
char *arena_copy_text(struct arena *arena, const char *text, size_t n, struct error *err);

void arena_free(struct arena *arena);

#endif
