/* Files of torch.save(), and state_dicts in safetensors files: finds the pickle and the storages in them.
 *
 * The zip form (PyTorch 1.6 and later) holds NAME/data.pkl, and a storage per entry NAME/data/KEY. The legacy form is a
 * sequence of pickles: a magic number, a protocol, the system's sizes, the object, the keys of the storages. Then each
 * key has its number of elements and the elements.
 */
#include "model/interop/torch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/size.h"
#include "model/files/safetensors.h"
#include "model/interop/pickle.h"
#include "model/interop/recurrent.h"
#include "model/interop/tensors.h"
#include "model/interop/torch_object.h"
#include "model/interop/zip.h"

#define LEGACY_PROTOCOL 1001
#define PICKLE_ENTRY    "data.pkl"

/* torch.save() does not compress its entries. Somebody may have packed the archive anew, but weights hardly shrink. */
#define MAX_ENTRY_GROWTH 16

struct torch_file {
    struct arena *arena;
    const char *path;
    struct file_map map;
    struct interop_zip *zip; /* NULL: legacy */
    const char *prefix;      /* of the entries: "archive/" */
    char *pickle;            /* the content of data.pkl; NULL: legacy */
    size_t loaded;           /* bytes of storages so far */
    struct pickle_value *root;
    struct torch_storages storages;
};

/* ---- the zip form ---- */

static bool find_prefix(struct torch_file *file, struct error *err)
{
    const size_t tail = strlen(PICKLE_ENTRY);
    for (size_t i = 0; i < interop_zip_count(file->zip); i++) {
        const char *name = interop_zip_name(file->zip, i);
        const size_t n = strlen(name);
        if (n < tail || strcmp(name + n - tail, PICKLE_ENTRY) != 0 || (n > tail && name[n - tail - 1] != '/')) continue;
        if (file->prefix) return error_set(err, ERROR_CORRUPT, "%s: two entries are called " PICKLE_ENTRY, file->path);
        file->prefix = arena_copy_text(file->arena, name, n - tail, err);
        if (!file->prefix) return false;
    }
    return file->prefix || error_set(err, ERROR_INVALID,
                                     "%s: a zip archive, but neither of torch.save() (it has no " PICKLE_ENTRY
                                     ") nor of Keras (it has no config.json): if it holds a model, unpack it and "
                                     "import that",
                                     file->path);
}

/* prefix + name. NULL: an error is set. */
static const char *entry_name(const struct torch_file *file, const char *folder, const char *name, struct error *err)
{
    const size_t n = strlen(file->prefix) + strlen(folder) + strlen(name);
    char *text = arena_alloc(file->arena, n + 1, 1, "the name of an entry", err);
    if (text) snprintf(text, n + 1, "%s%s%s", file->prefix, folder, name);
    return text;
}

/* Archives of TorchScript look alike, but hold code. */
static bool refuse_script(const struct torch_file *file, struct error *err)
{
    const char *constants = entry_name(file, "", "constants.pkl", err), *code = entry_name(file, "", "code/", err);
    if (!constants || !code) return false;
    bool script = interop_zip_has(file->zip, constants);
    for (size_t i = 0; i < interop_zip_count(file->zip); i++)
        script |= strncmp(interop_zip_name(file->zip, i), code, strlen(code)) == 0;
    return !script || error_set(err, ERROR_INVALID,
                                "%s: a TorchScript archive, which is a program; save its weights: "
                                "torch.save(torch.jit.load(FILE).state_dict(), \"weights.pt\")",
                                file->path);
}

static bool check_byte_order(struct torch_file *file, struct error *err)
{
    char *text;
    size_t n;
    const char *name = entry_name(file, "", "byteorder", err);
    if (!name) return false;
    if (!interop_zip_has(file->zip, name)) return true;
    if (!interop_zip_read(file->zip, name, 64, &text, &n, err)) return false;
    const bool little = strcmp(text, "little") == 0;
    free(text);
    return little || error_set(err, ERROR_INVALID, "%s: its byte order is not little-endian", file->path);
}

static bool read_root(struct torch_file *file, const void *data, size_t size, size_t *used, struct error *err)
{
    struct pickle_list objects;
    file->root = pickle_read(file->arena, &(struct pickle_source){file->path, data, size}, used, &objects, err);
    return file->root && torch_storages_read(&file->storages, &objects, file->path, file->arena, err);
}

static bool read_zip(struct torch_file *file, struct error *err)
{
    size_t n;
    file->zip = interop_zip_open(file->path, file->map.data, file->map.size, err);
    if (!file->zip || !find_prefix(file, err) || !refuse_script(file, err) || !check_byte_order(file, err))
        return false;
    const char *name = entry_name(file, "", PICKLE_ENTRY, err);
    return name && interop_zip_read(file->zip, name, PICKLE_MAX_BYTES, &file->pickle, &n, err) &&
           read_root(file, file->pickle, n, NULL, err);
}

