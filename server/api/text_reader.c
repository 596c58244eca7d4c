#include "server/api/text_reader.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "server/api/completion.h"

static void text_reader_release(void *context)
{
    struct text_reader *reader = context;
    if (atomic_fetch_sub(&reader->references, 1) > 1) return;
    if (reader->kind->close) reader->kind->close(reader);
    reading_close(&reader->reading);
    json_writer_close(&reader->ready);
    scored_text_close(&reader->text);
    json_decref(reader->body);
    registry_release(reader->served);
    free(reader);
}

/* The text begins with the state that the request has, if any. */
static bool text_reader_begin(struct text_reader *reader)
{
    const struct generation *generation = &reader->text.generation;
    const struct stepper *stepper = &reader->served->stepper;
    struct error err = {0};
    const struct reading_options options = {.ids = generation->prompt.ids,
                                            .count =
                                                reader->kind->is_streamed ? generation->prompt.count : reader->count,
                                            .wanted_from = reader->wanted_from,
                                            .pad = vocabulary_pad(generation->vocabulary),
                                            .each_state = reader->kind->is_streamed,
                                            .keep_gates = reader->keep_gates,
                                            .carries = reader->text.carried.state};
    if (!reading_open(&reader->reading, stepper, &options, &err)) {
        reader->outcome = TEXT_NO_MEMORY;
        return false;
    }
    if (reader->text.carried.state)
        memcpy(reader->reading.state, reader->text.carried.state, stepper->state_size * sizeof(float));
    return true;
}

/* The state that the text ends with goes where that came from which it began with. */
static void text_reader_end(struct text_reader *reader)
{
    const size_t bytes = reader->served->stepper.state_size * sizeof(float);
    if (reader->outcome == TEXT_READ && reader->text.carried.state)
        memcpy(reader->text.carried.state, reader->reading.state, bytes);
    if (!reader->kind->is_streamed) reading_close(&reader->reading);
}

/* Sets the outcome if the request is over. */
static void text_reader_look(struct text_reader *reader, uint64_t now)
{
    const uint64_t limit_ns = (uint64_t)(reader->services->config->request_timeout * 1e9);
    if (atomic_load(&reader->gone))
        reader->outcome = TEXT_LEFT;
    else if (atomic_load(&reader->services->closing))
        reader->outcome = TEXT_CLOSED;
    else if (reader->is_replied ? reader->spent_ns >= limit_ns : now >= reader->deadline_ns)
        reader->outcome = TEXT_LATE;
}

bool text_reader_next(struct text_reader *reader)
{
    const size_t i = reader->read;
    text_reader_look(reader, clock_monotonic_ns());
    if (reader->outcome != TEXT_READING) return false;
    reading_feed(&reader->reading, i);
    if (reader->kind->fed) reader->kind->fed(reader, i);
    reader->read++;
    return true;
}

/* Feeds tokens until the turn or the text is over, or the request is. */
static void text_reader_feed(struct text_reader *reader)
{
    const uint64_t begun_ns = clock_monotonic_ns();
    for (uint64_t now = begun_ns; now - begun_ns < SCORED_TEXT_SLICE_NS; now = clock_monotonic_ns()) {
        if (reader->read >= reader->count) reader->outcome = TEXT_READ;
        if (reader->outcome != TEXT_READING || !text_reader_next(reader)) return;
    }
}

/* A streamed kind: writes the first buffer, until it is full or the turn, the answer or the request is over. */
static void text_reader_write_first(struct text_reader *reader)
{
    const uint64_t begun_ns = clock_monotonic_ns();
    while (reader->outcome == TEXT_READING && clock_monotonic_ns() - begun_ns < SCORED_TEXT_SLICE_NS) {
        const enum text_state state = reader->kind->write(reader, &reader->ready, NULL);
        if (reader->outcome != TEXT_READING) return;
        if (reader->ready.failed || state == TEXT_BROKEN) {
            reader->outcome = TEXT_NO_MEMORY;
        } else if (state == TEXT_END || reader->ready.size >= TEXT_REPLY_BUFFER) {
            reader->is_written = state == TEXT_END;
            reader->outcome = TEXT_READ;
        }
    }
}

/* As struct text_source has it: first what is ready, then what the kind writes, a turn at a time. */
static enum text_state text_reader_write(void *context, struct json_writer *out, struct error *err)
{
    struct text_reader *reader = context;
    const uint64_t now = clock_monotonic_ns();
    if (reader->ready.text) {
        json_write(out, reader->ready.text, reader->ready.size);
        json_writer_close(&reader->ready);
        return reader->is_written ? TEXT_END : TEXT_MORE;
    }
    if (out->size == 0)
        reader->turn_ns = now;
    else if (now - reader->turn_ns >= SCORED_TEXT_SLICE_NS)
        return TEXT_TURN;
    const enum text_state state = reader->kind->write(reader, out, err);
    reader->spent_ns += clock_monotonic_ns() - now;
    return state;
}

