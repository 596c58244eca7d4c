/* What a run says and publishes: progress, validation, samples, the model directory. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/version.h"
#include "model/files/checkpoint.h"
#include "model/generate/generate.h"
#include "model/generate/step.h"
#include "model/train/internal.h"

#define REPORT_SECONDS 0.2

/* One running text longer than this is validated in lanes while training goes on. */
#define LANES_CHARACTERS 20000
#define LANES            16
#define LANES_WARMUP     512

/* Parameters times tokens that are still read one by one at the end: about a minute at 10 GFLOP/s. */
#define EXACT_PRODUCTS 3e11

#define SAMPLE_PROMPT_TOKENS 40
#define SAMPLE_PROMPT_WORDS  8
#define SAMPLE_STREAM        UINT64_C(0x73616d706c65) /* keeps the prompts' numbers apart from all others */
static const double sample_temperatures[] = {0.2, 0.5, 1.0, 1.2};
#define SAMPLES (sizeof sample_temperatures / sizeof *sample_temperatures)

static double now_seconds(const struct trainer *trainer)
{
    return (double)trainer->callbacks->now_ns(trainer->callbacks->context) / 1e9;
}

/* ---------------------------------------------------------------- progress */

/* Before the first validation: as if stepping cost what training costs, which is more. */
static double expected_validation_seconds(const struct trainer *trainer)
{
    if (!trainer->data.has_validation) return 0;
    if (trainer->validation_seconds > 0) return trainer->validation_seconds;
    uint64_t done = trainer->state.step * trainer->options.batch * trainer->options.window;
    if (done == 0) return 0;
    return trainer_seconds(trainer) * (double)trainer->data.validation.token_count / (double)done;
}

/* Before the first: a step of one sequence costs several times what its part of a batch does. */
static double expected_samples_seconds(const struct trainer *trainer)
{
    if (!trainer->callbacks->sample || trainer->options.sample_length == 0) return 0;
    if (trainer->samples_seconds > 0) return trainer->samples_seconds;
    uint64_t done = trainer->state.step * trainer->options.batch * trainer->options.window;
    if (done == 0) return 0;
    const size_t samples = SAMPLES;
    const double tokens = (double)samples * (double)trainer->options.sample_length;
    return trainer_seconds(trainer) * 4 * tokens / (double)done;
}

double trainer_reserve_seconds(const struct trainer *trainer)
{
    return 1.2 * (expected_validation_seconds(trainer) + expected_samples_seconds(trainer)) + 0.2;
}

uint64_t trainer_epoch(const struct trainer *trainer)
{
    return trainer->state.epoch + (trainer->state.epoch_tokens > 0);
}

uint64_t trainer_total_steps(const struct trainer *trainer)
{
    uint64_t steps;
    if (__builtin_mul_overflow(trainer->steps_per_epoch, trainer->options.epochs, &steps)) return UINT64_MAX;
    return steps;
}

double trainer_fraction(const struct trainer *trainer)
{
    double by_steps = (double)trainer->state.step / (double)trainer_total_steps(trainer);
    double limit = trainer->options.max_minutes * 60 - trainer_reserve_seconds(trainer);
    double by_time = 0;
    if (trainer->options.max_minutes > 0) by_time = limit > 0 ? trainer_seconds(trainer) / limit : 1;
    return fmin(fmax(by_steps, by_time), 1);
}

/* What is shown: the whole time limit, of which training leaves a part to the last validation. */
static double shown_fraction(const struct trainer *trainer)
{
    double fraction = trainer_fraction(trainer), limit = trainer->options.max_minutes * 60;
    if (limit <= 0) return fraction;
    double by_steps = (double)trainer->state.step / (double)trainer_total_steps(trainer);
    return fmin(fraction, fmax(by_steps, trainer_seconds(trainer) / limit));
}

static uint64_t validations_left(const struct trainer *trainer)
{
    uint64_t left = trainer->options.epochs - trainer->state.epoch;
    if (trainer->options.validate_every)
        left += (trainer_total_steps(trainer) - trainer->state.step) / trainer->options.validate_every;
    return left;
}

static double expected_seconds_left(const struct trainer *trainer)
{
    double tokens = (double)(trainer_total_steps(trainer) - trainer->state.step) *
                    (double)(trainer->options.batch * trainer->options.window);
    double left = tokens / trainer->window.tokens_per_second +
                  (double)validations_left(trainer) * expected_validation_seconds(trainer);
    if (trainer->options.max_minutes > 0)
        left = fmin(left, trainer->options.max_minutes * 60 - trainer_seconds(trainer));
    return fmax(left, 0);
}

static double characters_per_token(const struct trainer *trainer)
{
    const struct dataset *dataset = &trainer->data.dataset;
    return (double)dataset->characters / (double)(dataset->token_count - 1);
}

