#include "model/train/options.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "model/kernels/blas.h"

/* The largest seed that a JSON reader with double numbers keeps exact. */
#define MAX_SEED 9007199254740991.0

_Static_assert(sizeof(size_t) == sizeof(uint64_t), "integers of the table are 64 bits wide");

static const char *const header_names[] = {"auto", "yes", "no", NULL};
static const char *const level_names[] = {"char", "word", "byte", NULL};

/* One row: key, kind, field, default, bounds, choices, unit, flags, help. */
#define ROW(key, kind, field, fallback, minimum, maximum, choices, unit, flags, help)                                  \
    {                                                                                                                  \
        key, TRAINER_##kind, offsetof(struct trainer_options, field), fallback, minimum, maximum, choices, unit,       \
            flags, help                                                                                                \
    }
#define R TRAINER_RECIPE
#define A TRAINER_ADJUSTABLE

const struct trainer_option trainer_option_table[] = {
    ROW("data", TEXT, data, NULL, 1, 4095, NULL, NULL, A,
        "the corpus: a text, csv, tsv or jsonl file, also as gzip or UTF-16; lstmd train reads several files in order"),
    ROW("validation_data", TEXT, validation_data, NULL, 1, 4095, NULL, NULL, A,
        "a second file for validation, instead of a part of the corpus"),
    ROW("init_from", TEXT, init_from, NULL, 1, 4095, NULL, NULL, A,
        "a model directory to start from; the run keeps its vocabulary and network, and options must agree with them"),
    ROW("preset", CHOICE, preset, "none", 0, 0, trainer_preset_names, NULL, R,
        "a named set of defaults; other options win over it"),
    ROW("validation", REAL, validation, "0.1", 0, 0.5, NULL, NULL, R,
        "part of the corpus held out for validation; 0: none, the training loss decides"),
    ROW("format", CHOICE, format, "auto", 0, 0, corpus_format_choices, NULL, R,
        "form of the file; auto: by the name's ending, then by the first bytes, else one running text"),
    ROW("columns", TEXT, columns, NULL, 1, 1023, NULL, NULL, R, "csv, tsv: columns to read, by name or 1-based number"),
    ROW("label_column", TEXT, label_column, NULL, 1, 255, NULL, NULL, R,
        "csv, tsv, jsonl: the column or field with a label; the model learns to write for a given label"),
    ROW("field", TEXT, field, NULL, 1, 255, NULL, NULL, R,
        "jsonl: the field with the text, or several fields: prompt,completion"),
    ROW("csv_header", CHOICE, csv_header, "auto", 0, 0, header_names, NULL, R,
        "csv, tsv: whether the first row is a header; auto: yes if an option names a column, else no"),
    ROW("bytes", BOOL, bytes, "false", 0, 0, NULL, NULL, R,
        "read the corpus byte by byte; it need not be UTF-8; implies level byte"),

    ROW("level", CHOICE, level, "char", 0, 0, level_names, NULL, R, "unit of a token"),
    ROW("lower", BOOL, lower, "false", 0, 0, NULL, NULL, R, "convert the text to lower case"),
    ROW("filters", TEXT, filters, NULL, 0, 1023, NULL, NULL, R,
        "word level: characters that become spaces (default: the punctuation of the Keras Tokenizer)"),
    ROW("min_count", INT, min_count, "1", 0, 1e9, NULL, "tokens", R, "leave out tokens that occur less often"),
    ROW("max_vocabulary", INT, max_vocabulary, "0", 0, VOCABULARY_MAX_TOKENS, NULL, "tokens", R,
        "keep the most frequent tokens, at most this many; 0: all"),
    ROW("unknown", BOOL, unknown, "false", 0, 0, NULL, NULL, R, "add one token for everything left out"),

    ROW("cell", CHOICE, cell, "lstm", 0, 0, cell_trained_names, NULL, R, "the recurrent cell"),
    ROW("layers", INT, layers, "1", 1, NETWORK_MAX_LAYERS, NULL, NULL, R, "recurrent layers"),
    ROW("hidden", INT, hidden, "128", 1, NETWORK_MAX_HIDDEN, NULL, "units", R, "units of each layer"),
    ROW("embedding", INT, embedding, "0", 0, NETWORK_MAX_EMBEDDING, NULL, "units", R,
        "size of the input embedding; 0: one-hot input"),
    ROW("tie_weights", BOOL, tie_weights, "false", 0, 0, NULL, NULL, R,
        "use the embedding as output weights; needs embedding = hidden"),
    ROW("dropout", REAL, dropout, "0", 0, 0.95, NULL, NULL, R, "dropout on every non-recurrent connection"),
    ROW("weight_drop", REAL, weight_drop, "0", 0, 0.95, NULL, NULL, R,
        "dropout on the elements of the recurrent weights"),

    ROW("optimizer", CHOICE, optimizer, "adam", 0, 0, optimizer_names, NULL, R, "the optimizer"),
    ROW("lr", REAL, rate, "0.002", 1e-9, 1000, NULL, NULL, R | A, "base learning rate"),
    ROW("momentum", REAL, momentum, "0.9", 0, 0.9999, NULL, NULL, R, "sgd: momentum"),
    ROW("rms_decay", REAL, rms_decay, "0.9", 0, 0.99999, NULL, NULL, R, "rmsprop: decay of the mean square"),
    ROW("beta1", REAL, beta1, "0.9", 0, 0.99999, NULL, NULL, R, "adam, adamw: decay of the mean"),
    ROW("beta2", REAL, beta2, "0.999", 0, 0.9999999, NULL, NULL, R, "adam, adamw: decay of the mean square"),
    ROW("epsilon", REAL, epsilon, "1e-8", 1e-16, 1, NULL, NULL, R, "rmsprop, adam, adamw: term added to the divisor"),
    ROW("weight_decay", REAL, weight_decay, "0.01", 0, 10, NULL, NULL, R, "adamw: decoupled weight decay"),
    ROW("clip", REAL, clip, "5", 0, 1e6, NULL, NULL, R | A, "largest global norm of the gradient; 0: no clipping"),
    ROW("schedule", CHOICE, schedule, "constant", 0, 0, schedule_names, NULL, R, "how the learning rate changes"),
    ROW("warmup", INT, warmup, "0", 0, 1e9, NULL, "steps", R,
        "linear growth of the learning rate at the start; at most a quarter of the run"),
    ROW("average", REAL, average, "0", 0, 0.999999, NULL, NULL, R,
        "validate and publish an exponential average of the weights with this decay (0.999); 0: no average"),
    ROW("decay_factor", REAL, decay_factor, "0.5", 1e-6, 1, NULL, NULL, R,
        "schedules step and plateau: factor of the rate at each decay"),
    ROW("decay_every", INT, decay_every, "1", 1, 1e9, NULL, "epochs", R, "schedule step: time between decays"),
    ROW("plateau_patience", INT, plateau_patience, "2", 1, 1e6, NULL, "validations", R,
        "schedule plateau: validations without improvement before a decay"),
    ROW("minimum_rate", REAL, minimum_rate, "0", 0, 1, NULL, NULL, R,
        "smallest rate, as a fraction of lr; the cosine ends there"),
    ROW("batch", INT, batch, "0", 0, 65536, NULL, "streams", R,
        "pieces of the text in one step; 0: 64 for a large text, fewer for a small one"),
    ROW("bptt", INT, window, "0", 0, 65536, NULL, "tokens", R,
        "length of backpropagation through time; 0: 64 for a large text, 32 for a small one"),
    ROW("epochs", INT, epochs, "10", 1, 1e9, NULL, NULL, R | A, "most passes over the corpus"),
    ROW("max_minutes", REAL, max_minutes, "0", 0, 1e6, NULL, "minutes", R | A,
        "time limit, validation included; the cosine then ends with the time; 0: no limit"),
    ROW("threads", INT, threads, "0", 0, 1024, NULL, NULL, R, "worker threads; 0: one per core"),
    ROW("products", CHOICE, products, "auto", 0, 0, products_choices, NULL, R | A,
        "who multiplies large matrices: lstmd's own kernels or the library OpenBLAS; auto: own, except on a processor "
        "without vector kernels"),
    ROW("other_products", BOOL, other_products, "false", 0, 0, NULL, NULL, A,
        "resume: allow other products, or another OpenBLAS, than at the start of the run; the bits then differ"),
    ROW("seed", INT, seed, "1", 0, MAX_SEED, NULL, NULL, R, "seed of all random numbers"),

    ROW("validate_every", INT, validate_every, "0", 0, 1e12, NULL, "steps", R,
        "steps between further validations; 0: validate only after each epoch"),
    ROW("patience", INT, patience, "0", 0, 1e9, NULL, "validations", R | A,
        "stop after this many validations without improvement; 0: never"),
    ROW("sample_length", INT, sample_length, "120", 0, 1e6, NULL, "tokens", A,
        "length of the samples shown after each epoch; 0: none"),
    ROW("snapshot_seconds", REAL, snapshot_seconds, "60", 0, 1e6, NULL, "s", A,
        "time between snapshots for --resume; 0: only at validations"),
};

