/* Reads any bytes as a client's state. The first byte chooses: the text itself, the bytes that the text encodes (with
 * the weights' digest or with their own), or JSON with the numbers of the layers. The result is a refusal with a
 * message, or a state within its bounds. The network must be able to step it, and it must stay the same when written
 * and read. */
#include <math.h>
#include <string.h>

#include "base/base64.h"
#include "base/json.h"
#include "server/api/state_field.h"
#include "tests/fuzz/fuzz.h"

#define V 5

static const char vocabulary_text[] = "{\"level\": \"char\", \"tokens\": [\"<eos>\", \"a\", \"b\", \"c\", \"d\"], "
                                      "\"eos\": 0, \"pad\": null, \"unknown\": null}";

/* A model of two layers with c, and one of two layers without c, in float32 and int8. */
static struct served models[2];

static void open_model(struct served *served, enum cell_kind cell, enum kernel_format format)
{
    const struct architecture a = {
        .cell = cell, .layers = 2, .hidden_size = 6, .hidden_sizes = {3, 6}, .vocabulary_size = V};
    struct network network;
    REQUIRE(network_open(&network, &a, NULL) && network_initialise(&network, 1, NULL));
    REQUIRE(stepper_open_as(&served->stepper, &network, kernels_select("auto"), format, NULL));
    network_digest(&network, served->weights);
    network_close(&network);
    served->model.name = "model";
    served->model.vocabulary = vocabulary_from_json(vocabulary_text, sizeof vocabulary_text - 1, "fuzz", NULL);
    REQUIRE(served->model.vocabulary != NULL);
}

static void open_models(void)
{
    if (models[0].model.vocabulary) return;
    open_model(&models[0], CELL_LSTM, KERNEL_F32);
    open_model(&models[1], CELL_GRU, KERNEL_INT8);
}

static void require_bounds(const struct served *served, const struct carried_state *carried)
{
    uint64_t any = 0;
    for (size_t i = 0; i < served->stepper.state_size; i++) REQUIRE(state_number_is_good((double)carried->state[i]));
    REQUIRE(carried->pending < V || carried->pending == TOKEN_NONE);
    for (size_t i = 0; i < 4; i++) any |= carried->rng.state[i];
    REQUIRE(any != 0 || !carried->has_rng);
}

static void require_same_again(const struct served *served, const struct carried_state *carried)
{
    const struct state_owner owner = served_state_owner(served);
    const size_t bytes = served->stepper.state_size * sizeof(float);
    char *text = malloc(state_text_size(&owner) + 1);
    struct carried_state again = {.state = malloc(bytes)};
    REQUIRE(text && again.state);
    const size_t n = state_text_write(&owner, carried, text, NULL);
    REQUIRE(n > 0 && n <= state_text_size(&owner));
    REQUIRE(state_text_read(&owner, text, n, &again, NULL));
    REQUIRE(memcmp(again.state, carried->state, bytes) == 0 && again.pending == carried->pending);
    REQUIRE(again.has_rng == carried->has_rng);
    REQUIRE(!again.has_rng || memcmp(&again.rng, &carried->rng, sizeof again.rng) == 0);
    free(text);
    free(again.state);
}

static void require_steps(const struct served *served, const struct carried_state *carried)
{
    const struct stepper *stepper = &served->stepper;
    const uint32_t token = carried->pending == TOKEN_NONE ? 0 : carried->pending;
    struct step_scratch scratch;
    struct arena arena = {0};
    float *state = arena_alloc(&arena, stepper->state_size, sizeof *state, "a state", NULL);
    float *logits = arena_alloc(&arena, stepper->logits_size, sizeof *logits, "logits", NULL);
    REQUIRE(state && logits && step_scratch_open(&scratch, stepper, 1, NULL));
    memcpy(state, carried->state, stepper->state_size * sizeof *state);
    step(stepper, &scratch, 1, &token, &state, &logits);
    for (size_t v = 0; v < V; v++) REQUIRE(isfinite(logits[v]));
    step_scratch_close(&scratch);
    arena_free(&arena);
}

static void read_field(const struct served *served, const json_t *value)
{
    struct problem problem = {0};
    struct carried_state carried;
    REQUIRE(value != NULL);
    if (state_field_read(value, served, &carried, &problem)) {
        REQUIRE(problem.status == 0);
        require_bounds(served, &carried);
        require_same_again(served, &carried);
        require_steps(served, &carried);
    } else {
        REQUIRE(problem.status == 422 || problem.status == 409);
    }
    free(carried.state);
    problem_close(&problem);
}

static void read_text(const struct served *served, const char *text, size_t n)
{
    json_t *value = json_stringn_nocheck(text, n);
    read_field(served, value);
    json_decref(value);
}

/* Encodes the bytes as a text. own: puts the weights' digest in its place. */
static void read_bytes(const struct served *served, const uint8_t *data, size_t n, bool own)
{
    uint8_t *bytes = malloc(n + 1);
    char *text = malloc(base64_encoded_size(n) + 1);
    REQUIRE(bytes && text);
    if (n > 0) memcpy(bytes, data, n);
    if (own && n >= 4 + NETWORK_DIGEST_SIZE) memcpy(bytes + 4, served->weights, NETWORK_DIGEST_SIZE);
    base64_encode(bytes, n, text);
    read_text(served, text, base64_encoded_size(n));
    free(bytes);
    free(text);
}

static void read_numbers(const struct served *served, const char *text, size_t n)
{
    json_error_t error;
    json_t *value = json_text_parse(text, n, JSON_ALLOW_NUL | JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, &error);
    if (json_is_object(value)) read_field(served, value);
    json_decref(value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    open_models();
    const struct served *served = &models[data[0] & 1];
    const uint8_t *rest = data + 1;
    switch (data[0] >> 1 & 3) {
    case 0:
        read_text(served, (const char *)rest, size - 1);
        break;
    case 1:
        read_bytes(served, rest, size - 1, true);
        break;
    case 2:
        read_bytes(served, rest, size - 1, false);
        break;
    case 3:
        read_numbers(served, (const char *)rest, size - 1);
        break;
    }
    return 0;
}
