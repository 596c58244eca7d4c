#include "model/interop/torch_object.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "base/utf8.h"
#include "model/interop/names.h"
#include "model/interop/python.h"
#include "model/interop/recurrent.h"

#define MAX_DEPTH        24 /* depth of modules in modules, and of dictionaries in dictionaries */
#define MAX_REBUILD      4  /* a parameter around a tensor around a subclass ... */
#define CHECKPOINT_DEPTH 4  /* depth of the search for models and vocabularies */

/* Bits of pickle_value.visited. */
enum {
    IN_MODULE = 1, /* visited as a module */
    IN_SEARCH = 2, /* visited by the search */
    IN_TOKENS = 4, /* visited while looking for tokens */
};

/* ---- small questions ---- */

static const char *text_copy(struct arena *arena, const struct pickle_value *text, struct error *err)
{
    return arena_copy_text(arena, text->text, text->length, err);
}

/* The n-th argument of an object, or item of a tuple; NULL: none. */
static struct pickle_value *value_item(const struct pickle_value *value, size_t n)
{
    if (value && value->kind == PICKLE_OBJECT) value = value->arguments;
    if (!value || (value->kind != PICKLE_TUPLE && value->kind != PICKLE_LIST) || n >= value->items.count) return NULL;
    return value->items.values[n];
}

static bool size_of(const struct pickle_value *value, size_t *size)
{
    if (!value || value->kind != PICKLE_INTEGER || value->integer < 0) return false;
    *size = (size_t)value->integer;
    return true;
}

static bool calls_function(const struct pickle_value *value, const char *name)
{
    return value && value->kind == PICKLE_OBJECT && pickle_is(value->callable, PICKLE_GLOBAL, name);
}

/* The class of an object: what constructs it, the class in copyreg._reconstructor(class, ...), or the one that the
 * persistent id ('module', class, source file, source) of an old file names. */
static const struct pickle_value *class_of(const struct pickle_value *object)
{
    const struct pickle_value *callable = object->callable;
    if (calls_function(object, "copy_reg._reconstructor") || calls_function(object, "copyreg._reconstructor"))
        callable = value_item(object, 0);
    if (callable && callable->kind == PICKLE_PERSISTENT &&
        pickle_is(value_item(callable->callable, 0), PICKLE_TEXT, "module"))
        callable = value_item(callable->callable, 1);
    return callable && callable->kind == PICKLE_GLOBAL ? callable : NULL;
}

/* Whether the state of an object has parameters and modules. */
static const struct pickle_value *module_state(const struct pickle_value *value)
{
    if (value->kind != PICKLE_OBJECT || !value->state) return NULL;
    return pickle_get(value->state, "_parameters") && pickle_get(value->state, "_modules") ? value->state : NULL;
}

/* ---- storages ---- */

static const struct storage_type {
    const char *name;
    enum foreign_type type;
    size_t item_size;
} storage_types[] = {
    {"FloatStorage", FOREIGN_F32, 4},          {"HalfStorage", FOREIGN_F16, 2},
    {"BFloat16Storage", FOREIGN_BF16, 2},      {"DoubleStorage", FOREIGN_F64, 8},
    {"LongStorage", FOREIGN_OTHER, 8},         {"IntStorage", FOREIGN_OTHER, 4},
    {"ShortStorage", FOREIGN_OTHER, 2},        {"CharStorage", FOREIGN_OTHER, 1},
    {"ByteStorage", FOREIGN_OTHER, 1},         {"BoolStorage", FOREIGN_OTHER, 1},
    {"ComplexFloatStorage", FOREIGN_OTHER, 8}, {"ComplexDoubleStorage", FOREIGN_OTHER, 16},
    {"QInt8Storage", FOREIGN_OTHER, 1},        {"QUInt8Storage", FOREIGN_OTHER, 1},
    {"QInt32Storage", FOREIGN_OTHER, 4},       {"UntypedStorage", FOREIGN_OTHER, 1},
};

