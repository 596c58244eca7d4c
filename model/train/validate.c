#include "model/train/validate.h"

#include <math.h>

#include "model/generate/evaluate.h"
#include "model/generate/step.h"
#include "model/train/publish.h"

/* For one long running text (training_run_uses_lanes()): lanes, and uncounted tokens before each. */
#define LANES        16
#define LANES_WARMUP 512

/* Parameters times tokens that are still read one by one at the end: about a minute at 10 GFLOP/s. */
#define EXACT_PRODUCTS 3e11

static bool evaluate_network(const struct training_run *run, const struct network *network, size_t lanes,
                             struct evaluation *evaluation, struct error *err)
{
    const struct evaluate_options options = {
        .threads = run->options.threads, .lanes = lanes, .warmup = LANES_WARMUP, .stop = run->callbacks->stop};
    struct stepper stepper;
    bool ok = stepper_open(&stepper, network, run->kernels, err) &&
              evaluate(&stepper, &run->data.validation, &options, evaluation, err);
    stepper_close(&stepper);
    return ok;
}

/* The training loss in place of a validation. */
static void evaluation_from_training(const struct training_run *run, struct evaluation *evaluation)
{
    const struct dataset *dataset = &run->data.dataset;
    double loss = run->state.train_loss, per_character = loss / training_run_characters_per_token(run);
    *evaluation = (struct evaluation){.tokens = dataset->token_count - 1,
                                      .characters = dataset->characters,
                                      .nats = loss * (double)(dataset->token_count - 1),
                                      .nats_per_token = loss,
                                      .nats_per_character = per_character,
                                      .bits_per_character = per_character / log(2),
                                      .perplexity = exp(loss)};
}

static bool measure_model(const struct training_run *run, struct evaluation *evaluation, struct error *err)
{
    if (run->data.has_validation)
        return evaluate_network(run, training_run_model(run), training_run_uses_lanes(run) ? LANES : 1, evaluation,
                                err);
    evaluation_from_training(run, evaluation);
    return true;
}

static bool keep_if_best(struct training_run *run, const struct evaluation *evaluation, bool *best, struct error *err)
{
    struct run_state *state = &run->state;
    *best = !state->has_best || evaluation->nats_per_token < state->best.nats_per_token;
    if (!*best) {
        state->waited++;
        return true;
    }
    state->has_best = true;
    state->best = *evaluation;
    state->best_epoch = training_run_epoch(run);
    state->best_step = state->step;
    state->waited = 0;
    return training_publish_best(run, err);
}

bool training_validate(struct training_run *run, bool *sound, struct error *err)
{
    struct run_state *state = &run->state;
    struct evaluation evaluation;
    const uint64_t begun_ns = training_run_now(run);
    if (!measure_model(run, &evaluation, err)) return false;
    run->validation_seconds = (double)(training_run_now(run) - begun_ns) / 1e9;
    *sound = !training_run_has_exploded(run, evaluation.nats_per_token);
    if (!*sound) {
        run->last_loss = evaluation.nats_per_token;
        return true;
    }
    struct trainer_validation validation = {.epoch = training_run_epoch(run),
                                            .step = state->step,
                                            .evaluation = &evaluation,
                                            .train_nats_per_character =
                                                state->train_loss / training_run_characters_per_token(run),
                                            .held_out = run->data.has_validation};
    if (!keep_if_best(run, &evaluation, &validation.best, err)) return false;
    schedule_observe(&run->schedule, &state->schedule, evaluation.nats_per_token);
    state->validation_due = false;
    state->validated_step = state->step;
    if (run->callbacks->validation) run->callbacks->validation(run->callbacks->context, &validation);
    return true;
}

bool training_validate_exactly(struct training_run *run, const struct network *network, bool *exact, struct error *err)
{
    const double products = (double)network->parameter_count * (double)run->data.validation.token_count;
    *exact = run->data.has_validation && !training_run_uses_lanes(run);
    if (*exact || !run->data.has_validation || products > EXACT_PRODUCTS || run->options.max_minutes > 0) return true;
    struct error cause = {0};
    struct evaluation evaluation;
    *exact = evaluate_network(run, network, 1, &evaluation, &cause);
    if (*exact) run->state.best = evaluation;
    /* If the caller stopped the run, the run keeps the estimate and still ends with its model. */
    return *exact || cause.code == ERROR_CANCELLED || error_set(err, cause.code, "%s", cause.message);
}
