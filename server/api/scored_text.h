/* The text of a request that the scorer reads: its fields, and its tokens behind <eos> and label, or behind a state. It
 * is not read here: the scorer does that, and each handler says how.
 *
 * A scored text belongs to one thread at a time.
 */
#ifndef LSTMD_SERVER_API_SCORED_TEXT_H
#define LSTMD_SERVER_API_SCORED_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/json_writer.h"
#include "model/generate/generate.h"
#include "server/api/fields.h"
#include "server/api/services.h"

#define SCORED_TEXT_SLICE_NS (UINT64_C(5) * 1000 * 1000) /* a text's turn in the scorer */

struct scored_text {
    struct field_text text, model, label;
    int unknown;                  /* 0: skip, 1: error */
    struct generation generation; /* its prompt is the text; nothing is generated */
    size_t first;                 /* token of the prompt that has a probability */
    json_t *ids;                  /* the text as token ids instead; owned, or NULL */
    json_t *state;                /* the field; owned, or NULL */
    struct carried_state carried; /* where the text begins, and later where it ends; its `state` is owned, or NULL */
};

extern const char *const scored_text_unknown[]; /* the choices of `unknown` */

/* The rows of these fields in a table over a struct that has a scored text at this offset. */
#define SCORED_TEXT_ROWS(at)                                                                                           \
    {"text", FIELD_TEXT, (at) + offsetof(struct scored_text, text), 0, 0, NULL, 0},                                    \
        {"unknown", FIELD_CHOICE, (at) + offsetof(struct scored_text, unknown), 0, 0, scored_text_unknown, 0},         \
        {"label", FIELD_TEXT, (at) + offsetof(struct scored_text, label), 0, 0, NULL, 0},                              \
    {                                                                                                                  \
        "model", FIELD_TEXT, (at) + offsetof(struct scored_text, model), 0, 0, NULL, 0                                 \
    }

#define SCORED_TEXT_IDS_ROW(at)                                                                                        \
    {                                                                                                                  \
        "ids", FIELD_ARRAY, (at) + offsetof(struct scored_text, ids), 0, 0, NULL, 0                                    \
    }

#define SCORED_TEXT_STATE_ROW(at)                                                                                      \
    {                                                                                                                  \
        "state", FIELD_STATE, (at) + offsetof(struct scored_text, state), 0, 0, NULL, 0                                \
    }

/* Encodes the text, as a prompt, behind the pending token of `state`, if there is one, else behind <eos> and the label;
 * checks what it costs. False with the problem. */
bool scored_text_encode(struct scored_text *text, const struct services *services, const struct served *served,
                        struct problem *problem);
/* The same for a text that must have a token that can be scored. */
bool scored_text_open(struct scored_text *text, const struct services *services, const struct served *served,
                      struct problem *problem);
void scored_text_close(struct scored_text *text);

/* Takes memory for the state that the text ends with, carried.state. field: the one that wants it. */
bool scored_text_keep_state(struct scored_text *text, const struct served *served, const char *field,
                            struct problem *problem);

/* Writes what the tokens say together, nats: the sum of -log p of those that have a probability: "token_count":..., to
 * "perplexity":... */
void scored_text_write_sums(const struct scored_text *text, double nats, struct json_writer *out);

/* Tokens that are no part of the text: the pending token of a state, or <eos> and the label. */
size_t scored_text_special(const struct scored_text *text);

/* Gives the task to the scorer, unless too many wait. */
bool scored_text_submit(struct services *services, struct task *task);

#endif