#undef R
#undef A
#undef ROW

const size_t trainer_option_count = sizeof trainer_option_table / sizeof *trainer_option_table;

/* The field of a row; the row's kind has its type. */
static void *field_of(const struct trainer_option *row, struct trainer_options *options)
{
    return (char *)options + row->offset;
}

static const void *field_of_const(const struct trainer_option *row, const struct trainer_options *options)
{
    return (const char *)options + row->offset;
}

static bool choice_find(const struct trainer_option *row, const char *name, int *index)
{
    for (int i = 0; row->choices[i]; i++) {
        if (strcmp(row->choices[i], name) == 0) {
            *index = i;
            return true;
        }
    }
    return false;
}

/* text: a default, or a preset's value. These are ours, and valid. */
static void row_from_text(const struct trainer_option *row, struct trainer_options *options, const char *text)
{
    void *field = field_of(row, options);
    switch (row->kind) {
    case TRAINER_BOOL:
        *(bool *)field = strcmp(text, "true") == 0;
        break;
    case TRAINER_INT:
        *(uint64_t *)field = strtoull(text, NULL, 10);
        break;
    case TRAINER_REAL:
        *(double *)field = strtod(text, NULL);
        break;
    case TRAINER_TEXT:
        *(const char **)field = text;
        break;
    case TRAINER_CHOICE:
        choice_find(row, text, field);
        break;
    }
}

