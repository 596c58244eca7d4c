/* /inspect: what a model expected before each token of a text, and its hidden state and gates after it. Here a request
 * is checked; inspect_answer.c writes its answer while text_reader.c has the text read. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "server/api/api.h"
#include "server/api/inspection.h"
#include "server/http/negotiate.h"

#define MEMBER(name) offsetof(struct inspection, name)

static const struct field rows[] = {
    SCORED_TEXT_ROWS(MEMBER(reader.text)),
    SCORED_TEXT_STATE_ROW(MEMBER(reader.text)),
    {"layers", FIELD_IGNORED, 0, 0, 0, NULL, 0}, /* "all" or an array: inspect_read_numbers() */
    {"units", FIELD_IGNORED, 0, 0, 0, NULL, 0},
    {"c", FIELD_BOOL, MEMBER(c), 0, 0, NULL, 0},
    {"gates", FIELD_BOOL, MEMBER(gates), 0, 0, NULL, 0},
    {"top", FIELD_INTEGER, MEMBER(top), 0, GENERATION_MAX_LOGPROBS, NULL, 0},
    {"probe", FIELD_OBJECT, MEMBER(probe_field), 0, 0, NULL, 0},
    {"stream", FIELD_BOOL, MEMBER(stream), 0, 0, NULL, 0},
};

static const char *const vectors[] = {"h", "c", NULL};

#define PROBE_MEMBER(name) offsetof(struct inspect_probe, name)

static const struct field probe_rows[] = {
    {"layer", FIELD_INTEGER, PROBE_MEMBER(layer), 0, NETWORK_MAX_LAYERS, NULL, 0},
    {"properties", FIELD_TEXTS, PROBE_MEMBER(properties), 1, 32, NULL, 0},
    {"vector", FIELD_CHOICE, PROBE_MEMBER(vector), 0, 0, vectors, 0},
    {"units", FIELD_INTEGER, PROBE_MEMBER(count), 1, INSPECT_MAX_PROBED, NULL, 0},
};

/* Reads the numbers of an array; seen[limit]: all false. */
static bool inspect_read_items(const json_t *array, const char *field, size_t limit, bool *seen,
                               struct inspect_numbers *numbers, struct problem *problem)
{
    for (size_t i = 0; i < json_array_size(array); i++) {
        const json_t *item = json_array_get(array, i);
        const double number = json_is_number(item) ? json_number_value(item) : -1;
        if (!(number >= 0 && number < (double)limit) || number != (double)(size_t)number)
            return problem_add_field(problem, field, "the one at index %zu must be an integer from 0 to %zu", i,
                                     limit - 1);
        const size_t index = (size_t)number;
        if (seen[index]) return problem_add_field(problem, field, "%zu is there twice", index);
        seen[index] = true;
        numbers->items[numbers->count++] = index;
    }
    return true;
}

/* Reads "all" or an array of different numbers below `limit`. what: of what they are the numbers. */
static bool inspect_read_numbers(const json_t *value, const char *field, size_t limit, const char *what,
                                 struct inspect_numbers *numbers, struct problem *problem)
{
    const size_t count = json_array_size(value);
    if (json_is_string(value) && strcmp(json_string_value(value), "all") == 0) return true;
    if (!json_is_array(value))
        return problem_add_field(problem, field, "must be \"all\" or an array of the numbers of %s", what);
    if (count > limit)
        return problem_add_field(problem, field, "has %zu numbers, more than %s (%zu)", count, what, limit);
    numbers->items = calloc(count + 1, sizeof *numbers->items);
    bool *seen = calloc(limit, sizeof *seen);
    const bool good = numbers->items && seen ? inspect_read_items(value, field, limit, seen, numbers, problem)
                                             : problem_set(problem, 503, "out of memory");
    free(seen);
    return good;
}

/* Layers: none where the field is absent. "all" becomes a list. */
static bool inspect_read_layers(struct inspection *inspection, struct problem *problem)
{
    struct inspect_numbers *layers = &inspection->layers;
    const json_t *value = json_object_get(inspection->reader.body, "layers");
    const size_t count = inspection->reader.served->stepper.architecture.layers;
    if (!value) return true;
    if (!inspect_read_numbers(value, "layers", count, "the model's layers", layers, problem)) return false;
    if (layers->items) return true;
    layers->items = calloc(count, sizeof *layers->items);
    if (!layers->items) return problem_set(problem, 503, "out of memory");
    for (; layers->count < count; layers->count++) layers->items[layers->count] = layers->count;
    return true;
}