static void start_window(struct trainer *trainer)
{
    trainer->window.since_ns = trainer->callbacks->now_ns(trainer->callbacks->context);
    trainer->window.nats = 0;
    trainer->window.tokens = 0;
}

static void report(struct trainer *trainer, double seconds)
{
    struct report_window *window = &trainer->window;
    double speed = (double)window->tokens / seconds, ratio = characters_per_token(trainer);
    window->tokens_per_second = window->tokens_per_second > 0 ? 0.7 * window->tokens_per_second + 0.3 * speed : speed;
    double loss = window->nats / (double)window->tokens, fraction = trainer_fraction(trainer);
    uint64_t steps = trainer_total_steps(trainer);
    if (trainer->options.max_minutes > 0 && fraction > 0)
        steps = (uint64_t)fmin((double)steps, ceil((double)trainer->state.step / fraction));
    const uint64_t epoch = trainer_epoch(trainer);
    const struct trainer_progress progress = {
        .epoch = epoch > 0 ? epoch : 1,
        .epochs = trainer->options.epochs,
        .step = trainer->state.step,
        .steps = steps,
        .fraction = shown_fraction(trainer),
        .seconds = trainer_seconds(trainer),
        .eta_seconds = expected_seconds_left(trainer),
        .loss = loss,
        .nats_per_character = loss / ratio,
        .bits_per_character = loss / ratio / log(2),
        .characters_per_second = window->tokens_per_second * ratio,
        .tokens_per_second = window->tokens_per_second,
        .rate = window->rate,
        .gradient_norm = window->gradient_norm,
    };
    if (trainer->callbacks->progress) trainer->callbacks->progress(trainer->callbacks->context, &progress);
    start_window(trainer);
}

void trainer_report_pause(struct trainer *trainer, uint64_t begun_ns)
{
    trainer->window.since_ns += trainer->callbacks->now_ns(trainer->callbacks->context) - begun_ns;
}

void trainer_report_step(struct trainer *trainer, double loss, size_t tokens, double rate, double gradient_norm)
{
    struct report_window *window = &trainer->window;
    window->nats += loss * (double)tokens;
    window->tokens += tokens;
    window->rate = rate;
    window->gradient_norm = gradient_norm;
    double seconds = now_seconds(trainer) - (double)window->since_ns / 1e9;
    if (seconds >= REPORT_SECONDS) report(trainer, seconds);
}

/* ---------------------------------------------------------------- publishing */

/* JSON has no number for infinity or NaN (nats per character of a text without any). */
static json_t *number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static bool add_losses(const struct trainer *trainer, bool exact, json_t *json)
{
    const struct run_state *state = &trainer->state;
    const struct evaluation *best = &state->best;
    if (json_object_set_new(json, "train_nats_per_token", number(state->train_loss)) != 0 ||
        json_object_set_new(json, "train_nats_per_character",
                            number(state->train_loss / characters_per_token(trainer))) != 0)
        return false;
    if (!trainer->data.has_validation) return true;
    return json_object_set_new(json, "validation_nats_per_token", number(best->nats_per_token)) == 0 &&
           json_object_set_new(json, "validation_nats_per_character", number(best->nats_per_character)) == 0 &&
           json_object_set_new(json, "validation_bits_per_character", number(best->bits_per_character)) == 0 &&
           json_object_set_new(json, "validation_perplexity", number(best->perplexity)) == 0 &&
           json_object_set_new(json, "validation_accuracy", number(best->accuracy)) == 0 &&
           json_object_set_new(json, "validation_exact", json_boolean(exact)) == 0;
}

/* config.json's "training": how the model came to be; "options" alone is a file that --config takes. */
static json_t *describe_training(const struct trainer *trainer, bool exact, struct error *err)
{
    const struct run_state *state = &trainer->state;
    const json_t *data = training_data_describe(&trainer->data);
    json_t *options = trainer_options_to_json(&trainer->options, TRAINER_RECIPE, err);
    if (!options) return NULL;
    json_t *json = json_pack(
        "{s:s, s:O, s:O, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:f}", "lstmd_version", version_number, "corpus",
        json_object_get(data, "corpus"), "validation", json_object_get(data, "validation"), "options", options, "seed",
        (json_int_t)trainer->options.seed, "threads", (json_int_t)trainer->options.threads, "epochs",
        (json_int_t)state->epoch, "steps", (json_int_t)state->step, "best_epoch", (json_int_t)state->best_epoch,
        "best_step", (json_int_t)state->best_step, "seconds", trainer_seconds(trainer));
    const json_t *provenance = trainer->callbacks->provenance;
    if (json && add_losses(trainer, exact, json) &&
        (!provenance || json_object_update(json, (json_t *)provenance) == 0))
        return json;
    json_decref(json);
    error_set_no_memory(err, sizeof *state, "the description of the training");
    return NULL;
}

