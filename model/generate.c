#include "model/generate.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "base/utf8.h"

const char *finish_reason_name(enum finish_reason reason)
{
    switch (reason) {
    case FINISH_LENGTH:
        return "length";
    case FINISH_EOS:
        return "eos";
    case FINISH_NONE:
        break;
    }
    return "none";
}

static bool refuse(const char **field, const char *name, struct error *err, const char *message)
{
    if (field != NULL) *field = name;
    return error_set(err, ERROR_INVALID, "%s", message);
}

static bool check_numbers(const struct generation_request *request, const char **field, struct error *err)
{
    const double temperature = request->sampler.temperature;
    if (request->length < 1) return refuse(field, "length", err, "length must be at least 1");
    if (!(temperature >= 0 && temperature <= SAMPLER_MAX_TEMPERATURE))
        return refuse(field, "temperature", err, "temperature must be between 0 and 100");
    return true;
}

/* Adds ", "-separated label names to a message, as far as they fit. */
static void list_labels(const struct vocabulary *vocabulary, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (uint32_t i = 0; i < vocabulary_label_count(vocabulary); i++) {
        size_t n;
        const char *name = vocabulary_token(vocabulary, vocabulary_label(vocabulary, i), &n);
        if (n + 3 > size - used) return;
        used += (size_t)snprintf(out + used, size - used, "%s%s", i > 0 ? ", " : "", name);
    }
}

static bool add_label(struct generation *generation, const char *label, const char **field, struct error *err)
{
    if (label == NULL) return true;
    if (vocabulary_label_count(generation->vocabulary) == 0)
        return refuse(field, "label", err, "the model has no labels: it was trained without a label column");

    const uint32_t id = vocabulary_find_label(generation->vocabulary, label);
    if (id != TOKEN_NONE) return token_list_append(&generation->prompt, id, err);

    char names[256], message[ERROR_MESSAGE_SIZE];
    list_labels(generation->vocabulary, names, sizeof names);
    snprintf(message, sizeof message, "the model has no label \"%.100s\"; it has: %s", label, names);
    return refuse(field, "label", err, message);
}

/* Names text of the prompt: "character 'x' (U+0078)", or what can be said where that would not be readable. */
static void name_text(const char *text, size_t n, char *out, size_t size)
{
    uint32_t code;
    const size_t first = utf8_decode(text, n, &code);
    if (first == 0) {
        snprintf(out, size, "byte 0x%02X", (unsigned char)text[0]);
    } else if (first < n) {
        const size_t shown = utf8_complete_prefix(text, n < 48 ? n : 48);
        snprintf(out, size, "\"%.*s\"%s", (int)shown, text, shown < n ? "..." : "");
    } else if (code < 0x20 || (code >= 0x7F && code < 0xA0)) {
        snprintf(out, size, "character U+%04X", (unsigned)code);
    } else {
        snprintf(out, size, "character '%.*s' (U+%04X)", (int)n, text, (unsigned)code);
    }
}

/* "NAME at byte N of the prompt is not in the model's vocabulary" and the ending. */
static void describe_unknown(const struct unknown_text *item, const char *prompt, const char *ending,
                             char out[GENERATION_WARNING_SIZE])
{
    char name[96];
    name_text(prompt + item->offset, item->length, name, sizeof name);
    snprintf(out, GENERATION_WARNING_SIZE, "%s at byte %zu of the prompt is not in the model's vocabulary%s", name,
             item->offset, ending);
}