/* Units: those that each of the chosen layers has. */
static bool inspect_read_units(struct inspection *inspection, struct problem *problem)
{
    const struct architecture *a = &inspection->reader.served->stepper.architecture;
    const json_t *value = json_object_get(inspection->reader.body, "units");
    size_t limit = SIZE_MAX;
    if (!value) return true;
    if (inspection->layers.count == 0)
        return problem_add_field(problem, "units",
                                 "are units of the layers that \"layers\" chooses, and it chooses none");
    for (size_t i = 0; i < inspection->layers.count; i++) {
        const size_t units = architecture_hidden(a, inspection->layers.items[i]);
        if (units < limit) limit = units;
    }
    return inspect_read_numbers(value, "units", limit, "the units that each chosen layer has", &inspection->units,
                                problem);
}

/* What the cell of the model does not have, and what no layer was chosen for. */
static void inspect_check_vectors(const struct inspection *inspection, struct problem *problem)
{
    const struct cell *cell = &cell_table[inspection->reader.served->stepper.architecture.cell];
    if (inspection->c && cell->states < 2)
        problem_add_field(problem, "c", "the model's cell, %s, has no c: its state is h", cell->name);
    else if (inspection->c && inspection->layers.count == 0)
        problem_add_field(problem, "c", "is that of the layers that \"layers\" chooses, and it chooses none");
    if (inspection->gates && !cell->gated)
        problem_add_field(problem, "gates", "the model's cell, %s, has no gates: all that it computes is h",
                          cell->name);
    else if (inspection->gates && inspection->layers.count == 0)
        problem_add_field(problem, "gates", "are those of the layers that \"layers\" chooses, and it chooses none");
}

/* Adds the errors of the members of `probe` under their whole name. */
static void add_probe_errors(const struct problem *own, struct problem *problem)
{
    for (size_t i = 0; i < json_array_size(own->errors); i++) {
        const json_t *error = json_array_get(own->errors, i);
        char name[128];
        snprintf(name, sizeof name, "probe.%s", json_string_value(json_object_get(error, "field")));
        problem_add_field(problem, name, "%s", json_string_value(json_object_get(error, "message")));
    }
    if (own->status && !own->errors) problem_set(problem, own->status, "%s", own->detail);
}

/* The properties that are asked for; all where none is. */
static void inspect_choose_properties(struct inspection *inspection, struct problem *problem)
{
    const struct field_texts *wanted = &inspection->wanted.properties;
    for (size_t p = 0; p < PROBE_PROPERTIES; p++) inspection->shown[p] = wanted->count == 0;
    for (size_t i = 0; i < wanted->count; i++) {
        const struct field_text *name = &wanted->items[i];
        size_t p = 0;
        while (p < PROBE_PROPERTIES && (strlen(probe_property_names[p]) != name->size ||
                                        memcmp(probe_property_names[p], name->data, name->size) != 0))
            p++;
        if (p < PROBE_PROPERTIES)
            inspection->shown[p] = true;
        else
            problem_add_field(problem, "properties",
                              "\"%.*s\" is none: there are position, quotes, brackets, capital, border and digit",
                              (int)name->size, name->data);
    }
}

