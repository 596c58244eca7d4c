/* Decides who may call which route: makes an answer of the verdict of server/api/auth.h. */
#include <string.h>

#include "base/clock.h"
#include "server/api/api.h"
#include "server/api/services.h"

static const char *const how_to_set_one =
    "nobody may administer this daemon, since it has no admin token: put one (openssl rand -hex 32) into a file, name "
    "the file in auth.admin_token_file (or LSTMD_AUTH_ADMIN_TOKEN_FILE), and send SIGHUP or restart";

static void log_failure(struct http_request *request, const char *why)
{
    log_event(LOG_WARNING, "token refused", LOG_TEXT("id", http_request_id(request)),
              LOG_TEXT("client", http_request_client(request)), LOG_TEXT("why", why));
}

/* Retry-After: the text must outlive the request, and the throttle lets nobody wait longer than 64 seconds. */
static const char *retry_after(unsigned seconds)
{
    static const char *const texts[] = {"1", "2", "4", "8", "16", "32", "64"};
    size_t i = 0;
    while (i + 1 < sizeof texts / sizeof *texts && (1u << i) < seconds) i++;
    return texts[i];
}

/* Sets status and detail, and adds the header that belongs to them. */
static void scopes_describe(struct http_request *request, enum auth_verdict verdict, enum http_scope scope,
                            unsigned seconds, struct problem *problem)
{
    static const char authenticate[] = "WWW-Authenticate";
    switch (verdict) {
    case AUTH_MISSING:
        http_reply_header(request, authenticate, "Bearer realm=\"lstmd\"");
        problem_set(problem, 401, "this needs a token of scope %s: send the header Authorization: Bearer TOKEN",
                    scope == HTTP_ADMIN ? "admin" : "generate");
        break;
    case AUTH_UNKNOWN:
        log_failure(request, "unknown token");
        http_reply_header(request, authenticate, "Bearer realm=\"lstmd\", error=\"invalid_token\"");
        problem_set(problem, 401, "there is no such token");
        break;
    case AUTH_SCOPE:
        log_failure(request, "insufficient scope");
        http_reply_header(request, authenticate,
                          "Bearer realm=\"lstmd\", error=\"insufficient_scope\", scope=\"admin\"");
        problem_set(problem, 403, "the token may generate; this needs one of scope admin");
        break;
    case AUTH_SLOWED:
        http_reply_header(request, "Retry-After", retry_after(seconds));
        problem_set(
            problem, 429,
            "too many wrong tokens came from this address, its network or everybody; none is looked at for %u s",
            seconds);
        break;
    case AUTH_CLOSED:
    case AUTH_GRANTED:
        problem_set(problem, 403, "%s", how_to_set_one);
        break;
    }
}

bool api_authorise(struct http_request *request, enum http_scope scope, void *context)
{
    const struct services *services = context;
    unsigned seconds = 0;
    if (scope <= HTTP_PUBLIC) return true;
    const enum auth_verdict verdict = auth_check(services->auth, scope, http_request_header(request, "Authorization"),
                                                 http_request_client(request), clock_monotonic_ns(), &seconds);
    if (verdict == AUTH_GRANTED) return true;
    struct problem problem = {0};
    scopes_describe(request, verdict, scope, seconds, &problem);
    http_reply_problem(request, &problem);
    problem_close(&problem);
    return false;
}
