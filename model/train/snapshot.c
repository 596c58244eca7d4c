#include "model/train/snapshot.h"

#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/size.h"
#include "model/files/safetensors.h"
#include "model/kernels/blas.h"

#define SNAPSHOT_FORMAT   "lstmd-train/1"
#define SNAPSHOT_NUMBERS  "snapshot.json"
#define SNAPSHOT_ARRAYS   "snapshot.safetensors"
#define SNAPSHOT_MAX_JSON ((size_t)1 << 20)

void run_state_init(struct run_state *state)
{
    *state = (struct run_state){0};
    schedule_state_init(&state->schedule);
}

/* The fields of struct run_state, one row each. */
struct state_row {
    const char *key;
    enum {
        STATE_COUNT, /* uint64_t */
        STATE_REAL,  /* double */
        STATE_FLAG,  /* bool */
    } kind;
    size_t offset;
};
#define STATE(type, field)                                                                                             \
    {                                                                                                                  \
        .key = #field, .kind = STATE_##type, .offset = offsetof(struct run_state, field)                               \
    }

static const struct state_row state_rows[] = {
    STATE(COUNT, epoch),
    STATE(COUNT, position),
    STATE(COUNT, step),
    STATE(REAL, seconds),
    STATE(FLAG, validation_due),
    STATE(FLAG, samples_due),
    STATE(REAL, epoch_nats),
    STATE(COUNT, epoch_tokens),
    STATE(REAL, train_loss),
    STATE(REAL, schedule.plateau_scale),
    STATE(COUNT, schedule.plateau_waited),
    STATE(REAL, schedule.plateau_best),
    STATE(FLAG, has_best),
    STATE(COUNT, best.tokens),
    STATE(COUNT, best.characters),
    STATE(REAL, best.nats),
    STATE(REAL, best.nats_per_token),
    STATE(REAL, best.nats_per_character),
    STATE(REAL, best.bits_per_character),
    STATE(REAL, best.perplexity),
    STATE(REAL, best.accuracy),
    STATE(COUNT, best_epoch),
    STATE(COUNT, best_step),
    STATE(COUNT, waited),
    STATE(COUNT, validated_step),
    STATE(COUNT, high_steps),
};
#undef STATE

#define STATE_ROWS (sizeof state_rows / sizeof *state_rows)

static json_t *state_row_to_json(const struct state_row *row, const struct run_state *state)
{
    const void *field = (const char *)state + row->offset;
    if (row->kind == STATE_FLAG) return json_boolean(*(const bool *)field);
    if (row->kind == STATE_REAL) {
        /* JSON has no infinity, and the perplexity of a bad model may be one. */
        return isfinite(*(const double *)field) ? json_real(*(const double *)field) : json_null();
    }
    return json_integer((json_int_t) * (const uint64_t *)field);
}

static bool state_row_from_json(const struct state_row *row, struct run_state *state, const json_t *value)
{
    void *field = (char *)state + row->offset;
    if (row->kind == STATE_FLAG) {
        *(bool *)field = json_is_true(value);
        return json_is_boolean(value);
    }
    if (row->kind == STATE_REAL) {
        *(double *)field = json_is_null(value) ? INFINITY : json_number_value(value);
        return json_is_number(value) || json_is_null(value);
    }
    if (!json_is_integer(value) || json_integer_value(value) < 0) return false;
    *(uint64_t *)field = (uint64_t)json_integer_value(value);
    return true;
}

static json_t *state_to_json(const struct run_state *state)
{
    json_t *json = json_object();
    for (size_t i = 0; json && i < STATE_ROWS; i++) {
        if (json_object_set_new(json, state_rows[i].key, state_row_to_json(&state_rows[i], state)) == 0) continue;
        json_decref(json);
        json = NULL;
    }
    return json;
}

