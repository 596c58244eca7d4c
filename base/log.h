/* The log: one event is one line and one write(2) to stderr, so lines of threads never mix.
 *
 * Format logfmt (`time=... level=info event="model loaded" model=headlines ms=12`) or JSON lines. Values are quoted and
 * escaped as the format needs, so untrusted text cannot forge a line. Never give it prompt or generated text.
 * log_configure() is called once before threads start; log_event() is thread-safe and keeps errno.
 */
#ifndef LSTMD_BASE_LOG_H
#define LSTMD_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level {
    LOG_DEBUG,   /* details for finding a fault */
    LOG_INFO,    /* a normal event */
    LOG_WARNING, /* somebody should know; the program goes on */
    LOG_ERROR,   /* something failed */
};
enum log_format {
    LOG_LOGFMT, /* key=value key="a value" */
    LOG_JSON,   /* an object per line */
};

void log_configure(enum log_level least, enum log_format format);

struct log_field {
    const char *key; /* NULL ends the list */
    enum {
        LOG_FIELD_TEXT,    /* `text` */
        LOG_FIELD_INTEGER, /* `integer` */
        LOG_FIELD_REAL,    /* `real` */
    } type;
    const char *text; /* NULL: the field is left out */
    int64_t integer;
    double real; /* printed with three decimals */
};

#define LOG_TEXT(name, value) ((struct log_field){.key = (name), .type = LOG_FIELD_TEXT, .text = (value)})
#define LOG_INTEGER(name, value)                                                                                       \
    ((struct log_field){.key = (name), .type = LOG_FIELD_INTEGER, .integer = (int64_t)(value)})
#define LOG_REAL(name, value) ((struct log_field){.key = (name), .type = LOG_FIELD_REAL, .real = (double)(value)})

/* log_event(LOG_INFO, "listening", LOG_TEXT("address", a), LOG_INTEGER("port", p)); at least one field. */
#define log_event(level, event, ...)                                                                                   \
    log_write((level), (event), (const struct log_field[]){__VA_ARGS__, (struct log_field){.key = 0}})

/* fields: an array that a NULL key ends; NULL: no fields. */
void log_write(enum log_level level, const char *event, const struct log_field *fields);

/* Whether events of this level are written. */
bool log_enabled(enum log_level level);

#endif