void trainer_options_default(struct trainer_options *options)
{
    for (size_t i = 0; i < trainer_option_count; i++)
        row_from_text(&trainer_option_table[i], options, trainer_option_table[i].fallback);
    options->more_count = 0;
}

static bool check_number(const struct trainer_option *row, double value, struct error *err)
{
    if (value >= row->minimum && value <= row->maximum) return true;
    return error_set(err, ERROR_INVALID, "%s is %.15g: it must be from %.15g to %.15g", row->key, value, row->minimum,
                     row->maximum);
}

static bool check_row(const struct trainer_option *row, const struct trainer_options *options, struct error *err)
{
    const void *field = field_of_const(row, options);
    if (row->kind == TRAINER_INT) return check_number(row, (double)*(const uint64_t *)field, err);
    if (row->kind == TRAINER_REAL) return check_number(row, *(const double *)field, err);
    if (row->kind != TRAINER_TEXT) return true;
    const char *text = *(const char *const *)field;
    size_t n = text ? strlen(text) : 0;
    if (!text || ((double)n >= row->minimum && (double)n <= row->maximum)) return true;
    return error_set(err, ERROR_INVALID, "%s is %zu bytes long: it must be %.0f to %.0f", row->key, n, row->minimum,
                     row->maximum);
}

/* Refuses options that the file's format would ignore silently. If the name does not tell the format, the reader
 * checks them. */
static bool check_file(const struct corpus_options *corpus, const char *path, struct error *err)
{
    const bool guess = corpus->format == CORPUS_AUTO && path;
    const enum corpus_format format = guess ? corpus_format_guess(path) : corpus->format;
    const char *needs, *key = corpus_options_misfit(corpus, format, &needs);
    if (key && format == CORPUS_AUTO)
        return error_set(err, ERROR_INVALID, "%s needs format %s: say which, since the file's name does not tell", key,
                         needs);
    return !key || error_set(err, ERROR_INVALID, "%s needs format %s, not %s", key, needs, corpus_format_name(format));
}

static bool check_corpus(const struct trainer_options *options, struct error *err)
{
    const struct corpus_options corpus = trainer_corpus_options(options);
    if (!check_file(&corpus, options->data, err)) return false;
    for (size_t i = 0; i < options->more_count; i++)
        if (!check_file(&corpus, options->more_data[i], err)) return false;
    if (options->filters && options->level != TOKEN_LEVEL_WORD)
        return error_set(err, ERROR_INVALID, "filters needs level word, not %s", level_names[options->level]);
    return true;
}

bool trainer_options_validate(struct trainer_options *options, struct error *err)
{
    for (size_t i = 0; i < trainer_option_count; i++) {
        if (!check_row(&trainer_option_table[i], options, err)) return false;
    }
    if (options->bytes && options->level == TOKEN_LEVEL_WORD)
        return error_set(err, ERROR_INVALID, "bytes and level word exclude each other: words need UTF-8");
    if (options->bytes) options->level = TOKEN_LEVEL_BYTE;
    if (options->level == TOKEN_LEVEL_BYTE) options->bytes = true;
    struct architecture architecture = trainer_architecture(options, 2);
    return check_corpus(options, err) && architecture_validate(&architecture, err);
}

