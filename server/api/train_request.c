/* The body of POST /train: the model that it makes, its text, and the trainer's options by their keys. All errors are
 * found before a job is promised: in fields and among them, models and datasets that are missing, a text that cannot be
 * trained on, and too little memory. The job's own function reads the text here, too, unless that takes long. */
#include <sched.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "model/files/checkpoint.h"
#include "model/kernels/blas.h"
#include "model/train/options.h"
#include "model/train/training_source.h"
#include "server/api/fields.h"
#include "server/api/train.h"
#include "server/store/state_dir.h"

#define MAX_ROWS  64 /* of a field table */
#define MAX_TEXTS 16
#define OWN_ROWS  5

struct train_fields {
    struct field_text model, dataset, text, init_from;
    bool deploy;
    struct trainer_options options;
    struct field_text texts[MAX_TEXTS]; /* of the options that are text, in the order of the table */
};

#define MEMBER(name) offsetof(struct train_fields, name)

static const struct field own_rows[OWN_ROWS] = {
    {"model", FIELD_TEXT, MEMBER(model), 0, 0, NULL, 0},
    {"dataset", FIELD_TEXT, MEMBER(dataset), 0, 0, NULL, FIELD_NULLABLE},
    {"text", FIELD_TEXT, MEMBER(text), 0, 0, NULL, FIELD_NULLABLE},
    {"init_from", FIELD_TEXT, MEMBER(init_from), 0, 0, NULL, FIELD_NULLABLE},
    {"deploy", FIELD_BOOL, MEMBER(deploy), 0, 0, NULL, 0},
};

static enum field_type type_of(enum trainer_option_kind kind)
{
    static const enum field_type types[] = {[TRAINER_BOOL] = FIELD_BOOL,
                                            [TRAINER_INT] = FIELD_INTEGER,
                                            [TRAINER_REAL] = FIELD_REAL,
                                            [TRAINER_TEXT] = FIELD_TEXT,
                                            [TRAINER_CHOICE] = FIELD_CHOICE};
    return types[kind];
}

/* The body's rows: its own, then the trainer's. */
struct rows {
    struct field fields[MAX_ROWS];
    const struct trainer_option *options[MAX_ROWS]; /* NULL: one of its own */
    size_t count, texts;
    uint64_t given;
};

static void make_rows(struct rows *rows)
{
    *rows = (struct rows){.count = OWN_ROWS};
    memcpy(rows->fields, own_rows, sizeof own_rows);
    for (size_t i = 0; i < trainer_option_count && rows->count < MAX_ROWS; i++) {
        const struct trainer_option *option = &trainer_option_table[i];
        size_t offset = MEMBER(options) + option->offset;
        if (!train_option_is_field(option)) continue;
        if (option->kind == TRAINER_TEXT) offset = MEMBER(texts) + rows->texts++ * sizeof(struct field_text);
        rows->options[rows->count] = option;
        rows->fields[rows->count++] = (struct field){.name = option->key,
                                                     .type = type_of(option->kind),
                                                     .offset = offset,
                                                     .minimum = option->minimum,
                                                     .maximum = option->maximum,
                                                     .choices = option->choices,
                                                     .flags = option->kind == TRAINER_TEXT ? FIELD_NULLABLE : 0};
    }
}

/* Sets the defaults of the preset that the body names. A wrong name is refused later, with the other fields. */
static void set_defaults(struct trainer_options *options, const json_t *body)
{
    const char *wanted = json_string_value(json_object_get(body, "preset"));
    trainer_options_default(options);
    for (size_t i = 0; wanted && i < PRESET_COUNT; i++)
        if (strcmp(trainer_preset_names[i], wanted) == 0) trainer_options_preset(options, (enum trainer_preset_kind)i);
}

static bool was_given(const struct rows *rows, const char *name)
{
    for (size_t i = 0; i < rows->count; i++)
        if (strcmp(rows->fields[i].name, name) == 0) return rows->given >> i & 1;
    return false;
}

/* Texts of the body are NUL-terminated, and so are those of the options. */
static void take_texts(const struct rows *rows, struct train_fields *fields, struct problem *problem)
{
    for (size_t i = 0, text = 0; i < rows->count; i++) {
        const struct trainer_option *option = rows->options[i];
        if (!option || option->kind != TRAINER_TEXT) continue;
        const struct field_text *given = &fields->texts[text++];
        if (given->data && strlen(given->data) != given->size)
            problem_add_field(problem, option->key, "must not contain U+0000");
        else if (given->data)
            *(const char **)(void *)((char *)&fields->options + option->offset) = given->data;
    }
}

/* ---- what the fields name ---- */

static void check_name(const char *field, const struct field_text *name, struct problem *problem)
{
    struct error err = {0};
    if (name->data && !state_name_check(name->data, name->size, "this name", &err))
        problem_add_field(problem, field, "%s", err.message);
}

