#include "server/jobs/ticker.h"

#include <time.h>

#define TICK_SECONDS 1

static void *ticker_main(void *argument)
{
    struct ticker *ticker = argument;
    pthread_mutex_lock(&ticker->mutex);
    while (!ticker->stopping) { /* locked here */
        struct timespec next;
        if (!ticker->wanted) {
            pthread_cond_wait(&ticker->changed, &ticker->mutex);
            continue;
        }
        clock_gettime(CLOCK_MONOTONIC, &next);
        next.tv_sec += TICK_SECONDS;
        while (!ticker->stopping && pthread_cond_timedwait(&ticker->changed, &ticker->mutex, &next) == 0) continue;
        if (ticker->stopping || ticker->submitted) continue;
        ticker->submitted = worker_submit(ticker->clerk, &ticker->task);
    }
    pthread_mutex_unlock(&ticker->mutex);
    return NULL;
}

/* The clerk's thread. */
static void ticker_run_task(struct task *task)
{
    struct ticker *ticker = (struct ticker *)task;
    pthread_mutex_lock(&ticker->mutex);
    ticker->submitted = false;
    pthread_mutex_unlock(&ticker->mutex);
    ticker->tick(ticker->context);
}

void ticker_open(struct ticker *ticker, void (*tick)(void *context), void *context)
{
    pthread_condattr_t monotonic;
    *ticker = (struct ticker){.task.run = ticker_run_task, .tick = tick, .context = context};
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&ticker->mutex, NULL);
    pthread_cond_init(&ticker->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

bool ticker_start(struct ticker *ticker, struct worker *clerk, struct error *err)
{
    ticker->clerk = clerk;
    const int code = pthread_create(&ticker->thread, NULL, ticker_main, ticker);
    ticker->started = code == 0;
    return code == 0 || error_set_errno(err, code, "cannot start a thread");
}

void ticker_want(struct ticker *ticker, bool wanted)
{
    pthread_mutex_lock(&ticker->mutex);
    ticker->wanted = wanted;
    pthread_cond_broadcast(&ticker->changed);
    pthread_mutex_unlock(&ticker->mutex);
}

void ticker_stop(struct ticker *ticker)
{
    pthread_mutex_lock(&ticker->mutex);
    ticker->stopping = true;
    pthread_cond_broadcast(&ticker->changed);
    pthread_mutex_unlock(&ticker->mutex);
    if (ticker->started) pthread_join(ticker->thread, NULL);
}

void ticker_close(struct ticker *ticker)
{
    pthread_cond_destroy(&ticker->changed);
    pthread_mutex_destroy(&ticker->mutex);
}
