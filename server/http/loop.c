#include "server/http/loop.h"

#include <poll.h>

#include "base/priority.h"
#include "server/http/accept.h"
#include "server/http/linger.h"
#include "server/http/pool.h"
#include "server/http/stuck.h"

#define EXHAUSTED_MS 100 /* until descriptors are asked for again when there were none */
#define STUCK_ROUNDS 64  /* in which the library wants to be run at once, until it is not believed any more */

/* What the thread waits for. */
enum {
    WAIT_LIBRARY,                         /* something has come at a connection */
    WAIT_POKE,                            /* a connection was resumed, or the thread shall end */
    WAIT_POOLS,                           /* connections wait at the listener of the first pool */
    WAIT_COUNT = WAIT_POOLS + HTTP_POOLS, /* the other pools follow */
};

/* How often, one after another, the library asked to be run again at once. */
struct rounds {
    unsigned all, idle; /* idle: it did nothing */
    uint64_t calls;
};

/* How long to wait, in milliseconds. A library that asks again and again may be stuck. While it does nothing, the
 * thread waits a little, to spare the processor. */
static int wait_unless_stuck(struct http_server *server, struct rounds *rounds)
{
    const int wait_ms = library_wait_ms(server->library);
    const uint64_t calls = library_call_count(server->library);
    rounds->all = wait_ms == 0 ? rounds->all + 1 : 0;
    rounds->idle = wait_ms == 0 && rounds->calls == calls ? rounds->idle + 1 : 0;
    rounds->calls = calls;
    const bool idle = rounds->idle >= STUCK_ROUNDS;
    if (!idle && rounds->all < STUCK_ROUNDS) return wait_ms;
    http_stuck_end(server);
    rounds->all = 0;
    return idle ? 1 : wait_ms;
}

/* False: the system has no memory or descriptor for more connections. */
static bool accept_from_pools(struct http_server *server, const struct pollfd *wanted)
{
    bool good = true;
    for (size_t i = 0; i < HTTP_POOLS; i++)
        if (wanted[WAIT_POOLS + i].revents) good = http_accept(server, &server->pools[i]) && good;
    return good;
}

/* -1: no limit. */
static int at_most(int wait_ms, int most_ms)
{
    return wait_ms < 0 || wait_ms > most_ms ? most_ms : wait_ms;
}

/* libmicrohttpd's own thread (0.9.75), once it has taken its fill of 128 events, would wait for one more before it
 * serves them: where all clients wait for answers, until a timeout. So this thread waits, and the library only looks at
 * what is there. */
static void *loop_main(void *argument)
{
    struct http_server *server = argument;
    struct pollfd wanted[WAIT_COUNT] = {
        [WAIT_LIBRARY] = {.fd = library_epoll_fd(server->library), .events = POLLIN},
        [WAIT_POKE] = {.fd = library_poke_fd(server->library), .events = POLLIN},
    };
    for (size_t i = WAIT_POOLS; i < WAIT_COUNT; i++) wanted[i].events = POLLIN;
    priority_prompt();
    struct rounds rounds = {0};
    for (bool exhausted = false; !atomic_load(&server->stopping);) {
        const bool takes = !exhausted && server->connection_count < http_pool_capacity(&server->options);
        int wait_ms = wait_unless_stuck(server, &rounds);
        if (exhausted) wait_ms = at_most(wait_ms, EXHAUSTED_MS);
        if (server->linger_count > 0) wait_ms = at_most(wait_ms, HTTP_LINGER_MS);
        for (size_t i = 0; i < HTTP_POOLS; i++) wanted[WAIT_POOLS + i].fd = takes ? server->pools[i].listener->fd : -1;
        const bool something = poll(wanted, WAIT_COUNT, wait_ms) > 0;
        if (something && wanted[WAIT_POKE].revents) library_take_pokes(server->library);
        exhausted = something && !accept_from_pools(server, wanted);
        http_linger_look(server);
        library_run(server->library);
    }
    return NULL;
}

bool http_loop_start(struct http_server *server, struct error *err)
{
    const int code = pthread_create(&server->thread, NULL, loop_main, server);
    server->looping = code == 0;
    return server->looping || error_set_errno(err, code, "cannot start the HTTP thread");
}

void http_loop_stop(struct http_server *server)
{
    if (!server->looping) return;
    atomic_store(&server->stopping, true);
    library_poke(server->library);
    pthread_join(server->thread, NULL);
    server->looping = false;
}
