#include "model/files/safetensors.h"

#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/size.h"
#include "model/kernels/half.h"

#define LENGTH_SIZE  8
#define METADATA_KEY "__metadata__"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensor data is copied as it lies in the file");

static const struct {
    const char *name;
    size_t size;
    bool written;
} types[] = {
    [SAFETENSORS_F32] = {"F32", 4, true}, [SAFETENSORS_F16] = {"F16", 2, false}, [SAFETENSORS_BF16] = {"BF16", 2, true},
    [SAFETENSORS_I8] = {"I8", 1, true},   [SAFETENSORS_I64] = {"I64", 8, true},  [SAFETENSORS_U64] = {"U64", 8, true},
};

#define TYPE_COUNT (sizeof types / sizeof types[0])

const char *safetensors_type_name(enum safetensors_type type)
{
    return types[type].name;
}

/* Where the data of the tensors lies, and its bytes. */
struct region {
    const unsigned char *data;
    size_t size;
};

static bool out_of_memory(struct error *err)
{
    return error_set(err, ERROR_NO_MEMORY, "out of memory for the JSON header");
}

static bool is_object_of_strings(const json_t *value)
{
    if (!json_is_object(value)) return false;
    const char *key;
    json_t *member;
    json_object_foreach((json_t *)value, key, member)
    {
        if (!json_is_string(member)) return false;
    }
    return true;
}

static bool read_size(const json_t *value, size_t *size)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0) return false;
    *size = (size_t)json_integer_value(value);
    return (json_int_t)*size == json_integer_value(value);
}

static bool read_type(struct safetensors_entry *entry, const json_t *value, struct error *err)
{
    if (!json_is_string(value)) return error_set(err, ERROR_CORRUPT, "dtype is missing or not a string");
    const char *name = json_string_value(value);
    for (size_t i = 0; i < TYPE_COUNT; i++) {
        if (strcmp(name, types[i].name) != 0) continue;
        entry->type = (enum safetensors_type)i;
        return true;
    }
    return error_set(err, ERROR_CORRUPT, "dtype \"%.32s\" is not one of F32, F16, BF16, I8, I64, U64", name);
}

static bool count_elements(struct safetensors_entry *entry)
{
    entry->count = 1;
    for (size_t i = 0; i < entry->rank; i++)
        if (!size_multiply(entry->count, entry->shape[i], &entry->count)) return false;
    return true;
}

static bool read_shape(struct safetensors_entry *entry, const json_t *value, struct error *err)
{
    if (!json_is_array(value)) return error_set(err, ERROR_CORRUPT, "shape is missing or not an array");
    entry->rank = json_array_size(value);
    if (entry->rank > SAFETENSORS_MAX_RANK)
        return error_set(err, ERROR_CORRUPT, "shape has %zu dimensions, at most %d are read", entry->rank,
                         SAFETENSORS_MAX_RANK);
    for (size_t i = 0; i < entry->rank; i++)
        if (!read_size(json_array_get(value, i), &entry->shape[i]))
            return error_set(err, ERROR_CORRUPT, "shape[%zu] is not a non-negative integer", i);
    size_t bytes;
    if (!count_elements(entry) || !size_multiply(entry->count, types[entry->type].size, &bytes))
        return error_set(err, ERROR_CORRUPT, "shape has too many elements to count");
    return true;
}

/* Checks that a tensor's offsets hold exactly the bytes that its shape needs. check_coverage() compares the tensors
 * with each other. */
static bool read_offsets(struct safetensors_entry *entry, const json_t *value, const struct region *region,
                         struct error *err)
{
    size_t begin, end, size = entry->count * types[entry->type].size;
    if (!json_is_array(value) || json_array_size(value) != 2 || !read_size(json_array_get(value, 0), &begin) ||
        !read_size(json_array_get(value, 1), &end))
        return error_set(err, ERROR_CORRUPT, "data_offsets is missing or not two non-negative integers");
    if (begin > end) return error_set(err, ERROR_CORRUPT, "data_offsets [%zu, %zu] end before they begin", begin, end);
    if (end > region->size)
        return error_set(err, ERROR_CORRUPT, "data_offsets [%zu, %zu] go beyond the file, which has %zu bytes of data",
                         begin, end, region->size);
    if (end - begin != size)
        return error_set(err, ERROR_CORRUPT, "data_offsets [%zu, %zu] are %zu bytes, but %zu elements of %s are %zu",
                         begin, end, end - begin, entry->count, types[entry->type].name, size);
    entry->data = region->data + begin;
    return true;
}