/* Entries are as long as the pickle says, but older versions of PyTorch leave a few bytes after. */
static bool load_entry(void *context, struct foreign_storage *storage, struct error *err)
{
    struct torch_file *file = context;
    const char *name = entry_name(file, "data/", storage->key, err);
    char *content;
    size_t n, most;
    if (!name) return false;
    if (!size_multiply(file->map.size, MAX_ENTRY_GROWTH, &most) || most > INTEROP_MAX_BYTES) most = INTEROP_MAX_BYTES;
    most = file->loaded < most ? most - file->loaded : 0;
    if (!interop_zip_read(file->zip, name, most, &content, &n, err)) return false;
    unsigned char *data = NULL;
    if (n < storage->bytes)
        error_set(err, ERROR_CORRUPT, "%s: entry \"%.128s\" is %zu bytes, but its storage has %zu", file->path, name, n,
                  storage->bytes);
    else
        data = arena_alloc(file->arena, storage->bytes, 1, "a storage", err);
    if (data) memcpy(data, content, storage->bytes);
    free(content);
    storage->data = data;
    file->loaded += n;
    return data;
}

/* ---- the legacy form ---- */

/* 0x1950a86a20f9469cfc6c */
static bool is_magic(const struct pickle_value *value)
{
    static const unsigned char magic[] = {0x6C, 0xFC, 0x9C, 0x46, 0xF9, 0x20, 0x6A, 0xA8, 0x50, 0x19};
    if (value->kind != PICKLE_BIG) return false;
    return (value->length == sizeof magic && memcmp(value->text, magic, sizeof magic) == 0) ||
           pickle_is(value, PICKLE_BIG, "119547037146038801333356");
}

static struct pickle_value *next_pickle(const struct torch_file *file, size_t *at, struct error *err)
{
    size_t used;
    struct pickle_value *value = pickle_read(
        file->arena, &(struct pickle_source){file->path, file->map.data + *at, file->map.size - *at}, &used, NULL, err);
    if (!value) {
        if (*at > 0) error_add_context(err, "the pickle at byte %zu", *at);
        return NULL;
    }
    *at += used;
    return value;
}

static bool is_integer(const struct pickle_value *value, int64_t integer)
{
    return value && value->kind == PICKLE_INTEGER && value->integer == integer;
}

#define NO_MODEL                                                                                                       \
    "What pickle or joblib wrote by itself is not read: save the model with torch.save(model.state_dict(), "           \
    "\"weights.pt\") or model.save(\"model.keras\")"

/* Skips the magic number, the protocol and the sizes, up to the object. */
static bool read_preamble(const struct torch_file *file, size_t *at, struct error *err)
{
    struct error problem = {0};
    const struct pickle_value *magic = next_pickle(file, at, &problem);
    if (problem.code == ERROR_CORRUPT) /* joblib writes arrays between the opcodes */
        return error_set(err, ERROR_CORRUPT, "%s. " NO_MODEL, problem.message);
    if (!magic) return error_set(err, problem.code, "%s", problem.message);
    if (!is_magic(magic))
        return error_set(
            err, ERROR_INVALID,
            "%s: a pickle, but not of torch.save(): it does not begin with PyTorch's magic number. " NO_MODEL,
            file->path);
    const struct pickle_value *protocol = next_pickle(file, at, err);
    const struct pickle_value *system = protocol ? next_pickle(file, at, err) : NULL;
    if (!system) return false;
    if (!is_integer(protocol, LEGACY_PROTOCOL))
        return error_set(err, ERROR_INVALID, "%s: its version of PyTorch's format is not %d", file->path,
                         LEGACY_PROTOCOL);
    const struct pickle_value *little = pickle_get(system, "little_endian");
    return !little || (little->kind == PICKLE_BOOL && little->integer != 0) ||
           error_set(err, ERROR_INVALID, "%s: its byte order is not little-endian", file->path);
}

/* Reads the number of elements, which must be that of the pickle, and the elements. */
static bool find_storage(const struct torch_file *file, const struct pickle_value *key, size_t *at, struct error *err)
{
    struct torch_storage *storage =
        key->kind == PICKLE_TEXT ? torch_storages_find(&file->storages, key->text, key->length) : NULL;
    if (!storage) return error_set(err, ERROR_CORRUPT, "%s: a storage in it has no tensor", file->path);
    uint64_t count;
    const size_t left = file->map.size - *at, bytes = storage->storage.bytes;
    if (left < sizeof count || left - sizeof count < bytes)
        return error_set(err, ERROR_CORRUPT, "%s: ends at byte %zu, inside of storage \"%s\" of %zu bytes at byte %zu",
                         file->path, file->map.size, storage->storage.key, bytes, *at);
    memcpy(&count, file->map.data + *at, sizeof count);
    if (count != bytes / storage->item_size)
        return error_set(err, ERROR_CORRUPT,
                         "%s: storage \"%s\" at byte %zu has %llu elements, but the pickle says %zu", file->path,
                         storage->storage.key, *at, (unsigned long long)count, bytes / storage->item_size);
    storage->storage.data = file->map.data + *at + sizeof count;
    *at += sizeof count + bytes;
    return true;
}

