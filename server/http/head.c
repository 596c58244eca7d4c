/* Source: RFC 9112. libmicrohttpd 0.9.75 reads heads generously: it ends a value at a NUL character, joins folded lines
 * to the header's name, ends a line at a bare LF, uses the first of two lengths, and accepts Content-Length beside
 * Transfer-Encoding. A proxy that reads the same bytes in another way can be made to take a part of one request for
 * another one ("request smuggling").
 *
 * The library shows where in its memory it found each name and value, and it moves no byte of an ordinary line. So a
 * head is sound if each piece stands exactly behind the one before: a NUL, a fold or a bare LF leaves a gap. (One pair
 * leaves none: NUL and LF in the place of CR and LF. It is read as the end of the line, as the LF alone would be. The
 * library leaves two NULs there in both cases.)
 */
#include "server/http/head.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define LINE_END ((size_t)2) /* CR LF */

/* Headers that have one value: two of them mean two things to two readers. */
enum once {
    HOST,          /* Host */
    LENGTH,        /* Content-Length */
    CODING,        /* Transfer-Encoding */
    TYPE,          /* Content-Type */
    AUTHORIZATION, /* Authorization */
    EXPECT,        /* Expect */
    ONCE_COUNT,    /* their number */
};

static const char *const once_names[ONCE_COUNT] = {
    [HOST] = "Host",         [LENGTH] = "Content-Length",       [CODING] = "Transfer-Encoding",
    [TYPE] = "Content-Type", [AUTHORIZATION] = "Authorization", [EXPECT] = "Expect",
};

struct head_check {
    struct http_request *request;
    const char *next; /* where the next line must begin; NULL: not known */
    size_t line;
    const char *once[ONCE_COUNT]; /* values, or NULL */
};

static bool is_token(const char *text, size_t n)
{
    static const char marks[] = "!#$%&'*+-.^_`|~";
    for (size_t i = 0; i < n; i++) {
        const char lower = (char)(text[i] | 0x20);
        const bool letter = (lower >= 'a' && lower <= 'z') || (text[i] >= '0' && text[i] <= '9');
        if (!letter && (text[i] == '\0' || !strchr(marks, text[i]))) return false;
    }
    return n > 0;
}

/* The first byte that is a control character other than `allowed`; n: there is none. */
static size_t find_control(const char *text, size_t n, char allowed)
{
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)text[i];
        if ((c < ' ' || c == 0x7f) && text[i] != allowed) return i;
    }
    return n;
}

/* --- Lines --- */

/* The pieces are compared as numbers: a folded line lies in other memory. */
static bool stands_behind(const char *piece, const char *before, size_t gap)
{
    return (uintptr_t)piece == (uintptr_t)before + gap;
}

static void check_request_line(struct head_check *check, const struct library_head *head)
{
    struct http_request *request = check->request;
    const size_t method = strlen(head->method), version = strlen(head->version);
    if (!is_token(head->method, method) || !stands_behind(head->target, head->method, method + 1) ||
        !stands_behind(head->version, head->target, request->target_size + 1) || strchr(request->target, ' ') ||
        find_control(request->target, request->target_size, '\0') < request->target_size)
        problem_set(&request->problem, 400,
                    "the request line must be a method, a target and a version with one space between them, and "
                    "without control characters");
    check->next = head->version + version + LINE_END;
}

static void check_layout(struct head_check *check, const struct library_field *field)
{
    check->line++;
    if (!check->next) return;
    const bool value_behind = (uintptr_t)field->value >= (uintptr_t)field->name + field->name_size + 1;
    if (!stands_behind(field->name, check->next, 0) || !value_behind)
        problem_set(&check->request->problem, 400,
                    "line %zu of the head, or the one before it, is folded, holds a NUL character or does not end with "
                    "CR LF",
                    check->line + 1);
    check->next = field->value + field->value_size + LINE_END;
}

static void check_last_line(const struct head_check *check, const struct library_head *head)
{
    const size_t size = library_head_size(check->request->connection);
    if (!stands_behind(check->next, head->method, size - LINE_END))
        problem_set(&check->request->problem, 400,
                    "the last line of the head is folded, holds a NUL character or does not end with CR LF");
}

