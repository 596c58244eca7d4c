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
    if (!reading_open(&reader->reading, stepper, generation->prompt.ids, vocabulary_pad(generation->vocabulary), false,
                      &err)) {
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
    reading_close(&reader->reading);
}

/* Feeds tokens until the turn or the text is over, or the request is. */
static void text_reader_feed(struct text_reader *reader)
{
    const uint64_t begun_ns = clock_monotonic_ns();
    for (uint64_t now = begun_ns; now - begun_ns < SCORED_TEXT_SLICE_NS; now = clock_monotonic_ns()) {
        const size_t i = reader->read;
        if (i >= reader->count)
            reader->outcome = TEXT_READ;
        else if (atomic_load(&reader->gone))
            reader->outcome = TEXT_LEFT;
        else if (atomic_load(&reader->services->closing))
            reader->outcome = TEXT_CLOSED;
        else if (now >= reader->deadline_ns)
            reader->outcome = TEXT_LATE;
        if (reader->outcome != TEXT_READING) return;
        reading_feed(&reader->reading, i, i >= reader->wanted_from);
        if (reader->kind->fed) reader->kind->fed(reader, i);
        reader->read++;
    }
}

/* Runs in the scorer's thread: one turn. The text's next turn comes after those of all others that wait. */
static void text_reader_turn(struct task *task)
{
    struct text_reader *reader = (struct text_reader *)task;
    if (reader->reading.state || text_reader_begin(reader)) text_reader_feed(reader);
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
    atomic_fetch_add(&reader->references, 1);
    text_reply(request, 200, "application/json",
               &(struct text_source){.write = reader->kind->write,
                                     .release = text_reader_release,
                                     .context = reader,
                                     .worker = reader->services->writer});
}

static void text_reader_resumed(struct http_request *request, void *context)
{
    struct text_reader *reader = context;
    struct problem problem = {0};
    const size_t read = reader->outcome == TEXT_READ ? reader->text.generation.prompt.count : reader->read;
    http_request_log(request, LOG_INTEGER("prompt_tokens", read));
    metrics_add(reader->services->metrics, METRICS_SCORED_TOKENS, read);
    http_reply_header(request, "Cache-Control", "no-store");
    switch (reader->outcome) {
    case TEXT_READ:
        text_reader_reply(request, reader);
        return;
    case TEXT_LEFT:
        http_reply_nothing(request);
        return;
    case TEXT_CLOSED:
        problem_set(&problem, 503, "the daemon was shut down before the text was read");
        break;
    case TEXT_LATE:
        problem_set_timeout(&problem, "the text was not read", reader->services->config->request_timeout,
                            reader->read > 0);
        break;
    case TEXT_READING:
    case TEXT_NO_MEMORY:
        problem_set(&problem, 503, "out of memory");
        break;
    }
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
    if (problem.status) return completion_refuse(request, &problem);
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
