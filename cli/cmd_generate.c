/* lstmd generate: continues a prompt and writes the text to stdout while it is generated. Several continuations run one
 * after another.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/json.h"
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/loaded.h"
#include "cli/state_file.h"
#include "model/generate/answer.h"

#define MAX_SEED 9007199254740991.0 /* 2^53 - 1: exact in every JSON reader */

#define MAX_CONTINUATIONS 1000.0

struct flags {
    const char *model, *prompt, *label, *regex, *state, *save_state;
    int64_t length, min_length, seed, n, logprobs;
    struct sampler_options sampler; /* without `bias` */
    struct option_list logit_bias, stop;
    int unknown;
    bool ignore_eos, include_stop, json;
};

enum unknown_choice {
    UNKNOWN_SKIP,  /* leave out prompt text that is not in the vocabulary */
    UNKNOWN_ERROR, /* refuse such a prompt */
};
static const char *const unknown_choices[] = {"skip", "error", NULL};

#define FIELD(name) offsetof(struct flags, name)

static const struct option first_rows[] = {
    {"model", OPTION_TEXT, FIELD(model), NULL, 1, 4095, NULL, NULL, "Model directory."},
    {"prompt", OPTION_TEXT, FIELD(prompt), NULL, 0, 1e9, NULL, NULL,
     "Text to continue; none: the start of a document."},
    {"length", OPTION_INT, FIELD(length), "100", 1, 1e9, NULL, "tokens", "Most new tokens."},
};

static const struct option last_rows[] = {
    {"logit_bias", OPTION_LIST, FIELD(logit_bias), NULL, 0, 0, NULL, NULL,
     "TOKEN=BIAS, added to the token's logit; -100 forbids the token, 100 nearly forces it; may be repeated."},
    {"stop", OPTION_LIST, FIELD(stop), NULL, 0, 0, NULL, NULL,
     "The continuation ends before this text; may be repeated."},
    {"include_stop", OPTION_BOOL, FIELD(include_stop), "false", 0, 0, NULL, NULL,
     "Keeps the text of --stop that ended the continuation."},
    {"regex", OPTION_TEXT, FIELD(regex), NULL, 1, 65536, NULL, NULL,
     "The whole continuation matches this regular expression (PCRE2, without lookaround and backreferences)."},
    {"ignore_eos", OPTION_BOOL, FIELD(ignore_eos), "false", 0, 0, NULL, NULL,
     "Goes on if the model would end the document."},
    {"min_length", OPTION_INT, FIELD(min_length), "0", 0, 1e9, NULL, "tokens",
     "Least new tokens before the model may end the document."},
    {"n", OPTION_INT, FIELD(n), "1", 1, MAX_CONTINUATIONS, NULL, NULL,
     "Number of continuations; each has the seed after the one before."},
    {"seed", OPTION_INT, FIELD(seed), "-1", -1, MAX_SEED, NULL, NULL,
     "Same seed, same text; -1: a random seed, which lstmd prints."},
    {"label", OPTION_TEXT, FIELD(label), NULL, 1, 1e6, NULL, NULL,
     "Label to write for, if the model was trained with labels."},
    {"state", OPTION_TEXT, FIELD(state), NULL, 1, 4095, NULL, NULL,
     "File with a state to start from (from --save-state, or `state` of the daemon's answers); without --seed, its "
     "random generator goes on, too."},
    {"save_state", OPTION_TEXT, FIELD(save_state), NULL, 1, 4095, NULL, NULL,
     "File to write the state at the end of the text to."},
    {"unknown", OPTION_CHOICE, FIELD(unknown), "skip", 0, 0, unknown_choices, NULL,
     "What to do with prompt characters that the vocabulary lacks."},
    {"logprobs", OPTION_INT, FIELD(logprobs), "0", 0, GENERATION_MAX_LOGPROBS, NULL, NULL,
     "With --json: each token's log-probability and those of this many alternatives."},
    {"json", OPTION_BOOL, FIELD(json), "false", 0, 0, NULL, NULL,
     "Prints the answer of POST /generate instead of the text."},
};

#define FIRST_ROWS (sizeof first_rows / sizeof *first_rows)
#define LAST_ROWS  (sizeof last_rows / sizeof *last_rows)

/* All rows of the command: first_rows, the sampler's rows, last_rows. */
struct generate_rows {
    struct option rows[FIRST_ROWS + SAMPLER_MAX_OPTIONS + LAST_ROWS];
    char fallbacks[SAMPLER_MAX_OPTIONS][32];
    size_t count;
};

/* The minimum of a flag whose lower bound itself is not allowed: option tables only have inclusive bounds. For min_p,
 * generation_open() refuses the bound itself; 0 means "off". */
