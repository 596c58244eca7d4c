/* One continuation: prompt -> tokens -> text. The caller steps it in a batch; generation_run() steps it
 * alone.
 *
 * The command line and the server's engine share `struct generation`. It knows which token to feed next, what to do
 * with the logits, when to end and which text came out:
 *
 *   generation_open(); generation_skip(), where a state is known; while (!generation_done(g)) {
 *       zero the state if generation_resets(g);
 *       step with generation_token(g) -> logits wanted if generation_wants_logits(g);
 *       generation_advance(g, logits); }
 *
 * The sequence. It starts from the zero state with <eos> (where the vocabulary has one), the label and the prompt:
 * these are `prompt`. New tokens are `tokens`. `fed` counts the tokens that the hidden state contains, skipped ones
 * included: prompt.ids[0 .. fed) and, behind the prompt, tokens[0 .. fed - prompt.count). Prefix cache: another
 * generation may have a state after the same prompt.ids[0 .. k). generation_skip(g, k) takes it instead of feeding
 * them. k < prompt.count: somebody must feed the last token of the prompt to get logits. Sessions: a generation that is
 * over (or given up) leaves the state after its last fed token. Nobody has fed the token that it sampled last,
 * generation_pending(g): the last one of `tokens`, <eos>, or none. State and token make a session: a request with
 * `continues` and that token as `pending` starts from the state and feeds the pending token, then the prompt, without
 * <eos> and label. So two requests of a session step as one long one would. Where the first ended with a stop text, the
 * state has seen that text. A client that keeps the state itself (state_text.h) goes on in the same way; with `rng`,
 * that of the first at its end, the second draws as one long one would, too. Windows: a network that predicts every
 * token from the last N (model/generate/window.h) reads them anew for each, from the zero state, where the window moved
 * or has padding. Its state means nothing to the next token, so it has neither a prefix cache nor sessions.
 *
 * Draws come from `rng` or from rng_seed(seed, 0), one per new token; the i-th of n continuations uses
 * generation_seed(seed, i). Same request, model and kernels: same text. A generation belongs to one thread at a time.
 */
#ifndef LSTMD_MODEL_GENERATE_GENERATE_H
#define LSTMD_MODEL_GENERATE_GENERATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/rng.h"
#include "model/generate/pattern.h"
#include "model/generate/prompt_scores.h"
#include "model/generate/sampler.h"
#include "model/generate/state_text.h"
#include "model/generate/step.h"
#include "model/generate/stop.h"
#include "model/generate/window.h"
#include "model/text/vocabulary.h"

#define GENERATION_MAX_WARNINGS 16  /* skipped characters (or words) of a prompt that are named one by one */
#define GENERATION_WARNING_SIZE 200 /* bytes of one warning, NUL included */
#define GENERATION_MAX_LOGPROBS 20  /* alternatives per token */

enum finish_reason {
    FINISH_NONE,    /* it runs */
    FINISH_LENGTH,  /* all tokens that were asked for */
    FINISH_EOS,     /* the model ended the text */
    FINISH_STOP,    /* a stop text is complete */
    FINISH_PATTERN, /* the text matches, and nothing can follow, or the model would rather not go on */
};
const char *
finish_reason_name(enum finish_reason reason); /* "length", "eos", "stop", "pattern"; "none" while it runs */

/* All zero but the length: the start of a document, greedy. Everything is borrowed during generation_open() only. */
struct generation_request {
    const char *prompt; /* UTF-8 (any bytes for a byte-level model) */
    size_t prompt_bytes;
    const char *prompt_name; /* what messages call the prompt, for good; NULL: "prompt" */
    const uint32_t *ids; /* [id_count] the prompt as tokens: `prompt` is their text, and is not encoded. NULL: none. The
                          * start token may stand first (nothing adds a second one); no other special token may */
    size_t id_count;
    const char *label; /* NULL: none */
    size_t length;     /* new tokens at most; 0: the prompt is read and nothing is written */
    size_t min_length; /* new tokens at least: before, neither <eos> nor a pattern that could go on ends the text */
    uint64_t seed;
    struct sampler_options sampler;
    bool unknown_is_error; /* a prompt character that the vocabulary lacks: ERROR_INVALID instead of a warning */

    bool continues;   /* from the state of a session or a client: see above; refuses a label */
    uint32_t pending; /* with continues: its token that was not fed yet; TOKEN_NONE: none. Then the prompt is fed first,
                         or the start token where the prompt is empty */
    const struct rng *rng; /* NULL: draws begin at the seed; else they go on from here */
    /* Hidden states [stepper->state_size] of the caller, NULL: none. The first goes with `continues`. The generation's
     * stepper reads it before its first step and writes the other behind its last. */
    const float *start_state;
    float *end_state;

    const struct text_span
        *stop;                  /* [stop_count] the text ends before the first of them to be complete; the prompt is */
    size_t stop_count;          /* not searched, and bytes that are no character are searched as U+FFFD, as they are */
                                /* shown. At most STOP_MAX_TEXTS of 1 .. STOP_MAX_BYTES bytes */
    bool include_stop;          /* the text ends behind the stop text */
    struct token_window window; /* that of the network's architecture; not with `continues` */
    const struct pattern *pattern; /* NULL: none. The text matches it as a whole, unless `length` or a stop text ends it
                                    * before. Borrowed until generation_close(); made without the tokens that `sampler`
                                    * forbids */
    bool ignore_eos;               /* <eos> is forbidden: only length and stop end the text */
    size_t logprobs;               /* 0: none; else that many alternatives per token, <= GENERATION_MAX_LOGPROBS */
    bool scores_prompt;            /* with logprobs: the prompt's tokens get them, too */
    const struct kernels *kernels; /* those of the stepper, for the sampler; NULL: the best of this CPU */
};

