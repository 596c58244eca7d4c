#include "model/train/trainer.h"

#include <math.h>
#include <stdlib.h>

#include "model/train/internal.h"

/* A loss of so many times that of a uniform guess, for so many steps in a row, does not come back. */
#define EXPLODED_FACTOR 10.0
#define EXPLODED_STEPS  50

const char *trainer_end_name(enum trainer_end end)
{
    static const char *const names[] = {"done", "stopped early", "time over", "interrupted", "diverged"};
    return names[end];
}

static bool time_over(const struct trainer *trainer)
{
    double limit = trainer->options.max_minutes * 60;
    return limit > 0 && trainer_seconds(trainer) + trainer_reserve_seconds(trainer) >= limit;
}

static void end_epoch(struct trainer *trainer)
{
    struct run_state *state = &trainer->state;
    state->train_loss = state->epoch_nats / (double)state->epoch_tokens;
    state->epoch_nats = 0;
    state->epoch_tokens = 0;
    state->position = 0;
    state->epoch++;
    state->validation_due = true;
    state->samples_due = trainer->options.sample_length > 0;
    learner_reset_state(trainer->learner);
    streams_start_epoch(&trainer->streams, trainer->options.seed, state->epoch);
}

bool trainer_loss_exploded(const struct trainer *trainer, double loss)
{
    return !(loss <= EXPLODED_FACTOR * log((double)vocabulary_size(trainer->data.vocabulary)));
}

static bool diverged(struct trainer *trainer, const struct learner_result *result)
{
    trainer->last_loss = result->loss;
    if (!result->finite) return true;
    trainer->state.high_steps = trainer_loss_exploded(trainer, result->loss) ? trainer->state.high_steps + 1 : 0;
    return trainer->state.high_steps >= EXPLODED_STEPS;
}

/* One optimisation step; false where the run has diverged. */
static bool train_step(struct trainer *trainer)
{
    struct run_state *state = &trainer->state;
    size_t T =
        streams_window(&trainer->streams, state->position, trainer->options.window, trainer->inputs, trainer->targets);
    double rate = schedule_rate(&trainer->schedule, &state->schedule, trainer->options.rate, state->step, state->epoch,
                                trainer_fraction(trainer));
    struct learner_result result;
    learner_step(trainer->learner, T, trainer->inputs, trainer->targets, rate, &result);
    if (diverged(trainer, &result)) return false;

    size_t tokens = T * trainer->streams.batch;
    state->epoch_nats += result.loss * (double)tokens;
    state->epoch_tokens += tokens;
    state->position += T;
    state->step++;
    trainer_report_step(trainer, result.loss, tokens, rate, result.gradient_norm);
    if (trainer->data.has_validation && trainer->options.validate_every &&
        state->step % trainer->options.validate_every == 0)
        state->validation_due = true;
    if (state->position >= trainer->streams.length) end_epoch(trainer);
    return true;
}

/* None while the loss is far too high: the last snapshot is to be a good one. */
static bool snapshot_if_due(struct trainer *trainer, struct error *err)
{
    if (trainer->state.high_steps > 0) return true;
    if (trainer->snapshot_wanted && trainer_may_save(trainer)) return trainer_snapshot(trainer, err);
    if (trainer->options.snapshot_seconds <= 0) return true;
    double since = (double)(trainer->callbacks->now_ns(trainer->callbacks->context) - trainer->snapshot_ns) / 1e9;
    return since < trainer->options.snapshot_seconds || trainer_snapshot(trainer, err);
}

static bool is_over(const struct trainer *trainer, enum trainer_end *end)
{
    const struct run_state *state = &trainer->state;
    *end = TRAINER_DONE;
    if (state->epoch >= trainer->options.epochs) return true;
    *end = TRAINER_STOPPED_EARLY;
    return trainer->options.patience && state->waited >= trainer->options.patience;
}

/* The validation and the samples that stand before the next step. */
static bool between_steps(struct trainer *trainer, bool *sound, struct error *err)
{
    const struct run_state *state = &trainer->state;
    enum trainer_end end;
    *sound = true;
    if (!state->validation_due && !state->samples_due) return true;
    uint64_t begun_ns = trainer->callbacks->now_ns(trainer->callbacks->context);
    if (state->validation_due && !trainer_validate(trainer, sound, err)) return false;
    if (!*sound) return true;
    if (state->samples_due && !trainer_samples(trainer, err)) return false;
    trainer->snapshot_wanted = true;
    if (!is_over(trainer, &end) && !snapshot_if_due(trainer, err)) return false;
    trainer_report_pause(trainer, begun_ns);
    return true;
}

