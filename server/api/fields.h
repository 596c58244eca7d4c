/* The fields of a request: one table row per field drives the JSON body, the query parameters, the bounds and the error
 * messages. A table describes the members of one struct, which holds the defaults before it is read.
 *
 * In a query a list is written by repeating the parameter, an object as JSON text, a boolean as true or false.
 *
 * Every field that is wrong is added to the problem; the member of a wrong field keeps its default, so that the caller
 * can go on looking for further errors. Pure functions, thread-safe.
 */
#ifndef LSTMD_SERVER_API_FIELDS_H
#define LSTMD_SERVER_API_FIELDS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/http/problem.h"
#include "server/http/query.h"

#define FIELDS_MAX_INTEGER 9007199254740991.0 /* 2^53 - 1: what every JSON implementation keeps exactly */

enum field_type {
    FIELD_TEXT,    /* struct field_text; valid UTF-8, may hold NUL bytes */
    FIELD_INTEGER, /* uint64_t, at most 2^53 - 1 */
    FIELD_REAL,    /* double, finite */
    FIELD_CHOICE,  /* int: index into choices */
    FIELD_BOOL,    /* bool */
    FIELD_TEXTS,   /* struct field_texts; a string alone is a list of one */
    FIELD_OBJECT,  /* json_t *: an object, a reference for the caller to give back; NULL: not given */
    FIELD_ARRAY,   /* json_t *: the same for an array */
    FIELD_STATE, /* json_t *: the same for a string or an object (state_field.h); in a query, an object begins with { */
    FIELD_PROMPT,  /* json_t *: the same for a string or an array */
    FIELD_IGNORED, /* anything; no member */
};

struct field_text {
    const char *data; /* borrowed from the JSON document or the query; NULL: not given */
    size_t size;
};

#define FIELD_MAX_TEXTS 16

struct field_texts {
    struct field_text items[FIELD_MAX_TEXTS];
    size_t count;
};

enum {
    FIELD_ABOVE = 1,    /* the minimum itself is not allowed */
    FIELD_BELOW = 2,    /* the maximum itself is not allowed */
    FIELD_NULLABLE = 4, /* null is as if not given */
};

struct field {
    const char *name;
    enum field_type type;
    size_t offset;           /* of the member */
    double minimum, maximum; /* INTEGER, REAL: inclusive, but for FIELD_ABOVE and FIELD_BELOW; TEXTS: bytes of each */
    const char *const *choices; /* CHOICE: NULL-terminated */
    unsigned flags;             /* FIELD_ABOVE, FIELD_BELOW: exclusive; FIELD_NULLABLE: null is as if not given */
};

struct field_table {
    const struct field *fields;
    size_t count; /* at most 64 */
};

/* Parses a body that must be a JSON object; a byte order mark before it is skipped. A key that is there twice is added
 * to the problem as a wrong field. Returns NULL with 400 and the byte position where it is not JSON, 422 where it is
 * not an object, 503 where memory is out. Caller owns the result. */
json_t *fields_parse_body(const char *body, size_t size, struct problem *problem);

/* Reads members of an object, or parameters of a query. *given (NULL allowed) gets bit i for the row i that was there,
 * right or wrong. Returns whether all was well. */
bool fields_read_json(const struct field_table *table, void *target, const json_t *object, uint64_t *given,
                      struct problem *problem);
bool fields_read_query(const struct field_table *table, void *target, const struct query *query, uint64_t *given,
                       struct problem *problem);

#endif