static json_t *row_to_json(const struct trainer_option *row, const struct trainer_options *options)
{
    const void *field = field_of_const(row, options);
    switch (row->kind) {
    case TRAINER_BOOL:
        return json_boolean(*(const bool *)field);
    case TRAINER_INT:
        return json_integer((json_int_t) * (const uint64_t *)field);
    case TRAINER_REAL:
        return json_real(*(const double *)field);
    case TRAINER_TEXT:
        return json_string(*(const char *const *)field);
    case TRAINER_CHOICE:
        return json_string(row->choices[*(const int *)field]);
    }
    return NULL;
}

#define MORE_DATA "more_data"

static bool add_more_data(const struct trainer_options *options, json_t *json)
{
    if (options->more_count == 0) return true;
    json_t *list = json_array();
    bool ok = json_object_set_new(json, MORE_DATA, list) == 0;
    for (size_t i = 0; ok && i < options->more_count; i++)
        ok = json_array_append_new(list, json_string(options->more_data[i])) == 0;
    return ok;
}

static bool read_more_data(struct trainer_options *options, const json_t *list)
{
    options->more_count = json_array_size(list);
    if (!json_is_array(list) || options->more_count >= TRAINER_MAX_FILES) return false;
    for (size_t i = 0; i < options->more_count; i++) {
        options->more_data[i] = json_string_value(json_array_get(list, i));
        if (!options->more_data[i]) return false;
    }
    return true;
}

json_t *trainer_options_to_json(const struct trainer_options *options, unsigned flags, struct error *err)
{
    json_t *json = json_object();
    bool ok = json;
    for (size_t i = 0; ok && i < trainer_option_count; i++) {
        const struct trainer_option *row = &trainer_option_table[i];
        const void *field = field_of_const(row, options);
        if (!(row->flags & flags)) continue;
        if (row->kind == TRAINER_TEXT && !*(const char *const *)field) continue;
        ok = json_object_set_new(json, row->key, row_to_json(row, options)) == 0;
    }
    ok = ok && (!(flags & TRAINER_ADJUSTABLE) || add_more_data(options, json));
    if (ok) return json;
    json_decref(json);
    error_set_no_memory(err, 0, "the training options");
    return NULL;
}

static const struct trainer_option *find_row(const char *key)
{
    for (size_t i = 0; i < trainer_option_count; i++) {
        if (strcmp(trainer_option_table[i].key, key) == 0) return &trainer_option_table[i];
    }
    return NULL;
}

void trainer_options_preset(struct trainer_options *options, enum trainer_preset_kind kind)
{
    trainer_options_default(options);
    options->preset = (int)kind;
    for (const struct trainer_preset_value *value = trainer_presets[kind].values; value->key; value++)
        row_from_text(find_row(value->key), options, value->text);
}

/* False where the value has the wrong type or is no choice of the row. check_row() checks bounds. */
static bool row_from_json(const struct trainer_option *row, struct trainer_options *options, const json_t *value)
{
    void *field = field_of(row, options);
    switch (row->kind) {
    case TRAINER_BOOL:
        *(bool *)field = json_is_true(value);
        return json_is_boolean(value);
    case TRAINER_INT:
        if (!json_is_integer(value) || json_integer_value(value) < 0) return false;
        *(uint64_t *)field = (uint64_t)json_integer_value(value);
        return true;
    case TRAINER_REAL:
        *(double *)field = json_number_value(value);
        return json_is_number(value);
    case TRAINER_TEXT:
        *(const char **)field = json_string_value(value);
        return json_is_string(value);
    case TRAINER_CHOICE:
        return json_is_string(value) && choice_find(row, json_string_value(value), field);
    }
    return false;
}

bool trainer_options_from_json(struct trainer_options *options, const json_t *json, const char *place,
                               struct error *err)
{
    static const char *const kinds[] = {"true or false", "a non-negative integer", "a number", "a string",
                                        "one of the choices"};
    const char *key;
    json_t *value;
    if (!json_is_object(json)) return error_set(err, ERROR_INVALID, "%s: the options must be an object", place);
    json_object_foreach((json_t *)json, key, value)
    {
        const struct trainer_option *row = find_row(key);
        if (!row && strcmp(key, MORE_DATA) == 0 && read_more_data(options, value)) continue;
        if (!row) return error_set(err, ERROR_INVALID, "%s: unknown training option \"%s\"", place, key);
        if (!row_from_json(row, options, value))
            return error_set(err, ERROR_INVALID, "%s: %s must be %s", place, key, kinds[row->kind]);
        if (!check_row(row, options, err)) return error_add_context(err, "%s", place);
    }
    return true;
}