static bool read_entry(struct safetensors_entry *entry, const json_t *value, const struct region *region,
                       struct error *err)
{
    if (!json_is_object(value)) return error_set(err, ERROR_CORRUPT, "must be an object");
    if (!read_type(entry, json_object_get(value, "dtype"), err)) return false;
    if (!read_shape(entry, json_object_get(value, "shape"), err)) return false;
    if (!read_offsets(entry, json_object_get(value, "data_offsets"), region, err)) return false;
    if (json_object_size(value) != 3)
        return error_set(err, ERROR_CORRUPT, "has fields besides dtype, shape and data_offsets");
    return true;
}

static bool read_metadata(struct safetensors *file, const json_t *value, struct error *err)
{
    if (!is_object_of_strings(value)) return error_set(err, ERROR_CORRUPT, METADATA_KEY " is not an object of strings");
    size_t n;
    char *text = json_text_print(value, JSON_COMPACT, &n, err);
    if (!text) return false;
    file->metadata = arena_copy_text(&file->arena, text, n, err);
    free(text);
    return file->metadata;
}

static bool read_header(struct safetensors *file, const json_t *header, const struct region *region, struct error *err)
{
    file->entries = arena_alloc(&file->arena, json_object_size(header), sizeof *file->entries, "tensor entries", err);
    if (!file->entries) return false;
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)header, name, value)
    {
        if (strcmp(name, METADATA_KEY) == 0) {
            if (!read_metadata(file, value, err)) return false;
            continue;
        }
        struct safetensors_entry *entry = &file->entries[file->count++];
        entry->name = arena_copy_text(&file->arena, name, strlen(name), err);
        if (!entry->name) return false;
        if (!read_entry(entry, value, region, err)) return error_add_context(err, "tensor \"%s\"", name);
    }
    return true;
}

/* Orders by place. An empty tensor comes before the one that begins there; names decide between equals. */
static int compare_entries(const void *left, const void *right)
{
    const struct safetensors_entry *a = left, *b = right;
    if (a->data != b->data) return a->data < b->data ? -1 : 1;
    if ((a->count == 0) != (b->count == 0)) return a->count == 0 ? -1 : 1;
    return strcmp(a->name, b->name);
}

/* Checks that the entries together cover every byte of the data exactly once. */
static bool check_coverage(const struct safetensors *file, const struct region *region, struct error *err)
{
    size_t covered = 0;
    for (size_t i = 0; i < file->count; i++) {
        const struct safetensors_entry *entry = &file->entries[i];
        size_t begin = (size_t)(entry->data - region->data);
        if (begin < covered)
            return error_set(err, ERROR_CORRUPT, "tensor \"%s\": data_offsets begin at %zu, inside another tensor",
                             entry->name, begin);
        if (begin > covered)
            return error_set(err, ERROR_CORRUPT, "tensor \"%s\": %zu bytes of data before it belong to no tensor",
                             entry->name, begin - covered);
        covered += entry->count * types[entry->type].size;
    }
    if (covered == region->size) return true;
    return error_set(err, ERROR_CORRUPT, "%zu bytes after the last tensor belong to no tensor", region->size - covered);
}

static json_t *parse_json(const char *text, size_t n, struct error *err)
{
    if (n == 0 || text[0] != '{') {
        error_set(err, ERROR_CORRUPT, "the header is not a JSON object");
        return NULL;
    }
    json_error_t problem;
    json_t *header = json_text_parse(text, n, JSON_REJECT_DUPLICATES, &problem);
    if (header) return header;
    if (json_text_lacked_memory(&problem)) out_of_memory(err);
    error_set(err, ERROR_CORRUPT, "the header is not valid JSON: %s (byte %d)", problem.text,
              LENGTH_SIZE + problem.position);
    return NULL;
}

static bool parse_file(struct safetensors *file, const unsigned char *data, size_t size, struct error *err)
{
    if (size < LENGTH_SIZE)
        return error_set(err, ERROR_CORRUPT, "the file has %zu bytes, too few for the header's length", size);
    uint64_t length;
    memcpy(&length, data, sizeof length);
    if (length > SAFETENSORS_MAX_HEADER)
        return error_set(err, ERROR_CORRUPT, "the header's length is %" PRIu64 ", more than the limit of %zu bytes",
                         length, SAFETENSORS_MAX_HEADER);
    if (length > size - LENGTH_SIZE)
        return error_set(err, ERROR_CORRUPT,
                         "the header's length is %" PRIu64 ", more than the file, which has %zu bytes", length, size);
    json_t *header = parse_json((const char *)data + LENGTH_SIZE, (size_t)length, err);
    if (!header) return false;
    struct region region = {data + LENGTH_SIZE + length, size - LENGTH_SIZE - (size_t)length};
    bool ok = read_header(file, header, &region, err);
    json_decref(header);
    if (!ok) return false;
    qsort(file->entries, file->count, sizeof *file->entries, compare_entries);
    return check_coverage(file, &region, err);
}

