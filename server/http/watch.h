/* What the HTTP library does not see of its connections: that a client has left while nobody reads, and that time is
 * up.
 *
 * One thread sleeps in epoll over all sockets until the next entry is due; nothing polls. A socket whose peer closed at
 * least its sending half counts as left: TCP does not tell a client that is gone from one that is only silent from now
 * on. What an event or a call costs does not depend on how many sockets are watched.
 */
#ifndef LSTMD_SERVER_HTTP_WATCH_H
#define LSTMD_SERVER_HTTP_WATCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/error.h"

struct watch;

#define WATCH_PERIODS 16 /* different ones that there may be at a time, the 7 of those that have left among them */

/* Called by the watch's thread under its lock, as due() is: must be short and call nothing of the watch's. */
struct watch_calls {
    void (*gone)(void *context); /* at most once: the peer has left. May be called by watch_set() itself */
    void (*due)(void *context);  /* every period_ns; once the peer has left, after 20 ms, 40 ms, ... 1.28 s */
    void *context;
    uint64_t period_ns;
};

/* Memory of the caller, untouched by it from watch_add() to watch_remove(). */
struct watch_entry {
    int fd;
    bool left; /* for due() */

    /* The watch's. */
    struct watch_calls calls;
    uint64_t due_ns;
    uint64_t left_ns; /* the period, once it has left */
    uint32_t serial;
    struct watch_period *period; /* NULL: it is never due */
    TAILQ_ENTRY(watch_entry) link;
};

struct watch *watch_new(struct error *err);
void watch_free(struct watch *watch); /* nothing may be watched any more; NULL allowed */

/* Any thread, as all that follow. entry->fd is set, and closed only after watch_remove(). A socket that cannot be
 * watched (the system's limit) never leaves. False: memory is out, and nothing was added. */
bool watch_add(struct watch *watch, struct watch_entry *entry);
/* Replaces what is called (NULL: nothing); the period begins anew. The old calls are not running afterwards. */
void watch_set(struct watch *watch, struct watch_entry *entry, const struct watch_calls *calls);
void watch_remove(struct watch *watch, struct watch_entry *entry);

#endif