/* "torch.FloatStorage", "torch.cuda.FloatStorage", "torch.storage.UntypedStorage" */
static const struct storage_type *find_storage_type(const struct pickle_value *global)
{
    if (!global || global->kind != PICKLE_GLOBAL || global->length < 6 || memcmp(global->text, "torch.", 6) != 0)
        return NULL;
    size_t start = global->length;
    while (start > 0 && global->text[start - 1] != '.') start--;
    for (size_t i = 0; i < sizeof storage_types / sizeof *storage_types; i++) {
        const char *name = storage_types[i].name;
        if (strlen(name) == global->length - start && memcmp(name, global->text + start, strlen(name)) == 0)
            return &storage_types[i];
    }
    return NULL;
}

/* ('storage', type, key, location, elements[, view]) */
static bool read_storage(struct torch_storage *storage, const struct pickle_value *id, const char *place,
                         struct arena *arena, struct error *err)
{
    const struct storage_type *type = find_storage_type(value_item(id, 1));
    const struct pickle_value *key = value_item(id, 2);
    size_t count;
    if (!pickle_is(value_item(id, 0), PICKLE_TEXT, "storage") || !type || !key || key->kind != PICKLE_TEXT ||
        key->length > FOREIGN_MAX_NAME || memchr(key->text, '\0', key->length) || !size_of(value_item(id, 4), &count))
        return error_set(err, ERROR_CORRUPT, "%s: a persistent id is not that of a storage of a known type", place);
    storage->type = type->type;
    storage->item_size = type->item_size;
    storage->storage.key = text_copy(arena, key, err);
    if (!storage->storage.key) return false;
    return size_multiply(count, type->item_size, &storage->storage.bytes) ||
           error_set(err, ERROR_CORRUPT, "%s: storage \"%s\" has too many elements to count", place,
                     storage->storage.key);
}

static int compare_storages(const void *a, const void *b)
{
    return strcmp(((const struct torch_storage *)a)->storage.key, ((const struct torch_storage *)b)->storage.key);
}

/* Keeps one of each storage: several tensors may name the same. */
static bool storages_unite(struct torch_storages *storages, const char *place, struct error *err)
{
    size_t kept = 0;
    if (storages->count > 0) qsort(storages->list, storages->count, sizeof *storages->list, compare_storages);
    for (size_t i = 0; i < storages->count; i++) {
        const struct torch_storage *storage = &storages->list[i], *last = kept > 0 ? &storages->list[kept - 1] : NULL;
        if (!last || strcmp(last->storage.key, storage->storage.key) != 0)
            storages->list[kept++] = *storage;
        else if (last->type != storage->type || last->storage.bytes != storage->storage.bytes)
            return error_set(err, ERROR_CORRUPT, "%s: storage \"%s\" has two types or two sizes", place,
                             storage->storage.key);
    }
    storages->count = kept;
    return true;
}

/* OrderedDict([[key, value], ...]) */
static bool make_entries(struct pickle_value *object, struct arena *arena, struct error *err)
{
    const struct pickle_value *pairs = value_item(object, 0);
    if (!pairs || pairs->kind != PICKLE_LIST || !calls_function(object, "collections.OrderedDict")) return true;
    struct pickle_value **values = arena_alloc(arena, pairs->items.count, 2 * sizeof *values, "a dictionary", err);
    if (!values) return false;
    for (uint32_t i = 0; i < pairs->items.count; i++) {
        values[2 * i] = value_item(pairs->items.values[i], 0);
        values[2 * i + 1] = value_item(pairs->items.values[i], 1);
        if (!values[2 * i] || !values[2 * i + 1]) return true;
    }
    object->entries = (struct pickle_list){values, 2 * pairs->items.count, 2 * pairs->items.count};
    return true;
}