static bool inspect_open_probe(struct inspection *inspection, struct problem *problem)
{
    const struct architecture *a = &inspection->reader.served->stepper.architecture;
    const struct field_table table = {probe_rows, sizeof probe_rows / sizeof *probe_rows};
    struct inspect_probe *wanted = &inspection->wanted;
    struct problem own = {0};
    struct error err = {0};
    if (!inspection->probe_field) return true;
    *wanted = (struct inspect_probe){.layer = a->layers - 1, .count = 5};
    fields_read_json(&table, wanted, inspection->probe_field, NULL, &own);
    if (wanted->layer >= a->layers)
        problem_add_field(&own, "layer", "must be an integer from 0 to %zu", (size_t)a->layers - 1);
    if (wanted->vector == 1 && cell_table[a->cell].states < 2)
        problem_add_field(&own, "vector", "the model's cell, %s, has no c", cell_table[a->cell].name);
    inspect_choose_properties(inspection, &own);
    const bool good = !own.status;
    add_probe_errors(&own, problem);
    problem_close(&own);
    if (!good) return false;
    inspection->probes = true;
    return (probe_open(&inspection->probe, architecture_hidden(a, (size_t)wanted->layer), &err) &&
            probe_text_open(&inspection->follower, &err)) ||
           problem_set_error(problem, &err);
}

/* The numbers of an answer: three figures of each token, two of each alternative, and the vectors. */
static bool inspect_check_size(const struct inspection *inspection, struct problem *problem)
{
    const struct text_reader *reader = &inspection->reader;
    const struct architecture *a = &reader->served->stepper.architecture;
    const uint64_t limit = reader->services->config->max_inspect;
    const size_t tokens = reader->text.generation.prompt.count - scored_text_special(&reader->text);
    const size_t kinds = 1 + inspection->c + (inspection->gates ? architecture_gates(a) : 0);
    size_t numbers = 3 + 2 * (size_t)inspection->top;
    for (size_t i = 0; i < inspection->layers.count; i++)
        numbers += kinds * (inspection->units.items ? inspection->units.count
                                                    : architecture_hidden(a, inspection->layers.items[i]));
    if (tokens * numbers <= limit / sizeof(float)) return true;
    return problem_add_field(problem, "text",
                             "has %zu tokens, and the answer %zu numbers for each, 4 bytes each; limits.max_inspect is "
                             "%llu bytes: choose fewer layers or units, or send less text",
                             tokens, numbers, (unsigned long long)limit);
}

/* One JSON document, or one line for each token: as the client wants. */
static void inspect_choose_form(struct inspection *inspection)
{
    static const char *const types[] = {"application/json", "application/x-ndjson"};
    const char *accept = http_request_header(inspection->reader.request, "Accept");
    inspection->is_lines = inspection->stream || accept_choose(accept, types, 2) == 1;
    inspection->reader.content_type = types[inspection->is_lines];
}

/* Memory for the gates of any layer. */
static bool inspect_open_gates(struct inspection *inspection, struct problem *problem)
{
    const struct stepper *stepper = &inspection->reader.served->stepper;
    const size_t gates = architecture_gates(&stepper->architecture);
    inspection->gate_rows = calloc(gates * stepper->weights.largest_width, sizeof *inspection->gate_rows);
    return inspection->gate_rows || problem_set(problem, 503, "out of memory");
}

static bool inspect_open(struct text_reader *reader, struct problem *problem)
{
    struct inspection *inspection = (struct inspection *)reader;
    if (inspect_read_layers(inspection, problem)) inspect_read_units(inspection, problem);
    inspect_check_vectors(inspection, problem);
    inspect_open_probe(inspection, problem);
    if (!scored_text_open(&reader->text, reader->services, reader->served, problem)) return false;
    if (!inspect_check_size(inspection, problem)) return false;
    const size_t special = scored_text_special(&reader->text);
    reader->wanted_from = special > 0 ? special - 1 : 0;
    reader->keep_gates = inspection->gates;
    inspection->at = special;
    inspect_choose_form(inspection);
    return !inspection->gates || inspect_open_gates(inspection, problem);
}

static void inspect_close(struct text_reader *reader)
{
    struct inspection *inspection = (struct inspection *)reader;
    json_decref(inspection->probe_field);
    free(inspection->layers.items);
    free(inspection->units.items);
    free(inspection->gate_rows);
    probe_close(&inspection->probe);
}

static const struct text_reader_kind kind = {.size = sizeof(struct inspection),
                                             .rows = rows,
                                             .row_count = sizeof rows / sizeof *rows,
                                             .is_streamed = true,
                                             .open = inspect_open,
                                             .write = inspect_write,
                                             .close = inspect_close};

enum http_outcome api_inspect(struct http_request *request, void *context)
{
    return text_reader_run(request, context, &kind);
}
