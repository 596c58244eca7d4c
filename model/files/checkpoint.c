#include "model/files/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/sha256.h"
#include "model/files/checkpoint_weights.h"
#include "model/files/model_config.h"
#include "model/files/safetensors.h"
#include "model/network/quantize.h"

#define CONFIG_FILE     "config.json"
#define VOCABULARY_FILE "vocabulary.json"
#define WEIGHTS_FILE    "model.safetensors"

#define ATTEMPTS 10 /* to read a directory that others keep replacing */

#define MAX_CONFIG_BYTES     ((size_t)16 << 20)
#define MAX_VOCABULARY_BYTES ((size_t)256 << 20)

/* ---- loading ---- */

char *model_directory_name(const char *directory, struct error *err)
{
    size_t end = strlen(directory);
    while (end > 1 && directory[end - 1] == '/') end--;
    size_t begin = end;
    while (begin > 0 && directory[begin - 1] != '/') begin--;
    bool dots = (end - begin == 1 && directory[begin] == '.') ||
                (end - begin == 2 && directory[begin] == '.' && directory[begin + 1] == '.');
    char *real = dots ? realpath(directory, NULL) : NULL;
    const char *slash = real ? strrchr(real, '/') : NULL;
    char *name = slash ? strdup(slash + 1) : strndup(directory + begin, end - begin);
    free(real);
    if (!name) error_set_no_memory(err, end - begin, "a model's name");
    return name;
}

/* An open model directory. All files are read through it, so they belong to one model even if another takes its
 * name. */
struct source {
    int fd;
    const char *path; /* for messages */
};

static bool load_config(struct model *model, struct model_config *config, const struct source *source,
                        struct error *err)
{
    char *text = NULL, *path = path_join(source->path, CONFIG_FILE, err);
    size_t n;
    if (path && file_read_at(&(struct file_at){source->fd, CONFIG_FILE, path}, MAX_CONFIG_BYTES, &text, &n, err))
        model->config = model_config_parse(config, text, n, path, err);
    free(text);
    free(path);
    return model->config;
}

/* Checks that the vocabulary is the one that config.json describes. */
static bool check_vocabulary(const struct model *model, const struct model_config *config, const char *path,
                             struct error *err)
{
    uint32_t size = vocabulary_size(model->vocabulary);
    enum token_level level = vocabulary_level(model->vocabulary);
    if (size != config->architecture.vocabulary_size)
        return error_set(err, ERROR_CORRUPT, "%s: %u tokens, but vocabulary_size in " CONFIG_FILE " is %u", path, size,
                         config->architecture.vocabulary_size);
    if (level != config->token_level)
        return error_set(err, ERROR_CORRUPT, "%s: level is %s, but token_level in " CONFIG_FILE " is %s", path,
                         token_level_name(level), token_level_name(config->token_level));
    return true;
}

static bool load_vocabulary(struct model *model, const struct model_config *config, const struct source *source,
                            struct error *err)
{
    bool ok = false;
    char *text = NULL, *path = path_join(source->path, VOCABULARY_FILE, err), hash[SHA256_TEXT_SIZE];
    size_t n;
    if (!path ||
        !file_read_at(&(struct file_at){source->fd, VOCABULARY_FILE, path}, MAX_VOCABULARY_BYTES, &text, &n, err))
        goto out;
    sha256_text(text, n, hash);
    if (strcmp(hash, config->vocabulary_sha256) != 0) {
        error_set(err, ERROR_CORRUPT,
                  "%s: does not belong to these weights: its SHA-256 is %s, " CONFIG_FILE " says %s", path, hash,
                  config->vocabulary_sha256);
        goto out;
    }
    model->vocabulary = vocabulary_from_json(text, n, path, err);
    ok = model->vocabulary && check_vocabulary(model, config, path, err) &&
         model_config_check_labels(model->config, model->vocabulary, path, err);
out:
    free(text);
    free(path);
    return ok;
}

static bool load_weights(struct model *model, const struct model_config *config, const struct source *source,
                         struct error *err)
{
    struct safetensors file;
    char *path = path_join(source->path, WEIGHTS_FILE, err);
    if (!path) return false;
    bool ok = safetensors_open_at(&file, source->fd, WEIGHTS_FILE, path, err);
    free(path);
    if (!ok) return false;
    ok = checkpoint_weights_read(&model->network, &file, &config->architecture, config->weights, err);
    model->weights = config->weights;
    safetensors_close(&file);
    return ok;
}