static void check_own(const struct train_fields *fields, struct problem *problem)
{
    if (!fields->model.data) problem_add_field(problem, "model", "must be given: the name of the model to make");
    check_name("model", &fields->model, problem);
    check_name("dataset", &fields->dataset, problem);
    check_name("init_from", &fields->init_from, problem);
    if (!fields->dataset.data == !fields->text.data)
        problem_add_field(problem, fields->text.data ? "text" : "dataset", "give either dataset or text");
    else if (fields->text.data && strlen(fields->text.data) != fields->text.size)
        problem_add_field(problem, "text", "must not contain U+0000");
}

/* How a dataset is read was said when it was uploaded. */
static void read_as_uploaded(struct train_fields *fields, const json_t *dataset, const struct rows *rows,
                             struct problem *problem)
{
    static const char *const keys[] = {"format", "columns", "label_column", "field", "csv_header", "bytes"};
    struct trainer_options *options = &fields->options;
    const char *header = json_string_value(json_object_get(dataset, "csv_header")); /* NULL: auto */
    enum corpus_format format = CORPUS_TEXT;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (was_given(rows, keys[i]))
            problem_add_field(problem, keys[i], "a dataset is read as it was uploaded: leave it out");
    corpus_format_parse(json_string_value(json_object_get(dataset, "format")), &format);
    options->format = (int)format;
    options->columns = json_string_value(json_object_get(dataset, "columns"));
    options->label_column = json_string_value(json_object_get(dataset, "label_column"));
    options->field = json_string_value(json_object_get(dataset, "field"));
    options->csv_header = !header ? 0 : strcmp(header, "yes") == 0 ? 1 : 2; /* auto, yes, no */
    options->bytes = json_is_true(json_object_get(dataset, "bytes"));
}

/* ---- options that demand something of each other ---- */

/* Messages of the trainer begin with the key that they are about; one that does not is about the field `otherwise`. */
static void add_option_error(const struct rows *rows, const struct error *err, const char *otherwise,
                             struct problem *problem)
{
    const size_t n = strcspn(err->message, " ");
    for (size_t i = 0; i < rows->count; i++)
        if (strlen(rows->fields[i].name) == n && strncmp(rows->fields[i].name, err->message, n) == 0) {
            problem_add_field(problem, rows->fields[i].name, "%s", err->message);
            return;
        }
    problem_add_field(problem, otherwise, "%s", err->message);
}

