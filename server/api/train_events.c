/* GET /train/{id}/events: first the events of a job that the store has, then new ones until the job is over.
 *
 * The clerk reads events from the store into a feed, as text; the HTTP thread copies the text to the client. A feed
 * holds one piece at a time, however slow the client is. If more has happened meanwhile, the feed is `behind`, and the
 * HTTP thread asks the clerk for the next piece when it has sent this one. The clerk frees the feed after the stream.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "server/api/api.h"
#include "server/api/train.h"

#define PIECE_EVENTS 64

static const char ping[] = ": ping\n\n";

struct feed {
    struct job_listener listener; /* first; the clerk's, as all up to the mutex */
    struct jobs *jobs;
    struct http_stream stream;
    int64_t last;     /* event that was read */
    uint64_t sent_ns; /* the HTTP thread's */
    atomic_bool left; /* the client has */
    struct task more_task, end_task;
    pthread_mutex_t mutex; /* guards what follows; no other lock is taken under it */
    char *piece;
    size_t size, sent;
    bool behind, asked; /* asked: more_task is on its way */
    bool last_piece, broken;
};

/* ---- the clerk ---- */

struct writer {
    FILE *out;
    int64_t last;
    size_t count;
};

static bool write_event(void *context, int64_t sequence, const char *type, const char *data)
{
    struct writer *writer = context;
    fprintf(writer->out, "id: %lld\nevent: %s\ndata: %s\n\n", (long long)sequence, type, data);
    writer->last = sequence;
    writer->count++;
    return true;
}

/* The next events as text; NULL with an error. *size is 0 where there is nothing new. */
static char *read_piece(struct feed *feed, size_t *size, bool *complete)
{
    char *text = NULL;
    struct writer writer = {.out = open_memstream(&text, size), .last = feed->last};
    const struct store_range range = {.job = feed->listener.id, .after = feed->last, .limit = PIECE_EVENTS};
    bool ok = writer.out && store_events(jobs_store(feed->jobs), &range, write_event, &writer, NULL);
    if (writer.out && fclose(writer.out) != 0) ok = false;
    if (!ok) {
        free(text);
        return NULL;
    }
    feed->last = writer.last;
    *complete = writer.count < PIECE_EVENTS;
    return text;
}

/* Fills the feed, or notes that there is more. */
static void train_events_fill(struct feed *feed)
{
    pthread_mutex_lock(&feed->mutex);
    const bool full = feed->sent < feed->size;
    if (full) feed->behind = true;
    pthread_mutex_unlock(&feed->mutex);
    if (full) return;
    size_t size = 0;
    bool complete = true;
    const bool over = jobs_is_over(feed->jobs, feed->listener.id);
    char *piece = read_piece(feed, &size, &complete);
    pthread_mutex_lock(&feed->mutex);
    free(feed->piece);
    feed->piece = piece;
    feed->size = piece ? size : 0;
    feed->sent = 0;
    feed->behind = !complete;
    feed->last_piece = over && complete;
    feed->broken = !piece;
    pthread_mutex_unlock(&feed->mutex);
    http_stream_wake(&feed->stream);
}

static void train_events_told(struct job_listener *listener)
{
    train_events_fill((struct feed *)listener);
}

static void train_events_more(struct task *task)
{
    struct feed *feed = (struct feed *)((char *)task - offsetof(struct feed, more_task));
    pthread_mutex_lock(&feed->mutex);
    feed->asked = false;
    pthread_mutex_unlock(&feed->mutex);
    train_events_fill(feed);
}

static void feed_free(struct feed *feed)
{
    jobs_forget(feed->jobs, &feed->listener);
    pthread_mutex_destroy(&feed->mutex);
    free(feed->piece);
    free(feed);
}

static void train_events_end(struct task *task)
{
    feed_free((struct feed *)((char *)task - offsetof(struct feed, end_task)));
}

/* ---- the HTTP thread ---- */

static size_t copy_out(struct feed *feed, char *out, size_t size, bool *ended, bool *broken)
{
    pthread_mutex_lock(&feed->mutex);
    const size_t left = feed->size - feed->sent, n = left < size ? left : size;
    if (n > 0) memcpy(out, feed->piece + feed->sent, n);
    feed->sent += n;
    const bool empty = feed->sent == feed->size, ask = empty && feed->behind && !feed->asked;
    feed->asked = feed->asked || ask;
    *ended = n == 0 && empty && feed->last_piece;
    *broken = feed->broken;
    pthread_mutex_unlock(&feed->mutex);
    if (ask && !worker_submit(jobs_clerk(feed->jobs), &feed->more_task)) *broken = true;
    return n;
}