static bool state_from_json(struct run_state *state, const json_t *json, const char *place, struct error *err)
{
    run_state_init(state);
    for (size_t i = 0; i < STATE_ROWS; i++) {
        if (!state_row_from_json(&state_rows[i], state, json_object_get(json, state_rows[i].key)))
            return error_set(err, ERROR_CORRUPT, "%s: \"state\" lacks a valid \"%s\"", place, state_rows[i].key);
    }
    return true;
}

static bool write_numbers(struct directory_publish *publish, const struct snapshot_content *content, struct error *err)
{
    json_t *options = trainer_options_to_json(content->options, TRAINER_RECIPE | TRAINER_ADJUSTABLE, err);
    if (!options) return false;
    json_t *json =
        json_pack("{s:s, s:s, s:o, s:O, s:o, s:I}", "format", SNAPSHOT_FORMAT, "products", content->products, "options",
                  options, "identity", (json_t *)content->identity, "state", state_to_json(content->state),
                  "learner_steps", (json_int_t)learner_step_count(content->learner));
    size_t n;
    char *text = json ? json_text_print(json, JSON_INDENT(2), &n, err) : NULL;
    bool ok = text ? directory_publish_write(publish, SNAPSHOT_NUMBERS, text, n, err)
                   : error_set_no_memory(err, sizeof *content->state, "the snapshot's numbers");
    free(text);
    json_decref(json);
    return ok;
}

static struct safetensors_entry float_entry(const char *name, const float *data, size_t count)
{
    return (struct safetensors_entry){.name = name,
                                      .type = SAFETENSORS_F32,
                                      .rank = 1,
                                      .shape = {count},
                                      .count = count,
                                      .data = (const unsigned char *)data};
}

static size_t moment_count(const struct network *network, const struct trainer_options *options)
{
    return optimizer_moments((enum optimizer_kind)options->optimizer) * network->parameter_count;
}

static bool write_arrays(struct directory_publish *publish, const struct snapshot_content *content, struct error *err)
{
    const struct network *network = content->network, *average = learner_average(content->learner);
    struct learner *learner = content->learner;
    struct safetensors_entry entries[4] = {
        float_entry("weights", network->parameters, network->parameter_count),
        float_entry("moments", learner_moments(learner), moment_count(network, content->options)),
        float_entry("state", learner_state(learner), learner_state_size(learner)),
    };
    size_t count = 3;
    if (average) entries[count++] = float_entry("average", average->parameters, average->parameter_count);
    unsigned char *data = NULL;
    size_t size = 0;
    if (!safetensors_serialise(entries, count, NULL, &data, &size, err)) return false;
    bool ok = directory_publish_write(publish, SNAPSHOT_ARRAYS, data, size, err);
    free(data);
    return ok;
}

bool snapshot_save(const char *directory, const struct snapshot_content *content, struct error *err)
{
    struct directory_publish publish;
    if (!directory_publish_begin(&publish, directory, err)) return error_add_context(err, "saving a snapshot");
    if (write_numbers(&publish, content, err) && write_arrays(&publish, content, err)) {
        if (directory_publish_commit(&publish, err)) return true;
    } else {
        directory_publish_abort(&publish);
    }
    return error_add_context(err, "saving a snapshot");
}

static bool parse_numbers(struct snapshot *snapshot, const char *path, struct error *err)
{
    const json_t *json = snapshot->json, *steps = json_object_get(json, "learner_steps");
    const char *format = json_string_value(json_object_get(json, "format"));
    if (!format || strcmp(format, SNAPSHOT_FORMAT) != 0)
        return error_set(err, ERROR_CORRUPT, "%s: \"format\" is not \"%s\": not a snapshot of this version of lstmd",
                         path, SNAPSHOT_FORMAT);
    if (!json_is_object(json_object_get(json, "identity")))
        return error_set(err, ERROR_CORRUPT, "%s: \"identity\" must be an object", path);
    if (!json_is_integer(steps) || json_integer_value(steps) < 0)
        return error_set(err, ERROR_CORRUPT, "%s: \"learner_steps\" must be a non-negative integer", path);
    snapshot->learner_steps = (uint64_t)json_integer_value(steps);
    trainer_options_default(&snapshot->options);
    return trainer_options_from_json(&snapshot->options, json_object_get(json, "options"), path, err) &&
           trainer_options_validate(&snapshot->options, err) &&
           state_from_json(&snapshot->state, json_object_get(json, "state"), path, err);
}