static void check_characters(const struct head_check *check, const struct library_field *field)
{
    struct problem *problem = &check->request->problem;
    if (!is_token(field->name, field->name_size))
        problem_set(
            problem, 400,
            "the header name \"%.60s\" may have letters, digits and !#$%%&'*+-.^_`|~ alone, and no space before "
            "the colon",
            field->name);
    else if (find_control(field->value, field->value_size, '\t') < field->value_size)
        problem_set(problem, 400, "the header %.60s holds a control character", field->name);
}

static void keep_once(struct head_check *check, const struct library_field *field)
{
    for (size_t i = 0; i < ONCE_COUNT; i++) {
        if (strcasecmp(field->name, once_names[i]) != 0) continue;
        if (check->once[i]) problem_set(&check->request->problem, 400, "the header %s came twice", once_names[i]);
        check->once[i] = field->value;
    }
    if (strcasecmp(field->name, "Content-Encoding") == 0 && strcasecmp(field->value, "identity") != 0)
        check->request->encoding = field->value;
}

static bool check_field(void *context, const struct library_field *field)
{
    struct head_check *check = context;
    check_layout(check, field);
    check_characters(check, field);
    keep_once(check, field);
    return true;
}

/* --- What they say --- */

static void check_length(struct problem *problem, const char *length)
{
    errno = 0;
    if (!*length || length[strspn(length, "0123456789")] != '\0')
        problem_set(problem, 400, "Content-Length \"%.60s\" is no number of bytes", length);
    else if (strtoull(length, NULL, 10) == UINT64_MAX)
        problem_set(problem, 413, "Content-Length %.60s is more than any body may have", length);
}

static void check_coding(struct problem *problem, const char *coding)
{
    static const char chunked[] = "chunked";
    const size_t n = strlen(coding), last = sizeof chunked - 1;
    if (strcasecmp(coding, chunked) == 0) return;
    const bool ends = n > last && strcasecmp(coding + n - last, chunked) == 0 && strchr(", \t", coding[n - last - 1]);
    if (!ends || strcasestr(coding, chunked) != coding + n - last)
        problem_set(problem, 400,
                    "the body has no end that can be found: the last Transfer-Encoding must be chunked, "
                    "once; it is \"%.60s\"",
                    coding);
    else
        problem_set(problem, 501, "Transfer-Encoding \"%.60s\" is not served; chunked alone is", coding);
}

static void check_framing(struct head_check *check, bool old)
{
    struct problem *problem = &check->request->problem;
    const char *length = check->once[LENGTH], *coding = check->once[CODING], *expect = check->once[EXPECT];
    if (length && coding)
        problem_set(problem, 400, "a request has Content-Length or Transfer-Encoding, and never both");
    if (coding && old) problem_set(problem, 400, "HTTP/1.0 has no Transfer-Encoding");
    if (length) check_length(problem, length);
    if (coding) check_coding(problem, coding);
    if (expect && strcasecmp(expect, "100-continue") != 0)
        problem_set(problem, 417, "Expect may be 100-continue, not \"%.60s\"", expect);
}

void http_head_check(struct http_request *request, const struct library_head *head)
{
    struct head_check check = {.request = request};
    const bool old = head && strcmp(head->version, "HTTP/1.0") == 0;
    if (head) check_request_line(&check, head);
    library_visit_headers(request->connection, check_field, &check);
    if (head) check_last_line(&check, head);
    check_framing(&check, old);
    if (!check.once[HOST] && !old && head) problem_set(&request->problem, 400, "HTTP/1.1 needs the header Host");
    if (request->problem.status) request->early = true;
}

void http_head_check_size(struct http_request *request)
{
    const struct http_options *options = &request->server->options;
    const size_t memory = library_head_memory(request->connection);
    request->crowded = memory > options->max_header;
    if (request->target_size > options->max_url)
        problem_set(&request->problem, 414, "the URL is longer than limits.max_url, %zu bytes", options->max_url);
    else if (request->crowded)
        problem_set(&request->problem, 431,
                    "request line and headers take %zu bytes (64 are added for each header and cookie, and "
                    "cookies count twice), more than limits.max_header, %zu bytes",
                    memory, options->max_header);
}
