#include "model/generate/state_text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/utf8.h"
#include "model/network/cells.h"
#include "model/text/vocabulary.h"

#define VERSION  1
#define MAX_NAME 255

/* ---- bytes in a row ---- */

struct cursor {
    unsigned char *bytes;
    size_t size, at;
    bool ends; /* reading: there were too few bytes */
};

static void put(struct cursor *out, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) out->bytes[out->at++] = (unsigned char)(value >> 8 * i);
}

static uint64_t get(struct cursor *in, size_t bytes)
{
    uint64_t value = 0;
    if (in->size - in->at < bytes) {
        in->ends = true;
        return 0;
    }
    for (size_t i = 0; i < bytes; i++) value |= (uint64_t)in->bytes[in->at++] << 8 * i;
    return value;
}

static void put_float(struct cursor *out, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    put(out, bits, sizeof bits);
}

static float get_float(struct cursor *in)
{
    const uint32_t bits = (uint32_t)get(in, sizeof bits);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* ---- the parts of a state ---- */

bool state_number_is_good(double number)
{
    return number >= -STATE_LARGEST && number <= STATE_LARGEST; /* false for NaN */
}

float *state_vector(const struct stepper *stepper, float *state, size_t layer, bool cell)
{
    if (cell && cell_table[stepper->architecture.cell].states < 2) return NULL;
    return state + stepper->first_state[layer] + (cell ? stepper->weights.layers[layer].width : 0);
}

static size_t count_numbers(const struct architecture *architecture)
{
    size_t n = 0;
    for (size_t k = 0; k < architecture->layers; k++) n += architecture_hidden(architecture, k);
    return n * cell_table[architecture->cell].states;
}

static size_t name_bytes(const struct state_owner *owner)
{
    const size_t n = strlen(owner->model);
    return n <= MAX_NAME ? n : utf8_complete_prefix(owner->model, MAX_NAME);
}

static size_t count_bytes(const struct state_owner *owner)
{
    const struct architecture *a = &owner->stepper->architecture;
    return 4 + NETWORK_DIGEST_SIZE + 2 + 4 * (size_t)a->layers + 4 + sizeof(struct rng) + 4 * count_numbers(a) + 1 +
           name_bytes(owner);
}

size_t state_text_size(const struct state_owner *owner)
{
    return base64_encoded_size(count_bytes(owner));
}

/* ---- writing ---- */

static void put_head(struct cursor *out, const struct state_owner *owner, const struct carried_state *carried)
{
    const struct architecture *a = &owner->stepper->architecture;
    put(out, 'l', 1);
    put(out, 'S', 1);
    put(out, VERSION, 1);
    put(out, carried->has_rng, 1);
    for (size_t i = 0; i < NETWORK_DIGEST_SIZE; i++) put(out, owner->weights[i], 1);
    put(out, a->cell, 1);
    put(out, a->layers, 1);
    for (size_t k = 0; k < a->layers; k++) put(out, architecture_hidden(a, k), 4);
    put(out, carried->pending, 4);
    for (size_t i = 0; carried->has_rng && i < 4; i++) put(out, carried->rng.state[i], 8);
}

static void put_vector(struct cursor *out, const float *vector, size_t n)
{
    for (size_t i = 0; vector && i < n; i++) put_float(out, vector[i]);
}

size_t state_text_write(const struct state_owner *owner, const struct carried_state *carried, char *out,
                        struct error *err)
{
    const struct stepper *stepper = owner->stepper;
    struct cursor bytes = {.bytes = malloc(count_bytes(owner)), .size = count_bytes(owner)};
    if (!bytes.bytes) {
        error_set_no_memory(err, bytes.size, "a hidden state");
        return 0;
    }
    put_head(&bytes, owner, carried);
    for (size_t k = 0; k < stepper->architecture.layers; k++) {
        const size_t H = architecture_hidden(&stepper->architecture, k);
        put_vector(&bytes, state_vector(stepper, carried->state, k, false), H);
        put_vector(&bytes, state_vector(stepper, carried->state, k, true), H);
    }
    put(&bytes, name_bytes(owner), 1);
    for (size_t i = 0; i < name_bytes(owner); i++) put(&bytes, (unsigned char)owner->model[i], 1);
    base64_encode(bytes.bytes, bytes.at, out);
    free(bytes.bytes);
    return base64_encoded_size(bytes.at);
}

void state_text_write_json(const struct state_owner *owner, const struct carried_state *carried,
                           struct json_writer *out)
{
    char *room = json_writer_room(out, state_text_size(owner) + 3);
    const size_t n = room ? state_text_write(owner, carried, room + 1, NULL) : 0;
    if (n == 0) {
        out->failed = true;
        return;
    }
    room[0] = room[n + 1] = '"';
    out->size += n + 2;
}

/* ---- reading ---- */

/* Reads the name of the text's model, which is the last part of the text, if it is there. */
static void find_name(const struct cursor *in, char name[MAX_NAME + 1])
{
    name[0] = '\0';
    for (size_t n = 1; n <= MAX_NAME && n < in->size; n++) {
        const char *text = (const char *)in->bytes + in->size - n;
        if (in->bytes[in->size - n - 1] != n || utf8_valid_prefix(text, n) < n || memchr(text, '\0', n)) continue;
        memcpy(name, text, n);
        name[n] = '\0';
    }
}

/* Reports a state of another model. */
static bool refuse_owner(const struct cursor *in, const struct state_owner *owner, struct error *err)
{
    char name[MAX_NAME + 1], theirs[2 * 4 + 1], ours[2 * 4 + 1];
    find_name(in, name);
    for (size_t i = 0; i < 4; i++) {
        snprintf(theirs + 2 * i, 3, "%02x", in->bytes[4 + i]);
        snprintf(ours + 2 * i, 3, "%02x", owner->weights[i]);
    }
    return error_set(err, ERROR_CONFLICT,
                     "the state is of model \"%.80s\" with weights %s...; this is \"%.80s\" with weights %s...", name,
                     theirs, owner->model, ours);
}

static bool check_shapes(struct cursor *in, const struct architecture *a, struct error *err)
{
    bool same = get(in, 1) == a->cell;
    same = get(in, 1) == a->layers && same;
    for (size_t k = 0; same && k < a->layers; k++) same = get(in, 4) == architecture_hidden(a, k);
    return same || error_set(err, ERROR_INVALID, "cell, layers or sizes are not those that its weights have");
}

static bool read_head(struct cursor *in, const struct state_owner *owner, struct carried_state *carried,
                      struct error *err)
{
    if (in->size < 4 + NETWORK_DIGEST_SIZE || in->bytes[0] != 'l' || in->bytes[1] != 'S')
        return error_set(err, ERROR_INVALID, "it is not a state that this program gave");
    if (in->bytes[2] != VERSION)
        return error_set(err, ERROR_INVALID, "it has version %u, this program reads version %d", in->bytes[2], VERSION);
    if (in->bytes[3] > 1) return error_set(err, ERROR_INVALID, "byte 3 is %u, 0 or 1 would be right", in->bytes[3]);
    if (memcmp(in->bytes + 4, owner->weights, NETWORK_DIGEST_SIZE) != 0) return refuse_owner(in, owner, err);
    in->at = 4 + NETWORK_DIGEST_SIZE;
    if (!check_shapes(in, &owner->stepper->architecture, err)) return false;
    carried->pending = (uint32_t)get(in, 4);
    if (carried->pending != TOKEN_NONE && carried->pending >= owner->vocabulary_size)
        return error_set(err, ERROR_INVALID, "its last token is %lu, the vocabulary has %lu",
                         (unsigned long)carried->pending, (unsigned long)owner->vocabulary_size);
    carried->has_rng = in->bytes[3] == 1;
    carried->rng = (struct rng){{0}};
    uint64_t any = 0;
    for (size_t i = 0; carried->has_rng && i < 4; i++) any |= carried->rng.state[i] = get(in, 8);
    return any != 0 || !carried->has_rng || error_set(err, ERROR_INVALID, "its random generator is all zero");
}

static bool read_vector(struct cursor *in, float *vector, size_t n, size_t layer, char name, struct error *err)
{
    for (size_t i = 0; vector && i < n; i++) {
        vector[i] = get_float(in);
        if (!state_number_is_good((double)vector[i]))
            return error_set(err, ERROR_INVALID, "%c[%zu] of layer %zu is %s", name, i, layer,
                             isfinite(vector[i]) ? "beyond 1e9" : "not finite");
    }
    return true;
}

static bool read_numbers(struct cursor *in, const struct stepper *stepper, float *state, struct error *err)
{
    memset(state, 0, stepper->state_size * sizeof *state);
    for (size_t k = 0; k < stepper->architecture.layers; k++) {
        const size_t H = architecture_hidden(&stepper->architecture, k);
        if (!read_vector(in, state_vector(stepper, state, k, false), H, k, 'h', err) ||
            !read_vector(in, state_vector(stepper, state, k, true), H, k, 'c', err))
            return false;
    }
    const size_t name = (size_t)get(in, 1);
    return (!in->ends && in->size - in->at == name) ||
           error_set(err, ERROR_INVALID, "its length is wrong: was it cut?");
}

bool state_text_read(const struct state_owner *owner, const char *text, size_t n, struct carried_state *carried,
                     struct error *err)
{
    struct cursor in = {.bytes = malloc(base64_decoded_size(n) + 1)};
    if (!in.bytes) return error_set_no_memory(err, base64_decoded_size(n) + 1, "a hidden state");
    bool read = base64_decode(text, n, in.bytes, &in.size) ||
                error_set(err, ERROR_INVALID, "it is not base64url without padding");
    read = read && read_head(&in, owner, carried, err) && read_numbers(&in, owner->stepper, carried->state, err);
    free(in.bytes);
    return read;
}