static bool load_all(struct model *model, const struct source *source, struct error *err)
{
    struct model_config config = {0};
    return load_config(model, &config, source, err) && load_vocabulary(model, &config, source, err) &&
           load_weights(model, &config, source, err);
}

static bool load_layout(struct model *model, const struct source *source, struct error *err)
{
    struct model_config config = {0};
    if (!load_config(model, &config, source, err)) return false;
    model->weights = config.weights;
    return network_layout(&model->network, &config.architecture, err);
}

/* Whether somebody replaced the directory during reading, and so removed its files. */
static bool was_replaced(const struct source *source)
{
    struct stat held, named;
    return fstat(source->fd, &held) == 0 && stat(source->path, &named) == 0 &&
           (held.st_ino != named.st_ino || held.st_dev != named.st_dev);
}

static bool load_once(struct model *model, const struct source *source,
                      bool (*read)(struct model *model, const struct source *source, struct error *err),
                      struct error *err)
{
    *model = (struct model){.name = model_directory_name(source->path, err)};
    if (model->name && read(model, source, err)) return true;
    model_close(model);
    return false;
}

static bool load_model(struct model *model, const char *directory,
                       bool (*read)(struct model *model, const struct source *source, struct error *err),
                       struct error *err)
{
    struct error own = {0};
    bool done = false, again = true;
    *model = (struct model){0};
    for (int i = 0; !done && again && i < ATTEMPTS; i++) {
        error_clear(&own);
        const struct source source = {open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC), directory};
        if (source.fd < 0) {
            again = error_set_errno(&own, errno, "%s", directory);
        } else {
            done = load_once(model, &source, read, &own);
            again = own.code == ERROR_NOT_FOUND && was_replaced(&source);
            close(source.fd);
        }
    }
    if (!done && err && !err->code) *err = own;
    return done;
}

bool model_load(struct model *model, const char *directory, struct error *err)
{
    return load_model(model, directory, load_all, err);
}

bool model_load_config(struct model *model, const char *directory, struct error *err)
{
    return load_model(model, directory, load_layout, err);
}

void model_close(struct model *model)
{
    free(model->name);
    network_close(&model->network);
    vocabulary_free(model->vocabulary);
    json_decref(model->config);
    *model = (struct model){0};
}

/* ---- saving ---- */

/* The three files in memory. */
struct checkpoint_bytes {
    char *config, *vocabulary;
    unsigned char *weights;
    size_t config_size, vocabulary_size, weights_size;
};

static bool make_bytes(struct checkpoint_bytes *bytes, const struct checkpoint_parts *parts, struct error *err)
{
    struct model_config config = {.architecture = parts->network->architecture,
                                  .token_level = vocabulary_level(parts->vocabulary),
                                  .weights = parts->format};
    bytes->vocabulary = vocabulary_to_json(parts->vocabulary, &bytes->vocabulary_size, err);
    if (!bytes->vocabulary) return false;
    sha256_text(bytes->vocabulary, bytes->vocabulary_size, config.vocabulary_sha256);
    bytes->config =
        model_config_print(&config, parts->vocabulary, parts->training, parts->extra, &bytes->config_size, err);
    return bytes->config &&
           checkpoint_weights_serialise(parts->network, parts->format, &bytes->weights, &bytes->weights_size, err);
}

static void free_bytes(struct checkpoint_bytes *bytes)
{
    free(bytes->config);
    free(bytes->vocabulary);
    free(bytes->weights);
}

static bool publish_bytes(const char *directory, const struct checkpoint_bytes *bytes, struct error *err)
{
    struct directory_publish publish;
    if (!directory_publish_begin(&publish, directory, err)) return false;
    if (directory_publish_write(&publish, CONFIG_FILE, bytes->config, bytes->config_size, err) &&
        directory_publish_write(&publish, VOCABULARY_FILE, bytes->vocabulary, bytes->vocabulary_size, err) &&
        directory_publish_write(&publish, WEIGHTS_FILE, bytes->weights, bytes->weights_size, err))
        return directory_publish_commit(&publish, err);
    directory_publish_abort(&publish);
    return false;
}

