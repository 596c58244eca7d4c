#include "model/train/learner.h"

#include <math.h>
#include <string.h>

#include "base/arena.h"
#include "base/size.h"
#include "base/subnormals.h"
#include "base/team.h"
#include "model/train/pass.h"

struct learner_worker {
    struct pass pass;
    size_t first, streams;      /* its share of the B streams */
    uint32_t *inputs, *targets; /* [T][streams] */
    double loss, squares;
};

enum learner_mode {
    MODE_STEP,     /* forward, backward, update */
    MODE_GRADIENT, /* forward, backward, sum */
    MODE_LOGITS    /* forward alone */
};

struct learner {
    struct learner_options options;
    const struct kernels *kernels;
    struct network *network; /* borrowed: the master copy */
    struct network sum;      /* gradient of all workers */
    struct network average;  /* opened where options.average > 0 */
    struct packed_network packed;
    struct team *team;
    struct learner_worker *workers;
    struct gradients **gradients; /* [workers] */
    size_t count;
    float *state; /* [layers][kinds][B][Hp] */
    size_t state_size;
    float *moments; /* [moments][parameter_count] */
    uint64_t step;
    struct arena arena;

    /* The job of the team's current run: written before it, read by all workers. */
    enum learner_mode mode;
    size_t T;
    const uint32_t *inputs, *targets;
    float *logits;
    double rate;
};

static size_t effective_threads(const struct learner_options *options)
{
    size_t threads = options->threads > 0 ? options->threads : 1;
    return threads < options->batch ? threads : options->batch;
}

/* ------------------------------------------------------------------ life */

bool learner_bytes(const struct architecture *architecture, const struct learner_options *options, size_t *bytes)
{
    struct network layout;
    if (!network_layout(&layout, architecture, NULL)) return false;
    const size_t threads = effective_threads(options);
    /* The network, the sum, packed forward, packed transposed; moments; a gradient per worker; the average. */
    size_t copies = 4 + optimizer_moments(options->optimizer.kind) + threads + (options->average > 0);
    size_t parameters, windows;
    if (!size_multiply(layout.parameter_count, copies * sizeof(float), &parameters)) return false;
    const struct pass_options all = {.streams = options->batch, .window = options->window, .dropout = options->dropout};
    if (!pass_bytes(architecture, &all, &windows)) return false;
    return size_add(parameters, windows, bytes);
}

static bool open_worker(struct learner *learner, size_t index, struct error *err)
{
    const struct learner_options *options = &learner->options;
    struct learner_worker *worker = &learner->workers[index];
    worker->first = options->batch * index / learner->count;
    worker->streams = options->batch * (index + 1) / learner->count - worker->first;
    const struct pass_options pass = {.streams = worker->streams,
                                      .window = options->window,
                                      .first_stream = worker->first,
                                      .reset_token = options->reset_token,
                                      .dropout = options->dropout,
                                      .seed = options->seed};
    if (!pass_open(&worker->pass, &learner->packed, learner->kernels, &pass, &learner->arena, err)) return false;
    learner->gradients[index] = &worker->pass.gradients;
    const size_t rows = worker->streams * options->window;
    worker->inputs = arena_alloc(&learner->arena, rows, sizeof *worker->inputs, "window inputs", err);
    worker->targets = arena_alloc(&learner->arena, rows, sizeof *worker->targets, "window targets", err);
    return worker->inputs && worker->targets;
}

static bool open_learner(struct learner *learner, struct error *err)
{
    const struct learner_options *options = &learner->options;
    struct arena *arena = &learner->arena;
    const struct architecture *a = &learner->network->architecture;
    size_t bytes;
    if (!learner_bytes(a, options, &bytes))
        return error_set(err, ERROR_TOO_LARGE, "batch %zu with windows of %zu steps is too large", options->batch,
                         options->window);
    if (!packed_open(&learner->packed, a, err) || !network_open(&learner->sum, a, err)) return false;
    if (options->average > 0 && !network_open(&learner->average, a, err)) return false;
    learner->state_size = a->layers * cell_table[a->cell].states * options->batch * learner->packed.hidden;
    learner->state = arena_alloc(arena, learner->state_size, sizeof(float), "hidden state", err);
    learner->moments = arena_alloc(arena, learner->network->parameter_count,
                                   sizeof(float) * optimizer_moments(options->optimizer.kind), "moments", err);
    learner->workers = arena_alloc(arena, learner->count, sizeof *learner->workers, "workers", err);
    learner->gradients = arena_alloc(arena, learner->count, sizeof(struct gradients *), "workers", err);
    if (!learner->state || !learner->moments || !learner->workers || !learner->gradients) return false;
    for (size_t i = 0; i < learner->count; i++)
        if (!open_worker(learner, i, err)) return false;
    learner->team = team_new(learner->count, err);
    return learner->team;
}

