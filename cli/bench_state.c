#include "cli/bench_state.h"

#include <assert.h>

#define CALLS      16
#define VOCABULARY 84

static void write_some(void *context, size_t worker)
{
    struct bench_state *bench = context;
    (void)worker;
    for (size_t i = CALLS; i > 0; i--)
        bench->size = state_text_write(&bench->owner, &bench->carried, bench->text, NULL);
}

static void read_some(void *context, size_t worker)
{
    struct bench_state *bench = context;
    bool read = true;
    (void)worker;
    for (size_t i = CALLS; i > 0; i--)
        read = state_text_read(&bench->owner, bench->text, bench->size, &bench->carried, NULL) && read;
    assert(read);
}

static void digest_once(void *context, size_t worker)
{
    struct bench_state *bench = context;
    (void)worker;
    network_digest(&bench->network, bench->owner.weights);
}

/* Fills h and c with random numbers from -1 to 1. */
static void fill_state(struct bench_state *bench, struct rng *rng)
{
    const struct architecture *a = &bench->stepper.architecture;
    for (size_t k = 0; k < 2 * (size_t)a->layers; k++) {
        float *vector = state_vector(&bench->stepper, bench->carried.state, k / 2, k % 2 == 1);
        for (size_t i = 0; i < architecture_hidden(a, k / 2); i++) vector[i] = (float)(2 * rng_uniform(rng) - 1);
    }
}

bool bench_state_open(struct bench_state *bench, uint32_t layers, uint32_t hidden, struct error *err)
{
    const struct architecture a = {
        .cell = CELL_LSTM, .layers = layers, .hidden_size = hidden, .vocabulary_size = VOCABULARY};
    *bench = (struct bench_state){.carried = {.has_rng = true}};
    if (!network_open(&bench->network, &a, err) ||
        !stepper_open(&bench->stepper, &bench->network, kernels_select("auto"), err))
        return false;
    bench->owner = (struct state_owner){.model = "bench", .stepper = &bench->stepper, .vocabulary_size = VOCABULARY};
    rng_seed(&bench->carried.rng, 1, 0);
    bench->carried.state =
        arena_alloc(&bench->arena, bench->stepper.state_size, sizeof *bench->carried.state, "a state", err);
    bench->text = arena_alloc(&bench->arena, state_text_size(&bench->owner) + 1, 1, "a state", err);
    if (!bench->carried.state || !bench->text) return false;
    struct rng rng = bench->carried.rng;
    fill_state(bench, &rng);
    bench->write = (struct bench_work){.once = write_some, .context = bench, .team = team_new(1, err), .units = CALLS};
    bench->read = bench->digest = bench->write;
    bench->read.once = read_some;
    bench->digest.once = digest_once;
    bench->digest.units = (double)bench->network.parameter_count * sizeof(float) / 1e6;
    write_some(bench, 0);
    return bench->write.team;
}

void bench_state_close(struct bench_state *bench)
{
    team_free(bench->write.team);
    stepper_close(&bench->stepper);
    network_close(&bench->network);
    arena_free(&bench->arena);
}