#define ABOVE_MINIMUM 1e-9

static void generate_add_sampler_rows(struct generate_rows *all)
{
    for (size_t i = 0; i < sampler_option_count; i++) {
        const struct sampler_option *option = &sampler_option_rows[i];
        const bool is_count = option->type == SAMPLER_COUNT;
        snprintf(all->fallbacks[i], sizeof all->fallbacks[i], "%g", option->fallback);
        all->rows[all->count++] = (struct option){
            .key = option->name,
            .type = is_count ? OPTION_INT : OPTION_REAL,
            .offset = FIELD(sampler) + option->offset,
            .fallback = all->fallbacks[i],
            .minimum = option->minimum + (option->flags & SAMPLER_ABOVE ? ABOVE_MINIMUM : 0),
            .maximum = option->maximum,
            .unit = is_count ? "tokens" : NULL,
            .help = option->help,
        };
    }
}

static void generate_make_rows(struct generate_rows *all)
{
    memcpy(all->rows, first_rows, sizeof first_rows);
    all->count = FIRST_ROWS;
    generate_add_sampler_rows(all);
    memcpy(all->rows + all->count, last_rows, sizeof last_rows);
    all->count += LAST_ROWS;
}

static const char *const generate_required[] = {"model", NULL};

struct generate_run {
    const struct flags *flags;
    const struct loaded *loaded;
    uint64_t seed;                  /* of the first continuation */
    struct generation *generations; /* [n]; zero until opened */
    uint64_t start_ns, prompt_ns;   /* of one continuation: its start, and the end of reading its prompt */
    double prompt_ms, generate_ms;  /* of all */
    struct carried_state carried;   /* of --state; its `state` is owned, NULL: none */
    float *end_state;               /* [state_size] for --save-state, else NULL */
};

static bool generate_random_bits(uint64_t *bits, struct error *err)
{
    if (getrandom(bits, sizeof *bits, 0) == (ssize_t)sizeof *bits) return true;
    return error_set(err, ERROR_IO, "the system gives no random numbers");
}

/* The seed of the flags, or a random one. */
static bool generate_choose_seed(const struct flags *flags, uint64_t *seed, struct error *err)
{
    *seed = (uint64_t)flags->seed;
    if (flags->seed >= 0) return true;
    if (!generate_random_bits(seed, err)) return false;
    *seed >>= 11; /* 53 bits */
    return true;
}

static bool generate_write_text(const char *text, size_t n)
{
    return fwrite(text, 1, n, stdout) == n && fflush(stdout) == 0;
}

static bool generate_emit(void *context, const char *text, size_t n)
{
    struct generate_run *run = context;
    if (run->prompt_ns == 0) run->prompt_ns = clock_monotonic_ns();
    return run->flags->json || generate_write_text(text, n);
}

static double generate_milliseconds(uint64_t from, uint64_t to)
{
    return (double)(to - from) / 1e6;
}

/* Whether the random generator of the state goes on; then the seed does not decide the text. */
static bool generate_draws_on(const struct generate_run *run)
{
    return run->carried.has_rng && run->flags->seed < 0;
}