static size_t read_events(void *context, char *out, size_t size)
{
    struct feed *feed = context;
    const uint64_t now = clock_monotonic_ns();
    bool ended, broken;
    size_t n = copy_out(feed, out, size, &ended, &broken);
    if (broken || atomic_load(&feed->left)) return HTTP_STREAM_BROKEN;
    if (ended) return HTTP_STREAM_END;
    if (n == 0 && now - feed->sent_ns >= (uint64_t)(feed->stream.quiet_seconds * 1e9) && size >= sizeof ping) {
        n = sizeof ping - 1;
        memcpy(out, ping, n);
    }
    if (n > 0) feed->sent_ns = now;
    return n;
}

static void train_events_over(struct http_request *request, bool complete, void *context)
{
    (void)request;
    (void)complete;
    struct feed *feed = context;
    feed->end_task.run = train_events_end;
    if (!worker_submit(jobs_clerk(feed->jobs), &feed->end_task)) feed_free(feed); /* the clerk has ended */
}

static void train_events_gone(void *context)
{
    atomic_store(&((struct feed *)context)->left, true);
}

/* ---- beginning ---- */

/* Last-Event-ID: the last event that the client has seen; 0: it says none, or no id. */
static int64_t last_seen(const struct http_request *request)
{
    const char *text = http_request_header(request, "Last-Event-ID");
    const size_t n = text ? strlen(text) : 0;
    return n > 0 && n < 19 && strspn(text, "0123456789") == n ? strtoll(text, NULL, 10) : 0;
}

static bool note_event(void *context, int64_t sequence, const char *type, const char *data)
{
    (void)sequence;
    (void)type;
    (void)data;
    *(bool *)context = true;
    return false;
}

/* Whether the client has seen the last event of an ended job. An EventSource connects again after each end of a stream
 * until it gets 204. */
static bool has_seen_all(const struct services *services, int64_t id, int64_t last)
{
    bool more = false;
    if (last == 0 || !jobs_is_over(services->jobs, id)) return false;
    const struct store_range next = {.job = id, .after = last, .limit = 1};
    return store_events(jobs_store(services->jobs), &next, note_event, &more, NULL) && !more;
}

static enum http_outcome train_events_begin(struct http_request *request, void *context)
{
    struct services *services = context;
    struct error err = {0};
    struct job job;
    int64_t id;
    if (!train_job_id(request, &id)) return HTTP_REPLIED;
    if (!jobs_get(services->jobs, id, &job, &err)) return train_refuse_error(request, &err);
    store_close_job(&job);
    const int64_t last = last_seen(request);
    if (has_seen_all(services, id, last)) {
        http_reply(request, 204, NULL, "", 0, HTTP_BORROWED);
        return HTTP_REPLIED;
    }
    struct feed *feed = calloc(1, sizeof *feed);
    if (!feed) {
        error_set_no_memory(&err, sizeof *feed, "a stream");
        return train_refuse_error(request, &err);
    }
    feed->listener = (struct job_listener){.id = id, .told = train_events_told};
    feed->jobs = services->jobs;
    feed->last = last;
    feed->sent_ns = clock_monotonic_ns();
    feed->more_task.run = train_events_more;
    pthread_mutex_init(&feed->mutex, NULL);
    /* The server looks at the stream twice in ping_seconds, so it is never silent for longer. */
    feed->stream = (struct http_stream){.read = read_events,
                                        .over = train_events_over,
                                        .gone = train_events_gone,
                                        .context = feed,
                                        .quiet_seconds = services->config->ping_seconds / 2};
    jobs_listen(services->jobs, &feed->listener);
    train_events_fill(feed);
    http_reply_header(request, "Cache-Control", "no-store");
    http_reply_header(request, "X-Accel-Buffering", "no");
    http_reply_stream(request, 200, "text/event-stream", &feed->stream);
    return HTTP_REPLIED;
}

enum http_outcome api_train_events(struct http_request *request, void *context)
{
    return train_later(request, context, train_events_begin);
}
