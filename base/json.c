#include "base/json.h"

#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

static char *json_print(const json_t *json, size_t flags, const char *end, size_t *n, struct error *err)
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
    return json_print(json, flags, "", n, err);
}

char *json_text_print_line(const json_t *json, size_t flags, size_t *n, struct error *err)
{
    return json_print(json, flags, "\n", n, err);
}

/* ---- parsing ----
 *
 * If an allocation fails while jansson parses, it does not return to jansson: it jumps out of the parser (longjmp) and
 * frees all that the parser allocated. This is safe: jansson holds no lock and keeps no global state while it parses.
 *
 * The parser mostly frees its newest blocks, so only these are searched. Other blocks are freed when the parser has
 * ended. Reason: if a text is wrong at its very end, the parser frees its parts one by one, and a full search would
 * look for each of a million blocks among a million. */

#define FEW_BLOCKS  64
#define LAST_BLOCKS 16

struct blocks {
    void **items;
    size_t count, capacity;
    void *few[FEW_BLOCKS]; /* `items`, until there are more */
};

struct parse {
    jmp_buf failed;
    struct blocks owned; /* what jansson has allocated and not freed, and */
    struct blocks late;  /* blocks that jansson has freed; they are really freed at the end */
};

static _Thread_local struct parse *current; /* NULL: this thread does not parse */
static json_malloc_t default_allocate;      /* the allocator outside of parsing */

static void blocks_open(struct blocks *blocks)
{
    blocks->items = blocks->few;
    blocks->count = 0;
    blocks->capacity = FEW_BLOCKS;
}

static void blocks_close(struct blocks *blocks)
{
    if (blocks->items != blocks->few) free(blocks->items);
}

static bool blocks_reserve(struct blocks *blocks)
{
    if (blocks->count < blocks->capacity) return true;
    const bool first = blocks->items == blocks->few;
    void **items = realloc(first ? NULL : blocks->items, 2 * blocks->capacity * sizeof *items);
    if (!items) return false;
    if (first) memcpy(items, blocks->few, sizeof blocks->few);
    blocks->items = items;
    blocks->capacity *= 2;
    return true;
}

/* Searches only the last `most` blocks. */
static bool blocks_remove(struct blocks *blocks, const void *memory, size_t most)
{
    const size_t end = blocks->count > most ? blocks->count - most : 0;
    for (size_t at = blocks->count; at > end; at--) {
        if (blocks->items[at - 1] != memory) continue;
        blocks->items[at - 1] = blocks->items[--blocks->count];
        return true;
    }
    return false;
}

static void free_each(const struct blocks *blocks)
{
    for (size_t i = 0; i < blocks->count; i++) free(blocks->items[i]);
}

static void *json_allocate(size_t size)
{
    struct parse *parse = current;
    if (!parse) return default_allocate(size);
    void *memory = blocks_reserve(&parse->owned) ? malloc(size) : NULL;
    if (!memory) longjmp(parse->failed, 1);
    parse->owned.items[parse->owned.count++] = memory;
    return memory;
}

static void json_release(void *memory)
{
    struct parse *parse = current;
    if (!memory) return;
    if (parse && !blocks_remove(&parse->owned, memory, LAST_BLOCKS)) {
        if (blocks_reserve(&parse->late)) {
            parse->late.items[parse->late.count++] = memory;
            return;
        }
        blocks_remove(&parse->owned, memory, SIZE_MAX);
    }
    free(memory);
}

/* Runs before main(): jansson needs its allocator before its first allocation, set by one thread. */
__attribute__((constructor)) static void give_jansson_memory(void)
{
    json_get_alloc_funcs(&default_allocate, &(json_free_t){free});
    json_set_alloc_funcs(json_allocate, json_release);
}

/* jansson itself says nothing if its first allocation fails. */
static void say_no_memory(json_error_t *where)
{
    *where = (json_error_t){.line = -1, .column = -1};
    where->text[JSON_ERROR_TEXT_LENGTH - 1] = json_error_out_of_memory; /* where jansson keeps the code */
}

static json_t *parse_or_jump(struct parse *parse, const char *text, size_t n, size_t flags, json_error_t *where)
{
    say_no_memory(where);
    if (setjmp(parse->failed) == 0) return json_loadb(text, n, flags, where);
    say_no_memory(where);
    return NULL;
}

json_t *json_text_parse(const char *text, size_t n, size_t flags, json_error_t *where)
{
    struct parse parse;
    blocks_open(&parse.owned);
    blocks_open(&parse.late);
    current = &parse;
    json_t *json = parse_or_jump(&parse, text, n, flags, where);
    current = NULL;
    free_each(json ? &parse.late : &parse.owned);
    blocks_close(&parse.owned);
    blocks_close(&parse.late);
    return json;
}

bool json_text_lacked_memory(const json_error_t *where)
{
    return json_error_code(where) == json_error_out_of_memory;
}

json_t *json_safe_string(const char *text, size_t n)
{
    if (utf8_valid_prefix(text, n) == n) return json_stringn_nocheck(text, n);
    char *clean = malloc(3 * n);
    if (!clean) return NULL;
    json_t *string = json_stringn_nocheck(clean, utf8_sanitize(text, n, clean));
    free(clean);
    return string;
}