bool checkpoint_save_as(const char *directory, const struct checkpoint_parts *parts, struct error *err)
{
    struct checkpoint_bytes bytes = {0};
    const struct network *network = parts->network;
    uint32_t tokens = vocabulary_size(parts->vocabulary);
    if (tokens != network->architecture.vocabulary_size)
        return error_set(err, ERROR_INVALID, "%s: a vocabulary of %u tokens does not fit a network of %u", directory,
                         tokens, network->architecture.vocabulary_size);
    if (!quantize_check(&network->architecture, parts->format, err)) return error_add_context(err, "%s", directory);
    if (!checkpoint_weights_check(network, ERROR_NUMERIC, directory, err)) return false;
    bool ok = make_bytes(&bytes, parts, err);
    if (!ok) error_add_context(err, "%s", directory);
    ok = ok && publish_bytes(directory, &bytes, err);
    free_bytes(&bytes);
    return ok;
}

bool checkpoint_save(const char *directory, const struct network *network, const struct vocabulary *vocabulary,
                     const json_t *training, const json_t *extra, struct error *err)
{
    const struct checkpoint_parts parts = {
        .network = network, .vocabulary = vocabulary, .format = KERNEL_F32, .training = training, .extra = extra};
    return checkpoint_save_as(directory, &parts, err);
}

/* ---- copying ---- */

static bool copy_file(struct directory_publish *publish, const char *from, const char *name, struct error *err)
{
    struct file_map map;
    char *path = path_join(from, name, err);
    bool ok = path && file_map_open(&map, path, err);
    free(path);
    if (!ok) return false;
    ok = directory_publish_write(publish, name, map.data, map.size, err);
    file_map_close(&map);
    return ok;
}

bool checkpoint_copy(const char *from, const char *to, struct error *err)
{
    struct directory_publish publish;
    if (!directory_publish_begin(&publish, to, err)) return false;
    if (copy_file(&publish, from, CONFIG_FILE, err) && copy_file(&publish, from, VOCABULARY_FILE, err) &&
        copy_file(&publish, from, WEIGHTS_FILE, err))
        return directory_publish_commit(&publish, err);
    directory_publish_abort(&publish);
    return false;
}

/* ---- describing ---- */

static size_t count_parameters(const struct network *network, const char *prefix)
{
    size_t count = 0;
    for (size_t i = 0; i < network->tensor_count; i++)
        if (strncmp(network->tensors[i].name, prefix, strlen(prefix)) == 0)
            count += network->tensors[i].rows * network->tensors[i].columns;
    return count;
}

static json_t *describe_tensor(const struct tensor *tensor)
{
    json_int_t rows = (json_int_t)tensor->rows, columns = (json_int_t)tensor->columns;
    if (tensor->vector) return json_pack("{s:s, s:[I], s:I}", "name", tensor->name, "shape", rows, "parameters", rows);
    return json_pack("{s:s, s:[I, I], s:I}", "name", tensor->name, "shape", rows, columns, "parameters",
                     rows * columns);
}

static json_t *describe_tensors(const struct network *network)
{
    json_t *tensors = json_array();
    for (size_t i = 0; i < network->tensor_count; i++) {
        if (json_array_append_new(tensors, describe_tensor(&network->tensors[i])) == 0) continue;
        json_decref(tensors);
        return NULL;
    }
    return tensors;
}

json_t *model_describe(const struct model *model, struct error *err)
{
    const struct network *network = &model->network;
    const struct architecture *a = &network->architecture;
    const json_t *training = json_object_get(model->config, "training");
    json_t *json = json_pack(
        "{s:s, s:s, s:I, s:I, s:I, s:I, s:s, s:b, s:s, s:I, s:I, s:I, s:I}", "name", model->name, "cell",
        cell_name(a->cell), "layers", (json_int_t)a->layers, "hidden_size", (json_int_t)a->hidden_size,
        "embedding_size", (json_int_t)a->embedding_size, "vocabulary_size", (json_int_t)a->vocabulary_size,
        "token_level", json_string_value(json_object_get(model->config, "token_level")), "tie_weights",
        (int)a->tie_weights, "weights", kernel_format_name(model->weights), "parameters",
        (json_int_t)network->parameter_count, "recurrent_parameters", (json_int_t)count_parameters(network, "rnn."),
        "embedding_parameters", (json_int_t)count_parameters(network, "embedding."), "output_parameters",
        (json_int_t)count_parameters(network, "dense.") + (json_int_t)count_parameters(network, "output."));
    if (json && model_config_put_variant(json, a) &&
        json_object_set_new(json, "tensors", describe_tensors(network)) == 0 &&
        json_object_set_new(json, "training", training ? json_deep_copy(training) : json_null()) == 0)
        return json;
    json_decref(json);
    error_set(err, ERROR_NO_MEMORY, "out of memory for a model's description");
    return NULL;
}