static bool read_legacy(struct torch_file *file, struct error *err)
{
    size_t at = 0, used;
    if (!read_preamble(file, &at, err)) return false;
    if (!read_root(file, file->map.data + at, file->map.size - at, &used, err))
        return error_add_context(err, "the pickle at byte %zu", at);
    at += used;
    const struct pickle_value *keys = next_pickle(file, &at, err);
    if (!keys) return false;
    if (keys->kind != PICKLE_LIST)
        return error_set(err, ERROR_CORRUPT, "%s: the keys of its storages are not a list", file->path);
    for (uint32_t i = 0; i < keys->items.count; i++)
        if (!find_storage(file, keys->items.values[i], &at, err)) return false;
    return true;
}

static bool refuse_missing_storage(void *context, struct foreign_storage *storage, struct error *err)
{
    const struct torch_file *file = context;
    return error_set(err, ERROR_CORRUPT, "%s: storage \"%s\" is not in it", file->path, storage->key);
}

/* ---- both ---- */

static bool read_model(struct torch_file *file, struct foreign *foreign, struct error *err)
{
    const char *kind;
    struct foreign_tensors tensors = {.place = file->path,
                                      .load = file->zip ? load_entry : refuse_missing_storage,
                                      .context = file,
                                      .arena = file->arena};
    char format[64];
    if (!torch_object_read(file->root, &file->storages, &tensors, &kind, err) ||
        !recurrent_read(&tensors, foreign, err))
        return false;
    const int n = snprintf(format, sizeof format, "PyTorch %s%s", kind, file->zip ? "" : " (legacy form)");
    foreign->format = arena_copy_text(&foreign->arena, format, (size_t)n, err);
    foreign->tokens = torch_object_tokens(file->root, foreign->network.architecture.vocabulary_size);
    return foreign->format;
}

static bool read_pickled(const char *path, const struct file_map *map, bool zip, struct foreign *foreign,
                         struct error *err)
{
    struct arena arena = {0};
    struct torch_file file = {.arena = &arena, .path = path, .map = *map};
    const bool ok = (zip ? read_zip(&file, err) : read_legacy(&file, err)) && read_model(&file, foreign, err);
    interop_zip_close(file.zip);
    free(file.pickle);
    arena_free(&arena);
    return ok;
}

/* ---- safetensors ---- */

static enum foreign_type type_of_entry(const struct safetensors_entry *entry)
{
    if (entry->type == SAFETENSORS_F32) return FOREIGN_F32;
    if (entry->type == SAFETENSORS_F16) return FOREIGN_F16;
    return entry->type == SAFETENSORS_BF16 ? FOREIGN_BF16 : FOREIGN_OTHER;
}

static bool add_entry(struct foreign_tensors *tensors, const struct safetensors_entry *entry, struct error *err)
{
    struct foreign_tensor tensor = {.name = entry->name, .type = type_of_entry(entry), .rank = entry->rank};
    tensor.storage = arena_alloc(tensors->arena, 1, sizeof *tensor.storage, "a storage", err);
    if (!tensor.storage) return false;
    size_t stride = 1;
    for (size_t d = entry->rank; d > 0; d--) {
        tensor.shape[d - 1] = entry->shape[d - 1];
        tensor.stride[d - 1] = stride;
        stride *= entry->shape[d - 1]; /* no overflow: the reader counted the elements */
    }
    *tensor.storage = (struct foreign_storage){
        .key = entry->name, .bytes = entry->count * foreign_type_size(tensor.type), .data = entry->data};
    return foreign_tensors_add(tensors, &tensor, err);
}

static bool read_safetensors(const char *path, const struct file_map *map, struct foreign *foreign, struct error *err)
{
    struct safetensors file;
    struct arena arena = {0};
    struct foreign_tensors tensors = {.place = path, .deduplicated = true, .arena = &arena};
    if (!safetensors_open_memory(&file, path, map->data, map->size, err)) return false;
    bool ok = true;
    for (size_t i = 0; ok && i < file.count; i++) ok = add_entry(&tensors, &file.entries[i], err);
    ok = ok && recurrent_read(&tensors, foreign, err);
    foreign->format = "PyTorch state_dict (safetensors)";
    arena_free(&arena);
    safetensors_close(&file);
    return ok;
}

bool interop_torch_read_memory(const char *path, const void *data, size_t size, struct foreign *foreign,
                               struct error *err)
{
    const struct file_map map = {.data = data, .size = size};
    const unsigned char *bytes = data;
    if (size >= 4 && memcmp(bytes, "PK\x03\x04", 4) == 0) return read_pickled(path, &map, true, foreign, err);
    if (size >= 9 && bytes[8] == '{') return read_safetensors(path, &map, foreign, err);
    return read_pickled(path, &map, false, foreign, err);
}

bool interop_torch_read(const char *path, struct foreign *foreign, struct error *err)
{
    struct file_map map;
    if (!file_map_open(&map, path, err)) return false;
    const bool ok = map.size <= INTEROP_MAX_BYTES
                        ? interop_torch_read_memory(path, map.data, map.size, foreign, err)
                        : error_set(err, ERROR_TOO_LARGE, "%s: %zu bytes are more than are read", path, map.size);
    file_map_close(&map);
    return ok;
}
