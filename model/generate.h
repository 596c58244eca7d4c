/* One continuation: prompt -> tokens -> text, independent of who steps it.
 *
 * A `struct generation` is what the command line and the server's engine share: it knows which token to feed next, what
 * to do with the logits, when to end and what text came out; the caller does the stepping (alone or in a batch):
 *
 *   generation_open(); while (!generation_done(g)) {
 *       step with generation_token(g) -> logits wanted if generation_wants_logits(g);
 *       generation_advance(g, logits); }
 *
 * Every sequence begins with <eos> (where the vocabulary has one), then the label, then the prompt. Draws come from
 * rng_seed(seed, 0), one per new token. A generation belongs to one thread at a time.
 */
#ifndef LSTMD_MODEL_GENERATE_H
#define LSTMD_MODEL_GENERATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "model/rng.h"
#include "model/sampler.h"
#include "model/step.h"
#include "model/vocabulary.h"

#define GENERATION_MAX_WARNINGS 16  /* skipped characters (or words) of a prompt that are named one by one */
#define GENERATION_WARNING_SIZE 200 /* bytes of one warning, NUL included */

enum finish_reason { FINISH_NONE, FINISH_LENGTH, FINISH_EOS };
const char *finish_reason_name(enum finish_reason reason); /* "length", "eos"; "none" while it runs */

struct generation_request {
    const char *prompt; /* UTF-8 (any bytes for a byte-level model), borrowed during generation_open() */
    size_t prompt_bytes;
    const char *label; /* NULL: none */
    size_t length;     /* new tokens at most, >= 1 */
    uint64_t seed;
    struct sampler_options sampler;
    bool unknown_is_error; /* a prompt character that the vocabulary lacks: ERROR_INVALID instead of a warning */
};

struct generation {
    const struct vocabulary *vocabulary;
    struct sampler_options sampler;
    struct rng rng;
    struct token_list prompt; /* tokens to feed: <eos>, label, prompt */
    size_t fed;               /* tokens fed so far */
    uint32_t next;            /* the token to feed next */
    size_t length, produced;  /* new tokens: at most, so far (<eos> is not counted) */
    enum finish_reason finish;
    bool at_start; /* a word that comes next needs no space before it */
    char *text;    /* completion, raw bytes (byte-level models may end inside a character); NUL-terminated */
    size_t text_bytes, text_capacity;
    struct unknown_list unknown; /* prompt characters or words that were skipped */
    double *scratch;             /* [V] */
};

/* Encodes the prompt and takes all memory the generation will need. Close with generation_close(), also after a
 * failure. Errors: ERROR_INVALID with `field` set to the request field that is wrong ("prompt", "label", "length",
 * "temperature"; NULL pointer allowed), ERROR_TOO_LARGE ("length"), ERROR_NO_MEMORY (field NULL). */
bool generation_open(struct generation *generation, const struct vocabulary *vocabulary,
                     const struct generation_request *request, const char **field, struct error *err);
void generation_close(struct generation *generation);

bool generation_done(const struct generation *generation);
uint32_t generation_token(const struct generation *generation);
bool generation_wants_logits(const struct generation *generation); /* false while the prompt is read */
/* Call after each step; logits (writable) may be NULL exactly where they were not wanted. Never allocates. */
void generation_advance(struct generation *generation, float *logits);

/* Runs a generation to its end, alone. `emit` (NULL allowed) is called once without text when the prompt has been read,
 * then with each new piece of text that is complete UTF-8, and at the very end with the bytes of a character that was
 * begun and not finished; where it answers false the generation stops there. Errors: ERROR_NO_MEMORY, ERROR_CANCELLED.
 */
typedef bool generation_emit(void *context, const char *text, size_t n);
bool generation_run(struct generation *generation, const struct stepper *stepper, generation_emit *emit, void *context,
                    struct error *err);

/* Reads the prompt alone, instead of running: logits[stepper->logits_size] after its last token, nothing forbidden.
 * Errors: ERROR_NO_MEMORY. */
bool generation_read_prompt(struct generation *generation, const struct stepper *stepper, float *logits,
                            struct error *err);

/* The warnings about skipped prompt text: how many, and the index-th as one sentence that names the character and its
 * byte offset (the last one may stand for all further ones). prompt: the request's. */
size_t generation_warning_count(const struct generation *generation);
void generation_warning(const struct generation *generation, const char *prompt, size_t index,
                        char out[GENERATION_WARNING_SIZE]);

#endif
