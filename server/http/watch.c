#include "server/http/watch.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"

#define EVENTS_AT_ONCE 64
#define DUE_AT_ONCE    64
#define NEVER          UINT64_MAX
#define LEFT_NS        (UINT64_C(20) * 1000 * 1000) /* the first period of entries whose peer has left */
#define MOST_LEFT_NS   (64 * LEFT_NS)               /* the longest one */
#define POKE           UINT64_MAX                   /* what the event of the eventfd carries */

/* Entries with the same period. Who begins later is due later, so the list is in the order in which they are due. */
struct watch_period {
    uint64_t ns;
    TAILQ_HEAD(, watch_entry) entries;
};

struct watch {
    int epoll;
    int poke; /* eventfd: readable when the thread shall look at the fields below */
    pthread_t thread;
    bool started;
    pthread_mutex_t mutex;      /* guards everything below, and entries; calls run under it */
    struct watch_entry **by_fd; /* NULL: not watched */
    size_t size;                /* of by_fd */
    uint32_t serial;
    struct watch_period periods[WATCH_PERIODS]; /* one whose list is empty is free for another period */
    uint64_t wakes_ns;                          /* when the thread looks at the clock again */
    bool stopping;
};

/* --- Periods --- */

static struct watch_period *period_of(struct watch *watch, uint64_t ns)
{
    struct watch_period *unused = NULL;
    for (size_t i = 0; i < WATCH_PERIODS; i++) {
        struct watch_period *period = &watch->periods[i];
        if (TAILQ_EMPTY(&period->entries))
            unused = period;
        else if (period->ns == ns)
            return period;
    }
    assert(unused);
    unused->ns = ns;
    return unused;
}

static void end_period(struct watch_entry *entry)
{
    if (entry->period) TAILQ_REMOVE(&entry->period->entries, entry, link);
    entry->period = NULL;
}

/* Returns whether the thread sleeps for longer than that. */
static bool start_period(struct watch *watch, struct watch_entry *entry)
{
    end_period(entry);
    if (!entry->calls.due) return false;
    entry->period = period_of(watch, entry->left ? entry->left_ns : entry->calls.period_ns);
    entry->due_ns = clock_monotonic_ns() + entry->period->ns;
    TAILQ_INSERT_TAIL(&entry->period->entries, entry, link);
    return entry->due_ns < watch->wakes_ns;
}

/* The entry that is due first, or NULL. */
static struct watch_entry *first_due(struct watch *watch)
{
    struct watch_entry *first = NULL;
    for (size_t i = 0; i < WATCH_PERIODS; i++) {
        struct watch_entry *entry = TAILQ_FIRST(&watch->periods[i].entries);
        if (entry && (!first || entry->due_ns < first->due_ns)) first = entry;
    }
    return first;
}

/* Milliseconds until the clock says `due_ns`, rounded up; -1: for ever. */
static int sleep_until(uint64_t due_ns)
{
    if (due_ns == NEVER) return -1;
    const uint64_t now = clock_monotonic_ns(), left_ms = now < due_ns ? (due_ns - now) / 1000000 + 1 : 0;
    return left_ms < INT_MAX ? (int)left_ms : INT_MAX;
}

/* --- The thread --- */

/* Events carry the number of a descriptor and the serial number of its entry: another entry may have the descriptor by
 * now. */
static uint64_t event_of(const struct watch_entry *entry)
{
    return (uint64_t)entry->serial << 32 | (uint32_t)entry->fd;
}

static void notice_leaving(struct watch *watch, uint64_t event)
{
    struct watch_entry *entry = watch->by_fd[event & UINT32_MAX];
    if (!entry || entry->serial != event >> 32) return;
    entry->left = true;
    entry->left_ns = LEFT_NS;
    if (entry->calls.gone) entry->calls.gone(entry->calls.context);
    start_period(watch, entry);
}