static bool publish(const struct trainer *trainer, const struct network *network, bool exact, struct error *err)
{
    json_t *training = describe_training(trainer, exact, err);
    if (!training) return false;
    bool ok = checkpoint_save(trainer->out, network, trainer->data.vocabulary, training, NULL, err);
    json_decref(training);
    return ok || error_add_context(err, "saving the model");
}

/* ---------------------------------------------------------------- validation */

const struct network *trainer_model(const struct trainer *trainer)
{
    const struct network *average = learner_average(trainer->learner);
    return average ? average : &trainer->network;
}

static bool uses_lanes(const struct trainer *trainer)
{
    const struct dataset *dataset = &trainer->data.validation;
    return trainer->data.has_validation && dataset->one_stream && dataset->characters > LANES_CHARACTERS;
}

static bool evaluate_network(const struct trainer *trainer, const struct network *network, size_t lanes,
                             struct evaluation *evaluation, struct error *err)
{
    const struct evaluate_options options = {
        .threads = trainer->options.threads, .lanes = lanes, .warmup = LANES_WARMUP, .stop = trainer->callbacks->stop};
    struct stepper stepper;
    bool ok = stepper_open(&stepper, network, trainer->kernels, err) &&
              evaluate(&stepper, &trainer->data.validation, &options, evaluation, err);
    stepper_close(&stepper);
    return ok;
}

/* The training loss in place of a validation. */
static void evaluation_from_training(const struct trainer *trainer, struct evaluation *evaluation)
{
    const struct dataset *dataset = &trainer->data.dataset;
    double loss = trainer->state.train_loss, per_character = loss / characters_per_token(trainer);
    *evaluation = (struct evaluation){.tokens = dataset->token_count - 1,
                                      .characters = dataset->characters,
                                      .nats = loss * (double)(dataset->token_count - 1),
                                      .nats_per_token = loss,
                                      .nats_per_character = per_character,
                                      .bits_per_character = per_character / log(2),
                                      .perplexity = exp(loss)};
}

bool trainer_publish_held(struct trainer *trainer, struct error *err)
{
    if (!trainer->held) return true;
    trainer->held = !publish(trainer, &trainer->best, trainer->data.has_validation && !uses_lanes(trainer), err);
    return !trainer->held;
}

/* Keeps the weights for trainer_publish_held(). False where memory is lacking for that. */
static bool hold(struct trainer *trainer)
{
    const struct network *network = trainer_model(trainer);
    struct network *best = &trainer->best;
    if (!best->parameters && !network_open(best, &network->architecture, NULL)) network_close(best);
    if (!best->parameters) return false;
    memcpy(best->parameters, network->parameters, network->parameter_count * sizeof *network->parameters);
    trainer->held = true;
    return true;
}

static bool keep_if_best(struct trainer *trainer, const struct evaluation *evaluation, bool *best, struct error *err)
{
    struct run_state *state = &trainer->state;
    *best = !state->has_best || evaluation->nats_per_token < state->best.nats_per_token;
    if (!*best) {
        state->waited++;
        return true;
    }
    state->has_best = true;
    state->best = *evaluation;
    state->best_epoch = trainer_epoch(trainer);
    state->best_step = state->step;
    state->waited = 0;
    if (!trainer_may_save(trainer) && hold(trainer)) return true;
    trainer->held = false;
    return publish(trainer, trainer_model(trainer), trainer->data.has_validation && !uses_lanes(trainer), err);
}

bool trainer_validate(struct trainer *trainer, bool *sound, struct error *err)
{
    struct run_state *state = &trainer->state;
    struct evaluation evaluation;
    double begun = now_seconds(trainer);
    if (!trainer->data.has_validation) {
        evaluation_from_training(trainer, &evaluation);
    } else if (!evaluate_network(trainer, trainer_model(trainer), uses_lanes(trainer) ? LANES : 1, &evaluation, err)) {
        return false;
    }
    trainer->validation_seconds = now_seconds(trainer) - begun;
    *sound = !trainer_loss_exploded(trainer, evaluation.nats_per_token);
    if (!*sound) {
        trainer->last_loss = evaluation.nats_per_token;
        return true;
    }
    struct trainer_validation validation = {.epoch = trainer_epoch(trainer),
                                            .step = state->step,
                                            .evaluation = &evaluation,
                                            .train_nats_per_character =
                                                state->train_loss / characters_per_token(trainer),
                                            .held_out = trainer->data.has_validation};
    if (!keep_if_best(trainer, &evaluation, &validation.best, err)) return false;
    schedule_observe(&trainer->schedule, &state->schedule, evaluation.nats_per_token);
    state->validation_due = false;
    state->validated_step = state->step;
    if (trainer->callbacks->validation) trainer->callbacks->validation(trainer->callbacks->context, &validation);
    return true;
}

