#include "model/train/report.h"

#include <math.h>

#define REPORT_SECONDS 0.2

/* The part of the run that is shown as done. Training leaves a part of the time limit to the last validation; what is
 * shown counts the whole limit. */
static double shown_fraction(const struct training_run *run)
{
    double fraction = training_run_fraction(run), limit = run->options.max_minutes * 60;
    if (limit <= 0) return fraction;
    double by_steps = (double)run->state.step / (double)training_run_steps(run);
    return fmin(fraction, fmax(by_steps, training_run_seconds(run) / limit));
}

/* Steps of the whole run; an estimate where time bounds it. */
static uint64_t shown_steps(const struct training_run *run)
{
    const double fraction = training_run_fraction(run);
    const uint64_t steps = training_run_steps(run);
    if (run->options.max_minutes <= 0 || fraction <= 0) return steps;
    return (uint64_t)fmin((double)steps, ceil((double)run->state.step / fraction));
}

static uint64_t validations_left(const struct training_run *run)
{
    uint64_t left = run->options.epochs - run->state.epoch;
    if (run->options.validate_every) left += (training_run_steps(run) - run->state.step) / run->options.validate_every;
    return left;
}

static double expected_seconds_left(const struct training_run *run, double tokens_per_second)
{
    double tokens =
        (double)(training_run_steps(run) - run->state.step) * (double)(run->options.batch * run->options.window);
    double left = tokens / tokens_per_second + (double)validations_left(run) * training_run_validation_seconds(run);
    if (run->options.max_minutes > 0) left = fmin(left, run->options.max_minutes * 60 - training_run_seconds(run));
    return fmax(left, 0);
}

void training_report_begin(struct training_report *report, const struct training_run *run)
{
    *report = (struct training_report){.since_ns = run->started_ns};
}

static void report_tell(struct training_report *report, const struct training_run *run, double seconds)
{
    const double speed = (double)report->tokens / seconds, ratio = training_run_characters_per_token(run);
    const double loss = report->nats / (double)report->tokens;
    const uint64_t epoch = training_run_epoch(run);
    report->tokens_per_second = report->tokens_per_second > 0 ? 0.7 * report->tokens_per_second + 0.3 * speed : speed;
    const struct trainer_progress progress = {
        .epoch = epoch > 0 ? epoch : 1,
        .epochs = run->options.epochs,
        .step = run->state.step,
        .steps = shown_steps(run),
        .fraction = shown_fraction(run),
        .seconds = training_run_seconds(run),
        .eta_seconds = expected_seconds_left(run, report->tokens_per_second),
        .loss = loss,
        .nats_per_character = loss / ratio,
        .bits_per_character = loss / ratio / log(2),
        .characters_per_second = report->tokens_per_second * ratio,
        .tokens_per_second = report->tokens_per_second,
        .rate = report->rate,
        .gradient_norm = report->gradient_norm,
    };
    if (run->callbacks->progress) run->callbacks->progress(run->callbacks->context, &progress);
    report->since_ns = training_run_now(run);
    report->nats = 0;
    report->tokens = 0;
}

void training_report_step(struct training_report *report, const struct training_run *run,
                          const struct training_step *step)
{
    report->nats += step->loss * (double)step->tokens;
    report->tokens += step->tokens;
    report->rate = step->rate;
    report->gradient_norm = step->gradient_norm;
    const double seconds = (double)training_run_now(run) / 1e9 - (double)report->since_ns / 1e9;
    if (seconds >= REPORT_SECONDS) report_tell(report, run, seconds);
}

void training_report_pause(struct training_report *report, const struct training_run *run, uint64_t begun_ns)
{
    report->since_ns += training_run_now(run) - begun_ns;
}
