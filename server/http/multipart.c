#include "server/http/multipart.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MAX_BOUNDARY 70 /* characters, RFC 2046 */
#define MAX_NAME     64
#define BUFFER_SIZE  8192 /* the head of a part must fit */

struct multipart {
    struct multipart_sink sink;
    char delimiter[MAX_BOUNDARY + 5]; /* "\r\n--boundary" */
    size_t delimiter_size;
    bool inside; /* a part */
    enum {
        BODY,      /* of a part, or what stands before the first one */
        DELIMITER, /* was read; "--" or a new line follows */
        HEAD,      /* of a part */
        END,       /* the form is over */
    } state;
    size_t used;
    char buffer[BUFFER_SIZE];
};

/* The text behind `name=` in a header's parameters, with or without quotes; false where there is none that fits. */
static bool read_parameter(const char *header, const char *name, char *out, size_t room)
{
    size_t n = strlen(name);
    for (const char *at = header; (at = strchr(at, ';'));) {
        at += 1 + strspn(at + 1, " \t");
        if (strncasecmp(at, name, n) != 0 || at[n] != '=') continue;
        at += n + 1;
        bool quoted = *at == '"';
        at += quoted;
        size_t length = strcspn(at, quoted ? "\"" : "; \t\r\n");
        if (length == 0 || length >= room || (quoted && at[length] != '"')) return false;
        memcpy(out, at, length);
        out[length] = '\0';
        return true;
    }
    return false;
}

struct multipart *multipart_new(const char *content_type, const struct multipart_sink *sink, struct error *err)
{
    struct multipart *multipart = calloc(1, sizeof *multipart);
    if (!multipart) {
        error_set_no_memory(err, sizeof *multipart, "a form");
        return NULL;
    }
    multipart->sink = *sink;
    /* Begin as if a line had just ended: a body begins with a delimiter. */
    memcpy(multipart->buffer, "\r\n", 2);
    multipart->used = 2;
    memcpy(multipart->delimiter, "\r\n--", 4);
    if (read_parameter(content_type, "boundary", multipart->delimiter + 4, MAX_BOUNDARY + 1)) {
        multipart->delimiter_size = strlen(multipart->delimiter);
        return multipart;
    }
    free(multipart);
    error_set(err, ERROR_INVALID, "the Content-Type of a form must have a boundary of 1 to %d characters",
              MAX_BOUNDARY);
    return NULL;
}

void multipart_free(struct multipart *multipart)
{
    free(multipart);
}

static void drop_bytes(struct multipart *multipart, size_t n)
{
    multipart->used -= n;
    memmove(multipart->buffer, multipart->buffer + n, multipart->used);
}

/* Each of these takes what it can from the buffer. *more: call the next one, by the state. */

static bool take_body(struct multipart *multipart, bool *more, struct error *err)
{
    const char *end = memmem(multipart->buffer, multipart->used, multipart->delimiter, multipart->delimiter_size);
    size_t kept = multipart->delimiter_size - 1; /* the beginning of a delimiter, maybe */
    size_t n = end ? (size_t)(end - multipart->buffer) : multipart->used > kept ? multipart->used - kept : 0;
    if (n > 0 && multipart->inside && !multipart->sink.data(multipart->buffer, n, multipart->sink.context, err))
        return false;
    drop_bytes(multipart, n + (end ? multipart->delimiter_size : 0));
    if (end) multipart->state = DELIMITER;
    *more = end;
    return true;
}

static bool take_delimiter(struct multipart *multipart, bool *more, struct error *err)
{
    *more = multipart->used >= 2;
    if (!*more) return true;
    bool last = memcmp(multipart->buffer, "--", 2) == 0;
    if (!last && memcmp(multipart->buffer, "\r\n", 2) != 0)
        return error_set(err, ERROR_INVALID, "the form's boundary is followed by neither a new line nor --");
    multipart->state = last ? END : HEAD;
    if (last) drop_bytes(multipart, 2); /* a new line may be the end of an empty head */
    return true;
}

/* The part's name, from the line Content-Disposition of its head. */
static bool read_name(const char *head, char name[MAX_NAME])
{
    static const char disposition[] = "\r\nContent-Disposition:";
    const char *line = strcasestr(head, disposition);
    if (!line) return false;
    line += sizeof disposition - 1;
    char value[512];
    size_t n = strcspn(line, "\r");
    if (n >= sizeof value) return false;
    memcpy(value, line, n);
    value[n] = '\0';
    return read_parameter(value, "name", name, MAX_NAME);
}

static bool take_head(struct multipart *multipart, bool *more, struct error *err)
{
    char name[MAX_NAME];
    char *end = memmem(multipart->buffer, multipart->used, "\r\n\r\n", 4);
    *more = end;
    if (!end && multipart->used == BUFFER_SIZE)
        return error_set(err, ERROR_INVALID, "the head of a part of the form is longer than %d bytes", BUFFER_SIZE);
    if (!end) return true;
    *end = '\0';
    if (!read_name(multipart->buffer, name))
        return error_set(
            err, ERROR_INVALID,
            "a part of the form has no name (Content-Disposition: form-data; name=\"...\"), or a longer one "
            "than %d characters",
            MAX_NAME - 1);
    drop_bytes(multipart, (size_t)(end - multipart->buffer) + 4);
    multipart->state = BODY;
    multipart->inside = true;
    return multipart->sink.part(name, multipart->sink.context, err);
}

static bool take_next(struct multipart *multipart, bool *more, struct error *err)
{
    switch (multipart->state) {
    case BODY:
        return take_body(multipart, more, err);
    case DELIMITER:
        return take_delimiter(multipart, more, err);
    case HEAD:
        return take_head(multipart, more, err);
    case END:
        break;
    }
    multipart->used = 0;
    *more = false;
    return true;
}

bool multipart_write(struct multipart *multipart, const char *data, size_t size, struct error *err)
{
    while (size > 0) {
        size_t room = BUFFER_SIZE - multipart->used, n = size < room ? size : room;
        memcpy(multipart->buffer + multipart->used, data, n);
        multipart->used += n;
        data += n;
        size -= n;
        for (bool more = true; more;)
            if (!take_next(multipart, &more, err)) return false;
    }
    return true;
}

bool multipart_finish(const struct multipart *multipart, struct error *err)
{
    return multipart->state == END ||
           error_set(err, ERROR_INVALID, "the form has no end: its last boundary is missing");
}
