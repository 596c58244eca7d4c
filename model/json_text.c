#include "model/json_text.h"

#include <setjmp.h>
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

/* ---- parsing ----
 *
 * An allocation that fails while jansson parses does not return to jansson. It jumps out of the parser, and everything
 * that the parser had allocated is freed. jansson holds no lock and keeps nothing while it parses. */

#define FEW_BLOCKS 64

struct parse {
    jmp_buf failed;
    void **blocks; /* what jansson has allocated and not freed */
    size_t count, capacity;
    void *few[FEW_BLOCKS]; /* `blocks`, until there are more */
};

static _Thread_local struct parse *current; /* NULL: this thread does not parse */
static json_malloc_t default_allocate;      /* what jansson uses elsewhere */

static bool reserve_block(struct parse *parse)
{
    if (parse->count < parse->capacity) return true;
    const bool first = parse->blocks == parse->few;
    void **blocks = realloc(first ? NULL : parse->blocks, 2 * parse->capacity * sizeof *blocks);
    if (!blocks) return false;
    if (first) memcpy(blocks, parse->few, sizeof parse->few);
    parse->blocks = blocks;
    parse->capacity *= 2;
    return true;
}

static void *allocate(size_t size)
{
    struct parse *parse = current;
    if (!parse) return default_allocate(size);
    void *memory = reserve_block(parse) ? malloc(size) : NULL;
    if (!memory) longjmp(parse->failed, 1);
    parse->blocks[parse->count++] = memory;
    return memory;
}

/* What is freed was mostly allocated a moment ago. */
static void release(void *memory)
{
    struct parse *parse = current;
    size_t at = parse ? parse->count : 0;
    while (at > 0 && parse->blocks[at - 1] != memory) at--;
    if (at > 0) parse->blocks[at - 1] = parse->blocks[--parse->count];
    free(memory);
}

/* jansson wants to know before its first allocation, and from one thread. */
__attribute__((constructor)) static void give_jansson_memory(void)
{
    json_get_alloc_funcs(&default_allocate, &(json_free_t){free});
    json_set_alloc_funcs(allocate, release);
}

static void free_blocks(struct parse *parse)
{
    for (size_t i = 0; i < parse->count; i++) free(parse->blocks[i]);
}

static json_t *parse_or_jump(struct parse *parse, const char *text, size_t n, size_t flags, json_error_t *where)
{
    if (setjmp(parse->failed) == 0) return json_loadb(text, n, flags, where);
    free_blocks(parse);
    *where = (json_error_t){.line = -1, .column = -1};
    where->text[JSON_ERROR_TEXT_LENGTH - 1] = json_error_out_of_memory; /* where jansson keeps the code */
    return NULL;
}

json_t *json_text_parse(const char *text, size_t n, size_t flags, json_error_t *where)
{
    struct parse parse = {.capacity = FEW_BLOCKS};
    parse.blocks = parse.few;
    current = &parse;
    json_t *json = parse_or_jump(&parse, text, n, flags, where);
    current = NULL;
    if (parse.blocks != parse.few) free(parse.blocks);
    return json;
}

bool json_text_lacked_memory(const json_error_t *where)
{
    return json_error_code(where) == json_error_out_of_memory;
}