bool torch_storages_read(struct torch_storages *storages, const struct pickle_list *objects, const char *place,
                         struct arena *arena, struct error *err)
{
    *storages = (struct torch_storages){0};
    storages->list = arena_alloc(arena, objects->count, sizeof *storages->list, "the storages of a file", err);
    if (!storages->list) return false;
    for (uint32_t i = 0; i < objects->count; i++) {
        struct pickle_value *object = objects->values[i];
        const struct pickle_value *id = object->callable;
        if (object->kind == PICKLE_OBJECT) {
            if (!make_entries(object, arena, err)) return false;
        } else if (!pickle_is(value_item(id, 0), PICKLE_TEXT, "module")) { /* in old files: a class with its source */
            if (!read_storage(&storages->list[storages->count++], id, place, arena, err)) return false;
        }
    }
    return storages_unite(storages, place, err);
}

struct torch_storage *torch_storages_find(const struct torch_storages *storages, const char *key, size_t n)
{
    size_t low = 0, high = storages->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const char *other = storages->list[middle].storage.key;
        int order = strncmp(key, other, n);
        if (order == 0 && other[n] != '\0') order = -1;
        if (order == 0) return &storages->list[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

/* ---- tensors ---- */

/* Whether this makes a parameter of its first argument, a tensor. In PyTorch 0.1 to 0.3 the class itself does. */
static bool is_parameter(const struct pickle_value *callable)
{
    static const char *const names[] = {"torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state",
                                        "torch.nn.parameter.Parameter", "torch.autograd.variable.Variable"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (pickle_is(callable, PICKLE_GLOBAL, names[i])) return true;
    return false;
}

/* The call that rebuilds a tensor, below a parameter or subclass around it: the end of its name ("_rebuild_tensor_v2")
 * and its arguments. NULL: the value is no tensor. */
static const struct pickle_value *find_rebuild(const struct pickle_value *value, const char **how)
{
    static const char *const tensors[] = {"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3"};
    const struct pickle_value *callable = NULL, *arguments = value;
    if (!value || value->kind != PICKLE_OBJECT) return NULL;
    callable = value->callable;
    arguments = value->arguments;
    for (size_t depth = 0; depth < MAX_REBUILD && callable && callable->kind == PICKLE_GLOBAL; depth++) {
        char name[64];
        for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
            snprintf(name, sizeof name, "torch._utils.%s", tensors[i]);
            *how = tensors[i];
            if (pickle_is(callable, PICKLE_GLOBAL, name)) return arguments;
        }
        if (pickle_is(callable, PICKLE_GLOBAL, "torch._tensor._rebuild_from_type_v2")) {
            callable = value_item(arguments, 0);
            arguments = value_item(arguments, 2);
            continue;
        }
        if (!is_parameter(callable)) return NULL;
        const struct pickle_value *inner = value_item(arguments, 0);
        callable = inner && inner->kind == PICKLE_OBJECT ? inner->callable : NULL;
        arguments = callable ? inner->arguments : NULL;
    }
    return NULL;
}

static enum foreign_type type_of_dtype(const struct pickle_value *dtype)
{
    if (pickle_is(dtype, PICKLE_GLOBAL, "torch.float32")) return FOREIGN_F32;
    if (pickle_is(dtype, PICKLE_GLOBAL, "torch.float16")) return FOREIGN_F16;
    if (pickle_is(dtype, PICKLE_GLOBAL, "torch.bfloat16")) return FOREIGN_BF16;
    if (pickle_is(dtype, PICKLE_GLOBAL, "torch.float64")) return FOREIGN_F64;
    return FOREIGN_OTHER;
}

/* Takes the tuple out of a torch.Size around it. */
static bool read_sizes(const struct pickle_value *value, size_t sizes[FOREIGN_MAX_RANK], size_t *rank)
{
    if (calls_function(value, "torch.Size")) value = value_item(value, 0);
    if (!value || value->kind != PICKLE_TUPLE || value->items.count > FOREIGN_MAX_RANK) return false;
    *rank = value->items.count;
    for (size_t i = 0; i < *rank; i++)
        if (!size_of(value->items.values[i], &sizes[i])) return false;
    return true;
}

/* A legacy storage can be a view: (key, offset in elements, elements). */
static bool view_offset(const struct pickle_value *id, size_t *offset)
{
    const struct pickle_value *view = value_item(id, 5);
    *offset = 0;
    return !view || view->kind == PICKLE_NONE || size_of(value_item(view, 1), offset);
}

struct torch_reading {
    const struct torch_storages *storages;
    struct foreign_tensors *tensors;
};

static bool read_tensor(const struct torch_reading *reading, const char *name, const char *how,
                        const struct pickle_value *arguments, struct error *err)
{
    struct foreign_tensor tensor = {.name = name};
    const struct pickle_value *reference = value_item(arguments, 0);
    const struct pickle_value *id = reference && reference->kind == PICKLE_PERSISTENT ? reference->callable : NULL;
    const struct pickle_value *key = value_item(id, 2);
    struct torch_storage *storage =
        key && key->kind == PICKLE_TEXT ? torch_storages_find(reading->storages, key->text, key->length) : NULL;
    size_t strides = 0, view;
    if (!storage || !size_of(value_item(arguments, 1), &tensor.offset) ||
        !read_sizes(value_item(arguments, 2), tensor.shape, &tensor.rank) ||
        !read_sizes(value_item(arguments, 3), tensor.stride, &strides) || strides != tensor.rank ||
        !view_offset(id, &view) || !size_add(tensor.offset, view, &tensor.offset))
        return error_set(err, ERROR_CORRUPT, "%s: tensor \"%s\" is not described by a storage, sizes and strides",
                         reading->tensors->place, name);
    tensor.storage = &storage->storage;
    tensor.type = strcmp(how, "_rebuild_tensor_v3") == 0 ? type_of_dtype(value_item(arguments, 6)) : storage->type;
    return foreign_tensors_add(reading->tensors, &tensor, err);
}

/* prefix + key, in the arena. *skip: this is no name of a tensor. */
static const char *join_name(const struct torch_reading *reading, const char *prefix, const struct pickle_value *key,
                             bool *skip, struct error *err)
{
    char name[FOREIGN_MAX_NAME + 1];
    *skip = key->kind != PICKLE_TEXT || key->length + strlen(prefix) + 1 > FOREIGN_MAX_NAME ||
            memchr(key->text, '\0', key->length);
    if (*skip) return NULL;
    const int n = snprintf(name, sizeof name, "%s%s%.*s", prefix, *prefix ? "." : "", (int)key->length, key->text);
    return arena_copy_text(reading->tensors->arena, name, (size_t)n, err);
}

static bool add_value(const struct torch_reading *reading, const char *prefix, const struct pickle_value *key,
                      const struct pickle_value *value, struct error *err)
{
    const char *how;
    bool skip;
    const struct pickle_value *arguments = find_rebuild(value, &how);
    if (!arguments) return true;
    const char *name = join_name(reading, prefix, key, &skip, err);
    return name ? read_tensor(reading, name, how, arguments, err) : skip;
}

/* ---- modules ---- */

static bool text_attribute_is(const struct pickle_value *state, const char *key, const char *text)
{
    return pickle_is(pickle_get(state, key), PICKLE_TEXT, text);
}

static bool add_module(const struct torch_reading *reading, const char *name, const struct pickle_value *module,
                       struct error *err)
{
    const struct pickle_value *class = class_of(module), *state = module->state;
    const struct pickle_value *norm = pickle_get(state, "max_norm");
    struct foreign_module row = {.name = name};
    row.class_name = class ? text_copy(reading->tensors->arena, class, err) : "a class without a name";
    if (!row.class_name) return false;
    if (norm && norm->kind != PICKLE_NONE)
        return error_set(err, ERROR_INVALID, "%s: module \"%s\" is an embedding with max_norm, which is not supported",
                         reading->tensors->place, name);
    row.relu = text_attribute_is(state, "mode", "RNN_RELU") || text_attribute_is(state, "nonlinearity", "relu");
    row.leaf = python_entries(pickle_get(state, "_parameters"))->count == 0 &&
               python_entries(pickle_get(state, "_modules"))->count == 0;
    return foreign_tensors_add_module(reading->tensors, &row, err);
}

static bool walk_module(const struct torch_reading *reading, const char *name, struct pickle_value *module,
                        size_t depth, struct error *err)
{
    const struct pickle_value *state = module_state(module);
    if (!state || module->visited & IN_MODULE) return true;
    if (depth == 0)
        return error_set(err, ERROR_INVALID, "%s: modules are more than %d deep", reading->tensors->place, MAX_DEPTH);
    module->visited |= IN_MODULE;
    if (!add_module(reading, name, module, err)) return false;
    const struct pickle_list *parameters = python_entries(pickle_get(state, "_parameters"));
    for (uint32_t i = 0; i + 1 < parameters->count; i += 2)
        if (!add_value(reading, name, parameters->values[i], parameters->values[i + 1], err)) return false;
    const struct pickle_list *modules = python_entries(pickle_get(state, "_modules"));
    for (uint32_t i = 0; i + 1 < modules->count; i += 2) {
        bool skip;
        const char *inner = join_name(reading, name, modules->values[i], &skip, err);
        if (!inner && !skip) return false;
        if (inner && !walk_module(reading, inner, modules->values[i + 1], depth - 1, err)) return false;
    }
    return true;
}

/* ---- which model ---- */

struct search {
    const struct torch_reading *reading;
    struct pickle_value *model; /* the one with recurrent layers */
    const char *label;          /* its place: "model_state_dict" */
    size_t others;              /* models without any */
};

static bool walk_model(const struct torch_reading *reading, struct pickle_value *value, struct error *err)
{
    if (module_state(value)) return walk_module(reading, "", value, MAX_DEPTH, err);
    const struct pickle_list *entries = python_entries(value);
    for (uint32_t i = 0; i + 1 < entries->count; i += 2)
        if (!add_value(reading, "", entries->values[i], entries->values[i + 1], err)) return false;
    return true;
}

/* Whether a value is a dict with a tensor in it, or a module. */
static bool is_model(const struct pickle_value *value)
{
    const char *how;
    if (module_state(value)) return true;
    const struct pickle_list *entries = python_entries(value);
    for (uint32_t i = 0; i + 1 < entries->count; i += 2)
        if (entries->values[i]->kind == PICKLE_TEXT && find_rebuild(entries->values[i + 1], &how)) return true;
    return false;
}

/* Takes the tensors of the model at `label`, if they are the first with recurrent layers (*taken). */
static bool try_model(struct search *search, struct pickle_value *value, const char *label, bool *taken,
                      struct error *err)
{
    struct foreign_tensors *kept = search->reading->tensors, tried = *kept;
    tried.list = NULL;
    tried.modules = NULL;
    tried.count = tried.capacity = tried.module_count = tried.module_capacity = 0;
    const struct torch_reading reading = {search->reading->storages, &tried};
    if (!walk_model(&reading, value, err)) return false;
    if (!recurrent_is_in(&tried)) {
        search->others++;
        return true;
    }
    if (search->model)
        return error_set(
            err, ERROR_INVALID,
            "%s: there are two models with recurrent layers in it, \"%.64s\" and \"%.64s\": save one alone",
            kept->place, search->label, label);
    search->model = value;
    search->label = label;
    *kept = tried;
    *taken = true;
    return true;
}

static bool search_models(struct search *search, struct pickle_value *value, const char *label, size_t depth,
                          struct error *err)
{
    if (value->visited & IN_SEARCH || depth == 0) return true;
    value->visited |= IN_SEARCH;
    bool taken = module_state(value);
    if (is_model(value) && !try_model(search, value, label, &taken, err)) return false;
    if (taken) return true;
    const bool list = value->kind == PICKLE_LIST || value->kind == PICKLE_TUPLE;
    const struct pickle_list *children = list ? &value->items : python_entries(value);
    for (uint32_t i = list ? 0 : 1; i < children->count; i += list ? 1 : 2) {
        bool skip = false;
        const struct pickle_value number = {.kind = PICKLE_TEXT, .text = "[]", .length = 2};
        const char *inner = join_name(search->reading, label, list ? &number : children->values[i - 1], &skip, err);
        if (!inner && !skip) return false;
        if (inner && !search_models(search, children->values[i], inner, depth - 1, err)) return false;
    }
    return true;
}

bool torch_object_read(struct pickle_value *root, const struct torch_storages *storages,
                       struct foreign_tensors *tensors, const char **kind, struct error *err)
{
    const struct torch_reading reading = {storages, tensors};
    struct search search = {.reading = &reading};
    if (!search_models(&search, root, "", CHECKPOINT_DEPTH, err)) return false;
    if (!search.model)
        return error_set(err, ERROR_INVALID,
                         search.others > 0
                             ? "%s: there is no recurrent layer (weight_ih_l0 ...) among the tensors"
                             : "%s: there is no model in it: neither a state_dict of tensors nor a pickled nn.Module",
                         tensors->place);
    *kind = module_state(search.model) ? "whole module" : search.label[0] ? "checkpoint" : "state_dict";
    return true;
}

/* ---- vocabularies beside the model ---- */

/* A list of texts, or a map between texts and integers. */
static bool are_tokens(json_t *json)
{
    const char *key;
    json_t *value;
    size_t i;
    json_array_foreach(json, i, value)
    {
        if (!json_is_string(value)) return false;
    }
    json_object_foreach(json, key, value)
    {
        if (!json_is_string(value) && !json_is_integer(value)) return false;
    }
    return true;
}

/* As JSON. NULL: no list or map of tokens, or not as many as wanted (one fewer will do: the padding). */
static json_t *tokens_to_json(const struct pickle_value *value, size_t wanted)
{
    const bool list = value->kind == PICKLE_LIST || value->kind == PICKLE_TUPLE;
    const bool map = value->kind == PICKLE_DICT || value->kind == PICKLE_OBJECT;
    json_t *json = NULL;
    if (value->kind == PICKLE_TEXT && value->length <= UTF8_MAX_BYTES * wanted)
        json = python_characters_to_json(value, "", NULL);
    else if ((list && value->items.count <= wanted) || (map && python_entries(value)->count <= 2 * wanted))
        json = python_to_json(value, "", NULL);
    const size_t count = json_is_array(json) ? json_array_size(json) : json_object_size(json);
    if (json && (count == wanted || count + 1 == wanted) && are_tokens(json)) return json;
    json_decref(json);
    return NULL;
}

struct token_search {
    size_t wanted;
    json_t *best;
    size_t rank; /* of its name; the lowest is the best */
};

static void try_tokens(struct token_search *search, const struct pickle_value *key, const struct pickle_value *value)
{
    const size_t rank = key->kind == PICKLE_TEXT ? interop_name_rank(key->text, key->length) : SIZE_MAX;
    json_t *json = rank < search->rank ? tokens_to_json(value, search->wanted) : NULL;
    if (!json) return;
    json_decref(search->best);
    search->best = json;
    search->rank = rank;
}

static void search_tokens(struct token_search *search, struct pickle_value *value, size_t depth)
{
    if (value->visited & IN_TOKENS || depth == 0) return;
    value->visited |= IN_TOKENS;
    if (value->kind == PICKLE_LIST || value->kind == PICKLE_TUPLE)
        for (uint32_t i = 0; i < value->items.count; i++) search_tokens(search, value->items.values[i], depth - 1);
    const struct pickle_list *entries = python_entries(value);
    for (uint32_t i = 0; i + 1 < entries->count; i += 2) {
        try_tokens(search, entries->values[i], entries->values[i + 1]);
        search_tokens(search, entries->values[i + 1], depth - 1);
    }
}

json_t *torch_object_tokens(struct pickle_value *root, size_t vocabulary_size)
{
    struct token_search search = {.wanted = vocabulary_size, .rank = SIZE_MAX};
    search_tokens(&search, root, CHECKPOINT_DEPTH);
    return search.best;
}
