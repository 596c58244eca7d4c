#include "cli/bench_tasks.h"

#include "model/vocabulary.h"

#define STEPS_PER_CALL 256

static bool open_network(struct network *network, uint32_t layers, uint32_t hidden, uint32_t vocabulary,
                         struct error *err)
{
    const struct architecture a = {
        .cell = CELL_LSTM, .layers = layers, .hidden_size = hidden, .vocabulary_size = vocabulary};
    return network_open(network, &a, err) && network_initialise(network, 1, err);
}

/* ------------------------------------------------------------------ training */

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
    for (size_t i = 0; tokens != NULL && i < count; i++) tokens[i] = (uint32_t)rng_below(rng, vocabulary);
    return tokens;
}

bool bench_training_open(struct bench_training *training, const struct bench_shape *shape, size_t threads,
                         struct error *err)
{
    const size_t tokens = shape->batch * shape->window;
    const struct learner_options options = {
        .batch = shape->batch,
        .window = shape->window,
        .threads = threads,
        .seed = 1,
        .reset_token = TOKEN_NONE,
        .optimizer = {.kind = OPTIMIZER_RMSPROP, .rate = 1e-3, .decay = 0.9, .epsilon = 1e-7},
    };
    struct rng rng;
    rng_seed(&rng, 1, 0);
    *training = (struct bench_training){.window = shape->window};
    if (!open_network(&training->network, shape->layers, shape->hidden, shape->vocabulary, err)) return false;
    training->inputs = random_tokens(&training->arena, &rng, tokens, shape->vocabulary, err);
    training->targets = random_tokens(&training->arena, &rng, tokens, shape->vocabulary, err);
    if (training->inputs == NULL || training->targets == NULL) return false;
    if ((training->learner = learner_new(&training->network, &options, err)) == NULL) return false;
    /* The learner has threads of its own: one caller. */
    training->work =
        (struct bench_work){.once = train_once, .context = training, .team = team_new(1, err), .units = (double)tokens};
    return training->work.team != NULL;
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
    const double H = shape->hidden, V = shape->vocabulary, layers = shape->layers;
    const double recurrent = layers * 4 * H * H, below = (layers - 1) * 4 * H * H, output = V * H;
    return 3 * 2 * (recurrent + below + output);
}

/* ------------------------------------------------------------------ stepping */

static void step_some(void *context, size_t worker)
{
    struct bench_stepping *s = context;
    (void)worker;
    for (size_t i = 0; i < STEPS_PER_CALL; i++) {
        step(&s->stepper, &s->scratch, 1, &s->token, &s->state, &s->logits);
        s->token = sampler_pick(&s->sampler, s->logits, &s->rng);
    }
}

bool bench_stepping_open(struct bench_stepping *stepping, uint32_t layers, uint32_t hidden, uint32_t vocabulary,
                         struct error *err)
{
    *stepping = (struct bench_stepping){0};
    rng_seed(&stepping->rng, 1, 0);
    struct arena *arena = &stepping->arena;
    struct stepper *stepper = &stepping->stepper;
    if (!open_network(&stepping->network, layers, hidden, vocabulary, err)) return false;
    if (!stepper_open(stepper, &stepping->network, kernels_select("auto"), err)) return false;
    if (!step_scratch_open(&stepping->scratch, stepper, 1, err)) return false;
    stepping->state = arena_alloc(arena, stepper->state_size, sizeof(float), "state", err);
    stepping->logits = arena_alloc(arena, stepper->logits_size, sizeof(float), "logits", err);
    if (stepping->state == NULL || stepping->logits == NULL) return false;
    const struct sampler_options options = {.temperature = 1};
    if (!sampler_open(&stepping->sampler, &options, stepper->kernels, vocabulary, 0, err)) return false;
    stepping->work =
        (struct bench_work){.once = step_some, .context = stepping, .team = team_new(1, err), .units = STEPS_PER_CALL};
    return stepping->work.team != NULL;
}

void bench_stepping_close(struct bench_stepping *stepping)
{
    team_free(stepping->work.team);
    sampler_close(&stepping->sampler);
    step_scratch_close(&stepping->scratch);
    stepper_close(&stepping->stepper);
    network_close(&stepping->network);
    arena_free(&stepping->arena);
}

size_t bench_stepping_bytes(const struct bench_stepping *stepping)
{
    const struct architecture *a = &stepping->network.architecture;
    const size_t rows_not_read = a->vocabulary_size - 1, row = architecture_gates(a) * a->hidden_size;
    return (stepping->network.parameter_count - rows_not_read * row) * sizeof(float);
}