struct learner *learner_new(struct network *network, const struct learner_options *options, struct error *err)
{
    struct arena arena = {0};
    struct learner *learner = arena_alloc(&arena, 1, sizeof *learner, "learner", err);
    if (!learner) return NULL;
    learner->arena = arena;
    learner->options = *options;
    learner->network = network;
    learner->kernels = options->kernels ? options->kernels : kernels_select("auto");
    learner->count = effective_threads(options);
    if (!open_learner(learner, err)) {
        learner_free(learner);
        return NULL;
    }
    learner_refresh(learner);
    return learner;
}

void learner_free(struct learner *learner)
{
    if (!learner) return;
    team_free(learner->team);
    packed_close(&learner->packed);
    network_close(&learner->sum);
    network_close(&learner->average);
    struct arena arena = learner->arena; /* the learner itself lies in it */
    arena_free(&arena);
}

/* ------------------------------------------------------------------ one run of the team */

/* A worker's columns of the window: from [T][B] to [T][streams]. */
static void gather_streams(const struct learner *learner, const struct learner_worker *worker, const uint32_t *from,
                           uint32_t *to)
{
    for (size_t t = 0; t < learner->T; t++)
        memcpy(to + t * worker->streams, from + t * learner->options.batch + worker->first,
               worker->streams * sizeof *to);
}

/* A worker's streams, forward and, where the mode wants gradients, backward over the window. */
static void run_window(struct learner *learner, struct learner_worker *worker)
{
    const size_t B = learner->options.batch, V = learner->packed.architecture.vocabulary_size, T = learner->T;
    const size_t Hp = learner->packed.hidden;
    const struct pass_state state = {.values = learner->state + worker->first * Hp, .stride = B * Hp};
    const struct pass_window window = {.T = T,
                                       .inputs = worker->inputs,
                                       .targets = worker->targets,
                                       .train = learner->mode != MODE_LOGITS,
                                       .step = learner->step};
    const struct pass_logits logits = {.values = window.train ? NULL : learner->logits + worker->first * V,
                                       .stride = B * V};
    gather_streams(learner, worker, learner->inputs, worker->inputs);
    gather_streams(learner, worker, learner->targets, worker->targets);
    pass_forward(&worker->pass, &window, state);
    worker->loss = pass_loss(&worker->pass, &window, 1.0f / (float)(T * B), window.train ? NULL : &logits);
    if (window.train) pass_backward(&worker->pass, &window);
}

static double total_loss(const struct learner *learner)
{
    double loss = 0;
    for (size_t i = 0; i < learner->count; i++) loss += learner->workers[i].loss;
    return loss / (double)(learner->T * learner->options.batch);
}

static double gradient_norm(const struct learner *learner)
{
    double squares = 0;
    for (size_t i = 0; i < learner->count; i++) squares += learner->workers[i].squares;
    return sqrt(squares);
}

static void update_range(struct learner *learner, const struct tensor *tensor, struct gradients_share share,
                         float scale)
{
    const struct optimizer_options *o = &learner->options.optimizer;
    const struct kernels *k = learner->kernels;
    const size_t begin = tensor->offset + share.first * tensor->columns;
    const double steps = (double)(learner->step + 1);
    struct kernel_update update = {.n = share.rows * tensor->columns,
                                   .w = learner->network->parameters + begin,
                                   .g = learner->sum.parameters + begin,
                                   .scale = scale,
                                   .rate = (float)learner->rate,
                                   .epsilon = (float)o->epsilon};
    float *moments = learner->moments + begin;

    switch (o->kind) {
    case OPTIMIZER_SGD:
        update.mean = moments;
        update.beta1 = (float)o->momentum;
        k->update_sgd(&update);
        break;
    case OPTIMIZER_RMSPROP:
        update.square = moments;
        update.beta2 = (float)o->decay;
        k->update_rmsprop(&update);
        break;
    case OPTIMIZER_ADAM:
    case OPTIMIZER_ADAMW:
        update.mean = moments;
        update.square = moments + learner->network->parameter_count;
        update.beta1 = (float)o->beta1;
        update.beta2 = (float)o->beta2;
        update.correction1 = (float)(1 / (1 - pow(o->beta1, steps)));
        update.correction2 = (float)(1 / (1 - pow(o->beta2, steps)));
        update.weight_decay = o->kind == OPTIMIZER_ADAMW && !tensor->vector ? (float)o->weight_decay : 0.0f;
        k->update_adam(&update);
        break;
    }
}

/* average += (1 - d) / (1 - d^t) * (weights - average), d the decay. This is the mean that learner_average() describes,
 * without a second pass for the bias correction. */
static void average_range(struct learner *learner, size_t begin, size_t n)
{
    const double decay = learner->options.average;
    const float part = (float)((1 - decay) / (1 - pow(decay, (double)(learner->step + 1))));
    const float *w = learner->network->parameters + begin;
    float *restrict average = learner->average.parameters + begin;
    for (size_t i = 0; i < n; i++) average[i] += part * (w[i] - average[i]);
}

static bool is_finite(const struct learner *learner)
{
    return isfinite(gradient_norm(learner)) && isfinite(total_loss(learner));
}