/* Runs in the scorer's thread: one turn. The text's next turn comes after those of all others that wait. */
static void text_reader_turn(struct task *task)
{
    struct text_reader *reader = (struct text_reader *)task;
    if (reader->reading.state || text_reader_begin(reader)) {
        if (reader->kind->is_streamed)
            text_reader_write_first(reader);
        else
            text_reader_feed(reader);
    }
    if (reader->outcome == TEXT_READING) {
        if (worker_submit(reader->services->scorer, &reader->task)) return;
        reader->outcome = TEXT_CLOSED;
    }
    text_reader_end(reader);
    atomic_fetch_sub(&reader->services->scores, 1);
    http_request_resume(reader->request);
}

static void text_reader_gone(void *context)
{
    atomic_store(&((struct text_reader *)context)->gone, true);
}

static void text_reader_reply(struct http_request *request, struct text_reader *reader)
{
    const bool is_streamed = reader->kind->is_streamed;
    atomic_fetch_add(&reader->references, 1);
    if (is_streamed) reader->outcome = TEXT_READING;
    reader->is_replied = true;
    text_reply(request, 200, reader->content_type ? reader->content_type : "application/json",
               &(struct text_source){.write = is_streamed ? text_reader_write : reader->kind->write,
                                     .release = text_reader_release,
                                     .context = reader,
                                     .worker = is_streamed ? reader->services->scorer : reader->services->writer});
}

void text_reader_set_problem(const struct text_reader *reader, struct problem *problem)
{
    switch (reader->outcome) {
    case TEXT_CLOSED:
        problem_set(problem, 503, "the daemon was shut down before the text was read");
        break;
    case TEXT_LATE:
        problem_set_timeout(problem, "the text was not read", reader->services->config->request_timeout,
                            reader->read > 0);
        break;
    case TEXT_READ:
    case TEXT_LEFT:
    case TEXT_READING:
    case TEXT_NO_MEMORY:
        problem_set(problem, 503, "out of memory");
        break;
    }
}

static void text_reader_resumed(struct http_request *request, void *context)
{
    struct text_reader *reader = context;
    struct problem problem = {0};
    const size_t read = reader->outcome == TEXT_READ ? reader->text.generation.prompt.count : reader->read;
    http_request_log(request, LOG_INTEGER("prompt_tokens", read));
    metrics_add(reader->services->metrics, METRICS_SCORED_TOKENS, read);
    http_reply_header(request, "Cache-Control", "no-store");
    if (reader->outcome == TEXT_READ) {
        text_reader_reply(request, reader);
        return;
    }
    if (reader->outcome == TEXT_LEFT) {
        http_reply_nothing(request);
        return;
    }
    text_reader_set_problem(reader, &problem);
    http_reply_problem(request, &problem);
    problem_close(&problem);
}

/* The struct of the kind. NULL with the problem. Consumes the body. */
static struct text_reader *text_reader_new(struct http_request *request, struct services *services,
                                           const struct text_reader_kind *kind, json_t *body, struct problem *problem)
{
    struct text_reader *reader = calloc(1, kind->size);
    if (!reader) {
        json_decref(body);
        problem_set(problem, 503, "out of memory");
        return NULL;
    }
    atomic_init(&reader->references, 1);
    reader->kind = kind;
    reader->request = request;
    reader->services = services;
    reader->body = body;
    http_request_on_release(request, text_reader_release, reader);
    const struct field_table table = {kind->rows, kind->row_count};
    fields_read_json(&table, reader, body, NULL, problem);
    reader->served = completion_acquire(services, &reader->text.model, problem);
    if (reader->served) kind->open(reader, problem);
    return reader;
}

enum http_outcome text_reader_run(struct http_request *request, struct services *services,
                                  const struct text_reader_kind *kind)
{
    struct problem problem = {0};
    size_t size;
    if (completion_is_draining(request, services)) return HTTP_REPLIED;
    const char *text = http_request_body(request, &size);
    json_t *body = fields_parse_body(text, size, &problem);
    struct text_reader *reader = body ? text_reader_new(request, services, kind, body, &problem) : NULL;
    if (!reader || problem.status) return completion_refuse(request, &problem);
    http_request_suspend(
        request, &(struct http_waiter){.resumed = text_reader_resumed, .gone = text_reader_gone, .context = reader});
    reader->task.run = text_reader_turn;
    reader->deadline_ns = clock_monotonic_ns() + (uint64_t)(services->config->request_timeout * 1e9);
    if (scored_text_submit(services, &reader->task)) return HTTP_LATER;
    problem_set(&problem, 503, "too many texts are waiting to be scored; try again later");
    completion_refuse(request, &problem);
    http_request_resume(request);
    return HTTP_LATER;
}