/* Calls what is due, DUE_AT_ONCE entries at most under one lock. Returns how long to sleep in milliseconds. */
static int look_at_clock(struct watch *watch)
{
    const uint64_t now = clock_monotonic_ns();
    struct watch_entry *entry = first_due(watch);
    for (int i = 0; i < DUE_AT_ONCE && entry && now >= entry->due_ns; i++) {
        entry->calls.due(entry->calls.context);
        if (entry->left && entry->left_ns < MOST_LEFT_NS) entry->left_ns *= 2;
        start_period(watch, entry);
        entry = first_due(watch);
    }
    watch->wakes_ns = entry ? entry->due_ns : NEVER;
    return sleep_until(watch->wakes_ns);
}

static void take_events(struct watch *watch, const struct epoll_event *events, int count)
{
    eventfd_t pokes;
    for (int i = 0; i < count; i++) {
        if (events[i].data.u64 == POKE)
            eventfd_read(watch->poke, &pokes);
        else
            notice_leaving(watch, events[i].data.u64);
    }
}

static void *watch_main(void *argument)
{
    struct watch *watch = argument;
    struct epoll_event events[EVENTS_AT_ONCE];
    int count = 0;
    for (;;) {
        pthread_mutex_lock(&watch->mutex);
        take_events(watch, events, count);
        const int sleep_ms = look_at_clock(watch);
        const bool stopping = watch->stopping;
        pthread_mutex_unlock(&watch->mutex);
        if (stopping) return NULL;
        count = epoll_wait(watch->epoll, events, EVENTS_AT_ONCE, sleep_ms);
        if (count < 0 && errno != EINTR) return NULL;
    }
}

static bool watch_open(struct watch *watch, struct error *err)
{
    watch->epoll = epoll_create1(EPOLL_CLOEXEC);
    watch->poke = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    watch->wakes_ns = NEVER;
    for (size_t i = 0; i < WATCH_PERIODS; i++) TAILQ_INIT(&watch->periods[i].entries);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = POKE};
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
    free(watch->by_fd);
    free(watch);
}

/* Descriptors are small numbers: the system gives the smallest one that is free. */
static bool make_place(struct watch *watch, int fd)
{
    if ((size_t)fd < watch->size) return true;
    size_t size = watch->size ? watch->size : 64;
    while (size <= (size_t)fd) size *= 2;
    struct watch_entry **by_fd = realloc(watch->by_fd, size * sizeof(struct watch_entry *));
    if (!by_fd) return false;
    for (size_t i = watch->size; i < size; i++) by_fd[i] = NULL;
    watch->by_fd = by_fd;
    watch->size = size;
    return true;
}

bool watch_add(struct watch *watch, struct watch_entry *entry)
{
    pthread_mutex_lock(&watch->mutex);
    const bool good = make_place(watch, entry->fd);
    if (good) {
        entry->calls = (struct watch_calls){0};
        entry->left = false;
        entry->period = NULL;
        entry->serial = ++watch->serial;
        watch->by_fd[entry->fd] = entry;
        struct epoll_event event = {.events = EPOLLRDHUP | EPOLLONESHOT, .data.u64 = event_of(entry)};
        epoll_ctl(watch->epoll, EPOLL_CTL_ADD, entry->fd, &event);
    }
    pthread_mutex_unlock(&watch->mutex);
    return good;
}

void watch_set(struct watch *watch, struct watch_entry *entry, const struct watch_calls *calls)
{
    pthread_mutex_lock(&watch->mutex);
    entry->calls = calls ? *calls : (struct watch_calls){0};
    entry->left_ns = LEFT_NS;
    if (entry->left && entry->calls.gone) entry->calls.gone(entry->calls.context);
    const bool sooner = start_period(watch, entry);
    if (sooner) watch->wakes_ns = entry->due_ns;
    pthread_mutex_unlock(&watch->mutex);
    if (sooner) eventfd_write(watch->poke, 1);
}

void watch_remove(struct watch *watch, struct watch_entry *entry)
{
    pthread_mutex_lock(&watch->mutex);
    end_period(entry);
    watch->by_fd[entry->fd] = NULL;
    epoll_ctl(watch->epoll, EPOLL_CTL_DEL, entry->fd, &(struct epoll_event){0});
    pthread_mutex_unlock(&watch->mutex);
}
