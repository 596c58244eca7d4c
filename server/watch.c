#include "server/watch.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define EVENTS_AT_ONCE 64

struct watch {
    int epoll;
    int stop; /* eventfd: readable once the thread shall end */
    pthread_t thread;
    bool started;
    pthread_mutex_t mutex; /* guards everything below, and entries in the list; gone() runs under it */
    struct watch_entry *first;
    uint64_t serial;
};

/* Events carry the serial number of an entry, not its address: it may have been removed since. */
static void notice(struct watch *watch, uint64_t serial)
{
    pthread_mutex_lock(&watch->mutex);
    struct watch_entry *entry = watch->first;
    while (entry && entry->serial != serial) entry = entry->next;
    if (entry) entry->gone(entry->context);
    pthread_mutex_unlock(&watch->mutex);
}

static void *watch_main(void *argument)
{
    struct watch *watch = argument;
    struct epoll_event events[EVENTS_AT_ONCE];
    for (;;) {
        int n = epoll_wait(watch->epoll, events, EVENTS_AT_ONCE, -1);
        if (n < 0 && errno != EINTR) return NULL;
        for (int i = 0; i < n; i++) {
            if (events[i].data.u64 == 0) return NULL;
            notice(watch, events[i].data.u64);
        }
    }
}

static bool watch_open(struct watch *watch, struct error *err)
{
    watch->epoll = epoll_create1(EPOLL_CLOEXEC);
    watch->stop = eventfd(0, EFD_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 0};
    if (watch->epoll < 0 || watch->stop < 0 || epoll_ctl(watch->epoll, EPOLL_CTL_ADD, watch->stop, &event) != 0)
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
        eventfd_write(watch->stop, 1);
        pthread_join(watch->thread, NULL);
    }
    if (watch->epoll >= 0) close(watch->epoll);
    if (watch->stop >= 0) close(watch->stop);
    pthread_mutex_destroy(&watch->mutex);
    free(watch);
}

void watch_add(struct watch *watch, struct watch_entry *entry)
{
    pthread_mutex_lock(&watch->mutex);
    entry->serial = ++watch->serial;
    entry->previous = NULL;
    entry->next = watch->first;
    if (entry->next) entry->next->previous = entry;
    watch->first = entry;
    struct epoll_event event = {.events = EPOLLRDHUP | EPOLLONESHOT, .data.u64 = entry->serial};
    epoll_ctl(watch->epoll, EPOLL_CTL_ADD, entry->fd, &event);
    pthread_mutex_unlock(&watch->mutex);
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
