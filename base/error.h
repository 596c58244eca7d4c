/* Errors as an optional out-parameter.
 *
 * A function that can fail returns bool (or a pointer) and takes `struct error *err` last. On failure it fills *err
 * with a code and one clear sentence: what was wrong, where, and what would be right. The first cause wins; a caller
 * that knows more about the place adds it with error_add_context(). Passing NULL is allowed everywhere.
 * Nothing here allocates, so reporting "out of memory" always works. One table (server/http/problem.c) maps codes to
 * HTTP statuses; the command line maps all of them to exit code 1, except ERROR_USAGE, which is 2.
 */
#ifndef LSTMD_BASE_ERROR_H
#define LSTMD_BASE_ERROR_H

#include <stdbool.h>

#define ERROR_MESSAGE_SIZE 512

enum error_code {
    ERROR_NONE = 0,    /* no error */
    ERROR_USAGE,       /* the command line is wrong */
    ERROR_INVALID,     /* a value, field or document that the caller gave is wrong */
    ERROR_NOT_FOUND,   /* the named thing does not exist */
    ERROR_CONFLICT,    /* the thing is in a state that forbids this */
    ERROR_TOO_LARGE,   /* above a limit, or a size that overflows */
    ERROR_CORRUPT,     /* a file breaks the rules of its format */
    ERROR_IO,          /* the operating system refused */
    ERROR_NO_SPACE,    /* disk full or quota reached */
    ERROR_NO_MEMORY,   /* an allocation failed */
    ERROR_UNAVAILABLE, /* try again later: queue full, draining, loading */
    ERROR_CANCELLED,   /* somebody asked to stop it */
    ERROR_NUMERIC,     /* NaN, infinity or a loss that explodes */
};

struct error {
    enum error_code code;
    char message[ERROR_MESSAGE_SIZE]; /* UTF-8, NUL-terminated, one line */
};

/* Fills *err unless it already holds an error. Always returns false, so that `return error_set(...)` reads well. */
bool error_set(struct error *err, enum error_code code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* As error_set() with ": " and the text of the errno value appended; the code follows from it (ENOENT, ENOSPC, ...). */
bool error_set_errno(struct error *err, int errno_value, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Puts "context: " before the message that is already there. Always returns false. */
bool error_add_context(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Sets ERROR_NO_MEMORY: "out of memory (N bytes for WHAT)". Always returns false. */
bool error_set_no_memory(struct error *err, unsigned long long bytes, const char *what);

void error_clear(struct error *err);

/* Tells compilers and analysers that error_set() and its like return false. Without it they follow paths on which a
 * failed function succeeds. */
static inline bool error_false(bool always_false)
{
    (void)always_false;
    return false;
}
#define error_set(...)           error_false(error_set(__VA_ARGS__))
#define error_set_errno(...)     error_false(error_set_errno(__VA_ARGS__))
#define error_add_context(...)   error_false(error_add_context(__VA_ARGS__))
#define error_set_no_memory(...) error_false(error_set_no_memory(__VA_ARGS__))

#endif
