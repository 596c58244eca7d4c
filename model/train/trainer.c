#include "model/train/trainer.h"

#include "model/files/checkpoint.h"
#include "model/train/publish.h"
#include "model/train/report.h"
#include "model/train/run.h"
#include "model/train/samples.h"
#include "model/train/setup.h"
#include "model/train/validate.h"

/* After so many steps in a row whose loss has exploded, the run does not come back. */
#define EXPLODED_STEPS 50

const char *trainer_end_name(enum trainer_end end)
{
    static const char *const names[] = {"done", "stopped early", "time over", "interrupted", "diverged"};
    return names[end];
}

/* ---------------------------------------------------------------- one step */

static void end_epoch(struct training_run *run)
{
    struct run_state *state = &run->state;
    state->train_loss = state->epoch_nats / (double)state->epoch_tokens;
    state->epoch_nats = 0;
    state->epoch_tokens = 0;
    state->position = 0;
    state->epoch++;
    state->validation_due = true;
    state->samples_due = run->options.sample_length > 0;
    learner_reset_state(run->learner);
    streams_start_epoch(&run->streams, run->options.seed, state->epoch);
}

static bool has_diverged(struct training_run *run, const struct learner_result *result)
{
    run->last_loss = result->loss;
    if (!result->finite) return true;
    run->state.high_steps = training_run_has_exploded(run, result->loss) ? run->state.high_steps + 1 : 0;
    return run->state.high_steps >= EXPLODED_STEPS;
}

/* Counts a finished step. T: steps of its window. */
static void count_step(struct training_run *run, size_t T, const struct training_step *step)
{
    struct run_state *state = &run->state;
    state->epoch_nats += step->loss * (double)step->tokens;
    state->epoch_tokens += step->tokens;
    state->position += T;
    state->step++;
}

/* One optimisation step over the next window; false where the run has diverged. */
static bool train_window(struct training_run *run, struct training_report *report)
{
    struct run_state *state = &run->state;
    const size_t T = streams_window(&run->streams, state->position, run->options.window, run->inputs, run->targets);
    const double rate = schedule_rate(&run->schedule, &state->schedule, run->options.rate, state->step, state->epoch,
                                      training_run_fraction(run));
    struct learner_result result;
    learner_step(run->learner, T, run->inputs, run->targets, rate, &result);
    if (has_diverged(run, &result)) return false;

    const struct training_step step = {
        .loss = result.loss, .tokens = T * run->streams.batch, .rate = rate, .gradient_norm = result.gradient_norm};
    count_step(run, T, &step);
    training_report_step(report, run, &step);
    if (run->data.has_validation && run->options.validate_every && state->step % run->options.validate_every == 0)
        state->validation_due = true;
    if (state->position >= run->streams.length) end_epoch(run);
    return true;
}

/* ---------------------------------------------------------------- between steps */

/* Saves nothing while the loss is far too high: the last snapshot is to be a good one. */
static bool snapshot_if_due(struct training_run *run, struct error *err)
{
    if (run->state.high_steps > 0) return true;
    if (run->snapshot_wanted && training_snapshot_is_due(run)) return training_snapshot(run, err);
    if (run->options.snapshot_seconds <= 0) return true;
    const double since = (double)(training_run_now(run) - run->snapshot_ns) / 1e9;
    return since < run->options.snapshot_seconds || training_snapshot(run, err);
}

static bool is_over(const struct training_run *run, enum trainer_end *end)
{
    const struct run_state *state = &run->state;
    *end = TRAINER_DONE;
    if (state->epoch >= run->options.epochs) return true;
    *end = TRAINER_STOPPED_EARLY;
    return run->options.patience && state->waited >= run->options.patience;
}

static bool is_time_over(const struct training_run *run)
{
    const double limit = run->options.max_minutes * 60;
    return limit > 0 && training_run_seconds(run) + training_run_reserve_seconds(run) >= limit;
}

/* The validation and the samples that are due before the next step. *sound is false where the run has diverged. */
static bool between_steps(struct training_run *run, struct training_report *report, bool *sound, struct error *err)
{
    const struct run_state *state = &run->state;
    enum trainer_end end;
    *sound = true;
    if (!state->validation_due && !state->samples_due) return true;
    const uint64_t begun_ns = training_run_now(run);
    if (state->validation_due && !training_validate(run, sound, err)) return false;
    if (!*sound) return true;
    if (state->samples_due && !training_samples(run, err)) return false;
    run->snapshot_wanted = true;
    if (!is_over(run, &end) && !snapshot_if_due(run, err)) return false;
    training_report_pause(report, run, begun_ns);
    return true;
}

