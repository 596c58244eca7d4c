/* A Python pickle (https://docs.python.org/3/library/pickletools.html, protocols 0 to 5), read as data.
 *
 * The opcodes are a program for a stack machine that builds values. This reader builds descriptions of values and
 * nothing more. A class or function is its name. A call, a construction or a restored state is an object that remembers
 * the callable and its arguments. The reader looks up, imports, calls and executes nothing, and knows no class; callers
 * know which names mean a tensor (torch_object.h).
 *
 * Values live in an arena, texts in the pickle itself. A memo can make values that contain themselves, or that share
 * parts many times over: a caller that walks them marks what it has seen (`visited`) or bounds its depth. The reader
 * bounds size and memory, and never recurses.
 */
#ifndef LSTMD_MODEL_INTEROP_PICKLE_H
#define LSTMD_MODEL_INTEROP_PICKLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"

#define PICKLE_MAX_BYTES  ((size_t)64 << 20)
#define PICKLE_MAX_VALUES ((size_t)1 << 22) /* values, places on the stack, numbers of the memo */
#define PICKLE_MAX_MEMORY ((size_t)1 << 30)

enum pickle_kind {
    PICKLE_NONE,       /* None */
    PICKLE_BOOL,       /* True or False */
    PICKLE_INTEGER,    /* an integer of at most 64 bits */
    PICKLE_BIG,        /* an integer beyond 64 bits; text: its bytes, two's complement, lowest first, or its digits */
    PICKLE_REAL,       /* a float */
    PICKLE_TEXT,       /* text: should be UTF-8; nobody checked */
    PICKLE_BYTES,      /* bytes or bytearray */
    PICKLE_LIST,       /* items */
    PICKLE_TUPLE,      /* items */
    PICKLE_SET,        /* items */
    PICKLE_DICT,       /* entries: key, value, key, value ... in the order they came */
    PICKLE_GLOBAL,     /* a class or function; text: "module.name" */
    PICKLE_PERSISTENT, /* a value that the writer kept elsewhere; callable: its id */
    PICKLE_OBJECT,     /* callable(arguments), with state, items and entries that came later */
};

struct pickle_value;

struct pickle_list {
    struct pickle_value **values;
    uint32_t count, capacity;
};

struct pickle_value {
    enum pickle_kind kind;
    uint32_t visited; /* for callers that walk: a bit per walk that came here */
    union {
        int64_t integer; /* and bool */
        double real;
        struct {
            const char *text; /* not NUL-terminated */
            size_t length;
        };
        struct {
            struct pickle_value *callable, *arguments, *state; /* NULL where there is none */
            struct pickle_list items, entries;
        };
    };
};

struct pickle_source {
    const char *place; /* begins messages */
    const void *data;  /* [size] must live as long as the arena */
    size_t size;
};

/* Reads the pickle at the start of the source. *used gets its bytes (NULL: it must be all of them). *objects (NULL
 * allowed) gets every PICKLE_PERSISTENT and PICKLE_OBJECT. NULL after an error: ERROR_CORRUPT with the offset of the
 * wrong byte, ERROR_TOO_LARGE beyond a limit, ERROR_NO_MEMORY. */
struct pickle_value *pickle_read(struct arena *arena, const struct pickle_source *source, size_t *used,
                                 struct pickle_list *objects, struct error *err);

/* Whether a value is of that kind and has exactly that text. False for NULL. */
bool pickle_is(const struct pickle_value *value, enum pickle_kind kind, const char *text);

/* The last entry of a dict or object under a text key, or NULL (also for NULL). */
struct pickle_value *pickle_get(const struct pickle_value *value, const char *key);

#endif
