/* What the files of a completion share. completion_run.c drives: it calls completion_check.c (which calls
 * completion_prompts.c, completion_pattern.c, completion_state.c and completion_choose.c), then gives the jobs to the
 * engine, then answers or calls completion_stream.c. All of them call completion.c, which calls completion_state.c
 * alone. */
#ifndef LSTMD_SERVER_API_COMPLETION_INTERNAL_H
#define LSTMD_SERVER_API_COMPLETION_INTERNAL_H

#include "server/api/completion.h"

/* Reads `state` for the model, and checks what may stand beside it and return_state. False: the problem says why not.
 */
bool completion_read_state(struct completion *completion, struct problem *problem);

/* Takes memory for the states that the parts end with, if they are wanted; their count is known. */
bool completion_take_states(struct completion *completion, struct problem *problem);

/* Fills in where the i-th text begins, and where its state goes. rng: room, for as long as `wanted` is used. */
void completion_set_state(const struct completion *completion, size_t i, struct rng *rng,
                          struct generation_request *wanted);

/* Gives the session the state that a job ended with. Where the answer has that state, too, it is the completion's: the
 * session ends before the answer is written. */
void completion_copy_state(const struct completion *completion, const struct engine_job *job);

/* Whether the texts go on with the random generator of the state: no seed made them. */
bool completion_draws_on(const struct completion *completion);

void completion_free_states(struct completion *completion);

/* Whether the check makes patterns, which takes longer than the HTTP thread has. */
bool completion_wants_pattern(const struct completion *completion);

/* Whether all choices are written, for the likeliest of them. */
bool completion_compares(const struct completion *completion);

/* Makes the patterns that the request wants; the model and the biases are there. False: the problem says why not. */
bool completion_build_patterns(struct completion *completion, struct problem *problem);

/* Reads the prompts; the model is there. False: the problem names all that are wrong. */
bool completion_read_prompts(struct completion *completion, struct problem *problem);

/* How errors name prompt i: "prompt", or "prompt[i]" in a list. */
#define COMPLETION_PROMPT_NAME 40
const char *completion_prompt_name(const struct completion *completion, size_t i, char out[COMPLETION_PROMPT_NAME]);

/* Sets how many parts there are, and takes memory for them; prompts and patterns are there. */
bool completion_take_parts(struct completion *completion, struct problem *problem);

/* Whether not all parts are shown: the likeliest of the choices, or the best of `best_of`. */
bool completion_selects(const struct completion *completion);

/* The number of part i, which is added to the seed. Nothing is drawn for compared choices: all of a prompt have its
 * number. */
size_t completion_number(const struct completion *completion, size_t i);

/* Fills in completion->choices: with all parts, as they are; or, of each prompt, with the best parts, best first. All
 * are over then. */
void completion_choose(struct completion *completion);

/* Acquires the model, begins the session and opens the generations. False: the problem says all that is wrong; the
 * session may have begun. */
bool completion_check(struct completion *completion, struct problem *problem);

/* Sets the reply to a stream of the parts. The caller has submitted their jobs, or there are none (HEAD). */
void completion_stream_begin(struct completion *completion);

/* Gives one reference back; the last one frees the completion. Any thread. */
void completion_unref(struct completion *completion);

/* Ends the session, if one is busy. keep: its new state is valid, and `pending` is the token that follows it. */
void completion_end_session(struct completion *completion, bool keep, uint32_t pending);

/* Asks the engine to give all jobs up. */
void completion_cancel(struct completion *completion);

/* Adds times and numbers of tokens to the request's line in the log. */
void completion_log(struct completion *completion);

/* Says why a job with this outcome, a timeout or a shutdown, has no text. */
void completion_set_failure(const struct completion *completion, enum engine_outcome outcome, struct problem *problem);

#endif
