/* lstmd next: the distribution over the token after a prompt. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/utf8.h"
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/loaded.h"

#define SHOWN 20 /* rows of the table */

struct flags {
    const char *model, *prompt, *label;
    double temperature;
    bool json;
};

static const struct option rows[] = {
    {"model", OPTION_TEXT, offsetof(struct flags, model), NULL, 1, 4095, NULL, NULL, "Model directory."},
    {"prompt", OPTION_TEXT, offsetof(struct flags, prompt), NULL, 0, 1e9, NULL, NULL,
     "Text to read; none: the start of a document."},
    {"label", OPTION_TEXT, offsetof(struct flags, label), NULL, 1, 1e6, NULL, NULL,
     "Label to read first, if the model was trained with labels."},
    {"temperature", OPTION_REAL, offsetof(struct flags, temperature), "1", 0.01, SAMPLER_MAX_TEMPERATURE, NULL, NULL,
     "Divides the logits; 1: the model's own probabilities."},
    {"json", OPTION_BOOL, offsetof(struct flags, json), "false", 0, 0, NULL, NULL,
     "Prints all tokens and probabilities by id, and the ids of the prompt."},
};

static const char *const required[] = {"model", NULL};

static const struct command_line line = {
    .usage = "lstmd next --model DIR [--prompt TEXT] [--temperature T] [--json]",
    .description = "Prints the likeliest tokens after a prompt: the model's softmax over all tokens.\n"
                   "JSON: {prompt, ids (of the prompt), tokens[], probabilities[]}, the last two by id.",
    .table = {rows, sizeof rows / sizeof rows[0], NULL, NULL},
    .required = required,
};

struct distribution {
    const struct vocabulary *vocabulary;
    const struct generation *generation; /* it has read its prompt */
    double *probabilities;               /* [V] */
};

/* A token as JSON: its text; a byte is the character with the byte's value, as in vocabulary.json. */
static json_t *token_json(const struct vocabulary *vocabulary, uint32_t id)
{
    size_t n;
    char encoded[UTF8_MAX_BYTES];
    const char *text = vocabulary_token(vocabulary, id, &n);
    if (vocabulary_level(vocabulary) == TOKEN_LEVEL_BYTE && !vocabulary_is_special(vocabulary, id)) {
        n = utf8_encode((unsigned char)text[0], encoded);
        text = encoded;
    }
    return json_stringn(text, n);
}

static json_t *prompt_json(const char *prompt)
{
    const size_t n = strlen(prompt);
    char *clean = malloc(3 * n + 1);
    json_t *json = clean ? json_stringn(clean, utf8_sanitize(prompt, n, clean)) : NULL;
    free(clean);
    return json;
}

static bool print_json(const struct distribution *distribution, const char *prompt, struct error *err)
{
    const struct token_list *read = &distribution->generation->prompt;
    json_t *ids = json_array(), *tokens = json_array(), *probabilities = json_array();
    int failed = 0;
    for (size_t i = 0; i < read->count; i++) failed |= json_array_append_new(ids, json_integer(read->ids[i]));
    for (uint32_t id = 0; id < vocabulary_size(distribution->vocabulary); id++) {
        failed |= json_array_append_new(tokens, token_json(distribution->vocabulary, id));
        failed |= json_array_append_new(probabilities, json_real(distribution->probabilities[id]));
    }
    json_t *json = json_pack("{s:o, s:o, s:o, s:o}", "prompt", prompt_json(prompt), "ids", ids, "tokens", tokens,
                             "probabilities", probabilities);
    if (json && !failed) {
        json_dumpf(json, stdout, JSON_REAL_PRECISION(17));
        putchar('\n');
    }
    const bool done = json && !failed;
    json_decref(json);
    return done || error_set(err, ERROR_NO_MEMORY, "out of memory for the answer");
}

/* The likeliest token that is not in `shown` yet. */
static uint32_t next_likeliest(const struct distribution *distribution, const bool *shown)
{
    uint32_t best = TOKEN_NONE;
    for (uint32_t id = 0; id < vocabulary_size(distribution->vocabulary); id++) {
        if (shown[id]) continue;
        if (best == TOKEN_NONE || distribution->probabilities[id] > distribution->probabilities[best]) best = id;
    }
    return best;
}

static bool print_table(const struct distribution *distribution, struct error *err)
{
    const uint32_t V = vocabulary_size(distribution->vocabulary);
    bool *shown = calloc(V, sizeof *shown);
    if (!shown) return error_set_no_memory(err, V, "the table");
    printf("%8s  %-12s %s\n", "id", "probability", "token");
    for (uint32_t i = 0; i < V && i < SHOWN; i++) {
        const uint32_t id = next_likeliest(distribution, shown);
        json_t *token = token_json(distribution->vocabulary, id);
        size_t n;
        char *text =
            json_text_print(token, JSON_ENCODE_ANY, &n, NULL); /* quotes the text, and escapes unprintable characters */
        printf("%8u  %-12.6g %s\n", id, distribution->probabilities[id], text ? text : "");
        free(text);
        json_decref(token);
        shown[id] = true;
    }
    free(shown);
    return true;
}

/* Reads the prompt: logits, then probabilities. */
static bool read_distribution(const struct loaded *loaded, const struct flags *flags, struct generation *generation,
                              double *probabilities, struct error *err)
{
    const struct stepper *stepper = &loaded->stepper;
    float *logits = calloc(stepper->logits_size, sizeof *logits);
    if (!logits) return error_set_no_memory(err, stepper->logits_size * sizeof *logits, "logits");
    const bool done = generation_read_prompt(generation, stepper, logits, err);
    if (done) sampler_softmax(logits, stepper->architecture.vocabulary_size, flags->temperature, probabilities);
    free(logits);
    return done;
}

static bool next_run(const struct flags *flags, struct error *err)
{
    struct generation generation = {0};
    struct loaded loaded;
    double *probabilities = NULL;
    bool done = false;
    if (!loaded_open(&loaded, flags->model, err)) goto out;
    const struct generation_request request = {.prompt = flags->prompt,
                                               .prompt_bytes = strlen(flags->prompt),
                                               .label = flags->label,
                                               .length = 1,
                                               .window = loaded.stepper.architecture.window};
    if (!generation_open(&generation, loaded.model.vocabulary, &request, NULL, err)) goto out;
    loaded_print_warnings(&generation, flags->prompt);
    const size_t V = vocabulary_size(loaded.model.vocabulary);
    probabilities = calloc(V, sizeof *probabilities);
    if (!probabilities) {
        error_set_no_memory(err, V * sizeof *probabilities, "the probabilities");
        goto out;
    }
    if (!read_distribution(&loaded, flags, &generation, probabilities, err)) goto out;
    const struct distribution distribution = {loaded.model.vocabulary, &generation, probabilities};
    done = flags->json ? print_json(&distribution, flags->prompt, err) : print_table(&distribution, err);
out:
    free(probabilities);
    generation_close(&generation);
    loaded_close(&loaded);
    return done;
}

int cmd_next(int argc, char **argv)
{
    struct arena arena = {0};
    struct flags flags;
    int exit_code;
    if (arguments_parse(&line, argc, argv, &flags, &arena, &exit_code)) {
        struct error err = {0};
        if (!flags.prompt) flags.prompt = "";
        if (!next_run(&flags, &err)) exit_code = command_fail(&err);
    }
    arena_free(&arena);
    return exit_code;
}
