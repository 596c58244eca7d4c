/* The answer of /inspect, a piece at a time: the figures of a token, then each of its vectors. As one JSON document, or
 * as NDJSON: a line for each token, and a last one for what the document has behind its tokens. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/generate/answer.h"
#include "server/api/inspection.h"

static void write_bits(const char *key, double nats, struct json_writer *out)
{
    json_write(out, key, strlen(key));
    json_write_float(out, (float)(nats / log(2)));
}

/* "id":...,"token":... */
static void write_name(const struct inspection *inspection, uint32_t id, struct json_writer *out)
{
    size_t n;
    const char *text = vocabulary_token(inspection->reader.text.generation.vocabulary, id, &n);
    json_write_literal(out, "\"id\":");
    json_write_integer(out, id);
    json_write_literal(out, ",\"token\":");
    json_write_string(out, text, n);
}

/* How many alternatives a token has. */
static size_t inspect_top(const struct inspection *inspection)
{
    const size_t vocabulary = inspection->reader.served->stepper.architecture.vocabulary_size;
    return inspection->top < vocabulary ? (size_t)inspection->top : vocabulary;
}

/* ,"top":[...] */
static void write_top(const struct inspection *inspection, size_t count, struct json_writer *out)
{
    if (inspection->top == 0) return;
    json_write_literal(out, ",\"top\":[");
    for (size_t i = 0; i < count; i++) {
        json_write(out, i > 0 ? ",{" : "{", i > 0 ? 2 : 1);
        write_name(inspection, inspection->likeliest[i].id, out);
        json_write_literal(out, ",\"logprob\":");
        json_write_float(out, (float)inspection->likeliest[i].logprob);
        json_write_literal(out, "}");
    }
    json_write_literal(out, "]");
}

static struct inspect_figures inspect_figures_of(struct inspection *inspection, uint32_t id)
{
    const struct text_reader *reader = &inspection->reader;
    return inspect_logits(reader->reading.logits, reader->served->stepper.architecture.vocabulary_size, id,
                          inspect_top(inspection), inspection->likeliest);
}

/* What the model expected in the place of token `at`. The first token of a text that nothing precedes has no
 * probability. */
static void write_figures(struct inspection *inspection, struct json_writer *out)
{
    const struct scored_text *text = &inspection->reader.text;
    const uint32_t id = text->generation.prompt.ids[inspection->at];
    if (!inspection->is_lines && inspection->at > scored_text_special(text)) json_write_literal(out, ",");
    json_write_literal(out, "{");
    write_name(inspection, id, out);
    if (inspection->at < text->first) {
        json_write_literal(out, ",\"logprob\":null,\"surprise\":null,\"entropy\":null");
        write_top(inspection, 0, out);
        return;
    }
    const struct inspect_figures figures = inspect_figures_of(inspection, id);
    inspection->nats -= figures.logprob;
    json_write_literal(out, ",\"logprob\":");
    json_write_real(out, figures.logprob);
    write_bits(",\"surprise\":", 0 - figures.logprob, out);
    write_bits(",\"entropy\":", figures.entropy, out);
    write_top(inspection, inspect_top(inspection), out);
}

static void follow_probe(struct inspection *inspection)
{
    const struct text_reader *reader = &inspection->reader;
    double properties[PROBE_PROPERTIES];
    size_t n;
    const uint32_t id = reader->text.generation.prompt.ids[inspection->at];
    const char *token = vocabulary_token(reader->text.generation.vocabulary, id, &n);
    probe_text_next(&inspection->follower, token, n, properties);
    probe_add(&inspection->probe,
              state_vector(&reader->served->stepper, reader->reading.state, (size_t)inspection->wanted.layer,
                           inspection->wanted.vector == 1),
              properties);
}

/* [values of the chosen units] */
static void write_vector(const struct inspection *inspection, size_t layer, const float *values,
                         struct json_writer *out)
{
    const struct inspect_numbers *units = &inspection->units;
    const size_t count =
        units->items ? units->count : architecture_hidden(&inspection->reader.served->stepper.architecture, layer);
    json_write_literal(out, "[");
    if (!units->items) json_write_floats(out, values, count);
    for (size_t i = 0; units->items && i < count; i++) {
        if (i > 0) json_write_literal(out, ",");
        json_write_float(out, values[units->items[i]]);
    }
    json_write_literal(out, "]");
}