static bool generate_print_answer(const struct generate_run *run, struct error *err)
{
    const size_t n = (size_t)run->flags->n;
    uint64_t bits;
    char id[32];
    if (!generate_random_bits(&bits, err)) return false;
    snprintf(id, sizeof id, "%016llx", (unsigned long long)bits);
    struct answer_choice *list = calloc(n > 0 ? n : 1, sizeof *list);
    if (!list) return error_set_no_memory(err, n * sizeof *list, "the answer");
    for (size_t i = 0; i < n; i++)
        list[i] = (struct answer_choice){.generation = &run->generations[i],
                                         .prompt = run->flags->prompt,
                                         .prompt_bytes = strlen(run->flags->prompt),
                                         .seed = generation_seed(run->seed, i)};
    const struct answer answer = {.id = id,
                                  .model = run->loaded->model.name,
                                  .choices = list,
                                  .count = n,
                                  .has_no_seed = generate_draws_on(run),
                                  .prompt_ms = run->prompt_ms,
                                  .generate_ms = run->generate_ms};
    struct answer_writer writer = {.answer = &answer};
    struct json_writer text = {0};
    while (answer_write(&writer, &text)) continue;
    free(list);
    json_t *json = text.failed ? NULL : json_text_parse(text.text, text.size, JSON_ALLOW_NUL, &(json_error_t){0});
    json_writer_close(&text);
    if (!json) return error_set_no_memory(err, 0, "the answer");
    json_dumpf(json, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
    putchar('\n');
    json_decref(json);
    return true;
}

/* Without --json: prints the prompt, then the continuation while it is generated, then a newline. */
static bool generate_run_one(struct generate_run *run, struct generation *generation, struct error *err)
{
    const struct flags *flags = run->flags;
    if (!flags->json && !generate_write_text(flags->prompt, strlen(flags->prompt))) return false;
    run->prompt_ns = 0;
    run->start_ns = clock_monotonic_ns();
    if (!generation_run(generation, &run->loaded->stepper, generate_emit, run, err)) return false;
    run->prompt_ms += generate_milliseconds(run->start_ns, run->prompt_ns);
    run->generate_ms += generate_milliseconds(run->prompt_ns, clock_monotonic_ns());
    if (!flags->json) putchar('\n');
    return true;
}

static bool generate_save_state(const struct generate_run *run, const struct generation *generation, struct error *err)
{
    const struct carried_state left = generation_carried(generation);
    return !run->end_state || state_file_write(run->flags->save_state, run->loaded, &left, err);
}

/* --state and --save-state. */
static bool generate_open_states(struct generate_run *run, struct generation_request *request, struct error *err)
{
    const struct flags *flags = run->flags;
    const size_t size = run->loaded->stepper.state_size;
    if (flags->state && !state_file_read(flags->state, run->loaded, &run->carried, err))
        return error_add_context(err, "--state");
    if (!flags->save_state) return true;
    if (!state_file_is_possible(run->loaded, err)) return error_add_context(err, "--save-state");
    run->end_state = request->end_state = calloc(size, sizeof *run->end_state);
    return run->end_state || error_set_no_memory(err, size * sizeof *run->end_state, "a hidden state");
}

static void generate_close_states(struct generate_run *run)
{
    free(run->carried.state);
    free(run->end_state);
}

static bool generate_check_flags(const struct flags *flags, struct error *err)
{
    if (flags->logprobs > 0 && !flags->json)
        return error_set(err, ERROR_USAGE, "--logprobs: log-probabilities are a part of the answer; add --json");
    if (flags->state && flags->label)
        return error_set(err, ERROR_USAGE, "--label: stands at the start of a text; that of --state has begun already");
    if (flags->min_length > flags->length)
        return error_set(err, ERROR_USAGE, "--min-length: must not be more than the new tokens of --length");
    if (flags->save_state && flags->n > 1)
        return error_set(err, ERROR_USAGE, "--save-state: the file takes the state of one text; --n must be 1");
    return true;
}

static bool generate_run_all(struct generate_run *run, struct generation_request *request, struct error *err)
{
    const struct vocabulary *vocabulary = run->loaded->model.vocabulary;
    for (size_t i = 0; i < (size_t)run->flags->n; i++) {
        struct generation *generation = &run->generations[i];
        struct rng rng;
        request->seed = generation_seed(run->seed, i);
        if (run->carried.state) generation_request_carry(request, &run->carried, generate_draws_on(run), i, &rng);
        if (!generation_open(generation, vocabulary, request, NULL, err)) return false;
        if (i == 0) {
            loaded_print_warnings(generation, run->flags->prompt);
            if (run->flags->seed < 0 && !generate_draws_on(run))
                fprintf(stderr, "lstmd: seed %llu\n", (unsigned long long)run->seed);
        }
        if (!generate_run_one(run, generation, err) || !generate_save_state(run, generation, err)) return false;
        if (!run->flags->json) generation_close(generation); /* its text is already printed */
    }
    return !run->flags->json || generate_print_answer(run, err);
}

/* "TOKEN=BIAS", where the token may hold "=" itself. */
static bool generate_parse_bias(const char *text, const struct vocabulary *vocabulary, struct logit_bias *bias,
                                struct error *err)
{
    char *end;
    const char *number = strrchr(text, '=');
    if (!number || number == text || number[1] == '\0')
        return error_set(err, ERROR_USAGE, "--logit-bias: \"%.100s\" is not TOKEN=BIAS", text);
    const double value = strtod(number + 1, &end);
    if (*end != '\0' || !(value >= -SAMPLER_MAX_BIAS && value <= SAMPLER_MAX_BIAS))
        return error_set(err, ERROR_USAGE, "--logit-bias: \"%.100s\" is not a number from -100 to 100", number + 1);
    bias->bias = (float)value;
    return generation_find_token(vocabulary, text, (size_t)(number - text), &bias->id, err) ||
           error_add_context(err, "--logit-bias");
}

/* Puts the flags' lists into the request; they live in the arena. */
static bool generate_read_lists(const struct flags *flags, const struct vocabulary *vocabulary,
                                struct generation_request *request, struct arena *arena, struct error *err)
{
    struct logit_bias *bias = arena_alloc(arena, flags->logit_bias.count, sizeof *bias, "logit biases", err);
    struct text_span *stop = arena_alloc(arena, flags->stop.count, sizeof *stop, "stop texts", err);
    if (!bias || !stop) return false;
    for (size_t i = 0; i < flags->logit_bias.count; i++)
        if (!generate_parse_bias(flags->logit_bias.items[i], vocabulary, &bias[i], err)) return false;
    for (size_t i = 0; i < flags->stop.count; i++)
        stop[i] = (struct text_span){flags->stop.items[i], strlen(flags->stop.items[i])};
    request->sampler.bias = bias;
    request->sampler.bias_count = flags->logit_bias.count;
    request->stop = stop;
    request->stop_count = flags->stop.count;
    return true;
}

/* The pattern of --regex, without the tokens that --logit-bias forbids; NULL if there is none, or after an error. */
static struct pattern *generate_make_pattern(const struct flags *flags, const struct vocabulary *vocabulary,
                                             const struct generation_request *request, struct arena *arena,
                                             struct error *err)
{
    struct pattern_options options = {.max_states = PATTERN_MAX_STATES, .max_steps = PATTERN_MAX_STEPS};
    if (!flags->regex) return NULL;
    const struct sampler_options *sampler = &request->sampler;
    uint32_t *forbidden = arena_alloc(arena, sampler->bias_count, sizeof *forbidden, "forbidden tokens", err);
    if (!forbidden) return NULL;
    for (size_t i = 0; i < sampler->bias_count; i++)
        if (sampler->bias[i].bias <= SAMPLER_FORBID) forbidden[options.forbidden_count++] = sampler->bias[i].id;
    options.forbidden = forbidden;
    struct pattern *pattern = pattern_new(flags->regex, strlen(flags->regex), vocabulary, &options, err);
    if (!pattern) error_add_context(err, "--regex");
    return pattern;
}

static struct generation_request generate_request_of(const struct flags *flags)
{
    return (struct generation_request){
        .prompt = flags->prompt,
        .prompt_bytes = strlen(flags->prompt),
        .label = flags->label,
        .length = (size_t)flags->length,
        .sampler = flags->sampler,
        .unknown_is_error = flags->unknown == UNKNOWN_ERROR,
        .ignore_eos = flags->ignore_eos,
        .min_length = (size_t)flags->min_length,
        .include_stop = flags->include_stop,
        .logprobs = (size_t)flags->logprobs,
    };
}

static bool generate_text(const struct flags *flags, struct arena *arena, struct error *err)
{
    struct loaded loaded;
    struct generate_run run = {.flags = flags, .loaded = &loaded};
    struct generation_request request = generate_request_of(flags);
    bool done = false;

    if (!generate_check_flags(flags, err)) return false;
    run.generations = arena_alloc(arena, (size_t)flags->n, sizeof *run.generations, "continuations", err);
    if (!run.generations) return false;
    if (loaded_open(&loaded, flags->model, err) && generate_choose_seed(flags, &run.seed, err) &&
        generate_read_lists(flags, loaded.model.vocabulary, &request, arena, err)) {
        request.kernels = loaded.stepper.kernels;
        request.window = loaded.stepper.architecture.window;
        struct pattern *pattern = generate_make_pattern(flags, loaded.model.vocabulary, &request, arena, err);
        request.pattern = pattern;
        done = (pattern || !flags->regex) && generate_open_states(&run, &request, err) &&
               generate_run_all(&run, &request, err);
        for (size_t i = 0; i < (size_t)flags->n; i++) generation_close(&run.generations[i]);
        pattern_free(pattern);
        generate_close_states(&run);
    }
    loaded_close(&loaded);
    return done;
}

int cmd_generate(int argc, char **argv)
{
    struct generate_rows all;
    generate_make_rows(&all);
    const struct command_line line = {
        .usage = "lstmd generate --model DIR [--prompt TEXT] [--length N] [--temperature T] [--seed N] [--json]",
        .description =
            "Continues a prompt. The text, prompt included, goes to standard output as it is made.\n\n"
            "    lstmd generate --model models/titles --prompt \"Today \" --length 300 --temperature 0.8 --seed 1",
        .table = {all.rows, all.count, NULL, NULL},
        .required = generate_required,
    };
    struct arena arena = {0};
    struct flags flags = {0};
    int exit_code;
    if (arguments_parse(&line, argc, argv, &flags, &arena, &exit_code)) {
        struct error err = {0};
        if (!flags.prompt) flags.prompt = "";
        if (!generate_text(&flags, &arena, &err)) {
            /* main() reports a stdout that could not be written. */
            exit_code = ferror(stdout) ? 1 : command_fail(&err);
        }
    }
    arena_free(&arena);
    return exit_code;
}
