/* A generation that is stepped alone: what the command line does. The server's engine steps many. */
#include <string.h>

#include "model/generate/generate.h"
#include "model/generate/step_piece.h"

/* What one sequence needs to be stepped alone. */
struct solo {
    const struct stepper *stepper;
    struct step_scratch scratch;
    struct step_piece piece; /* of the prompt */
    struct arena arena;
    float *state, *logits;
};

static void solo_close(struct solo *solo)
{
    arena_free(&solo->arena);
    step_piece_close(&solo->piece);
    step_scratch_close(&solo->scratch);
}

static bool solo_open(struct solo *solo, const struct stepper *stepper, const struct generation *generation,
                      struct error *err)
{
    *solo = (struct solo){.stepper = stepper};
    solo->state = arena_alloc(&solo->arena, stepper->state_size, sizeof(float), "a hidden state", err);
    solo->logits = arena_alloc(&solo->arena, stepper->logits_size, sizeof(float), "logits", err);
    if (!solo->state || !solo->logits || !step_scratch_open(&solo->scratch, stepper, 1, err) ||
        !step_piece_open(&solo->piece, stepper, generation->prompt.count, false, false, err)) {
        solo_close(solo);
        return false;
    }
    if (generation->start_state)
        memcpy(solo->state, generation->start_state, stepper->state_size * sizeof *solo->state);
    return true;
}

/* Feeds the next token; logits: those after it, where they are wanted. */
static void solo_step(struct solo *solo, const struct generation *generation, float *logits)
{
    const uint32_t token = generation_token(generation);
    if (!generation_wants_logits(generation)) logits = NULL;
    if (generation_resets(generation)) memset(solo->state, 0, solo->stepper->state_size * sizeof *solo->state);
    step(solo->stepper, &solo->scratch, 1, &token, &solo->state, &logits);
}

/* Feeds the prompt but for its last token. */
static void solo_read_prompt(struct solo *solo, struct generation *generation)
{
    const uint32_t *tokens;
    while (generation_is_reading(generation)) {
        const size_t left = generation_ahead(generation, &tokens);
        const size_t n = left < solo->piece.tokens ? left : solo->piece.tokens;
        if (n > 0) {
            step_piece(&solo->piece, n, tokens, solo->state, n);
            for (size_t i = 0; i < n; i++) generation_advance(generation, NULL);
            continue;
        }
        const bool scored = generation_wants_logits(generation);
        solo_step(solo, generation, solo->logits);
        generation_advance(generation, scored ? solo->logits : NULL);
    }
}

static bool emit_ready(const struct generation *generation, size_t *sent, generation_emit *emit, void *context)
{
    const char *text = generation->text + *sent;
    const size_t n = generation->text_ready - *sent;
    if (!emit || n == 0) return true;
    *sent += n;
    return emit(context, text, n);
}

bool generation_run(struct generation *generation, const struct stepper *stepper, generation_emit *emit, void *context,
                    struct error *err)
{
    struct solo solo;
    size_t sent = 0;
    bool wanted;
    if (!solo_open(&solo, stepper, generation, err)) return false;
    solo_read_prompt(&solo, generation);
    wanted = !emit || emit(context, "", 0);
    while (wanted && !generation_done(generation)) {
        solo_step(&solo, generation, solo.logits);
        generation_advance(generation, solo.logits);
        wanted = emit_ready(generation, &sent, emit, context);
    }
    if (generation->end_state) memcpy(generation->end_state, solo.state, stepper->state_size * sizeof *solo.state);
    solo_close(&solo);
    return wanted || error_set(err, ERROR_CANCELLED, "the generation was stopped");
}

bool generation_read_prompt(struct generation *generation, const struct stepper *stepper, float *logits,
                            struct error *err)
{
    struct solo solo;
    if (!solo_open(&solo, stepper, generation, err)) return false;
    solo_read_prompt(&solo, generation);
    solo_step(&solo, generation, logits);
    solo_close(&solo);
    return true;
}