/* ---------------------------------------------------------------- samples */

/* Documents are begun from nothing; one running text is taken up somewhere in the middle. Caller frees. */
static char *sample_prompt(const struct trainer *trainer, size_t *n, struct error *err)
{
    const struct dataset *dataset = &trainer->data.dataset;
    const struct vocabulary *vocabulary = trainer->data.vocabulary;
    size_t tokens = trainer->options.level == TOKEN_LEVEL_WORD ? SAMPLE_PROMPT_WORDS : SAMPLE_PROMPT_TOKENS;
    if (!dataset->one_stream || dataset->token_count <= tokens) tokens = 0;
    char *prompt = calloc(tokens + 1, vocabulary_max_token_bytes(vocabulary) + 1);
    if (!prompt) {
        error_set_no_memory(err, tokens + 1, "a prompt");
        return NULL;
    }
    struct rng rng;
    rng_seed(&rng, trainer->options.seed ^ SAMPLE_STREAM, trainer->state.epoch);
    size_t start = tokens ? (size_t)rng_below(&rng, dataset->token_count - tokens) : 0;
    *n = 0;
    for (size_t i = 0; i < tokens; i++)
        *n += vocabulary_decode(vocabulary, tokens_get(&dataset->tokens, start + i), *n == 0, prompt + *n);
    prompt[*n] = 0;
    return prompt;
}

static bool emit_until_stopped(void *context, const char *text, size_t n)
{
    (void)text;
    (void)n;
    return !trainer_stopped(context);
}

static bool sample(struct trainer *trainer, const struct stepper *stepper, double temperature, const char *prompt,
                   size_t n, struct error *err)
{
    const struct generation_request request = {.prompt = prompt,
                                               .prompt_bytes = n,
                                               .length = trainer->options.sample_length,
                                               .seed = trainer->options.seed + trainer->state.epoch,
                                               .sampler = {.temperature = temperature}};
    struct generation generation;
    bool ok = generation_open(&generation, trainer->data.vocabulary, &request, NULL, err) &&
              generation_run(&generation, stepper, emit_until_stopped, trainer, err);
    if (ok) {
        const struct trainer_sample told = {
            .epoch = trainer_epoch(trainer), .temperature = temperature, .prompt = prompt, .text = generation.text};
        trainer->callbacks->sample(trainer->callbacks->context, &told);
    }
    generation_close(&generation);
    return ok;
}

bool trainer_samples(struct trainer *trainer, struct error *err)
{
    if (!trainer->callbacks->sample) {
        trainer->state.samples_due = false;
        return true;
    }
    struct stepper stepper;
    size_t n = 0;
    double begun = now_seconds(trainer);
    char *prompt = sample_prompt(trainer, &n, err);
    if (!prompt) return false;
    bool ok = stepper_open(&stepper, trainer_model(trainer), trainer->kernels, err);
    for (size_t i = 0; ok && i < SAMPLES; i++) ok = sample(trainer, &stepper, sample_temperatures[i], prompt, n, err);
    if (ok) trainer->state.samples_due = false;
    trainer->samples_seconds = now_seconds(trainer) - begun;
    stepper_close(&stepper);
    free(prompt);
    return ok;
}

/* ---------------------------------------------------------------- the end */

static bool measure_exactly(struct trainer *trainer, const struct network *network, bool *exact, struct error *err)
{
    double products = (double)network->parameter_count * (double)trainer->data.validation.token_count;
    *exact = trainer->data.has_validation && !uses_lanes(trainer);
    if (*exact || !trainer->data.has_validation || products > EXACT_PRODUCTS || trainer->options.max_minutes > 0)
        return true;
    struct error cause = {0};
    struct evaluation evaluation;
    *exact = evaluate_network(trainer, network, 1, &evaluation, &cause);
    if (*exact) trainer->state.best = evaluation;
    /* Stopped: the estimate stands, the model is finished all the same. */
    return *exact || cause.code == ERROR_CANCELLED || error_set(err, cause.code, "%s", cause.message);
}

static bool finish(struct trainer *trainer, const struct network *best, bool *exact, struct error *err)
{
    return measure_exactly(trainer, best, exact, err) && publish(trainer, best, *exact, err);
}

bool trainer_finish(struct trainer *trainer, bool *exact, struct error *err)
{
    if (trainer->held) return finish(trainer, &trainer->best, exact, err);
    struct model best;
    bool ok = model_load(&best, trainer->out, err);
    if (ok && best.network.parameter_count != trainer->network.parameter_count)
        ok = error_set(err, ERROR_CONFLICT, "%s was replaced by another model while this run went on", trainer->out);
    ok = ok && finish(trainer, &best.network, exact, err);
    model_close(&best);
    return ok;
}
