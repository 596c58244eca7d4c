/* lstmd generate: continues a prompt, text to stdout as it is made. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/loaded.h"
#include "server/answer.h"

#define MAX_SEED 9007199254740991.0 /* 2^53 - 1: exact in every JSON reader */

struct flags {
    const char *model, *prompt, *label;
    int64_t length, seed;
    double temperature;
    int unknown;
    bool json;
};

enum unknown_choice { UNKNOWN_SKIP, UNKNOWN_ERROR };
static const char *const unknown_choices[] = {"skip", "error", NULL};

static const struct option rows[] = {
    {"model", OPTION_TEXT, offsetof(struct flags, model), NULL, 1, 4095, NULL, NULL, "Model directory."},
    {"prompt", OPTION_TEXT, offsetof(struct flags, prompt), NULL, 0, 1e9, NULL, NULL,
     "Text to continue; none: the start of a document."},
    {"length", OPTION_INT, offsetof(struct flags, length), "100", 1, 1e9, NULL, "tokens", "New tokens at most."},
    {"temperature", OPTION_REAL, offsetof(struct flags, temperature), "1", 0, SAMPLER_MAX_TEMPERATURE, NULL, NULL,
     "0: always the likeliest token; higher: more surprising."},
    {"seed", OPTION_INT, offsetof(struct flags, seed), "-1", -1, MAX_SEED, NULL, NULL,
     "Same seed, same text; -1: a random one, which is told."},
    {"label", OPTION_TEXT, offsetof(struct flags, label), NULL, 1, 1e6, NULL, NULL,
     "Label to write for, where the model was trained with labels."},
    {"unknown", OPTION_CHOICE, offsetof(struct flags, unknown), "skip", 0, 0, unknown_choices, NULL,
     "What becomes of prompt characters that the model's vocabulary lacks."},
    {"json", OPTION_BOOL, offsetof(struct flags, json), "false", 0, 0, NULL, NULL,
     "Prints the answer of POST /generate instead of the text."},
};

static const char *const required[] = {"model", NULL};

static const struct command_line line = {
    .usage = "lstmd generate --model DIR [--prompt TEXT] [--length N] [--temperature T] [--seed N] [--json]",
    .description =
        "Continues a prompt. The text, prompt included, goes to standard output as it is made.\n\n"
        "    lstmd generate --model models/titles --prompt \"Today \" --length 300 --temperature 0.8 --seed 1",
    .table = {rows, sizeof rows / sizeof rows[0], NULL},
    .required = required,
};

struct run {
    const struct flags *flags;
    uint64_t start_ns, prompt_ns; /* when it started, and when the prompt had been read */
};

static bool random_bits(uint64_t *bits, struct error *err)
{
    if (getrandom(bits, sizeof *bits, 0) == (ssize_t)sizeof *bits) return true;
    return error_set(err, ERROR_IO, "the system gives no random numbers");
}

/* The seed of the flags, or a random one. */
static bool choose_seed(const struct flags *flags, uint64_t *seed, struct error *err)
{
    *seed = (uint64_t)flags->seed;
    if (flags->seed >= 0) return true;
    if (!random_bits(seed, err)) return false;
    *seed >>= 11; /* 53 bits */
    return true;
}

static bool write_text(const char *text, size_t n)
{
    return fwrite(text, 1, n, stdout) == n && fflush(stdout) == 0;
}

static bool emit(void *context, const char *text, size_t n)
{
    struct run *run = context;
    if (run->prompt_ns == 0) run->prompt_ns = clock_monotonic_ns();
    return run->flags->json || write_text(text, n);
}

static double milliseconds(uint64_t from, uint64_t to)
{
    return (double)(to - from) / 1e6;
}

static bool print_answer(const struct run *run, const struct loaded *loaded, const struct generation *generation,
                         uint64_t seed, struct error *err)
{
    const uint64_t end_ns = clock_monotonic_ns();
    uint64_t bits;
    char id[32];
    if (!random_bits(&bits, err)) return false;
    snprintf(id, sizeof id, "%016llx", (unsigned long long)bits);
    const struct answer answer = {.id = id,
                                  .model = loaded->model.name,
                                  .prompt = run->flags->prompt,
                                  .prompt_bytes = strlen(run->flags->prompt),
                                  .generations = &generation,
                                  .count = 1,
                                  .seed = seed,
                                  .prompt_ms = milliseconds(run->start_ns, run->prompt_ns),
                                  .generate_ms = milliseconds(run->prompt_ns, end_ns)};
    json_t *json = answer_build(&answer, err);
    if (json == NULL) return false;
    json_dumpf(json, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
    putchar('\n');
    json_decref(json);
    return true;
}

/* Without --json: the prompt, then the continuation while it is made, then a newline. */
static bool run_generation(struct run *run, const struct loaded *loaded, struct generation *generation, uint64_t seed,
                           struct error *err)
{
    const struct flags *flags = run->flags;
    loaded_print_warnings(generation, flags->prompt);
    if (flags->seed < 0) fprintf(stderr, "lstmd: seed %llu\n", (unsigned long long)seed);
    if (!flags->json && !write_text(flags->prompt, strlen(flags->prompt))) return false;
    run->start_ns = clock_monotonic_ns();
    if (!generation_run(generation, &loaded->stepper, emit, run, err)) return false;
    if (flags->json) return print_answer(run, loaded, generation, seed, err);
    putchar('\n');
    return true;
}

static bool generate(const struct flags *flags, struct error *err)
{
    struct run run = {.flags = flags};
    struct generation generation = {0};
    struct loaded loaded;
    uint64_t seed;
    bool done = false;

    if (!loaded_open(&loaded, flags->model, err) || !choose_seed(flags, &seed, err)) goto out;
    const struct generation_request request = {.prompt = flags->prompt,
                                               .prompt_bytes = strlen(flags->prompt),
                                               .label = flags->label,
                                               .length = (size_t)flags->length,
                                               .seed = seed,
                                               .sampler = {.temperature = flags->temperature},
                                               .unknown_is_error = flags->unknown == UNKNOWN_ERROR};
    done = generation_open(&generation, loaded.model.vocabulary, &request, NULL, err) &&
           run_generation(&run, &loaded, &generation, seed, err);
out:
    generation_close(&generation);
    loaded_close(&loaded);
    return done;
}

int cmd_generate(int argc, char **argv)
{
    struct arena arena = {0};
    struct flags flags;
    int exit_code;
    if (arguments_parse(&line, argc, argv, &flags, &arena, &exit_code)) {
        struct error err = {0};
        if (flags.prompt == NULL) flags.prompt = "";
        if (!generate(&flags, &err)) {
            /* main() reports a stdout that could not be written. */
            exit_code = ferror(stdout) ? 1 : command_fail(&err);
        }
    }
    arena_free(&arena);
    return exit_code;
}