bool safetensors_open_memory(struct safetensors *file, const char *name, const void *data, size_t size,
                             struct error *err)
{
    *file = (struct safetensors){0};
    file->path = arena_copy_text(&file->arena, name, strlen(name), err);
    if (file->path && parse_file(file, data, size, err)) return true;
    error_add_context(err, "%s", name);
    safetensors_close(file);
    return false;
}

bool safetensors_open(struct safetensors *file, const char *path, struct error *err)
{
    return safetensors_open_at(file, AT_FDCWD, path, path, err);
}

bool safetensors_open_at(struct safetensors *file, int directory, const char *name, const char *place,
                         struct error *err)
{
    *file = (struct safetensors){0};
    struct file_map map;
    if (!file_map_open_at(&map, &(struct file_at){directory, name, place}, err)) return false;
    if (!safetensors_open_memory(file, place, map.data, map.size, err)) {
        file_map_close(&map);
        return false;
    }
    file->map = map;
    return true;
}

void safetensors_close(struct safetensors *file)
{
    file_map_close(&file->map);
    arena_free(&file->arena);
    *file = (struct safetensors){0};
}

const struct safetensors_entry *safetensors_find(const struct safetensors *file, const char *name)
{
    for (size_t i = 0; i < file->count; i++)
        if (strcmp(file->entries[i].name, name) == 0) return &file->entries[i];
    return NULL;
}

static void convert_16_bits(const struct safetensors_entry *entry, float (*convert)(uint16_t), float *out)
{
    for (size_t i = 0; i < entry->count; i++) {
        uint16_t bits;
        memcpy(&bits, entry->data + i * sizeof bits, sizeof bits);
        out[i] = convert(bits);
    }
}

bool safetensors_read_float(const struct safetensors *file, const struct safetensors_entry *entry, float *out,
                            struct error *err)
{
    switch (entry->type) {
    case SAFETENSORS_F32:
        if (entry->count > 0) memcpy(out, entry->data, entry->count * sizeof *out);
        return true;
    case SAFETENSORS_F16:
        convert_16_bits(entry, float_of_half, out);
        return true;
    case SAFETENSORS_BF16:
        convert_16_bits(entry, float_of_bfloat, out);
        return true;
    case SAFETENSORS_I8:
    case SAFETENSORS_I64:
    case SAFETENSORS_U64:
        break;
    }
    return error_set(err, ERROR_CORRUPT, "%s: tensor \"%s\": dtype is %s, but floating-point numbers are needed",
                     file->path, entry->name, types[entry->type].name);
}

/* {"dtype": ..., "shape": [...], "data_offsets": [begin, begin + size]} */
static json_t *describe_entry(const struct safetensors_entry *entry, size_t begin, size_t end)
{
    json_t *shape = json_array();
    for (size_t i = 0; i < entry->rank; i++)
        if (json_array_append_new(shape, json_integer((json_int_t)entry->shape[i])) != 0) {
            json_decref(shape);
            return NULL;
        }
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", types[entry->type].name, "shape", shape, "data_offsets",
                     (json_int_t)begin, (json_int_t)end);
}

static bool check_written(const struct safetensors_entry *entry, struct error *err)
{
    struct safetensors_entry counted = *entry;
    if ((size_t)entry->type >= TYPE_COUNT || !types[entry->type].written)
        return error_set(err, ERROR_INVALID, "F16 is not written");
    if (entry->rank > SAFETENSORS_MAX_RANK)
        return error_set(err, ERROR_INVALID, "%zu dimensions are more than %d", entry->rank, SAFETENSORS_MAX_RANK);
    if (strcmp(entry->name, METADATA_KEY) == 0) return error_set(err, ERROR_INVALID, "that name is reserved");
    if (!count_elements(&counted) || counted.count != entry->count)
        return error_set(err, ERROR_INVALID, "the shape is not one of %zu elements", entry->count);
    return true;
}

