/* What went wrong with a request: collects it, and writes it as application/problem+json (Source: RFC 9457) or, below
 * /v1/, in the form that OpenAI's clients read: {"error": {message, type, param, code}}. Sends nothing.
 *
 * A handler collects everything that is wrong into one struct problem, so that one answer names every wrong field. The
 * first status wins; field errors make it 422. `struct problem p = {0};` is "nothing wrong"; problem_close() returns it
 * to that. Running out of memory while collecting loses details, never the status. A problem belongs to one thread.
 */
#ifndef LSTMD_SERVER_HTTP_PROBLEM_H
#define LSTMD_SERVER_HTTP_PROBLEM_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

#define PROBLEM_MAX_ERRORS 32 /* field errors that are listed; further ones are counted */

struct problem {
    int status; /* HTTP status; 0: nothing is wrong */
    char detail[ERROR_MESSAGE_SIZE];
    bool final;         /* the same request would fail again: clients are told not to send it anew */
    json_t *errors;     /* [{field, message}] or NULL */
    size_t error_count; /* field errors, listed or not */
};

/* Sets status and detail unless there is a problem already. Always returns false. */
bool problem_set(struct problem *problem, int status, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* The same from an error; the status follows from its code. */
bool problem_set_error(struct problem *problem, const struct error *err);

/* 503: "`what` within limits.request_timeout, N s". began: the work took all that time, as it would again, so this is
 * final; else the request only waited. Always returns false. */
bool problem_set_timeout(struct problem *problem, const char *what, double seconds, bool began);

/* Adds a wrong field (422). Always returns false. */
bool problem_add_field(struct problem *problem, const char *field, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The JSON document with a newline at its end, or NULL where memory is out. `instance`: the path of the request,
 * or NULL where it is not known. Ownership: caller frees. */
char *problem_to_json(const struct problem *problem, const char *instance, size_t *size);

/* The document in the form that belongs to the path. */
struct problem_document {
    int status; /* below /v1/, wrong fields are 400 as OpenAI has it */
    const char *content_type;
    char *text; /* caller frees */
    size_t size;
};
/* False where memory is out. */
bool problem_write(const struct problem *problem, const char *path, struct problem_document *document);
void problem_close(struct problem *problem);

/* "Not Found" for 404; "Error" for a status that lstmd never sends. */
const char *http_status_reason(int status);

#endif
