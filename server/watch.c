#include "server/watch.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"

#define EVENTS_AT_ONCE 64
#define NEVER          UINT64_MAX
#define LEFT_NS        (UINT64_C(20) * 1000 * 1000) /* the period of entries whose peer has left */

struct watch {
    int epoll;
    int poke; /* eventfd: readable where the thread shall look at what follows */
    pthread_t thread;
    bool started;
    pthread_mutex_t mutex; /* guards everything below, and entries in the list; calls run under it */
    struct watch_entry *first;
    uint64_t serial;
    uint64_t next_due_ns; /* no entry is due before */
    bool stopping;
};

static uint64_t period_of(const struct watch_entry *entry)
{
    return entry->left ? LEFT_NS : entry->calls.period_ns;
}

/* Returns whether it is sooner than all others. */
static bool start_period(struct watch *watch, struct watch_entry *entry)
{
    entry->due_ns = entry->calls.due ? clock_monotonic_ns() + period_of(entry) : NEVER;
    const bool sooner = entry->due_ns < watch->next_due_ns;
    if (sooner) watch->next_due_ns = entry->due_ns;
    return sooner;
}

/* Events carry the serial number of an entry, not its address: it may have been removed since. */
static void notice(struct watch *watch, uint64_t serial)
{
    pthread_mutex_lock(&watch->mutex);
    struct watch_entry *entry = watch->first;
    while (entry && entry->serial != serial) entry = entry->next;
    if (entry) {
        entry->left = true;
        if (entry->calls.gone) entry->calls.gone(entry->calls.context);
        start_period(watch, entry);
    }
    pthread_mutex_unlock(&watch->mutex);
}

/* Calls what is due. Returns how long to sleep in milliseconds, -1: until something happens; false: the end. */
static bool look_at_clock(struct watch *watch, int *sleep_ms)
{
    pthread_mutex_lock(&watch->mutex);
    const bool goes_on = !watch->stopping;
    const uint64_t now = clock_monotonic_ns();
    if (now >= watch->next_due_ns) {
        watch->next_due_ns = NEVER;
        for (struct watch_entry *entry = watch->first; entry; entry = entry->next) {
            if (now >= entry->due_ns) {
                entry->due_ns = now + period_of(entry);
                entry->calls.due(entry->calls.context);
            }
            if (entry->due_ns < watch->next_due_ns) watch->next_due_ns = entry->due_ns;
        }
    }
    const uint64_t left_ms = watch->next_due_ns == NEVER ? INT_MAX : (watch->next_due_ns - now) / 1000000 + 1;
    *sleep_ms = watch->next_due_ns == NEVER ? -1 : left_ms < INT_MAX ? (int)left_ms : INT_MAX;
    pthread_mutex_unlock(&watch->mutex);
    return goes_on;
}

static void *watch_main(void *argument)
{
    struct watch *watch = argument;
    struct epoll_event events[EVENTS_AT_ONCE];
    int sleep_ms;
    while (look_at_clock(watch, &sleep_ms)) {
        int n = epoll_wait(watch->epoll, events, EVENTS_AT_ONCE, sleep_ms);
        if (n < 0 && errno != EINTR) return NULL;
        for (int i = 0; i < n; i++) {
            eventfd_t count;
            if (events[i].data.u64 == 0)
                eventfd_read(watch->poke, &count);
            else
                notice(watch, events[i].data.u64);
        }
    }
    return NULL;
}

static bool watch_open(struct watch *watch, struct error *err)
{
    watch->epoll = epoll_create1(EPOLL_CLOEXEC);
    watch->poke = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    watch->next_due_ns = NEVER;
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 0};
    if (watch->epoll < 0 || watch->poke < 0 || epoll_ctl(watch->epoll, EPOLL_CTL_ADD, watch->poke, &event) != 0)
        return error_set_errno(err, errno, "cannot watch connections");
    int code = pthread_create(&watch->thread, NULL, watch_main, watch);
    if (code != 0) return error_set_errno(err, code, "cannot start the thread that watches connections");
    watch->started = true;
    return true;
}

struct watch *watch_new(struct error *err)
{
    struct watch *watch = calloc(1, sizeof *watch);
    if (!watch) {
        error_set_no_memory(err, sizeof *watch, "watching connections");
        return NULL;
    }
    pthread_mutex_init(&watch->mutex, NULL);
    if (watch_open(watch, err)) return watch;
    watch_free(watch);
    return NULL;
}

void watch_free(struct watch *watch)
{
    if (!watch) return;
    if (watch->started) {
        pthread_mutex_lock(&watch->mutex);
        watch->stopping = true;
        pthread_mutex_unlock(&watch->mutex);
        eventfd_write(watch->poke, 1);
        pthread_join(watch->thread, NULL);
    }
    if (watch->epoll >= 0) close(watch->epoll);
    if (watch->poke >= 0) close(watch->poke);
    pthread_mutex_destroy(&watch->mutex);
    free(watch);
}

void watch_add(struct watch *watch, struct watch_entry *entry)
{
    pthread_mutex_lock(&watch->mutex);
    entry->calls = (struct watch_calls){0};
    entry->left = false;
    entry->due_ns = NEVER;
    entry->serial = ++watch->serial;
    entry->previous = NULL;
    entry->next = watch->first;
    if (entry->next) entry->next->previous = entry;
    watch->first = entry;
    struct epoll_event event = {.events = EPOLLRDHUP | EPOLLONESHOT, .data.u64 = entry->serial};
    epoll_ctl(watch->epoll, EPOLL_CTL_ADD, entry->fd, &event);
    pthread_mutex_unlock(&watch->mutex);
}

void watch_set(struct watch *watch, struct watch_entry *entry, const struct watch_calls *calls)
{
    pthread_mutex_lock(&watch->mutex);
    entry->calls = calls ? *calls : (struct watch_calls){0};
    if (entry->left && entry->calls.gone) entry->calls.gone(entry->calls.context);
    const bool sooner = start_period(watch, entry);
    pthread_mutex_unlock(&watch->mutex);
    if (sooner) eventfd_write(watch->poke, 1);
}

void watch_remove(struct watch *watch, struct watch_entry *entry)
{
    pthread_mutex_lock(&watch->mutex);
    if (entry->next) entry->next->previous = entry->previous;
    if (entry->previous)
        entry->previous->next = entry->next;
    else
        watch->first = entry->next;
    epoll_ctl(watch->epoll, EPOLL_CTL_DEL, entry->fd, &(struct epoll_event){0});
    pthread_mutex_unlock(&watch->mutex);
}