/* The next of a layer's gates; first and last open and close them. */
static void write_gate(struct inspection *inspection, size_t layer, size_t gate, struct json_writer *out)
{
    const struct text_reader *reader = &inspection->reader;
    const struct stepper *stepper = &reader->served->stepper;
    const struct cell *cell = &cell_table[stepper->architecture.cell];
    if (gate == 0) {
        step_gates(stepper, &reader->reading.piece.scratch, layer, inspection->gate_rows);
        json_write_literal(out, ",\"gates\":{\"");
    } else {
        json_write_literal(out, ",\"");
    }
    json_write(out, &cell->gate_names[gate], 1);
    json_write_literal(out, "\":");
    write_vector(inspection, layer, inspection->gate_rows + gate * architecture_hidden(&stepper->architecture, layer),
                 out);
    if (gate + 1 == cell->gates) json_write_literal(out, "}");
}

/* Vector `vector` of a layer: h, c if it is asked for, then the gates if they are. Returns whether there are more. */
static bool write_layer_part(struct inspection *inspection, size_t layer, size_t vector, struct json_writer *out)
{
    const struct stepper *stepper = &inspection->reader.served->stepper;
    const size_t gates = inspection->gates ? cell_table[stepper->architecture.cell].gates : 0;
    float *state = inspection->reader.reading.state;
    if (vector == 0) {
        json_write_literal(out, "{\"layer\":");
        json_write_integer(out, (int64_t)layer);
        json_write_literal(out, ",\"h\":");
        write_vector(inspection, layer, state_vector(stepper, state, layer, false), out);
    } else if (vector == 1 && inspection->c) {
        json_write_literal(out, ",\"c\":");
        write_vector(inspection, layer, state_vector(stepper, state, layer, true), out);
    } else {
        write_gate(inspection, layer, vector - 1 - inspection->c, out);
    }
    if (vector < inspection->c + gates) return true;
    json_write_literal(out, "}");
    return false;
}

static void end_token(struct inspection *inspection, struct json_writer *out)
{
    json_write(out, "}\n", inspection->is_lines ? 2 : 1);
    inspection->at++;
    inspection->stage = INSPECT_TOKENS;
}

static void write_next_vector(struct inspection *inspection, struct json_writer *out)
{
    const struct inspect_numbers *layers = &inspection->layers;
    if (inspection->vector == 0 && inspection->layer == 0) json_write_literal(out, ",\"layers\":[");
    if (inspection->vector == 0 && inspection->layer > 0) json_write_literal(out, ",");
    if (write_layer_part(inspection, layers->items[inspection->layer], inspection->vector, out)) {
        inspection->vector++;
        return;
    }
    inspection->vector = 0;
    if (++inspection->layer < layers->count) return;
    inspection->layer = 0;
    json_write_literal(out, "]");
    end_token(inspection, out);
}

/* False: the reading must end. */
static bool write_token(struct inspection *inspection, struct json_writer *out)
{
    write_figures(inspection, out);
    if (!text_reader_next(&inspection->reader)) return false;
    if (inspection->probes) follow_probe(inspection);
    if (inspection->layers.count > 0)
        inspection->stage = INSPECT_VECTORS;
    else
        end_token(inspection, out);
    return true;
}

/* The units that follow a property. */
static void write_property(const struct inspection *inspection, enum probe_property property, struct json_writer *out)
{
    struct probe_unit best[INSPECT_MAX_PROBED];
    const size_t count = probe_rank(&inspection->probe, property, (size_t)inspection->wanted.count, best);
    json_write_literal(out, "{\"property\":");
    json_write_string(out, probe_property_names[property], strlen(probe_property_names[property]));
    json_write_literal(out, ",\"mean\":");
    json_write_real(out, inspection->probe.property_mean[property]);
    json_write_literal(out, ",\"units\":[");
    for (size_t i = 0; i < count; i++) {
        if (i > 0) json_write_literal(out, ",");
        json_write_literal(out, "{\"unit\":");
        json_write_integer(out, (int64_t)best[i].unit);
        json_write_literal(out, ",\"r\":");
        json_write_real(out, best[i].r);
        json_write_literal(out, "}");
    }
    json_write_literal(out, "]}");
}

