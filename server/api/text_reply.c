#include "server/api/text_reply.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define REPORT_QUIET_SECONDS 60.0 /* a stream that waits for its worker needs no other wake */

/* The stream holds a reference until it is over, the worker while it fills a buffer. While `filling`, the worker owns
 * `filled` and `state`; else the HTTP thread does. `sending` is always the HTTP thread's. */
struct text_reply {
    struct task task; /* first: the worker gives it back */
    struct http_stream stream;
    struct text_source source;
    struct json_writer sending, filled;
    size_t sent;           /* of `sending` */
    enum text_state state; /* of the source behind `filled` */
    bool is_last;          /* nothing follows `sending` */
    atomic_bool filling, gone;
    atomic_uint references;
};

static void text_reply_drop(struct text_reply *reply)
{
    if (atomic_fetch_sub(&reply->references, 1) > 1) return;
    if (reply->source.release) reply->source.release(reply->source.context);
    json_writer_close(&reply->sending);
    json_writer_close(&reply->filled);
    free(reply);
}

static void text_reply_fill(struct text_reply *reply, struct error *err)
{
    const struct text_source *source = &reply->source;
    reply->filled.size = 0;
    while (reply->state == TEXT_MORE && reply->filled.size < TEXT_REPLY_BUFFER && !atomic_load(&reply->gone))
        reply->state = source->write(source->context, &reply->filled, err);
    if (reply->state == TEXT_TURN) reply->state = TEXT_MORE;
    if (!reply->filled.failed) return;
    reply->state = TEXT_BROKEN;
    error_set_no_memory(err, reply->filled.capacity, "the answer");
}

/* The worker's thread. */
static void text_reply_refill(struct task *task)
{
    struct text_reply *reply = (struct text_reply *)task;
    text_reply_fill(reply, NULL);
    atomic_store(&reply->filling, false);
    http_stream_wake(&reply->stream);
    text_reply_drop(reply);
}

/* Asks the worker for the next buffer; false: the daemon ends. */
static bool text_reply_ask(struct text_reply *reply)
{
    atomic_store(&reply->filling, true);
    atomic_fetch_add(&reply->references, 1);
    reply->task.run = text_reply_refill;
    if (worker_submit(reply->source.worker, &reply->task)) return true;
    atomic_fetch_sub(&reply->references, 1);
    return false;
}

/* Takes what the worker has filled, and lets it fill the other buffer meanwhile. */
static bool text_reply_swap(struct text_reply *reply)
{
    const struct json_writer sent = reply->sending;
    reply->sending = reply->filled;
    reply->filled = sent;
    reply->sent = 0;
    reply->is_last = reply->state == TEXT_END;
    return reply->is_last || text_reply_ask(reply);
}

static size_t read_buffer(void *context, char *out, size_t size)
{
    struct text_reply *reply = context;
    if (atomic_load(&reply->gone)) return HTTP_STREAM_BROKEN;
    while (reply->sent == reply->sending.size) {
        if (reply->is_last) return HTTP_STREAM_END;
        if (atomic_load(&reply->filling)) return 0;
        if (reply->state == TEXT_BROKEN || !text_reply_swap(reply)) return HTTP_STREAM_BROKEN;
    }
    const size_t left = reply->sending.size - reply->sent, n = left < size ? left : size;
    memcpy(out, reply->sending.text + reply->sent, n);
    reply->sent += n;
    return n;
}

static void text_reply_over(struct http_request *request, bool complete, void *context)
{
    struct text_reply *reply = context;
    (void)request, (void)complete;
    atomic_store(&reply->gone, true);
    text_reply_drop(reply);
}

static void text_reply_gone(void *context)
{
    atomic_store(&((struct text_reply *)context)->gone, true);
}

static void text_reply_refuse(struct http_request *request, const struct error *err)
{
    struct problem problem = {0};
    problem_set_error(&problem, err);
    http_reply_problem(request, &problem);
    problem_close(&problem);
}

/* The whole answer is in the buffer; the reply takes its memory. */
static void reply_whole(struct http_request *request, int status, const char *content_type, struct text_reply *reply)
{
    http_reply(request, status, content_type, reply->filled.text, reply->filled.size, HTTP_TAKEN);
    reply->filled = (struct json_writer){0};
}

void text_reply(struct http_request *request, int status, const char *content_type, const struct text_source *source)
{
    struct error err = {0};
    struct text_reply *reply = calloc(1, sizeof *reply);
    if (!reply) {
        if (source->release) source->release(source->context);
        error_set_no_memory(&err, sizeof *reply, "the answer");
        text_reply_refuse(request, &err);
        return;
    }
    reply->source = *source;
    atomic_init(&reply->references, 1);
    text_reply_fill(reply, &err);
    if (reply->state == TEXT_MORE) {
        reply->stream.read = read_buffer;
        reply->stream.over = text_reply_over;
        reply->stream.gone = text_reply_gone;
        reply->stream.context = reply;
        reply->stream.quiet_seconds = REPORT_QUIET_SECONDS;
        http_reply_stream(request, status, content_type, &reply->stream);
        return;
    }
    if (reply->state == TEXT_END)
        reply_whole(request, status, content_type, reply);
    else
        text_reply_refuse(request, &err);
    text_reply_drop(reply);
}

void text_write_json(struct json_writer *out, json_t *value)
{
    const size_t flags = JSON_COMPACT | JSON_REAL_PRECISION(15);
    const size_t n = value ? json_dumpb(value, NULL, 0, flags) : 0;
    char *text = n > 0 ? json_writer_room(out, n) : NULL;
    if (text && json_dumpb(value, text, n, flags) == n)
        out->size += n;
    else
        out->failed = true;
    json_decref(value);
}