/* The time is over: what was trained since the last validation is validated and sampled from, in the time kept for it.
 */
static bool last_validation(struct trainer *trainer, enum trainer_end *end, struct error *err)
{
    struct run_state *state = &trainer->state;
    bool sound;
    *end = TRAINER_TIME_OVER;
    if (state->step == state->validated_step) return true;
    if (state->epoch_tokens) state->train_loss = state->epoch_nats / (double)state->epoch_tokens;
    state->validation_due = true;
    if (!trainer_validate(trainer, &sound, err)) return false;
    if (!sound) *end = TRAINER_DIVERGED;
    return !sound || trainer->options.sample_length == 0 || trainer_samples(trainer, err);
}

static bool train(struct trainer *trainer, enum trainer_end *end, struct error *err)
{
    for (bool sound;;) {
        if (trainer_stopped(trainer)) {
            *end = TRAINER_INTERRUPTED;
            return trainer_snapshot(trainer, err);
        }
        if (!between_steps(trainer, &sound, err)) return false;
        if (sound) {
            if (is_over(trainer, end)) return true;
            if (time_over(trainer)) return last_validation(trainer, end, err);
            sound = train_step(trainer);
        }
        if (!sound) {
            *end = TRAINER_DIVERGED;
            return true;
        }
        if (!snapshot_if_due(trainer, err)) return false;
    }
}

/* As train(), where a stop in the midst of a validation is an interruption like any other. */
static bool train_until_stopped(struct trainer *trainer, enum trainer_end *end, struct error *err)
{
    struct error cause = {0};
    if (train(trainer, end, &cause)) return true;
    if (cause.code == ERROR_CANCELLED && trainer_stopped(trainer)) {
        *end = TRAINER_INTERRUPTED;
        return trainer_snapshot(trainer, err);
    }
    return error_set(err, cause.code, "%s", cause.message);
}

static void fill_result(const struct trainer *trainer, bool exact, struct trainer_result *result)
{
    const struct run_state *state = &trainer->state;
    result->has_best = state->has_best;
    result->best = state->best;
    result->exact = exact;
    result->best_epoch = state->best_epoch;
    result->best_step = state->best_step;
    result->epochs = state->epoch;
    result->within_epoch = state->epoch_tokens > 0;
    result->steps = state->step;
    result->train_loss = state->train_loss;
    result->last_loss = trainer->last_loss;
    result->seconds = trainer_seconds(trainer);
}

/* Of a run that was opened. */
static bool run(struct trainer *trainer, struct trainer_result *result, struct error *err)
{
    bool exact = false, ok = train_until_stopped(trainer, &result->end, err);
    if (!ok) trainer_publish_held(trainer, NULL); /* the best so far outlives what went wrong, where it can */
    if (ok && result->end == TRAINER_DIVERGED) ok = trainer_publish_held(trainer, err);
    if (ok && result->end != TRAINER_INTERRUPTED && result->end != TRAINER_DIVERGED) {
        ok = trainer_finish(trainer, &exact, err);
        if (ok && !trainer->callbacks->keep_snapshot) snapshot_remove(trainer->work);
    }
    result->parameters = trainer->network.parameter_count;
    fill_result(trainer, exact, result);
    return ok;
}

bool trainer_run(const struct trainer_options *options, const char *out, bool resume,
                 const struct trainer_callbacks *callbacks, struct trainer_result *result, struct error *err)
{
    struct trainer trainer;
    struct error cause = {0};
    *result = (struct trainer_result){0};
    bool ok, to_resume;
    if (trainer_open(&trainer, options, out, resume, callbacks, &cause)) {
        ok = run(&trainer, result, err);
        to_resume = !ok || result->end == TRAINER_INTERRUPTED;
    } else {
        ok = cause.code == ERROR_CANCELLED && trainer_stopped(&trainer);
        if (!ok) error_set(err, cause.code, "%s", cause.message);
        to_resume = ok || cause.code == ERROR_NO_SPACE;
        result->end = TRAINER_INTERRUPTED;
        result->parameters = trainer.network.parameter_count;
    }
    result->saved = to_resume && trainer.work && snapshot_exists(trainer.work);
    trainer_close(&trainer);
    return ok;
}