bool snapshot_open(struct snapshot *snapshot, const char *directory, struct error *err)
{
    *snapshot = (struct snapshot){0};
    bool ok = false;
    char *text = NULL;
    size_t size = 0;
    json_error_t where;
    char *path = path_join(directory, SNAPSHOT_NUMBERS, err);
    snapshot->directory = path ? strdup(directory) : NULL;
    if (!snapshot->directory) {
        error_set_no_memory(err, strlen(directory), "a path");
        goto out;
    }
    if (!file_read(path, SNAPSHOT_MAX_JSON, &text, &size, err)) goto out;
    snapshot->json = json_text_parse(text, size, JSON_REJECT_DUPLICATES, &where);
    if (!snapshot->json && json_text_lacked_memory(&where)) {
        error_set_no_memory(err, size, "a snapshot");
        goto out;
    }
    if (!snapshot->json) {
        error_set(err, ERROR_CORRUPT, "%s:%d:%d: %s", path, where.line, where.column, where.text);
        goto out;
    }
    ok = parse_numbers(snapshot, path, err);
out:
    free(text);
    free(path);
    return ok;
}

const json_t *snapshot_identity(const struct snapshot *snapshot)
{
    return json_object_get(snapshot->json, "identity");
}

const char *snapshot_products(const struct snapshot *snapshot)
{
    const char *products = json_string_value(json_object_get(snapshot->json, "products"));
    return products ? products : products_choices[PRODUCTS_OWN];
}

static bool restore_array(const struct safetensors *file, const char *name, float *out, size_t count, struct error *err)
{
    const struct safetensors_entry *entry = safetensors_find(file, name);
    if (!entry) return error_set(err, ERROR_CORRUPT, "%s: no array \"%s\"", file->path, name);
    if (entry->count != count)
        return error_set(err, ERROR_CORRUPT, "%s: array \"%s\" has %zu numbers, this run needs %zu", file->path, name,
                         entry->count, count);
    return safetensors_read_float(file, entry, out, err);
}

bool snapshot_restore(const struct snapshot *snapshot, struct network *network, struct learner *learner,
                      struct error *err)
{
    struct safetensors file = {0};
    struct network *average = learner_average(learner);
    char *path = path_join(snapshot->directory, SNAPSHOT_ARRAYS, err);
    bool ok =
        path && safetensors_open(&file, path, err) &&
        restore_array(&file, "weights", network->parameters, network->parameter_count, err) &&
        restore_array(&file, "moments", learner_moments(learner), moment_count(network, &snapshot->options), err) &&
        restore_array(&file, "state", learner_state(learner), learner_state_size(learner), err) &&
        (!average || restore_array(&file, "average", average->parameters, average->parameter_count, err));
    if (ok) {
        learner_set_step_count(learner, snapshot->learner_steps);
        learner_refresh(learner);
    }
    safetensors_close(&file);
    free(path);
    return ok;
}

void snapshot_close(struct snapshot *snapshot)
{
    json_decref(snapshot->json);
    free(snapshot->directory);
    *snapshot = (struct snapshot){0};
}

bool snapshot_exists(const char *directory)
{
    int fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    bool exists = fd >= 0 && faccessat(fd, SNAPSHOT_NUMBERS, F_OK, 0) == 0;
    if (fd >= 0) close(fd);
    return exists;
}

void snapshot_remove(const char *directory)
{
    int fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    unlinkat(fd, SNAPSHOT_NUMBERS, 0);
    unlinkat(fd, SNAPSHOT_ARRAYS, 0);
    close(fd);
    rmdir(directory);
}