/* "probe":{...}, */
static void write_probe(const struct inspection *inspection, struct json_writer *out)
{
    bool first = true;
    json_write_literal(out, "\"probe\":{\"layer\":");
    json_write_integer(out, (int64_t)inspection->wanted.layer);
    json_write_literal(out, ",\"vector\":");
    json_write_string(out, inspection->wanted.vector == 1 ? "c" : "h", 1);
    json_write_literal(out, ",\"properties\":[");
    for (int p = 0; p < PROBE_PROPERTIES; p++) {
        if (!inspection->shown[p]) continue;
        if (!first) json_write_literal(out, ",");
        write_property(inspection, (enum probe_property)p, out);
        first = false;
    }
    json_write_literal(out, "]},");
}

/* The members after the tokens, with what the model expects next. */
static void write_rest(struct inspection *inspection, struct json_writer *out)
{
    const struct scored_text *text = &inspection->reader.text;
    const char *model = inspection->reader.served->model.name;
    if (inspection->is_lines) {
        json_write_literal(out, "{\"model\":");
        json_write_string(out, model, strlen(model));
        json_write_literal(out, ",");
    } else {
        json_write_literal(out, "],");
    }
    scored_text_write_sums(text, inspection->nats, out);
    write_bits(",\"next\":{\"entropy\":", inspect_figures_of(inspection, 0).entropy, out);
    write_top(inspection, inspect_top(inspection), out);
    json_write_literal(out, "},");
    if (inspection->probes) write_probe(inspection, out);
    answer_write_warnings(&text->generation, text->text.data, NULL, out);
    json_write_literal(out, "}\n");
}

/* The document begins; what stands before the text is fed. False: the reading must end. */
static bool write_begin(struct inspection *inspection, struct json_writer *out)
{
    const char *model = inspection->reader.served->model.name;
    while (inspection->reader.read < inspection->at)
        if (!text_reader_next(&inspection->reader)) return false;
    inspection->stage = INSPECT_TOKENS;
    if (inspection->is_lines) return write_token(inspection, out);
    json_write_literal(out, "{\"model\":");
    json_write_string(out, model, strlen(model));
    json_write_literal(out, ",\"tokens\":[");
    return true;
}

/* The reading ended too early, and the answer has begun: lines end with the problem, a document is cut. */
static enum text_state write_broken(const struct inspection *inspection, size_t begun, struct json_writer *out)
{
    const struct text_reader *reader = &inspection->reader;
    struct problem problem = {0};
    struct problem_document document;
    if (!reader->is_replied || !inspection->is_lines || reader->outcome == TEXT_LEFT) return TEXT_BROKEN;
    text_reader_set_problem(reader, &problem);
    const bool good = problem_write(&problem, "/inspect", &document);
    problem_close(&problem);
    if (!good) return TEXT_BROKEN;
    out->size = begun; /* without the line that is begun */
    json_write(out, document.text, document.size);
    free(document.text);
    return TEXT_END;
}

enum text_state inspect_write(void *context, struct json_writer *out, struct error *err)
{
    struct inspection *inspection = context;
    const size_t begun = out->size;
    bool good = true;
    (void)err;
    if (inspection->stage == INSPECT_BEGIN) {
        good = write_begin(inspection, out);
    } else if (inspection->stage == INSPECT_VECTORS) {
        write_next_vector(inspection, out);
    } else if (inspection->at < inspection->reader.text.generation.prompt.count) {
        good = write_token(inspection, out);
    } else {
        write_rest(inspection, out);
        return TEXT_END;
    }
    return good ? TEXT_MORE : write_broken(inspection, begun, out);
}