static bool add_prompt(struct generation *generation, const struct generation_request *request, const char **field,
                       struct error *err)
{
    const char *text = request->prompt_bytes > 0 ? request->prompt : "";
    struct error cause = {0};
    if (!vocabulary_encode(generation->vocabulary, text, request->prompt_bytes, &generation->prompt,
                           &generation->unknown, GENERATION_MAX_WARNINGS, &cause)) {
        if (cause.code == ERROR_INVALID) return refuse(field, "prompt", err, cause.message);
        return error_set(err, cause.code, "%s", cause.message);
    }
    if (request->unknown_is_error && generation->unknown.count > 0) {
        char message[GENERATION_WARNING_SIZE];
        describe_unknown(&generation->unknown.items[0], text, "", message);
        return refuse(field, "prompt", err, message);
    }
    if (generation->prompt.count > 0) return true;
    return refuse(field, "prompt", err,
                  generation->unknown.count > 0
                      ? "nothing of the prompt is in the model's vocabulary, and the model has no <eos> to start from"
                      : "the prompt is empty and the model has no <eos> to start from; give it at least one character");
}

static bool encode(struct generation *generation, const struct generation_request *request, const char **field,
                   struct error *err)
{
    const uint32_t eos = vocabulary_eos(generation->vocabulary);
    if (eos != TOKEN_NONE && !token_list_append(&generation->prompt, eos, err)) return false;
    return add_label(generation, request->label, field, err) && add_prompt(generation, request, field, err);
}

/* All that advancing needs: room for the longest text, and the sampler's scratch. */
static bool take_memory(struct generation *generation, const char **field, struct error *err)
{
    const size_t V = vocabulary_size(generation->vocabulary);
    size_t capacity;
    if (!size_multiply(generation->length, vocabulary_max_token_bytes(generation->vocabulary) + 1, &capacity) ||
        !size_add(capacity, 1, &capacity)) {
        if (field != NULL) *field = "length";
        return error_set(err, ERROR_TOO_LARGE, "length %zu is more than memory can hold", generation->length);
    }
    generation->text = malloc(capacity);
    if (generation->text == NULL) return error_set_no_memory(err, capacity, "the generated text");
    generation->text[0] = '\0';
    generation->text_capacity = capacity;
    generation->scratch = malloc(V * sizeof(double));
    if (generation->scratch == NULL) return error_set_no_memory(err, V * sizeof(double), "the sampler");
    return true;
}

static bool ends_in_space(const char *text, size_t n)
{
    return n == 0 || strchr(" \t\r\n", text[n - 1]) != NULL;
}

bool generation_open(struct generation *generation, const struct vocabulary *vocabulary,
                     const struct generation_request *request, const char **field, struct error *err)
{
    memset(generation, 0, sizeof *generation);
    if (field != NULL) *field = NULL;
    generation->vocabulary = vocabulary;
    generation->sampler = request->sampler;
    generation->length = request->length;
    generation->at_start = ends_in_space(request->prompt, request->prompt_bytes);
    rng_seed(&generation->rng, request->seed, 0);

    if (!check_numbers(request, field, err) || !encode(generation, request, field, err) ||
        !take_memory(generation, field, err))
        return false;
    generation->next = generation->prompt.ids[0];
    return true;
}

void generation_close(struct generation *generation)
{
    token_list_free(&generation->prompt);
    unknown_list_free(&generation->unknown);
    free(generation->text);
    free(generation->scratch);
    memset(generation, 0, sizeof *generation);
}

bool generation_done(const struct generation *generation)
{
    return generation->finish != FINISH_NONE;
}

uint32_t generation_token(const struct generation *generation)
{
    return generation->next;
}

bool generation_wants_logits(const struct generation *generation)
{
    return generation->fed + 1 >= generation->prompt.count;
}

static void append(struct generation *generation, uint32_t id)
{
    char *end = generation->text + generation->text_bytes;
    const size_t n = vocabulary_decode(generation->vocabulary, id, generation->at_start, end);
    if (n > 0) generation->at_start = false;
    generation->text_bytes += n;
    assert(generation->text_bytes < generation->text_capacity);
    generation->text[generation->text_bytes] = '\0';
    if (++generation->produced == generation->length) generation->finish = FINISH_LENGTH;
}

