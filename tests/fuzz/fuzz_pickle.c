/* Reads any bytes as a pickle, and as a file of torch.save(). The result is a refusal with a message, or values whose
 * parts can all be read. */
#include "model/interop/pickle.h"
#include "model/interop/torch_object.h"
#include "tests/fuzz/fuzz.h"

enum { WALKED = 128 };

static void walk_list(struct pickle_value *const *values, size_t count, size_t depth);

static void walk(struct pickle_value *value, size_t depth)
{
    static volatile unsigned char sum;
    if (!value || value->visited & WALKED || depth == 0) return;
    value->visited |= WALKED;
    switch (value->kind) {
    case PICKLE_BIG:
    case PICKLE_TEXT:
    case PICKLE_BYTES:
    case PICKLE_GLOBAL:
        for (size_t i = 0; i < value->length; i++) sum = (unsigned char)(sum + (unsigned char)value->text[i]);
        break;
    case PICKLE_LIST:
    case PICKLE_TUPLE:
    case PICKLE_SET:
    case PICKLE_DICT:
    case PICKLE_PERSISTENT:
    case PICKLE_OBJECT:
        REQUIRE(value->entries.count % 2 == 0);
        walk(value->callable, depth - 1);
        walk(value->arguments, depth - 1);
        walk(value->state, depth - 1);
        walk_list(value->items.values, value->items.count, depth - 1);
        walk_list(value->entries.values, value->entries.count, depth - 1);
        break;
    case PICKLE_NONE:
    case PICKLE_BOOL:
    case PICKLE_INTEGER:
    case PICKLE_REAL:
        break;
    }
}

static void walk_list(struct pickle_value *const *values, size_t count, size_t depth)
{
    for (size_t i = 0; i < count; i++) walk(values[i], depth);
}

static void read_object(struct pickle_value *root, const struct pickle_list *objects, struct arena *arena)
{
    struct error err = {0};
    struct torch_storages storages;
    struct foreign_tensors tensors = {.place = "input", .arena = arena};
    const char *kind;
    json_t *tokens = NULL;
    if (torch_storages_read(&storages, objects, "input", arena, &err) &&
        torch_object_read(root, &storages, &tensors, &kind, &err))
        REQUIRE(tensors.count > 0);
    else
        REQUIRE(err.code != ERROR_NONE && err.message[0] != '\0');
    tokens = torch_object_tokens(root, 3);
    json_decref(tokens);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = {0};
    struct arena arena = {0};
    struct pickle_list objects;
    size_t used;
    struct pickle_value *root =
        pickle_read(&arena, &(struct pickle_source){"input", data, size}, &used, &objects, &err);
    if (root) {
        REQUIRE(used > 0 && used <= size);
        walk(root, 1000);
        read_object(root, &objects, &arena);
    } else {
        REQUIRE(err.code != ERROR_NONE && err.message[0] != '\0');
    }
    arena_free(&arena);
    return 0;
}
