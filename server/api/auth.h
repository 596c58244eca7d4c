/* Who may do what: bearer tokens (RFC 6750) with the scope generate or admin, which includes generate.
 *
 * Tokens come from the section auth of the configuration and from the files that it names, as they are or as
 * "sha256:" and 64 hexadecimal digits; only their digests are kept. Where there is no generate token, everybody may
 * generate; where there is no admin token, nobody may administer, not even from this machine: requests that a
 * reverse proxy passes on come from this machine, too. A client that guesses is slowed (server/api/throttle.h).
 *
 * auth_reload() replaces all tokens at once, while requests are checked. Thread-safe.
 */
#ifndef LSTMD_SERVER_API_AUTH_H
#define LSTMD_SERVER_API_AUTH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "config/config.h"
#include "server/http/http.h"

struct auth;

/* Errors name the key, or file:line, never a token: ERROR_INVALID for text that is no token, and for a file without a
 * token (it would open what it should close). */
struct auth *auth_new(const struct config *config, struct error *err);
void auth_free(struct auth *auth); /* NULL allowed */

/* Whether auth_new() would take these tokens and files. */
bool auth_check_settings(const struct config *config, struct error *err);

/* Reads the tokens again. After a failure the old ones are in force. */
bool auth_reload(struct auth *auth, const struct config *config, struct error *err);

enum auth_verdict {
    AUTH_GRANTED, /* the request may go on */
    AUTH_MISSING, /* a token is needed, and the request has none, or a header of another form */
    AUTH_UNKNOWN, /* no such token: counts as a guess */
    AUTH_SCOPE,   /* a generate token, where admin is needed */
    AUTH_CLOSED,  /* no admin token is configured */
    AUTH_SLOWED,  /* too many guesses: the token is not looked at */
};

/* What a request with this Authorization header (NULL: none), from this address, may do. *seconds: for AUTH_SLOWED,
 * when to try again. */
enum auth_verdict auth_check(struct auth *auth, enum http_scope scope, const char *header, const char *address,
                             uint64_t now_ns, unsigned *seconds);

#endif
