#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

/* Makes the text one line of UTF-8, in place, because messages quote input. Each byte that does not fit becomes '?'. */
static void make_one_line(char *text, size_t n)
{
    size_t at = 0;
    while (at < n) {
        uint32_t code_point;
        size_t length = utf8_decode(text + at, n - at, &code_point);
        if (length == 0 || code_point < 0x20 || code_point == 0x7F) {
            text[at] = '?';
            length = 1;
        }
        at += length;
    }
}

/* Ends a text for which snprintf wanted `wanted` bytes: a cut text ends at a whole character and "...". */
static void finish_text(char *text, size_t capacity, int wanted)
{
    static const char dots[] = "...";
    if (wanted < 0) {
        text[0] = '\0';
        return;
    }
    size_t n = (size_t)wanted;
    if (n >= capacity) {
        n = utf8_complete_prefix(text, capacity - sizeof dots);
        memcpy(text + n, dots, sizeof dots);
        n += sizeof dots - 1;
    }
    make_one_line(text, n);
}

static void format_text(char *text, size_t capacity, const char *format, va_list arguments)
{
    finish_text(text, capacity, vsnprintf(text, capacity, format, arguments));
}

/* The most bytes before ": reason" or ": cause". A longer part is cut, so a long path never hides the cause. */
#define PART_SIZE (ERROR_MESSAGE_SIZE * 3 / 4)

/* The names stand in parentheses because error.h has macros of the same names. */
bool(error_set)(struct error *err, enum error_code code, const char *format, ...)
{
    if (!err || err->code != ERROR_NONE) return false;
    va_list arguments;
    va_start(arguments, format);
    format_text(err->message, sizeof err->message, format, arguments);
    va_end(arguments);
    err->code = code;
    return false;
}

static enum error_code code_of_errno(int errno_value)
{
    switch (errno_value) {
    case ENOENT:
    case ENOTDIR:
        return ERROR_NOT_FOUND;
    case EEXIST:
    case ENOTEMPTY:
    case EBUSY:
        return ERROR_CONFLICT;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return ERROR_NO_SPACE; /* EFBIG: the file is as large as the process or the file system allows */
    case ENOMEM:
        return ERROR_NO_MEMORY;
    case EAGAIN:
    case EMFILE:
    case ENFILE:
        return ERROR_UNAVAILABLE; /* no threads, processes or descriptors left: others will free some */
    default:
        return ERROR_IO;
    }
}

bool(error_set_errno)(struct error *err, int errno_value, const char *format, ...)
{
    if (!err || err->code != ERROR_NONE) return false;
    char what[PART_SIZE];
    va_list arguments;
    va_start(arguments, format);
    format_text(what, sizeof what, format, arguments);
    va_end(arguments);
    char reason[64];
    return error_set(err, code_of_errno(errno_value), "%s: %s", what, strerror_r(errno_value, reason, sizeof reason));
}

bool(error_add_context)(struct error *err, const char *format, ...)
{
    if (!err || err->code == ERROR_NONE) return false;
    char context[ERROR_MESSAGE_SIZE / 2], cause[ERROR_MESSAGE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    format_text(context, sizeof context, format, arguments);
    va_end(arguments);
    memcpy(cause, err->message, sizeof cause);
    finish_text(err->message, sizeof err->message,
                snprintf(err->message, sizeof err->message, "%s: %s", context, cause));
    return false;
}

bool(error_set_no_memory)(struct error *err, unsigned long long bytes, const char *what)
{
    if (bytes == 0) return error_set(err, ERROR_NO_MEMORY, "out of memory for %s", what);
    return error_set(err, ERROR_NO_MEMORY, "out of memory (%llu bytes for %s)", bytes, what);
}

void error_clear(struct error *err)
{
    if (!err) return;
    err->code = ERROR_NONE;
    err->message[0] = '\0';
}