static void update_share(struct learner *learner, size_t part)
{
    const double norm = gradient_norm(learner), clip = learner->options.optimizer.clip;
    const float scale = clip > 0 && norm > clip ? (float)(clip / norm) : 1.0f;
    for (size_t i = 0; i < learner->network->tensor_count; i++) {
        const struct tensor *tensor = &learner->network->tensors[i];
        const struct gradients_share share = gradients_share(tensor, part, learner->count);
        update_range(learner, tensor, share, scale);
        if (learner->options.average > 0)
            average_range(learner, tensor->offset + share.first * tensor->columns, share.rows * tensor->columns);
    }
}

static struct dropout weight_drop(const struct learner *learner)
{
    return (struct dropout){learner->options.weight_drop, learner->options.seed, learner->step};
}

static double reduce_share(struct learner *learner, size_t index, const struct dropout *drop)
{
    const struct gradients_sum sum = {.workers = learner->gradients,
                                      .packed = &learner->packed,
                                      .kernels = learner->kernels,
                                      .weight_drop = drop,
                                      .network = &learner->sum};
    return gradients_reduce(&sum, index, learner->count);
}

/* Packs the weights for the step that `drop` is of. */
static void pack_share(struct learner *learner, size_t part, size_t parts, const struct dropout *drop)
{
    const struct packed_job job = {.network = learner->network,
                                   .kernels = learner->kernels,
                                   .weight_drop = drop,
                                   .scratch = learner->gradients[part]->scratch,
                                   .part = part,
                                   .parts = parts};
    packed_update(&learner->packed, &job);
}

/* A worker's share of a step, or of the part of a step that the mode wants. */
static void work_share(struct learner *learner, size_t index)
{
    struct learner_worker *worker = &learner->workers[index];
    struct dropout drop = weight_drop(learner);
    run_window(learner, worker);
    if (learner->mode == MODE_LOGITS) return;
    team_barrier(learner->team);
    worker->squares = reduce_share(learner, index, &drop);
    if (learner->mode == MODE_GRADIENT) return;
    team_barrier(learner->team);
    if (!is_finite(learner)) return;
    update_share(learner, index);
    team_barrier(learner->team);
    drop.step++; /* the next step's masks */
    pack_share(learner, index, learner->count, &drop);
}

/* Saturated gates and the means of squares of small gradients are full of subnormals. These cost several times what
 * other numbers cost, and change no sum that they go into. */
static void worker_main(void *context, size_t index)
{
    const uint64_t mode = subnormals_flush();
    work_share(context, index);
    subnormals_restore(mode);
}

static void run_team(struct learner *learner, enum learner_mode mode, size_t T, const uint32_t *inputs,
                     const uint32_t *targets)
{
    learner->mode = mode;
    learner->T = T;
    learner->inputs = inputs;
    learner->targets = targets;
    team_run(learner->team, worker_main, learner);
}

/* ------------------------------------------------------------------ the public calls */

static void fill_result(const struct learner *learner, struct learner_result *result)
{
    result->loss = total_loss(learner);
    result->gradient_norm = gradient_norm(learner);
    result->finite = is_finite(learner);
}

void learner_step(struct learner *learner, size_t T, const uint32_t *inputs, const uint32_t *targets, double rate,
                  struct learner_result *result)
{
    learner->rate = rate;
    run_team(learner, MODE_STEP, T, inputs, targets);
    fill_result(learner, result);
    if (result->finite) learner->step++;
}

void learner_gradient(struct learner *learner, size_t T, const uint32_t *inputs, const uint32_t *targets,
                      struct network *gradient, struct learner_result *result)
{
    run_team(learner, MODE_GRADIENT, T, inputs, targets);
    fill_result(learner, result);
    memcpy(gradient->parameters, learner->sum.parameters, learner->sum.parameter_count * sizeof(float));
}

void learner_logits(struct learner *learner, size_t T, const uint32_t *inputs, const uint32_t *targets, float *logits,
                    double *loss)
{
    learner->logits = logits;
    run_team(learner, MODE_LOGITS, T, inputs, targets);
    *loss = total_loss(learner);
}

void learner_reset_state(struct learner *learner)
{
    memset(learner->state, 0, learner->state_size * sizeof(float));
}

void learner_refresh(struct learner *learner)
{
    const struct dropout drop = weight_drop(learner);
    const uint64_t mode = subnormals_flush(); /* as where a step packs them */
    pack_share(learner, 0, 1, &drop);
    subnormals_restore(mode);
}

size_t learner_threads(const struct learner *learner)
{
    return learner->count;
}

struct network *learner_average(struct learner *learner)
{
    return learner->options.average > 0 ? &learner->average : NULL;
}

size_t learner_state_size(const struct learner *learner)
{
    return learner->state_size;
}

float *learner_state(struct learner *learner)
{
    return learner->state;
}

float *learner_moments(struct learner *learner)
{
    return learner->moments;
}

uint64_t learner_step_count(const struct learner *learner)
{
    return learner->step;
}

void learner_set_step_count(struct learner *learner, uint64_t step)
{
    learner->step = step;
}
