#include "cli/bench_text.h"

#include "base/rng.h"

static void read_pieces(void *context, size_t worker)
{
    struct bench_text *text = context;
    (void)worker;
    step_piece(&text->own, text->count, text->tokens, text->state, 0);
}

static void read_by_library(void *context, size_t worker)
{
    struct bench_text *text = context;
    (void)worker;
    step_piece(&text->other, text->count, text->tokens, text->state, 0);
}

static void read_tokens(void *context, size_t worker)
{
    struct bench_text *text = context;
    (void)worker;
    for (size_t t = 0; t < text->count; t++)
        step(&text->stepper, &text->scratch, 1, &text->tokens[t], &text->state, &text->logits);
}

static bool open_memory(struct bench_text *text, bool library, struct error *err)
{
    const struct stepper *stepper = &text->stepper;
    struct rng rng;
    text->count = step_piece_most(stepper);
    text->tokens = arena_alloc(&text->arena, text->count, sizeof *text->tokens, "tokens", err);
    text->state = arena_alloc(&text->arena, stepper->state_size, sizeof *text->state, "a hidden state", err);
    text->logits = arena_alloc(&text->arena, stepper->logits_size, sizeof *text->logits, "logits", err);
    if (!text->tokens || !text->state || !text->logits) return false;
    rng_seed(&rng, 1, 0);
    for (size_t t = 0; t < text->count; t++)
        text->tokens[t] = (uint32_t)rng_below(&rng, stepper->architecture.vocabulary_size);
    return step_scratch_open(&text->scratch, stepper, 1, err) &&
           step_piece_open(&text->own, stepper, text->count, false, true, err) &&
           (!library || step_piece_open(&text->other, stepper, text->count, true, true, err));
}

bool bench_text_open(struct bench_text *text, const struct kernels *kernels, const struct bench_text_shape *shape,
                     bool library, struct error *err)
{
    const struct architecture a = {
        .cell = CELL_LSTM, .layers = shape->layers, .hidden_size = shape->hidden, .vocabulary_size = shape->vocabulary};
    struct network network;
    struct rng rng;
    *text = (struct bench_text){.count = 0};
    rng_seed(&rng, 1, 0);
    bool ok = network_open(&network, &a, err);
    for (size_t i = 0; ok && i < network.parameter_count; i++)
        network.parameters[i] = (float)(0.1 * rng_uniform(&rng) - 0.05);
    ok = ok && stepper_open(&text->stepper, &network, kernels, err);
    network_close(&network);
    if (!ok) return false;
    text->stepper.library = library;
    if (!open_memory(text, library, err)) return false;
    text->pieces = (struct bench_work){
        .once = read_pieces, .context = text, .team = team_new(1, err), .units = (double)text->count};
    text->steps = text->library = text->pieces;
    text->steps.once = read_tokens;
    text->library.once = read_by_library;
    return text->pieces.team;
}

void bench_text_close(struct bench_text *text)
{
    team_free(text->pieces.team);
    step_piece_close(&text->own);
    step_piece_close(&text->other);
    step_scratch_close(&text->scratch);
    stepper_close(&text->stepper);
    arena_free(&text->arena);
}