/* Makes the request go on from the state. draws: from its random generator, too, if it has one. The i-th of several
 * continuations draws from one that follows from it, the first from itself. The request borrows all of it, *rng too. */
void generation_request_carry(struct generation_request *request, const struct carried_state *carried, bool draws,
                              size_t i, struct rng *rng);

struct generated_token {
    size_t text_end; /* the token's text ends at this byte of the completion (beyond text_bytes: cut by a stop text) */
    uint32_t id;
    float logprob; /* of the model's own distribution at temperature 1; 0 where logprobs were not asked for */
};

struct generation {
    const struct vocabulary *vocabulary;
    struct sampler sampler;
    struct rng rng;           /* after the last draw */
    const float *start_state; /* the request's */
    float *end_state;
    struct token_list prompt; /* tokens to feed: <eos>, label, prompt; or pending, prompt */
    size_t cached;            /* prompt tokens that were skipped: the state that was given contained them */
    size_t fed;               /* tokens that the state contains; with a window, and those before it */
    uint32_t next;            /* the token to feed next */
    struct token_window window;
    struct window_feed feed; /* what is in the window before the next new token */
    size_t padding;          /* pad tokens of it that are still to be fed */
    bool resets;
    size_t length, produced; /* new tokens: at most, so far (<eos> is not counted, those of a stop text are) */
    size_t min_length;
    size_t predicted;    /* tokens before the one that the next logits are for: the prompt and the new ones, or less
                          * where the prompt is scored */
    size_t prompt_begin; /* the request's prompt is prompt.ids[prompt_begin ..) */
    const char *prompt_name;
    struct prompt_scores scores; /* of prompt.ids[prompt_begin + 1 ..), where they are wanted */
    enum finish_reason finish;
    bool at_start;     /* a word that comes next needs no space before it */
    char *text;        /* completion, raw bytes (byte-level models may end inside a character); NUL-terminated */
    size_t text_bytes; /* so far, with what may yet turn out to be a stop text; shrinks when a stop text is complete */
    size_t text_capacity; /* of text */
    size_t text_ready; /* bytes that may be sent now: whole characters (the end of the text: all of it) that no stop */
                       /* text can begin in; never shrinks, == text_bytes when done */
    size_t tokens_ready; /* tokens whose text is ready; when done: all with a byte in the text */
    struct generated_token
        *tokens;              /* [length], the first `produced` are filled; behind them <eos>, if it is FINISH_EOS */
    size_t alternative_count; /* per token: logprobs, at most V */
    struct token_probability *alternatives; /* [length][alternative_count], likeliest first; NULL: none */
    float *logits; /* [V] of this step, as the model gave them, where logprobs are wanted; else NULL */
    struct stop_matcher stop;
    bool include_stop;
    const struct pattern *pattern; /* NULL: none */
    uint32_t pattern_state;
    size_t searched;             /* bytes of the text that the stop texts were looked for in; whole characters */
    struct unknown_list unknown; /* prompt characters or words that were skipped */
};

/* The seed of the i-th of n continuations: seed + i, modulo 2^53 as seeds are. */
uint64_t generation_seed(uint64_t seed, size_t i);

/* The id of the token whose text this is, for logit_bias: text that is one token of the vocabulary, or "<eos>" where
 * that is none. Errors: ERROR_INVALID (unknown, or more than one token), ERROR_NO_MEMORY. */
bool generation_find_token(const struct vocabulary *vocabulary, const char *text, size_t n, uint32_t *id,
                           struct error *err);

/* Encodes the prompt and takes all memory the generation will need. Close with generation_close(), also after a
 * failure. Errors: ERROR_INVALID with `field` set to the request field that is wrong ("prompt", "label", "length",
 * "min_length", "stop", "logprobs", "logit_bias" or a sampler option; NULL pointer allowed), ERROR_TOO_LARGE
 * ("length"), ERROR_NO_MEMORY (field NULL). */
bool generation_open(struct generation *generation, const struct vocabulary *vocabulary,
                     const struct generation_request *request, const char **field, struct error *err);
void generation_close(struct generation *generation);

/* Before the first step: the state that will be stepped contains prompt.ids[0 .. count), count < prompt.count. */
void generation_skip(struct generation *generation, size_t count);

bool generation_done(const struct generation *generation);
uint32_t generation_token(const struct generation *generation);
/* When it is done: the token that a generation that goes on from its state has to feed first; TOKEN_NONE: none. */
uint32_t generation_pending(const struct generation *generation);
/* What goes on from there, with end_state. */
struct carried_state generation_carried(const struct generation *generation);
bool generation_resets(const struct generation *generation); /* the token is to be fed to the zero state */
bool generation_wants_logits(const struct generation *generation);
bool generation_is_reading(const struct generation *generation); /* the prompt; the next step yields no new token */
/* The tokens to feed next without logits, *tokens = prompt.ids + fed: whoever feeds n of them at once (step_piece.h)
 * calls generation_advance(generation, NULL) n times. 0 with a window, and where the prompt is scored. */
size_t generation_ahead(const struct generation *generation, const uint32_t **tokens);
/* Call after each step; logits (writable) may be NULL exactly where they were not wanted. Never allocates. */
void generation_advance(struct generation *generation, float *logits);

/* Runs a generation to its end, alone. `emit` (NULL allowed) is called once without text when the prompt has been read,
 * then with each new piece of text that is ready, and at the very end with what was held back of it; where it answers
 * false the generation stops there. Errors: ERROR_NO_MEMORY, ERROR_CANCELLED.
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