void generation_advance(struct generation *generation, float *logits)
{
    assert(!generation_done(generation));
    const bool choose = generation_wants_logits(generation);
    generation->fed++;
    if (!choose) {
        generation->next = generation->prompt.ids[generation->fed];
        return;
    }
    sampler_forbid(generation->vocabulary, logits);
    generation->next = sampler_pick(&generation->sampler, logits, vocabulary_size(generation->vocabulary),
                                    &generation->rng, generation->scratch);
    if (generation->next == vocabulary_eos(generation->vocabulary)) {
        generation->finish = FINISH_EOS;
    } else {
        append(generation, generation->next);
    }
}

/* What one sequence needs to be stepped alone. */
struct solo {
    const struct stepper *stepper;
    struct step_scratch scratch;
    struct arena arena;
    float *state, *logits;
};

static void solo_close(struct solo *solo)
{
    arena_free(&solo->arena);
    step_scratch_close(&solo->scratch);
}

static bool solo_open(struct solo *solo, const struct stepper *stepper, struct error *err)
{
    *solo = (struct solo){.stepper = stepper};
    solo->state = arena_alloc(&solo->arena, stepper->state_size, sizeof(float), "a hidden state", err);
    solo->logits = arena_alloc(&solo->arena, stepper->logits_size, sizeof(float), "logits", err);
    if (solo->state != NULL && solo->logits != NULL && step_scratch_open(&solo->scratch, stepper, 1, err)) return true;
    solo_close(solo);
    return false;
}

/* Feeds the next token; logits (NULL: not wanted) are those after it. */
static void solo_step(struct solo *solo, const struct generation *generation, float *logits)
{
    const uint32_t token = generation_token(generation);
    step(solo->stepper, &solo->scratch, 1, &token, &solo->state, &logits);
}

/* Feeds the prompt but for its last token. */
static void solo_read_prompt(struct solo *solo, struct generation *generation)
{
    while (!generation_wants_logits(generation)) {
        solo_step(solo, generation, NULL);
        generation_advance(generation, NULL);
    }
}

/* Emits what lies between *sent and the last complete character; all of it at the end. */
static bool emit_ready(const struct generation *generation, size_t *sent, generation_emit *emit, void *context)
{
    const char *text = generation->text + *sent;
    size_t n = generation->text_bytes - *sent;
    if (!generation_done(generation)) n = utf8_complete_prefix(text, n);
    if (emit == NULL || n == 0) return true;
    *sent += n;
    return emit(context, text, n);
}

bool generation_run(struct generation *generation, const struct stepper *stepper, generation_emit *emit, void *context,
                    struct error *err)
{
    struct solo solo;
    size_t sent = 0;
    bool wanted;
    if (!solo_open(&solo, stepper, err)) return false;
    solo_read_prompt(&solo, generation);
    wanted = emit == NULL || emit(context, "", 0);
    while (wanted && !generation_done(generation)) {
        solo_step(&solo, generation, solo.logits);
        generation_advance(generation, solo.logits);
        wanted = emit_ready(generation, &sent, emit, context);
    }
    solo_close(&solo);
    return wanted || error_set(err, ERROR_CANCELLED, "the generation was stopped");
}

bool generation_read_prompt(struct generation *generation, const struct stepper *stepper, float *logits,
                            struct error *err)
{
    struct solo solo;
    if (!solo_open(&solo, stepper, err)) return false;
    solo_read_prompt(&solo, generation);
    solo_step(&solo, generation, logits);
    solo_close(&solo);
    return true;
}

size_t generation_warning_count(const struct generation *generation)
{
    const struct unknown_list *unknown = &generation->unknown;
    return unknown->count + (unknown->total > unknown->count ? 1 : 0);
}

void generation_warning(const struct generation *generation, const char *prompt, size_t index,
                        char out[GENERATION_WARNING_SIZE])
{
    const struct unknown_list *unknown = &generation->unknown;
    if (index < unknown->count) {
        describe_unknown(&unknown->items[index], prompt, " and was skipped", out);
    } else {
        snprintf(out, GENERATION_WARNING_SIZE,
                 "%zu more of the prompt are not in the model's vocabulary and were skipped",
                 unknown->total - unknown->count);
    }
}
