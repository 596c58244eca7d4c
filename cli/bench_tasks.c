#include "cli/bench_tasks.h"

#include "model/text/vocabulary.h"

#define STEPS_PER_CALL 256

static bool open_network(struct network *network, uint32_t layers, uint32_t hidden, uint32_t vocabulary,
                         struct error *err)
{
    const struct architecture a = {
        .cell = CELL_LSTM, .layers = layers, .hidden_size = hidden, .vocabulary_size = vocabulary};
    return network_open(network, &a, err) && network_initialise(network, 1, err);
}

/* ---- training ---- */

static void train_once(void *context, size_t worker)
{
    struct bench_training *t = context;
    struct learner_result result;
    (void)worker;
    learner_step(t->learner, t->window, t->inputs, t->targets, 1e-3, &result);
}

static uint32_t *random_tokens(struct arena *arena, struct rng *rng, size_t count, uint32_t vocabulary,
                               struct error *err)
{
    uint32_t *tokens = arena_alloc(arena, count, sizeof *tokens, "tokens", err);
    for (size_t i = 0; tokens && i < count; i++) tokens[i] = (uint32_t)rng_below(rng, vocabulary);
    return tokens;
}

bool bench_training_open(struct bench_training *training, const struct kernels *kernels,
                         const struct bench_shape *shape, size_t threads, struct error *err)
{
    const size_t tokens = shape->batch * shape->window;
    const struct learner_options options = {
        .batch = shape->batch,
        .window = shape->window,
        .threads = threads,
        .seed = 1,
        .reset_token = TOKEN_NONE,
        .kernels = kernels,
        .optimizer = {.kind = OPTIMIZER_RMSPROP, .rate = 1e-3, .decay = 0.9, .epsilon = 1e-7},
    };
    struct rng rng;
    rng_seed(&rng, 1, 0);
    *training = (struct bench_training){.window = shape->window};
    if (!open_network(&training->network, shape->layers, shape->hidden, shape->vocabulary, err)) return false;
    training->inputs = random_tokens(&training->arena, &rng, tokens, shape->vocabulary, err);
    training->targets = random_tokens(&training->arena, &rng, tokens, shape->vocabulary, err);
    if (!training->inputs || !training->targets) return false;
    if (!(training->learner = learner_new(&training->network, &options, err))) return false;
    /* One caller: the learner has threads of its own. */
    training->work =
        (struct bench_work){.once = train_once, .context = training, .team = team_new(1, err), .units = (double)tokens};
    return training->work.team;
}

void bench_training_close(struct bench_training *training)
{
    team_free(training->work.team);
    learner_free(training->learner);
    network_close(&training->network);
    arena_free(&training->arena);
}

double bench_training_operations(const struct bench_shape *shape)
{
    const struct bench_step_shape step = {
        .layers = shape->layers, .hidden = shape->hidden, .vocabulary = shape->vocabulary};
    return 3 * bench_stepping_operations(&step);
}

/* ---- stepping ---- */

/* Steps per call, so that every call makes about the same number of characters. */
static size_t steps_per_call(const struct bench_lane *lane)
{
    return lane->batch < STEPS_PER_CALL ? STEPS_PER_CALL / lane->batch : 1;
}

static void step_some(void *context, size_t worker)
{
    struct bench_stepping *stepping = context;
    struct bench_lane *lane = &stepping->lanes[worker];
    for (size_t i = steps_per_call(lane); i > 0; i--) {
        step(&stepping->stepper, &lane->scratch, lane->batch, lane->tokens, lane->states, lane->logits);
        for (size_t b = 0; b < lane->batch; b++)
            lane->tokens[b] = sampler_pick(&lane->sampler, lane->logits[b], &lane->rng);
    }
}

static bool take_rows(struct arena *arena, float **rows, size_t count, size_t width, struct error *err)
{
    float *values = arena_alloc(arena, count, width * sizeof(float), "states", err);
    for (size_t i = 0; values && i < count; i++) rows[i] = values + i * width;
    return values;
}

/* Random weights. Rejected: network_initialise(), which takes minutes for the large shapes. */
static bool open_random_network(struct network *network, const struct bench_step_shape *shape, struct error *err)
{
    const struct architecture a = {
        .cell = CELL_LSTM, .layers = shape->layers, .hidden_size = shape->hidden, .vocabulary_size = shape->vocabulary};
    struct rng rng;
    rng_seed(&rng, 1, 0);
    if (!network_open(network, &a, err)) return false;
    for (size_t i = 0; i < network->parameter_count; i++)
        network->parameters[i] = (float)(0.1 * (rng_uniform(&rng) - 0.5));
    return true;
}

static bool open_lane(struct bench_lane *lane, const struct stepper *stepper, struct arena *arena, struct error *err)
{
    const struct sampler_options options = {.temperature = 1};
    const size_t n = lane->batch;
    rng_seed(&lane->rng, 1, 0);
    if (!step_scratch_open(&lane->scratch, stepper, n, err)) return false;
    lane->tokens = arena_alloc(arena, n, sizeof *lane->tokens, "tokens", err);
    lane->states = arena_alloc(arena, n, sizeof *lane->states, "states", err);
    lane->logits = arena_alloc(arena, n, sizeof *lane->logits, "logits", err);
    if (!lane->tokens || !lane->states || !lane->logits) return false;
    return take_rows(arena, lane->states, n, stepper->state_size, err) &&
           take_rows(arena, lane->logits, n, stepper->logits_size, err) &&
           sampler_open(&lane->sampler, &options, stepper->kernels, stepper->architecture.vocabulary_size, 0, err);
}

bool bench_stepping_open(struct bench_stepping *stepping, const struct kernels *kernels,
                         const struct bench_step_shape *shape, struct error *err)
{
    *stepping = (struct bench_stepping){.lane_count = shape->batch < shape->threads ? shape->batch : shape->threads};
    struct network network;
    const bool packed = open_random_network(&network, shape, err) &&
                        stepper_open_as(&stepping->stepper, &network, kernels, shape->format, err);
    network_close(&network);
    if (!packed) return false;
    stepping->work = (struct bench_work){.once = step_some, .context = stepping};
    for (size_t i = 0; i < stepping->lane_count; i++) {
        struct bench_lane *lane = &stepping->lanes[i];
        lane->batch = shape->batch / stepping->lane_count;
        if (!open_lane(lane, &stepping->stepper, &stepping->arena, err)) return false;
        stepping->work.units += (double)(lane->batch * steps_per_call(lane));
    }
    stepping->work.team = team_new(stepping->lane_count, err);
    return stepping->work.team;
}

void bench_stepping_close(struct bench_stepping *stepping)
{
    team_free(stepping->work.team);
    for (size_t i = 0; i < stepping->lane_count; i++) {
        sampler_close(&stepping->lanes[i].sampler);
        step_scratch_close(&stepping->lanes[i].scratch);
    }
    stepper_close(&stepping->stepper);
    arena_free(&stepping->arena);
}

double bench_stepping_operations(const struct bench_step_shape *shape)
{
    const double H = shape->hidden, V = shape->vocabulary, layers = shape->layers;
    return 2 * (layers * 4 * H * H + (layers - 1) * 4 * H * H + V * H);
}
