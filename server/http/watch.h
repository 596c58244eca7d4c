/* Watches sockets for two things that the HTTP library does not see: a client leaves while nobody reads, and time is
 * up. Knows no requests.
 *
 * One thread sleeps in epoll over all sockets until the next entry is due; nothing polls. A socket whose peer closed at
 * least its sending half counts as left: TCP does not tell a client that is gone from one that is only silent from now
 * on. The cost of an event or a call does not depend on the number of sockets.
 */
#ifndef LSTMD_SERVER_HTTP_WATCH_H
#define LSTMD_SERVER_HTTP_WATCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/error.h"

struct watch;

#define WATCH_PERIODS 16 /* different periods at a time, the 7 of entries whose peer has left among them */

/* Called by the watch's thread under its lock, as due() is: must be short and call nothing of the watch's. */
struct watch_calls {
    void (*gone)(void *context); /* at most once: the peer has left. May be called by watch_set() itself */
    void (*due)(void *context);  /* every period_ns; once the peer has left, after 20 ms, 40 ms, ... 1.28 s */
    void *context;
    uint64_t period_ns;
};

/* Memory of the caller's, which leaves it alone from watch_add() to watch_remove(). */
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

/* Any thread, as for all that follow. The caller sets entry->fd, and closes it only after watch_remove(). A socket that
 * the system cannot watch (its limit) never leaves. False: memory is out, and nothing was added. */
bool watch_add(struct watch *watch, struct watch_entry *entry);
/* Replaces the calls (NULL: none); the period begins anew. The old calls do not run any more when it returns. */
void watch_set(struct watch *watch, struct watch_entry *entry, const struct watch_calls *calls);
void watch_remove(struct watch *watch, struct watch_entry *entry);

#endif
