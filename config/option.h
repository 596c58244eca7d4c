/* Options: one table row per setting drives YAML, the environment, --set, command-line flags, --help and the reference
 * page. A table describes the fields of one struct; the functions work for any struct.
 *
 * Errors name the value's source (file:line:key, the variable, the flag), the fault, and the nearest key or the allowed
 * values. Not thread-safe: configuration is read before threads start.
 */
#ifndef LSTMD_CONFIG_OPTION_H
#define LSTMD_CONFIG_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/error.h"

enum option_type {
    OPTION_BOOL,    /* bool: true, false, yes, no, on, off */
    OPTION_INT,     /* int64_t */
    OPTION_SIZE,    /* uint64_t bytes: 1048576, 64KiB, 1MiB, 2GiB, 1TiB (k, M, G: powers of 1000) */
    OPTION_REAL,    /* double */
    OPTION_TEXT,    /* const char * (owned by the arena given to the setter) or NULL */
    OPTION_CHOICE,  /* int: index into choices */
    OPTION_LIST,    /* struct option_list: each setting appends a text; a sequence in YAML */
    OPTION_SECRETS, /* the same; its items are never shown */
};

struct option_list {
    const char **items; /* owned by the arena given to the setter */
    size_t count;
};

struct option {
    const char *key; /* "server.port" */
    enum option_type type;
    size_t offset;              /* of the field in the struct */
    const char *fallback;       /* the default as text; NULL: NULL text */
    double minimum, maximum;    /* INT, SIZE, REAL: inclusive; TEXT, LIST: length in bytes; both 0: no bounds */
    const char *const *choices; /* CHOICE: NULL-terminated names; TEXT: the only values allowed, or NULL */
    const char *unit;           /* "s", "ms", "tokens" or NULL; SIZE is in bytes anyway */
    const char *help;           /* one sentence */
};

/* Where the value of an option comes from. */
struct option_origin {
    const char *place; /* "lstmd.yaml:3", "LSTMD_SERVER_PORT", "--set"; a list may have several; NULL: the default */
    const char *overrides; /* the place of the replaced value; NULL: it was the default */
    bool is_variable;      /* of the environment */
};

struct option_table {
    const struct option *options;
    size_t count;
    const char *environment_prefix; /* "LSTMD": server.port is LSTMD_SERVER_PORT; NULL: no environment */
    struct option_origin *origins;  /* [count], filled by the reading functions below; NULL: not wanted */
};

/* Sets every field to its default. */
bool options_set_defaults(const struct option_table *table, void *target, struct arena *arena, struct error *err);

/* Sets one row's field; errors begin with `place` ("--port", "LSTMD_SERVER_PORT"). value NULL: no value, which only a
 * TEXT whose default is NULL accepts. */
bool option_set(const struct option *option, void *target, const char *value, const char *place, struct arena *arena,
                struct error *err);

/* A value for a key. Everything is borrowed. */
struct option_assignment {
    const char *key, *value; /* value: as in option_set() */
    const char *place;       /* the value's source: "lstmd.yaml:12:3", "--set" */
};

/* Sets one key; errors begin with place and key. */
bool options_set(const struct option_table *table, void *target, const struct option_assignment *assignment,
                 struct arena *arena, struct error *err);

/* Notes that the option's value now comes from `place`, which is copied into the arena. */
bool option_note_origin(const struct option_table *table, const struct option *option, const char *place,
                        bool is_variable, struct arena *arena, struct error *err);

/* "key=value". If the table has origins, a second assignment of a key at the same place is refused, except for
 * lists. */
bool options_set_assignment(const struct option_table *table, void *target, const char *assignment, const char *place,
                            struct arena *arena, struct error *err);

/* Reads a YAML file of nested mappings: `server: {port: 8080}` is server.port. Unknown and duplicate keys, sequences
 * where a scalar belongs, and syntax errors are refused with file:line:column. */
bool options_read_yaml(const struct option_table *table, void *target, const char *path, struct arena *arena,
                       struct error *err);

/* Every LSTMD_* variable of the environment; an unknown one is an error that names the nearest one. It skips
 * LSTMD_CONFIG (names the file, config/config.h), LSTMD_SHARED (names the tests' data), and the variables that Docker
 * and Kubernetes set in containers next to a service called lstmd (LSTMD_SERVICE_HOST, LSTMD_PORT=tcp://..., ...). */
bool options_read_environment(const struct option_table *table, void *target, char *const *environment,
                              struct arena *arena, struct error *err);

/* The value of a field as text that options_set() accepts. A NULL text is "", a list its items joined with ", ".
 * Returns what snprintf returns. */
int options_format(const struct option *option, const void *target, char *out, size_t size);

/* The allowed values: "an integer from 0 to 65535". Returns what snprintf returns. */
int options_describe(const struct option *option, char *out, size_t size);

/* One entry per option for --help, and the effective values as YAML, with their origins as comments. */
void options_print_help(const struct option_table *table, FILE *out);
void options_print_yaml(const struct option_table *table, const void *target, FILE *out);

/* The row of a key, or NULL. */
const struct option *options_find(const struct option_table *table, const char *key);

/* The row nearest to an unknown key, or NULL (base/hint.h). *remark: a sentence about a feature that lstmd does not
 * have, or NULL. */
const struct option *options_meant(const struct option_table *table, const char *key, const char **remark);

/* What a message says if there is no near row. */
#define OPTIONS_LISTED "--help lists all"

#endif
