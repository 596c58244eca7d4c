/* A hidden state as text that a client keeps: opaque, about 1.4 times the bytes of the state.
 *
 * It is base64url of these bytes, little-endian:
 *   'l' 'S'   version (1)   1 where an RNG follows, else 0
 *   weights[16]             of the network: network_digest()
 *   cell, layers            a byte each
 *   H of each layer         32 bits each
 *   pending                 32 bits: the token that was drawn and not fed yet; TOKEN_NONE: none
 *   RNG                     4 x 64 bits: the generator behind that draw
 *   per layer h [H], then c [H] where the cell has one: float32
 *   name of the model       a byte of length, at most 255 bytes of UTF-8; for messages alone
 *
 * A generation that goes on from it with the same model gives the same tokens as one longer generation, because the
 * state holds all that steps and draws depend on. Counts of penalties, stop texts and patterns start again.
 *
 * The text is not trusted: somebody may have cut, changed or invented it. Numbers within STATE_LARGEST are accepted,
 * because every such hidden state is legal. Pure, thread-safe.
 */
#ifndef LSTMD_MODEL_GENERATE_STATE_TEXT_H
#define LSTMD_MODEL_GENERATE_STATE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/json_writer.h"
#include "base/rng.h"
#include "model/generate/step.h"
#include "model/network/network.h"

/* The model that a state belongs to. Everything is borrowed. */
struct state_owner {
    const char *model; /* its name */
    unsigned char weights[NETWORK_DIGEST_SIZE];
    const struct stepper *stepper;
    uint32_t vocabulary_size;
};

struct carried_state {
    float *state;     /* [stepper->state_size], the caller's */
    uint32_t pending; /* the token to feed first; TOKEN_NONE: none */
    bool has_rng;
    struct rng rng;
};

/* Characters of the text, without a NUL. */
size_t state_text_size(const struct state_owner *owner);

/* Writes the text and a NUL; returns its size. out: room for state_text_size() + 1. ERROR_NO_MEMORY: 0. */
size_t state_text_write(const struct state_owner *owner, const struct carried_state *carried, char *out,
                        struct error *err);

/* Writes the text as a JSON string. If memory runs out, the writer fails. */
void state_text_write_json(const struct state_owner *owner, const struct carried_state *carried,
                           struct json_writer *out);

/* Whether a state may hold the number: it is finite, and its absolute value is at most STATE_LARGEST. Steps keep h
 * within 1 and c below 2^24, the first number that float32 no longer adds 1 to; an activation without bounds may exceed
 * it. */
#define STATE_LARGEST 1e9
bool state_number_is_good(double number);

/* Errors: ERROR_INVALID (not a valid text; the message says why), ERROR_CONFLICT (another model's; the message names
 * both), ERROR_NO_MEMORY. */
bool state_text_read(const struct state_owner *owner, const char *text, size_t n, struct carried_state *carried,
                     struct error *err);

/* One vector of a state, for callers that give or get states as numbers: h of a layer, or c if `cell` is true. NULL if
 * the cell has no c. [architecture_hidden(layer)] */
float *state_vector(const struct stepper *stepper, float *state, size_t layer, bool cell);

#endif
