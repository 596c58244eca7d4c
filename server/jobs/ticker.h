/* A thread that asks the clerk to call a function once a second while somebody wants that.
 *
 * Life cycle: ticker_open() -> ticker_start() -> ticker_stop(), before the clerk's own end -> ticker_close(). A tick
 * that the clerk has not run yet is not followed by another one.
 */
#ifndef LSTMD_SERVER_JOBS_TICKER_H
#define LSTMD_SERVER_JOBS_TICKER_H

#include <pthread.h>
#include <stdbool.h>

#include "base/error.h"
#include "base/worker.h"

struct ticker {
    struct task task; /* first; the clerk's queue */
    struct worker *clerk;
    void (*tick)(void *context); /* the clerk's thread */
    void *context;
    pthread_t thread;
    bool started;
    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t changed;
    bool wanted, submitted, stopping;
};

void ticker_open(struct ticker *ticker, void (*tick)(void *context), void *context);

/* Starts the thread. Errors: those of pthread_create(). */
bool ticker_start(struct ticker *ticker, struct worker *clerk, struct error *err);

void ticker_want(struct ticker *ticker, bool wanted); /* any thread */
void ticker_stop(struct ticker *ticker);              /* waits for the thread; also for one that was not started */
void ticker_close(struct ticker *ticker);

#endif
