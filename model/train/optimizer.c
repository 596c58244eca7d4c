#include "model/train/optimizer.h"

#include <float.h>
#include <math.h>
#include <string.h>

const char *const optimizer_names[] = {"rmsprop", "adam", "adamw", "sgd", NULL};
const char *const schedule_names[] = {"constant", "step", "plateau", "cosine", NULL};

static bool name_to_index(const char *const *names, const char *name, unsigned *index)
{
    for (unsigned i = 0; names[i]; i++) {
        if (strcmp(names[i], name) == 0) {
            *index = i;
            return true;
        }
    }
    return false;
}

const char *optimizer_name(enum optimizer_kind kind)
{
    return optimizer_names[kind];
}

bool optimizer_parse(const char *name, enum optimizer_kind *kind)
{
    unsigned index;
    if (!name_to_index(optimizer_names, name, &index)) return false;
    *kind = (enum optimizer_kind)index;
    return true;
}

const char *schedule_name(enum schedule_kind kind)
{
    return schedule_names[kind];
}

bool schedule_parse(const char *name, enum schedule_kind *kind)
{
    unsigned index;
    if (!name_to_index(schedule_names, name, &index)) return false;
    *kind = (enum schedule_kind)index;
    return true;
}

size_t optimizer_moments(enum optimizer_kind kind)
{
    return kind == OPTIMIZER_ADAM || kind == OPTIMIZER_ADAMW ? 2 : 1;
}

void schedule_state_init(struct schedule_state *state)
{
    *state = (struct schedule_state){.plateau_scale = 1, .plateau_best = DBL_MAX};
}

/* The fraction of the base rate that the schedule alone gives, before the floor and the warm-up. */
static double schedule_shape(const struct schedule_options *options, const struct schedule_state *state, uint64_t epoch,
                             double progress)
{
    switch (options->kind) {
    case SCHEDULE_STEP:
        return pow(options->factor, (double)(options->every ? epoch / options->every : epoch));
    case SCHEDULE_PLATEAU:
        return state->plateau_scale;
    case SCHEDULE_COSINE: {
        double done = fmin(fmax(progress, 0), 1);
        return options->minimum + (1 - options->minimum) * 0.5 * (1 + cos(acos(-1) * done));
    }
    case SCHEDULE_CONSTANT:
        break;
    }
    return 1;
}

double schedule_rate(const struct schedule_options *options, const struct schedule_state *state, double base_rate,
                     uint64_t step, uint64_t epoch, double progress)
{
    double rate = base_rate * fmax(schedule_shape(options, state, epoch, progress), options->minimum);
    if (step < options->warmup) rate *= (double)(step + 1) / (double)options->warmup;
    return rate;
}

void schedule_observe(const struct schedule_options *options, struct schedule_state *state, double validation_loss)
{
    if (options->kind != SCHEDULE_PLATEAU) return;
    if (validation_loss < state->plateau_best) {
        state->plateau_best = validation_loss;
        state->plateau_waited = 0;
        return;
    }
    if (++state->plateau_waited < options->patience) return;
    state->plateau_waited = 0;
    state->plateau_scale *= options->factor;
}
