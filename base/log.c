#include "base/log.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/utf8.h"

#define LINE_SIZE 4096 /* the longest line, and PIPE_BUF of Linux: a write of this size to a pipe is atomic */
#define TEXT_SIZE 1024 /* bytes of a text value that are logged; a longer one ends with "..." */
#define TAIL_SIZE 32   /* reserved for the mark of a cut line and the line's end */

static enum log_level least_level = LOG_INFO;
static enum log_format line_format = LOG_LOGFMT;

struct line {
    size_t length;
    bool full; /* text was left out since the flag was cleared */
    char text[LINE_SIZE];
};

void log_configure(enum log_level least, enum log_format format)
{
    least_level = least;
    line_format = format;
}

bool log_enabled(enum log_level level)
{
    return level >= least_level;
}

static void log_append(struct line *line, const char *text, size_t n)
{
    if (line->full || n > LINE_SIZE - TAIL_SIZE - line->length) {
        line->full = true;
        return;
    }
    /* cppcheck-suppress uninitvar ; the address alone is passed, of what is written here */
    memcpy(line->text + line->length, text, n);
    line->length += n;
}

static void append_text(struct line *line, const char *text)
{
    log_append(line, text, strlen(text));
}

/* Characters that could end the line or make a terminal or viewer show other text: controls, line and paragraph
 * separators, and the marks that reorder text. All are below U+10000. */
static bool is_hidden(uint32_t c)
{
    return c < 0x20 || (c >= 0x7F && c < 0xA0) || (c >= 0x200E && c <= 0x200F) || (c >= 0x2028 && c <= 0x202E) ||
           (c >= 0x2066 && c <= 0x2069) || c == 0xFEFF;
}

static void append_character(struct line *line, uint32_t c)
{
    char out[8];
    if (c == '"' || c == '\\') {
        out[0] = '\\';
        out[1] = (char)c;
        log_append(line, out, 2);
    } else if (c == '\n' || c == '\t' || c == '\r') {
        append_text(line, c == '\n' ? "\\n" : c == '\t' ? "\\t" : "\\r");
    } else if (is_hidden(c)) {
        log_append(line, out, (size_t)snprintf(out, sizeof out, "\\u%04x", (unsigned)(c & 0xFFFF)));
    } else {
        log_append(line, out, utf8_encode(c, out));
    }
}

static void append_quoted(struct line *line, const char *text)
{
    size_t n = strnlen(text, TEXT_SIZE + 1), end = n;
    if (n > TEXT_SIZE) end = utf8_complete_prefix(text, TEXT_SIZE);
    log_append(line, "\"", 1);
    for (size_t at = 0; at < end;) {
        uint32_t c = UTF8_REPLACEMENT;
        size_t length = utf8_decode(text + at, end - at, &c);
        append_character(line, c);
        at += length > 0 ? length : 1;
    }
    append_text(line, end < n ? "...\"" : "\"");
}

/* Whether a logfmt reader takes the text without quotes. */
static bool is_bare(const char *text)
{
    size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-+:/@%,");
    return n > 0 && n <= TEXT_SIZE && text[n] == '\0';
}

static void append_value(struct line *line, const struct log_field *field)
{
    char number[352]; /* the longest double has 309 digits before the point */
    bool json = line_format == LOG_JSON;
    switch (field->type) {
    case LOG_FIELD_TEXT:
        if (!json && is_bare(field->text))
            append_text(line, field->text);
        else
            append_quoted(line, field->text);
        return;
    case LOG_FIELD_INTEGER:
        snprintf(number, sizeof number, "%lld", (long long)field->integer);
        break;
    case LOG_FIELD_REAL:
        snprintf(number, sizeof number, "%.3f", field->real);
        if (json && !isfinite(field->real)) strcpy(number, "null");
        break;
    }
    append_text(line, number);
}

/* Leaves out a field that does not fit completely, so that the line stays valid in its format. */
static bool append_field(struct line *line, const struct log_field *field)
{
    size_t before = line->length;
    bool json = line_format == LOG_JSON;
    if (before > 0) log_append(line, json ? "," : " ", 1);
    if (json) append_text(line, before > 0 ? "\"" : "{\"");
    append_text(line, field->key);
    append_text(line, json ? "\":" : "=");
    append_value(line, field);
    if (!line->full) return true;
    line->length = before;
    line->full = false;
    return false;
}

static void finish_line(struct line *line, bool cut)
{
    bool json = line_format == LOG_JSON;
    const char *tail = json ? (cut ? ",\"cut\":true}\n" : "}\n") : (cut ? " cut=true\n" : "\n");
    size_t n = strlen(tail);
    memcpy(line->text + line->length, tail, n);
    line->length += n;
}

/* It ignores errors: there is no place to report that the log cannot be written. */
static void write_line(const struct line *line)
{
    size_t done = 0;
    while (done < line->length) {
        ssize_t n = write(STDERR_FILENO, line->text + done, line->length - done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return;
        done += (size_t)n;
    }
}

void log_write(enum log_level level, const char *event, const struct log_field *fields)
{
    static const char *const names[] = {"debug", "info", "warning", "error"};
    if (!log_enabled(level)) return;
    int saved = errno;
    struct line line;
    line.length = 0;
    line.full = false;
    char now[CLOCK_UTC_SIZE];
    clock_utc_text(now);
    append_field(&line, &LOG_TEXT("time", now));
    append_field(&line, &LOG_TEXT("level", names[level]));
    bool cut = !append_field(&line, &LOG_TEXT("event", event));
    for (; fields && fields->key; fields++) {
        if (fields->type == LOG_FIELD_TEXT && !fields->text) continue;
        if (!append_field(&line, fields)) cut = true;
    }
    finish_line(&line, cut);
    write_line(&line);
    errno = saved;
}
