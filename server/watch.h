/* Notices that a client has left while its connection is suspended, when the HTTP library does not look at it, and
 * wakes connections that are to be looked at from time to time.
 *
 * One thread sleeps in epoll over the sockets that are watched until the next entry is due; nothing polls. A socket
 * whose peer closed at least its sending half counts as left: TCP does not tell a client that is gone from one that is
 * only silent from now on.
 */
#ifndef LSTMD_SERVER_WATCH_H
#define LSTMD_SERVER_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct watch;

/* Memory of the caller, untouched by it from watch_add() to watch_remove(). */
struct watch_entry {
    int fd;
    void (*gone)(void *context); /* watch's thread, at most once, under its lock: may only set flags */
    void *context;
    void (*due)(void *context); /* NULL, or called every period_ns: the same thread, the same lock; must be short */
    uint64_t period_ns;
    uint64_t due_ns; /* the watch's, as all that follows */
    uint64_t serial;
    struct watch_entry *previous, *next;
};

struct watch *watch_new(struct error *err);
void watch_free(struct watch *watch); /* nothing may be watched any more; NULL allowed */

/* Any thread. A socket that cannot be watched (the system's limit) is not: its request runs to its end. */
void watch_add(struct watch *watch, struct watch_entry *entry);
/* Any thread. gone() is not called afterwards, nor is it running. */
void watch_remove(struct watch *watch, struct watch_entry *entry);

#endif
