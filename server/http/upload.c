#include "server/http/upload.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define PIECE_SIZE ((size_t)64 * 1024) /* bytes that are written at once */

struct uploads {
    size_t limit;
    /* Guards everything below and the orders of all uploads. Nothing is called under it but suspending a connection. */
    pthread_mutex_t mutex;
    pthread_cond_t less; /* count or busy has become smaller */
    size_t count;        /* threads */
    size_t busy;         /* of which have a suspended request */
    bool stopping;
};

enum order {
    ORDER_NONE,    /* the HTTP thread fills the piece */
    ORDER_WRITE,   /* write the piece */
    ORDER_FINISH,  /* write the piece, and call the handler */
    ORDER_ABANDON, /* the request goes on, or ends, without the upload */
};

/* One thread per upload, since each may wait for the disk, and its handler may take long. The HTTP thread fills the
 * piece while there is no order. The upload's thread has the piece, and the request, while there is one. */
struct upload {
    struct uploads *all;
    struct http_request *request;
    struct http_sink sink;
    pthread_cond_t ordered;
    enum order order;
    size_t size;
    char piece[PIECE_SIZE];
};

struct uploads *http_uploads_new(size_t limit, struct error *err)
{
    struct uploads *uploads = calloc(1, sizeof *uploads);
    if (!uploads) {
        error_set_no_memory(err, sizeof *uploads, "uploads");
        return NULL;
    }
    uploads->limit = limit;
    pthread_mutex_init(&uploads->mutex, NULL);
    pthread_cond_init(&uploads->less, NULL);
    return uploads;
}

void http_uploads_stop(struct uploads *uploads)
{
    pthread_mutex_lock(&uploads->mutex);
    uploads->stopping = true;
    while (uploads->busy > 0) pthread_cond_wait(&uploads->less, &uploads->mutex);
    pthread_mutex_unlock(&uploads->mutex);
}

void http_uploads_free(struct uploads *uploads)
{
    if (!uploads) return;
    pthread_mutex_lock(&uploads->mutex);
    while (uploads->count > 0) pthread_cond_wait(&uploads->less, &uploads->mutex);
    pthread_mutex_unlock(&uploads->mutex);
    pthread_cond_destroy(&uploads->less);
    pthread_mutex_destroy(&uploads->mutex);
    free(uploads);
}

static void uploads_lessen(struct uploads *uploads, size_t *number)
{
    pthread_mutex_lock(&uploads->mutex);
    --*number;
    pthread_cond_broadcast(&uploads->less);
    pthread_mutex_unlock(&uploads->mutex);
}

/* --- The upload's thread --- */

static enum order wait_for_order(struct upload *upload)
{
    pthread_mutex_lock(&upload->all->mutex);
    while (upload->order == ORDER_NONE) pthread_cond_wait(&upload->ordered, &upload->all->mutex);
    const enum order order = upload->order;
    pthread_mutex_unlock(&upload->all->mutex);
    return order;
}

static bool write_piece(struct upload *upload)
{
    struct http_request *request = upload->request;
    if (upload->size == 0) return true;
    const bool good = upload->sink.write(request, upload->piece, upload->size, upload->sink.context);
    upload->size = 0;
    if (!good) request->refused = request->early = true;
    return good;
}

/* The request goes on without the upload. */
static void give_back(struct upload *upload)
{
    struct http_request *request = upload->request;
    request->upload = NULL;
    upload->sink.abandon(upload->sink.context);
    http_request_resume(request);
}

static void finish_upload(struct upload *upload)
{
    struct http_request *request = upload->request;
    if (!write_piece(upload)) {
        give_back(upload);
        return;
    }
    request->upload = NULL;
    if (request->route->handler(request, request->server->options.context) == HTTP_REPLIED)
        http_request_resume(request);
}

/* Carries out an order; false: it was the last one. */
static bool carry_out_order(struct upload *upload, enum order order)
{
    if (order == ORDER_ABANDON) {
        upload->sink.abandon(upload->sink.context);
        return false;
    }
    const bool goes_on = order == ORDER_WRITE && write_piece(upload);
    if (goes_on) {
        upload->order = ORDER_NONE; /* before the resume: only after that the HTTP thread gives the next one */
        http_request_resume(upload->request);
    } else if (order == ORDER_WRITE) {
        give_back(upload);
    } else {
        finish_upload(upload);
    }
    uploads_lessen(upload->all, &upload->all->busy);
    return goes_on;
}

static void *upload_main(void *argument)
{
    struct upload *upload = argument;
    struct uploads *all = upload->all;
    while (carry_out_order(upload, wait_for_order(upload))) continue;
    pthread_cond_destroy(&upload->ordered);
    free(upload);
    uploads_lessen(all, &all->count);
    return NULL;
}

/* --- The HTTP thread --- */

static bool start_thread(struct upload *upload)
{
    struct uploads *all = upload->all;
    pthread_t thread;
    pthread_mutex_lock(&all->mutex);
    const bool started =
        !all->stopping && all->count < all->limit && pthread_create(&thread, NULL, upload_main, upload) == 0;
    if (started) {
        pthread_detach(thread);
        all->count++;
    }
    pthread_mutex_unlock(&all->mutex);
    return started;
}

bool http_upload_begin(struct http_request *request, const struct http_sink *sink)
{
    struct upload *upload = calloc(1, sizeof *upload);
    if (!upload) return false;
    upload->all = request->server->uploads;
    upload->request = request;
    upload->sink = *sink;
    pthread_cond_init(&upload->ordered, NULL);
    if (start_thread(upload)) {
        request->upload = upload;
        return true;
    }
    pthread_cond_destroy(&upload->ordered);
    free(upload);
    return false;
}

uint64_t http_upload_limit(const struct upload *upload, const char **setting)
{
    *setting = upload->sink.limit;
    return upload->sink.max_size;
}

/* False: the server is about to end. */
static bool give_order(struct http_request *request, enum order order, enum stage stage)
{
    struct upload *upload = request->upload;
    struct uploads *all = upload->all;
    pthread_mutex_lock(&all->mutex);
    const bool goes_on = !all->stopping;
    if (goes_on) {
        all->busy++;
        http_request_suspend(request, &(struct http_waiter){0});
        request->stage = stage;
        upload->order = order;
        pthread_cond_signal(&upload->ordered);
    }
    pthread_mutex_unlock(&all->mutex);
    return goes_on;
}

/* Writes a full piece only when more data has come: after a resume, the library calls again only if data is left. */
bool http_upload_receive(struct http_request *request, const char *data, size_t size, size_t *taken)
{
    struct upload *upload = request->upload;
    const size_t room = PIECE_SIZE - upload->size;
    *taken = size < room ? size : room;
    memcpy(upload->piece + upload->size, data, *taken);
    upload->size += *taken;
    return *taken == size || give_order(request, ORDER_WRITE, STAGE_PIECE);
}

bool http_upload_finish(struct http_request *request)
{
    return give_order(request, ORDER_FINISH, STAGE_WAITING);
}

void http_upload_abandon(struct http_request *request)
{
    struct upload *upload = request->upload;
    if (!upload) return;
    request->upload = NULL;
    pthread_mutex_lock(&upload->all->mutex);
    upload->order = ORDER_ABANDON;
    pthread_cond_signal(&upload->ordered);
    pthread_mutex_unlock(&upload->all->mutex);
}
