#include "base/worker.h"

#include <pthread.h>
#include <stdlib.h>

#define OLDEST_EVERY 4 /* one of this many tasks is the oldest */

struct worker {
    pthread_t thread;
    pthread_mutex_t mutex; /* guards everything below; no other lock is taken under it */
    pthread_cond_t changed;
    struct task *first, **last;
    unsigned count; /* of tasks taken so far */
    bool stopping;
};

/* Takes the next task to run out of the queue; NULL: there is none. Call with the mutex locked. */
static struct task *worker_take_task(struct worker *worker)
{
    struct task **best = &worker->first, *task;
    if (!*best) return NULL;
    if (worker->count++ % OLDEST_EVERY != 0)
        for (struct task **link = &(*best)->next; *link; link = &(*link)->next)
            if ((*link)->size < (*best)->size) best = link;
    task = *best;
    *best = task->next;
    if (worker->last == &task->next) worker->last = best;
    return task;
}

static void *worker_main(void *argument)
{
    struct worker *worker = argument;
    pthread_mutex_lock(&worker->mutex);
    for (;;) { /* the mutex is locked here */
        struct task *task = worker_take_task(worker);
        if (!task && worker->stopping) break;
        if (!task) {
            pthread_cond_wait(&worker->changed, &worker->mutex);
            continue;
        }
        pthread_mutex_unlock(&worker->mutex);
        task->run(task);
        pthread_mutex_lock(&worker->mutex);
    }
    pthread_mutex_unlock(&worker->mutex);
    return NULL;
}

struct worker *worker_new(struct error *err)
{
    struct worker *worker = calloc(1, sizeof *worker);
    if (!worker) {
        error_set_no_memory(err, sizeof *worker, "a worker thread");
        return NULL;
    }
    pthread_mutex_init(&worker->mutex, NULL);
    pthread_cond_init(&worker->changed, NULL);
    worker->last = &worker->first;
    int code = pthread_create(&worker->thread, NULL, worker_main, worker);
    if (code == 0) return worker;
    error_set_errno(err, code, "cannot start a worker thread");
    worker_free(worker);
    return NULL;
}

bool worker_submit(struct worker *worker, struct task *task)
{
    task->next = NULL;
    pthread_mutex_lock(&worker->mutex);
    bool taken = !worker->stopping;
    if (taken) {
        *worker->last = task;
        worker->last = &task->next;
        pthread_cond_signal(&worker->changed);
    }
    pthread_mutex_unlock(&worker->mutex);
    return taken;
}

void worker_stop(struct worker *worker)
{
    pthread_mutex_lock(&worker->mutex);
    worker->stopping = true;
    pthread_cond_signal(&worker->changed);
    pthread_mutex_unlock(&worker->mutex);
    pthread_join(worker->thread, NULL);
}

void worker_free(struct worker *worker)
{
    if (!worker) return;
    pthread_cond_destroy(&worker->changed);
    pthread_mutex_destroy(&worker->mutex);
    free(worker);
}
