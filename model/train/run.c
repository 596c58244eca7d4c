#include "model/train/run.h"

#include "model/kernels/blas.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#define NOTE_SIZE 1024

/* A running text with more characters than this is validated in lanes (evaluate.h) during training. */
#define LANES_CHARACTERS 20000

/* A loss of so many times that of a uniform guess counts as exploded. */
#define EXPLODED_FACTOR 10.0

uint64_t training_run_now(const struct training_run *run)
{
    return run->callbacks->now_ns(run->callbacks->context);
}

double training_run_seconds(const struct training_run *run)
{
    return run->earlier_seconds + (double)(training_run_now(run) - run->started_ns) / 1e9;
}

bool training_run_stopped(const struct training_run *run)
{
    return run->callbacks->stop && atomic_load(run->callbacks->stop);
}

void training_run_note(const struct training_run *run, const char *format, ...)
{
    if (!run->callbacks->note) return;
    char text[NOTE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    run->callbacks->note(run->callbacks->context, text);
}

const struct network *training_run_model(const struct training_run *run)
{
    const struct network *average = learner_average(run->learner);
    return average ? average : &run->network;
}

uint64_t training_run_epoch(const struct training_run *run)
{
    return run->state.epoch + (run->state.epoch_tokens > 0);
}

const char *training_run_products(const struct training_run *run)
{
    return run->options.products == PRODUCTS_OPENBLAS ? blas_name() : products_choices[PRODUCTS_OWN];
}

uint64_t training_run_steps(const struct training_run *run)
{
    uint64_t steps;
    if (__builtin_mul_overflow(run->steps_per_epoch, run->options.epochs, &steps)) return UINT64_MAX;
    return steps;
}

double training_run_fraction(const struct training_run *run)
{
    double by_steps = (double)run->state.step / (double)training_run_steps(run);
    double limit = run->options.max_minutes * 60 - training_run_reserve_seconds(run);
    double by_time = 0;
    if (run->options.max_minutes > 0) by_time = limit > 0 ? training_run_seconds(run) / limit : 1;
    return fmin(fmax(by_steps, by_time), 1);
}

/* Tokens that were trained on so far. */
static uint64_t tokens_done(const struct training_run *run)
{
    return run->state.step * run->options.batch * run->options.window;
}

/* Before the first validation, a token of validation is taken to cost what a token of training costs. It costs less. */
double training_run_validation_seconds(const struct training_run *run)
{
    if (!run->data.has_validation) return 0;
    if (run->validation_seconds > 0) return run->validation_seconds;
    const uint64_t done = tokens_done(run);
    if (done == 0) return 0;
    return training_run_seconds(run) * (double)run->data.validation.token_count / (double)done;
}

/* Before the first samples, a token of one sequence is taken to cost four times a token of training. */
static double expected_samples_seconds(const struct training_run *run)
{
    if (!run->callbacks->sample || run->options.sample_length == 0) return 0;
    if (run->samples_seconds > 0) return run->samples_seconds;
    const uint64_t done = tokens_done(run);
    if (done == 0) return 0;
    const double tokens = TRAINING_SAMPLES * (double)run->options.sample_length;
    return training_run_seconds(run) * 4 * tokens / (double)done;
}

double training_run_reserve_seconds(const struct training_run *run)
{
    return 1.2 * (training_run_validation_seconds(run) + expected_samples_seconds(run)) + 0.2;
}

double training_run_characters_per_token(const struct training_run *run)
{
    const struct dataset *dataset = &run->data.dataset;
    return (double)dataset->characters / (double)(dataset->token_count - 1);
}

bool training_run_uses_lanes(const struct training_run *run)
{
    const struct dataset *dataset = &run->data.validation;
    return run->data.has_validation && dataset->one_stream && dataset->characters > LANES_CHARACTERS;
}

bool training_run_has_exploded(const struct training_run *run, double loss)
{
    return !(loss <= EXPLODED_FACTOR * log((double)vocabulary_size(run->data.vocabulary)));
}