/* The time is over: validates and samples what was trained since the last validation, in the time kept for it. */
static bool validate_last(struct training_run *run, enum trainer_end *end, struct error *err)
{
    struct run_state *state = &run->state;
    bool sound;
    *end = TRAINER_TIME_OVER;
    if (state->step == state->validated_step) return true;
    if (state->epoch_tokens) state->train_loss = state->epoch_nats / (double)state->epoch_tokens;
    state->validation_due = true;
    if (!training_validate(run, &sound, err)) return false;
    if (!sound) *end = TRAINER_DIVERGED;
    return !sound || run->options.sample_length == 0 || training_samples(run, err);
}

/* ---------------------------------------------------------------- the loop */

static bool train_windows(struct training_run *run, struct training_report *report, enum trainer_end *end,
                          struct error *err)
{
    for (bool sound;;) {
        if (training_run_stopped(run)) {
            *end = TRAINER_INTERRUPTED;
            return training_snapshot(run, err);
        }
        if (!between_steps(run, report, &sound, err)) return false;
        if (sound) {
            if (is_over(run, end)) return true;
            if (is_time_over(run)) return validate_last(run, end, err);
            sound = train_window(run, report);
        }
        if (!sound) {
            *end = TRAINER_DIVERGED;
            return true;
        }
        if (!snapshot_if_due(run, err)) return false;
    }
}

/* As train_windows(), where a stop in the midst of a validation is an interruption like any other. */
static bool train_until_stopped(struct training_run *run, enum trainer_end *end, struct error *err)
{
    struct error cause = {0};
    struct training_report report;
    training_report_begin(&report, run);
    if (train_windows(run, &report, end, &cause)) return true;
    if (cause.code == ERROR_CANCELLED && training_run_stopped(run)) {
        *end = TRAINER_INTERRUPTED;
        return training_snapshot(run, err);
    }
    return error_set(err, cause.code, "%s", cause.message);
}

/* ---------------------------------------------------------------- the end */

static bool publish_final(struct training_run *run, const struct network *best, bool *exact, struct error *err)
{
    return training_validate_exactly(run, best, exact, err) && training_publish(run, best, *exact, err);
}

/* Publishes the best model with the final figures of the run. The model is in memory (held) or was published before. */
static bool finish_run(struct training_run *run, bool *exact, struct error *err)
{
    if (run->held) return publish_final(run, &run->best, exact, err);
    struct model best;
    bool ok = model_load(&best, run->out, err);
    if (ok && best.network.parameter_count != run->network.parameter_count)
        ok = error_set(err, ERROR_CONFLICT, "%s was replaced by another model while this run went on", run->out);
    ok = ok && publish_final(run, &best.network, exact, err);
    model_close(&best);
    return ok;
}

static void fill_result(const struct training_run *run, bool exact, struct trainer_result *result)
{
    const struct run_state *state = &run->state;
    result->has_best = state->has_best;
    result->best = state->best;
    result->exact = exact;
    result->best_epoch = state->best_epoch;
    result->best_step = state->best_step;
    result->epochs = state->epoch;
    result->within_epoch = state->epoch_tokens > 0;
    result->steps = state->step;
    result->train_loss = state->train_loss;
    result->last_loss = run->last_loss;
    result->seconds = training_run_seconds(run);
}

/* Runs an opened run from its first step to its end. */
static bool drive_run(struct training_run *run, struct trainer_result *result, struct error *err)
{
    bool exact = false, ok = train_until_stopped(run, &result->end, err);
    if (!ok) training_publish_held(run, NULL); /* the best so far outlives what went wrong, where it can */
    if (ok && result->end == TRAINER_DIVERGED) ok = training_publish_held(run, err);
    if (ok && result->end != TRAINER_INTERRUPTED && result->end != TRAINER_DIVERGED) {
        ok = finish_run(run, &exact, err);
        if (ok && !run->callbacks->keep_snapshot) snapshot_remove(run->work);
    }
    fill_result(run, exact, result);
    return ok;
}

bool trainer_run(const struct trainer_options *options, const char *out, bool resume,
                 const struct trainer_callbacks *callbacks, struct trainer_result *result, struct error *err)
{
    struct training_run run;
    struct error cause = {0};
    *result = (struct trainer_result){0};
    bool ok, to_resume;
    if (training_run_open(&run, options, out, resume, callbacks, &cause)) {
        ok = drive_run(&run, result, err);
        to_resume = !ok || result->end == TRAINER_INTERRUPTED;
    } else {
        ok = cause.code == ERROR_CANCELLED && training_run_stopped(&run);
        if (!ok) error_set(err, cause.code, "%s", cause.message);
        to_resume = ok || cause.code == ERROR_NO_SPACE;
        result->end = TRAINER_INTERRUPTED;
    }
    result->parameters = run.network.parameter_count;
    result->saved = to_resume && run.work && snapshot_exists(run.work);
    training_run_close(&run);
    return ok;
}
