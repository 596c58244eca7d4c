/* The stream of a completion: it makes a server-sent event when the client can take one, from the text that is ready by
 * then. So a slow client gets fewer and larger events, and the daemon keeps only the text and one event for it. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "server/api/completion_internal.h"

#define PIECE_BYTES          ((size_t)2048) /* most text of one event */
#define PIECE_BYTES_LOGPROBS ((size_t)64)   /* the same where each token brings twenty alternatives */

static const char ping[] = ": ping\n\n";

static void stream_begin_event(struct completion *completion, const char *prefix)
{
    completion->event.size = completion->event_sent = 0;
    json_write(&completion->event, prefix, strlen(prefix));
}

/* False without memory; then there is no event. */
static bool stream_end_event(struct completion *completion)
{
    struct json_writer *event = &completion->event;
    json_write_literal(event, "\n\n");
    if (!event->failed) return true;
    json_writer_close(event);
    return false;
}

/* Ends the stream with an error event. ENGINE_CANCELLED (the client left, or memory is out) breaks it off. */
static bool stream_fail(struct completion *completion, enum engine_outcome outcome)
{
    completion->ended = true;
    completion->failed = outcome == ENGINE_CANCELLED;
    completion_cancel(completion);
    if (outcome == ENGINE_CANCELLED) return false;
    struct problem problem = {0};
    struct problem_document document;
    completion_set_failure(completion, outcome, &problem);
    const bool good = problem_write(&problem, http_request_path(completion->request), &document);
    problem_close(&problem);
    if (!good) return false;
    stream_begin_event(completion, "event: error\ndata: ");
    json_write(&completion->event, document.text, document.size);
    free(document.text);
    return stream_end_event(completion);
}

/* How many of tokens[first .. ready) end within the first `end` bytes of the text. */
static size_t stream_count_tokens(const struct generation *generation, size_t first, size_t ready, size_t end)
{
    size_t count = 0;
    while (first + count < ready && generation->tokens[first + count].text_end <= end) count++;
    return count;
}

/* Finds the text of a continuation that is ready and not sent; false: there is none. */
static bool stream_next_piece(struct completion *completion, size_t index, struct completion_piece *piece)
{
    struct completion_part *part = &completion->parts[index];
    const struct generation *generation = &part->job.generation;
    if (part->closed) return false;
    const bool over = atomic_load(&part->over);
    const size_t text_end = over ? generation->text_bytes : atomic_load(&part->text_ready);
    const size_t ready = over ? generation->produced : atomic_load(&part->tokens_ready);
    const size_t most = completion->fields.logprobs > 0 ? PIECE_BYTES_LOGPROBS : PIECE_BYTES;
    *piece = (struct completion_piece){.index = index,
                                       .text = generation->text + part->sent_text,
                                       .size = text_end - part->sent_text,
                                       .first_token = part->sent_tokens};
    if (piece->size > most) piece->size = utf8_complete_prefix(piece->text, most);
    piece->last = over && part->sent_text + piece->size == text_end;
    piece->token_count = piece->last
                             ? ready - part->sent_tokens
                             : stream_count_tokens(generation, part->sent_tokens, ready, part->sent_text + piece->size);
    return piece->size > 0 || piece->last;
}

static bool stream_send_piece(struct completion *completion, const struct completion_piece *piece)
{
    struct completion_part *part = &completion->parts[piece->index];
    stream_begin_event(completion, "data: ");
    completion->dialect->event(completion, piece, &completion->event);
    if (!stream_end_event(completion)) {
        stream_fail(completion, ENGINE_CANCELLED);
        return false;
    }
    part->sent_text += piece->size;
    part->sent_tokens += piece->token_count;
    part->closed = piece->last;
    return true;
}

/* Sends what the dialect has behind the last event, then [DONE]. */
static bool stream_send_end(struct completion *completion)
{
    completion->ended = true;
    stream_begin_event(completion, "data: ");
    if (completion->dialect->after && completion->dialect->after(completion, &completion->event))
        json_write_literal(&completion->event, "\n\ndata: ");
    json_write_literal(&completion->event, "[DONE]");
    return stream_end_event(completion);
}

/* Makes the next event; false: there is none yet. Continuations take turns. */
static bool stream_next_event(struct completion *completion)
{
    struct completion_piece piece;
    size_t open = 0;
    if (completion->ended) return false;
    for (size_t k = 0; k < completion->count; k++) {
        const size_t i = (completion->turn + k) % completion->count;
        const struct completion_part *part = &completion->parts[i];
        open += !part->closed;
        if (atomic_load(&part->over) && part->job.outcome != ENGINE_DONE)
            return stream_fail(completion, part->job.outcome);
        if (!stream_next_piece(completion, i, &piece)) continue;
        completion->turn = i + 1;
        return stream_send_piece(completion, &piece);
    }
    return open == 0 && stream_send_end(completion);
}

static size_t stream_read(void *context, char *out, size_t size)
{
    struct completion *completion = context;
    const uint64_t now = clock_monotonic_ns();
    const uint64_t quiet_ns = (uint64_t)(completion->stream.quiet_seconds * 1e9);
    size_t written = 0;
    while (written < size) {
        const size_t left = completion->event.size - completion->event_sent;
        const size_t n = left < size - written ? left : size - written;
        if (left == 0 && !stream_next_event(completion)) break;
        if (left == 0) continue;
        memcpy(out + written, completion->event.text + completion->event_sent, n);
        completion->event_sent += n;
        written += n;
    }
    if (written == 0 && completion->ended) return completion->failed ? HTTP_STREAM_BROKEN : HTTP_STREAM_END;
    if (written == 0 && now - completion->sent_ns >= quiet_ns && size >= sizeof ping) {
        memcpy(out, ping, sizeof ping - 1);
        written = sizeof ping - 1;
    }
    if (written > 0) completion->sent_ns = now;
    return written;
}

static void stream_over(struct http_request *request, bool complete, void *context)
{
    (void)request;
    struct completion *completion = context;
    if (!complete) completion_cancel(completion);
    completion_log(completion);
}

static void stream_gone(void *context)
{
    completion_cancel(context);
}

/* A stream by GET may be an EventSource's, which connects again after the end and names the id of the first event.
 * api/generate.c then tells it to stay away. Without memory there is no id. */
static void stream_write_id(struct completion *completion)
{
    const char *id = http_request_id(completion->request);
    json_write_literal(&completion->event, "id: ");
    json_write(&completion->event, id, strlen(id));
    json_write_literal(&completion->event, "\n");
    if (completion->event.failed) json_writer_close(&completion->event);
}

void completion_stream_begin(struct completion *completion)
{
    struct http_request *request = completion->request;
    struct http_stream *stream = &completion->stream;
    stream->read = stream_read;
    stream->over = stream_over;
    stream->gone = stream_gone;
    stream->context = completion;
    /* The server looks at the stream twice in ping_seconds, so it is never silent for longer. */
    stream->quiet_seconds = completion->services->config->ping_seconds / 2;
    completion->sent_ns = clock_monotonic_ns();
    if (!completion->body) stream_write_id(completion);
    http_reply_header(request, "Cache-Control", "no-store");
    http_reply_header(request, "X-Accel-Buffering", "no");
    http_reply_stream(request, 200, "text/event-stream", stream);
}