/* Refuses a field that differs from what the model has; a field that was not given gets the model's value. */
static void compare_with_model(const struct rows *rows, const struct trainer_options *wanted,
                               const struct trainer_options *adopted, struct problem *problem)
{
    const struct {
        const char *key;
        bool same;
    } fields[] = {
        {"level", wanted->level == adopted->level},
        {"cell", wanted->cell == adopted->cell},
        {"layers", wanted->layers == adopted->layers},
        {"hidden", wanted->hidden == adopted->hidden},
        {"embedding", wanted->embedding == adopted->embedding},
        {"tie_weights", wanted->tie_weights == adopted->tie_weights},
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (!fields[i].same && was_given(rows, fields[i].key))
            problem_add_field(problem, fields[i].key, "is not that of the model: leave it out");
}

/* Loads the model to go on from, and takes over its architecture and vocabulary. */
static bool train_request_adopt(struct services *services, struct train_fields *fields, const struct rows *rows,
                                struct model *model, struct problem *problem)
{
    struct error err = {0};
    const struct trainer_options wanted = fields->options;
    char *path = registry_directory(services->registry, fields->init_from.data, &err);
    if (!path || !model_load(model, path, &err))
        problem_add_field(problem, "init_from", "%s", err.message);
    else if (!trainer_options_adopt(&fields->options, model, &err))
        add_option_error(rows, &err, "init_from", problem);
    else
        compare_with_model(rows, &wanted, &fields->options, problem);
    free(path);
    return !problem->status;
}

static uint64_t cores(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? (uint64_t)CPU_COUNT(&set) : 1;
}

/* ---- the text ---- */

#define READ_SIZE ((uint64_t)8 << 20) /* a dataset of so many bytes is read, before its job is promised */

/* Takes the sizes from the description of a dataset that would take long to read. Counts characters as tokens. */
static bool train_request_estimate(const struct trainer_options *options, const json_t *dataset,
                                   const struct model *init, struct training_size *size, struct error *err)
{
    const json_int_t letters = json_integer_value(json_object_get(dataset, "alphabet_size"));
    const json_int_t documents = json_integer_value(json_object_get(dataset, "documents"));
    const json_int_t characters = json_integer_value(json_object_get(dataset, "characters"));
    const bool by_letters = options->level != TOKEN_LEVEL_WORD && letters < VOCABULARY_MAX_TOKENS;
    size->targets = (uint64_t)((double)(characters + documents) * (1 - options->validation)) + 1;
    size->vocabulary = init->vocabulary ? vocabulary_size(init->vocabulary) : by_letters ? (uint32_t)letters + 1 : 2;
    return letters > 1 || init->vocabulary ||
           error_set(err, ERROR_INVALID, "the text has one character, repeated: at least 2 are needed");
}

static bool size_of_dataset(struct services *services, const struct trainer_options *options, const json_t *description,
                            struct model *init, struct training_size *size, struct error *err)
{
    const char *name = json_string_value(json_object_get(description, "name"));
    const struct stored_dataset *dataset = datasets_acquire(services->datasets, name, err);
    if (!dataset) return false;
    const struct training_source source = {.name = name};
    struct trainer_options reading = *options;
    reading.data = dataset->path;
    const bool small = dataset->size <= READ_SIZE;
    const bool done = small ? training_source_measure(&reading, &source, init->vocabulary ? init : NULL, size, err)
                            : train_request_estimate(options, description, init, size, err);
    datasets_release(services->datasets, dataset);
    return done;
}

/* The message without the name of the corpus where that is the field's own: the field stands before it anyway. */
static const char *without_name(const char *message, const char *name)
{
    const size_t n = strlen(name);
    return strncmp(message, name, n) == 0 && strncmp(message + n, ": ", 2) == 0 ? message + n + 2 : message;
}

static void check_text(struct services *services, const struct train_fields *fields, const struct rows *rows,
                       const json_t *dataset, struct model *init, struct problem *problem)
{
    const struct training_source source = {.name = "text", .text = fields->text.data, .text_size = fields->text.size};
    struct training_size size = {0};
    struct error err = {0};
    const bool done =
        dataset ? size_of_dataset(services, &fields->options, dataset, init, &size, &err)
                : training_source_measure(&fields->options, &source, init->vocabulary ? init : NULL, &size, &err);
    if (!done && err.code != ERROR_INVALID) {
        problem_set_error(problem, &err);
    } else if (!done) {
        problem_add_field(problem, dataset ? "dataset" : "text", "%s",
                          dataset ? err.message : without_name(err.message, source.name));
    } else {
        struct trainer_options fitted = fields->options;
        trainer_options_fit(&fitted, size.targets);
        if (!trainer_options_check_memory(&fitted, size.vocabulary, memory_limit(), &err))
            add_option_error(rows, &err, "hidden", problem);
    }
}

/* ---- all of it ---- */

static void check_together(struct services *services, struct train_fields *fields, const struct rows *rows,
                           const json_t *dataset, struct problem *problem)
{
    struct trainer_options *options = &fields->options;
    struct model init = {0};
    struct error err = {0};
    if (options->threads == 0) options->threads = (uint64_t)services->config->train_threads;
    if (options->threads == 0) options->threads = cores();
    if (!was_given(rows, "products")) options->products = services->config->products;
    if (options->products == PRODUCTS_OPENBLAS && !blas_load(&err)) {
        problem_add_field(problem, "products", "%s", err.message);
        return;
    }
    if (!trainer_options_validate(options, &err))
        add_option_error(rows, &err, "options", problem);
    else if (!fields->init_from.data || !state_name_valid(fields->init_from.data, fields->init_from.size) ||
             train_request_adopt(services, fields, rows, &init, problem))
        if (!problem->status) check_text(services, fields, rows, dataset, &init, problem);
    model_close(&init);
}

/* ---- the whole ---- */

static json_t *text_or_null(const struct field_text *text)
{
    return text->data ? json_stringn(text->data, text->size) : json_null();
}

static json_t *train_request_compose(const struct train_fields *fields, const struct rows *rows)
{
    json_t *options = trainer_options_to_json(&fields->options, TRAINER_RECIPE | TRAINER_ADJUSTABLE, NULL);
    for (size_t i = 0; i < trainer_option_count; i++)
        if (!train_option_is_field(&trainer_option_table[i])) json_object_del(options, trainer_option_table[i].key);
    if (!was_given(rows, "snapshot_seconds")) json_object_del(options, "snapshot_seconds");
    return json_pack("{s:o, s:o, s:o, s:b, s:o}", "model", text_or_null(&fields->model), "dataset",
                     text_or_null(&fields->dataset), "init_from", text_or_null(&fields->init_from), "deploy",
                     (int)fields->deploy, "options", options);
}

bool train_request_read(struct services *services, const json_t *body, struct train_request *wanted,
                        struct problem *problem)
{
    struct train_fields fields = {0};
    struct rows rows;
    struct error err = {0};
    json_t *dataset = NULL;
    *wanted = (struct train_request){0};
    set_defaults(&fields.options, body);
    make_rows(&rows);
    fields_read_json(&(struct field_table){rows.fields, rows.count}, &fields, body, &rows.given, problem);
    take_texts(&rows, &fields, problem);
    check_own(&fields, problem);
    if (fields.dataset.data && !(dataset = datasets_describe(services->datasets, fields.dataset.data, &err)))
        problem_add_field(problem, "dataset", "%s", err.message);
    if (dataset) read_as_uploaded(&fields, dataset, &rows, problem);
    check_together(services, &fields, &rows, dataset, problem);
    if (!problem->status && !(wanted->request = train_request_compose(&fields, &rows)))
        problem_set(problem, 503, "out of memory");
    wanted->text = fields.text.data;
    json_decref(dataset);
    return !problem->status;
}