/* Adds one entry to the header at offset *end, and moves *end behind its data. */
static bool add_entry(json_t *header, const struct safetensors_entry *entry, size_t *end, struct error *err)
{
    size_t begin = *end, size;
    if (json_object_get(header, entry->name)) return error_set(err, ERROR_INVALID, "there are two of that name");
    if (!size_multiply(entry->count, types[entry->type].size, &size) || !size_add(begin, size, end))
        return error_set(err, ERROR_TOO_LARGE, "the file would be too large");
    if (json_object_set_new(header, entry->name, describe_entry(entry, begin, *end)) != 0) return out_of_memory(err);
    return true;
}

static bool add_metadata(json_t *header, const char *metadata, struct error *err)
{
    json_error_t problem = {0};
    json_t *value = json_text_parse(metadata, strlen(metadata), JSON_REJECT_DUPLICATES, &problem);
    if (!is_object_of_strings(value)) {
        bool parsed = value;
        json_decref(value);
        if (!parsed && json_text_lacked_memory(&problem)) return out_of_memory(err);
        return error_set(err, ERROR_INVALID, "the metadata is not a JSON object of strings");
    }
    return json_object_set_new(header, METADATA_KEY, value) == 0 || out_of_memory(err);
}

struct header {
    char *text; /* spaces pad it, so that the data begins at a multiple of 8 */
    size_t length, data_size;
};

static bool print_header(struct header *header, const json_t *json, struct arena *arena, struct error *err)
{
    size_t n;
    char *text = json_text_print(json, JSON_COMPACT, &n, err);
    if (!text) return false;
    header->length = size_round_up(n, LENGTH_SIZE);
    if (header->length > SAFETENSORS_MAX_HEADER)
        error_set(err, ERROR_TOO_LARGE, "a header of %zu bytes is more than the limit of %zu", n,
                  SAFETENSORS_MAX_HEADER);
    else
        header->text = arena_alloc(arena, header->length, 1, "the header", err);
    if (header->text) {
        memset(header->text, ' ', header->length);
        memcpy(header->text, text, n);
    }
    free(text);
    return header->text;
}

static bool make_header(struct header *header, const struct safetensors_entry *const *entries, size_t count,
                        const char *metadata, struct arena *arena, struct error *err)
{
    json_t *json = json_object();
    if (!json) return out_of_memory(err);
    bool ok = !metadata || add_metadata(json, metadata, err);
    for (size_t i = 0; ok && i < count; i++)
        ok = add_entry(json, entries[i], &header->data_size, err) ||
             error_add_context(err, "tensor \"%s\"", entries[i]->name);
    ok = ok && print_header(header, json, arena, err);
    json_decref(json);
    return ok;
}

/* The order of the file: larger types first. */
static const struct safetensors_entry **order_entries(const struct safetensors_entry *entries, size_t count,
                                                      struct arena *arena, struct error *err)
{
    const struct safetensors_entry **order = arena_alloc(arena, count, sizeof *order, "tensor entries", err);
    if (!order) return NULL;
    size_t n = 0;
    for (size_t element = 8; element > 0; element /= 2)
        for (size_t i = 0; i < count; i++)
            if (types[entries[i].type].size == element) order[n++] = &entries[i];
    return order;
}

static unsigned char *write_file(const struct header *header, const struct safetensors_entry *const *entries,
                                 size_t count, size_t size, struct error *err)
{
    unsigned char *data = malloc(size);
    if (!data) {
        error_set_no_memory(err, size, "a safetensors file");
        return NULL;
    }
    uint64_t length = header->length;
    memcpy(data, &length, sizeof length);
    memcpy(data + LENGTH_SIZE, header->text, header->length);
    unsigned char *at = data + LENGTH_SIZE + header->length;
    for (size_t i = 0; i < count; i++) {
        size_t bytes = entries[i]->count * types[entries[i]->type].size;
        if (bytes > 0) memcpy(at, entries[i]->data, bytes);
        at += bytes;
    }
    return data;
}

bool safetensors_serialise(const struct safetensors_entry *entries, size_t count, const char *metadata,
                           unsigned char **data, size_t *size, struct error *err)
{
    *data = NULL;
    for (size_t i = 0; i < count; i++)
        if (!check_written(&entries[i], err)) return error_add_context(err, "tensor \"%s\"", entries[i].name);
    struct arena arena = {0};
    struct header header = {0};
    const struct safetensors_entry **order = order_entries(entries, count, &arena, err);
    if (order && make_header(&header, order, count, metadata, &arena, err)) {
        if (size_add(header.data_size, LENGTH_SIZE + header.length, size))
            *data = write_file(&header, order, count, *size, err);
        else
            error_set(err, ERROR_TOO_LARGE, "the safetensors file would be too large");
    }
    arena_free(&arena);
    return *data;
}
