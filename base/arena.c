#include "base/arena.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/size.h"

/* Bytes of a large page (x86-64, and arm64 with pages of 4 KiB). */
#define LARGE_PAGE ((size_t)2 << 20)

/* One block per allocation: an object has few of them, and the address sanitizer then sees the end of each. */
struct arena_block {
    _Alignas(ARENA_ALIGNMENT) struct arena_block *next; /* the alignment makes the header as large as the padding */
};

/* Large blocks, such as a network's weights, ask for large pages: steps read them again and again, and the processor
 * caches the addresses of some 2000 pages only, which is 8 MB of small pages. */
static int arena_allocate_block(void **memory, size_t bytes)
{
    const size_t alignment = bytes < LARGE_PAGE ? ARENA_ALIGNMENT : LARGE_PAGE;
    const int failed = posix_memalign(memory, alignment, bytes);
    if (!failed && alignment == LARGE_PAGE) madvise(*memory, bytes / LARGE_PAGE * LARGE_PAGE, MADV_HUGEPAGE);
    return failed;
}

void *arena_alloc(struct arena *arena, size_t count, size_t size, const char *what, struct error *err)
{
    size_t bytes, total;
    if (!size_multiply(count, size, &bytes) || !size_add(bytes, sizeof(struct arena_block), &total)) {
        error_set(err, ERROR_TOO_LARGE, "%s: %zu items of %zu bytes are more than memory can address", what, count,
                  size);
        return NULL;
    }
    void *memory;
    if (arena_allocate_block(&memory, total) != 0) {
        error_set_no_memory(err, bytes, what);
        return NULL;
    }
    struct arena_block *block = memory;
    block->next = arena->blocks;
    arena->blocks = block;
    arena->total += total;
    return memset(block + 1, 0, bytes);
}

char *arena_copy_text(struct arena *arena, const char *text, size_t n, struct error *err)
{
    size_t size;
    if (!size_add(n, 1, &size)) {
        error_set(err, ERROR_TOO_LARGE, "a text of %zu bytes is more than memory can address", n);
        return NULL;
    }
    char *copy = arena_alloc(arena, size, 1, "a text", err);
    if (copy && n > 0) memcpy(copy, text, n);
    return copy;
}

void arena_free(struct arena *arena)
{
    struct arena_block *block = arena->blocks;
    while (block) {
        struct arena_block *next = block->next;
        free(block);
        block = next;
    }
    *arena = (struct arena){0};
}