static bool row_equal(const struct trainer_option *row, const struct trainer_options *a,
                      const struct trainer_options *b)
{
    const void *x = field_of_const(row, a), *y = field_of_const(row, b);
    switch (row->kind) {
    case TRAINER_BOOL:
        return *(const bool *)x == *(const bool *)y;
    case TRAINER_INT:
        return *(const uint64_t *)x == *(const uint64_t *)y;
    case TRAINER_REAL:
        return !(*(const double *)x < *(const double *)y) && !(*(const double *)x > *(const double *)y);
    case TRAINER_CHOICE:
        return *(const int *)x == *(const int *)y;
    case TRAINER_TEXT: {
        const char *s = *(const char *const *)x, *t = *(const char *const *)y;
        return s && t ? strcmp(s, t) == 0 : s == t;
    }
    }
    return false;
}

static void row_print(const struct trainer_option *row, const struct trainer_options *options, char *out, size_t size)
{
    json_t *json = row_to_json(row, options);
    size_t n = 0;
    char *text = json ? json_text_print(json, JSON_ENCODE_ANY, &n, NULL) : NULL;
    if (n >= size) n = size - 1;
    memcpy(out, text ? text : "", n);
    out[n] = 0;
    free(text);
    json_decref(json);
}

bool trainer_options_may_resume(const struct trainer_options *saved, const struct trainer_options *wanted,
                                struct error *err)
{
    for (size_t i = 0; i < trainer_option_count; i++) {
        const struct trainer_option *row = &trainer_option_table[i];
        if (row->flags & TRAINER_ADJUSTABLE || row_equal(row, saved, wanted)) continue;
        char old[80], new[80];
        row_print(row, saved, old, sizeof old);
        row_print(row, wanted, new, sizeof new);
        return error_set(err, ERROR_INVALID, "%s was %s when the run began and is %s now: a resumed run must keep it",
                         row->key, *old ? old : "not set", *new ? new : "not set");
    }
    return true;
}

struct corpus_options trainer_corpus_options(const struct trainer_options *options)
{
    static const int header[] = {-1, 1, 0};
    return (struct corpus_options){.format = (enum corpus_format)options->format,
                                   .columns = options->columns,
                                   .label_column = options->label_column,
                                   .field = options->field,
                                   .csv_header = header[options->csv_header],
                                   .bytes = options->bytes};
}

struct vocabulary_options trainer_vocabulary_options(const struct trainer_options *options)
{
    return (struct vocabulary_options){.level = (enum token_level)options->level,
                                       .lower = options->lower,
                                       .filters = options->filters,
                                       .min_count = options->min_count,
                                       .max_tokens = (uint32_t)options->max_vocabulary,
                                       .unknown = options->unknown};
}

struct architecture trainer_architecture(const struct trainer_options *options, uint32_t vocabulary_size)
{
    return (struct architecture){.cell = (enum cell_kind)options->cell,
                                 .layers = (uint32_t)options->layers,
                                 .hidden_size = (uint32_t)options->hidden,
                                 .embedding_size = (uint32_t)options->embedding,
                                 .vocabulary_size = vocabulary_size,
                                 .tie_weights = options->tie_weights};
}

struct optimizer_options trainer_optimizer_options(const struct trainer_options *options)
{
    return (struct optimizer_options){.kind = (enum optimizer_kind)options->optimizer,
                                      .rate = options->rate,
                                      .momentum = options->momentum,
                                      .decay = options->rms_decay,
                                      .beta1 = options->beta1,
                                      .beta2 = options->beta2,
                                      .epsilon = options->epsilon,
                                      .weight_decay = options->weight_decay,
                                      .clip = options->clip};
}

struct schedule_options trainer_schedule_options(const struct trainer_options *options)
{
    return (struct schedule_options){.kind = (enum schedule_kind)options->schedule,
                                     .warmup = options->warmup,
                                     .factor = options->decay_factor,
                                     .every = options->decay_every,
                                     .patience = options->plateau_patience,
                                     .minimum = options->minimum_rate};
}
