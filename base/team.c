/* The barrier counts arrivals; the last to arrive opens the next generation. Waiters watch `generation`, first spinning
 * (an atomic load), then under the mutex. Guarded by `mutex`: generation, arrived, function, context, runs, closing.
 * `generation` is atomic because waiters also read it without the mutex.
 */
#include "base/team.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#define SPINS 4000 /* some ten microseconds */

struct team_worker {
    struct team *team;
    size_t index;
    pthread_t thread;
};

struct team {
    size_t size, started; /* started: the existing threads (worker 0 is the caller) */
    long spins;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    atomic_size_t generation;
    size_t arrived;
    team_function *function;
    void *context;
    bool closing;
    struct team_worker *workers;
};

size_t team_size(const struct team *team)
{
    return team->size;
}

static inline void team_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

void team_barrier(struct team *team)
{
    if (team->size == 1) return;
    pthread_mutex_lock(&team->mutex);
    const size_t generation = atomic_load_explicit(&team->generation, memory_order_relaxed);
    if (++team->arrived == team->size) {
        team->arrived = 0;
        atomic_store_explicit(&team->generation, generation + 1, memory_order_release);
        pthread_cond_broadcast(&team->changed);
        pthread_mutex_unlock(&team->mutex);
        return;
    }
    pthread_mutex_unlock(&team->mutex);
    for (long i = 0; i < team->spins; i++) {
        if (atomic_load_explicit(&team->generation, memory_order_acquire) != generation) return;
        team_relax();
    }
    pthread_mutex_lock(&team->mutex);
    while (atomic_load_explicit(&team->generation, memory_order_relaxed) == generation)
        pthread_cond_wait(&team->changed, &team->mutex);
    pthread_mutex_unlock(&team->mutex);
}

/* A run is: barrier (all see function and context), work, barrier (all are done). */
static void *worker_main(void *argument)
{
    struct team_worker *worker = argument;
    struct team *team = worker->team;
    for (;;) {
        team_barrier(team);
        if (team->closing) return NULL;
        team->function(team->context, worker->index);
        team_barrier(team);
    }
}

struct team *team_new(size_t workers, struct error *err)
{
    struct team *team = calloc(1, sizeof *team);
    struct team_worker *list = calloc(workers, sizeof *list);
    if (!team || !list) {
        free(team);
        free(list);
        error_set_no_memory(err, workers * sizeof *list, "worker threads");
        return NULL;
    }
    team->size = workers;
    team->workers = list;
    team->spins = sysconf(_SC_NPROCESSORS_ONLN) >= (long)workers ? SPINS : 0;
    pthread_mutex_init(&team->mutex, NULL);
    pthread_cond_init(&team->changed, NULL);
    for (size_t i = 1; i < workers; i++) {
        list[i] = (struct team_worker){.team = team, .index = i};
        int code = pthread_create(&list[i].thread, NULL, worker_main, &list[i]);
        if (code != 0) {
            error_set_errno(err, code, "cannot start worker thread %zu of %zu", i + 1, workers);
            /* Let the barrier expect only the threads that exist. */
            pthread_mutex_lock(&team->mutex);
            team->size = i;
            pthread_mutex_unlock(&team->mutex);
            team_free(team);
            return NULL;
        }
        team->started = i;
    }
    return team;
}

void team_free(struct team *team)
{
    if (!team) return;
    team->closing = true;
    team_barrier(team);
    for (size_t i = 1; i <= team->started; i++) pthread_join(team->workers[i].thread, NULL);
    pthread_cond_destroy(&team->changed);
    pthread_mutex_destroy(&team->mutex);
    free(team->workers);
    free(team);
}

void team_run(struct team *team, team_function *function, void *context)
{
    team->function = function;
    team->context = context;
    team_barrier(team);
    function(context, 0);
    team_barrier(team);
}
