/* Sessions: names for hidden states, so that a request continues where the last one of that name ended.
 *
 * A session holds the state after the last token fed and the one token that was sampled and not fed yet.
 * sessions_begin() takes it out and sessions_end() gives it back; in between it is busy, and a second request for it is
 * a conflict (409) and does not wait: two continuations of one state at once are nearly always a mistake of the caller.
 * A name belongs to a model: the same name under another model is another session. A state belongs to one version of
 * the model: under another version the session is fresh again, and says that its state was lost.
 *
 * A session expires `ttl` after its last end; beyond max_count the least recently used one that is not busy makes room.
 * Time is passed in (clock_monotonic_ns()), so that tests need not wait. Thread-safe; the lock is held for a hash
 * lookup and for what has expired, never while anything is computed.
 */
#ifndef LSTMD_SERVER_ENGINE_SESSIONS_H
#define LSTMD_SERVER_ENGINE_SESSIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define SESSION_NAME_MAX 128 /* bytes */

struct sessions;
struct session;

struct sessions_options {
    size_t max_count;
    size_t max_name; /* bytes, at most SESSION_NAME_MAX */
    uint64_t ttl_ns;
};

struct sessions *sessions_new(const struct sessions_options *options, struct error *err);
void sessions_free(struct sessions *sessions); /* none may be busy; NULL allowed */

/* Which session a request wants. */
struct session_key {
    uint64_t model;   /* what the name belongs to */
    uint64_t version; /* of the model */
    const char *name; /* [name_size] */
    size_t name_size;
    size_t state_size; /* floats of a state of this version */
};

/* The session of that key, busy from now on; where there is none (or it has expired, or its state is of another version
 * of the model) a fresh one.
 * Errors: ERROR_INVALID (the name is empty, too long, or has other characters than letters, digits and ._:@/-),
 * ERROR_CONFLICT (busy), ERROR_UNAVAILABLE (max_count are busy), ERROR_NO_MEMORY. */
struct session *sessions_begin(struct sessions *sessions, const struct session_key *key, uint64_t now_ns,
                               struct error *err);

/* For the owner of a busy session. state: [state_size], to be read where the session is not fresh and written before
 * sessions_end(). */
bool session_is_fresh(const struct session *session); /* nothing to continue from */
bool session_was_lost(const struct session *session); /* fresh, since its state was of another version */
const float *session_state(const struct session *session);
uint32_t session_pending(const struct session *session); /* the token to feed first */

/* Room for the next state [state_size], the session's: what is written there counts only once sessions_end() keeps it.
 */
float *session_next_state(struct session *session);

/* Ends the request. keep: the state in session_next_state() and `pending` are the session from now on; otherwise it is
 * as it was before, and a fresh one is forgotten. The handle is invalid afterwards. */
void sessions_end(struct sessions *sessions, struct session *session, bool keep, uint32_t pending, uint64_t now_ns);

/* Frees the states of a version of a model, those of busy sessions at their end. The names stay for their time, so that
 * their next requests can be told. */
void sessions_drop_version(struct sessions *sessions, uint64_t version);

size_t sessions_count(struct sessions *sessions); /* busy ones included */

#endif
