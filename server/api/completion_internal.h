/* What the files of a completion share. completion_run.c drives: it calls completion_check.c (which calls
 * completion_pattern.c), then gives the jobs to
 * the engine, then answers or calls completion_stream.c. All of them call completion.c, which calls none of them. */
#ifndef LSTMD_SERVER_API_COMPLETION_INTERNAL_H
#define LSTMD_SERVER_API_COMPLETION_INTERNAL_H

#include "server/api/completion.h"

/* Whether the check makes patterns, which takes longer than the HTTP thread has. */
bool completion_wants_pattern(const struct completion *completion);

/* Whether all choices are written, for the likeliest of them. */
bool completion_compares(const struct completion *completion);

/* Makes the patterns that the request wants; the model and the biases are there. False: the problem says why not. */
bool completion_build_patterns(struct completion *completion, struct problem *problem);

/* Which part has the largest probability; all are over. */
size_t completion_likeliest(const struct completion *completion);

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
