/* The prompt of a generation as tokens, and what its text has that the vocabulary lacks. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "model/generate/generate_internal.h"
#include "model/text/skipped_text.h"

bool generation_refuse(const char **field, const char *name, struct error *err, const char *message)
{
    if (field) *field = name;
    return error_set(err, ERROR_INVALID, "%s", message);
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

static bool add_label(struct generation *generation, const struct generation_request *request, const char **field,
                      struct error *err)
{
    const char *label = request->label;
    if (!label) return true;
    if (request->continues)
        return generation_refuse(field, "label", err,
                                 "a label stands at the start of a text; the session has begun already");
    if (vocabulary_label_count(generation->vocabulary) == 0)
        return generation_refuse(field, "label", err, "the model has no labels: it was trained without a label column");

    const uint32_t id = vocabulary_find_label(generation->vocabulary, label);
    if (id != TOKEN_NONE) return token_list_append(&generation->prompt, id, err);

    char names[256], message[ERROR_MESSAGE_SIZE];
    list_labels(generation->vocabulary, names, sizeof names);
    snprintf(message, sizeof message, "the model has no label \"%.100s\"; it has: %s", label, names);
    return generation_refuse(field, "label", err, message);
}

/* "NAME at byte N of the prompt is not in the model's vocabulary" and the ending. */
static void describe_unknown(const struct generation *generation, size_t index, const char *prompt, const char *ending,
                             char out[GENERATION_WARNING_SIZE])
{
    const struct unknown_text *item = &generation->unknown.items[index];
    char name[96];
    skipped_text_name(prompt + item->offset, item->length, name, sizeof name);
    snprintf(out, GENERATION_WARNING_SIZE, "%s at byte %zu of the %s is not in the model's vocabulary%s", name,
             item->offset, generation->prompt_name, ending);
}

static bool add_text(struct generation *generation, const struct generation_request *request, const char **field,
                     struct error *err)
{
    const char *text = request->prompt_bytes > 0 ? request->prompt : "";
    struct error cause = {0};
    generation->unknown.most = GENERATION_MAX_WARNINGS;
    if (!vocabulary_encode(generation->vocabulary, text, request->prompt_bytes, &generation->prompt,
                           &generation->unknown, &cause)) {
        if (cause.code == ERROR_INVALID) return generation_refuse(field, "prompt", err, cause.message);
        return error_set(err, cause.code, "%s", cause.message);
    }
    if (request->unknown_is_error && generation->unknown.count > 0) {
        char message[GENERATION_WARNING_SIZE];
        describe_unknown(generation, 0, text, "", message);
        return generation_refuse(field, "prompt", err, message);
    }
    return true;
}

/* "[i] is ID: ..." about a token of the prompt. */
static bool refuse_id(size_t i, uint32_t id, const char *message, const char **field, struct error *err)
{
    if (field) *field = "prompt";
    return error_set(err, ERROR_INVALID, "[%zu] is %lu: %s", i, (unsigned long)id, message);
}

static bool add_ids(struct generation *generation, const struct generation_request *request, const char **field,
                    struct error *err)
{
    const struct vocabulary *vocabulary = generation->vocabulary;
    const uint32_t start = vocabulary_start(vocabulary);
    char range[64];
    snprintf(range, sizeof range, "token ids are from 0 to %lu", (unsigned long)vocabulary_size(vocabulary) - 1);
    for (size_t i = 0; i < request->id_count; i++) {
        const uint32_t id = request->ids[i];
        if (id >= vocabulary_size(vocabulary)) return refuse_id(i, id, range, field, err);
        if (i == 0 && id == start && request->continues)
            return refuse_id(i, id, "a start token begins a text, and this one goes on", field, err);
        if (i == 0 && id == start && request->label)
            return refuse_id(i, id, "a label cannot follow a start token; leave the token out", field, err);
        if (vocabulary_is_special(vocabulary, id) && id != vocabulary_unknown(vocabulary) && !(i == 0 && id == start))
            return refuse_id(i, id, "a special token has no place in a prompt", field, err);
        if (!token_list_append(&generation->prompt, id, err)) return false;
    }
    return true;
}

/* The sequence has a token to begin with. */
static bool check_not_empty(struct generation *generation, const struct generation_request *request, const char **field,
                            struct error *err)
{
    if (generation->prompt.count == 0 && request->continues && vocabulary_start(generation->vocabulary) != TOKEN_NONE)
        return token_list_append(&generation->prompt, vocabulary_start(generation->vocabulary), err);
    if (generation->prompt.count > 0) return true;
    char message[GENERATION_WARNING_SIZE];
    snprintf(message, sizeof message,
             generation->unknown.count > 0
                 ? "nothing of the %s is in the model's vocabulary, and the model has no start token"
                 : "the %s is empty and the model has no start token; give it at least one character",
             generation->prompt_name);
    return generation_refuse(field, "prompt", err, message);
}

static bool begins_itself(const struct generation *generation, const struct generation_request *request)
{
    return request->ids && request->id_count > 0 && !request->continues &&
           request->ids[0] == vocabulary_start(generation->vocabulary);
}

bool generation_encode_prompt(struct generation *generation, const struct generation_request *request,
                              const char **field, struct error *err)
{
    const uint32_t first = request->continues ? request->pending : vocabulary_start(generation->vocabulary);
    assert(first == TOKEN_NONE || first < vocabulary_size(generation->vocabulary));
    if (first != TOKEN_NONE && !begins_itself(generation, request) &&
        !token_list_append(&generation->prompt, first, err))
        return false;
    if (!add_label(generation, request, field, err)) return false;
    generation->prompt_begin = generation->prompt.count;
    const bool added =
        request->ids ? add_ids(generation, request, field, err) : add_text(generation, request, field, err);
    return added && check_not_empty(generation, request, field, err);
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
        describe_unknown(generation, index, prompt, " and was skipped", out);
    } else {
        snprintf(out, GENERATION_WARNING_SIZE, "%zu more of the %s are not in the model's vocabulary and were skipped",
                 unknown->total - unknown->count, generation->prompt_name);
    }
}
