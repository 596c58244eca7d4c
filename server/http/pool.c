#include "server/http/pool.h"

#include <sys/socket.h>

#include "base/clock.h"
#include "server/http/guard.h"
#include "server/http/request.h"

#define SECOND_NS     UINT64_C(1000000000)
#define HEAD_GRACE_NS SECOND_NS        /* how long a head may be on its way before its connection can make room */
#define REPORT_NS     (10 * SECOND_NS) /* between two lines of the log about the same listener */

size_t http_descriptors(const struct http_options *options)
{
    return options->max_connections + options->max_admin_connections + (size_t)HTTP_POOLS * HTTP_RESERVE;
}

size_t http_pool_capacity(const struct http_options *options)
{
    return http_descriptors(options) + (size_t)HTTP_POOLS * HTTP_RESERVE;
}

void http_pool_open(struct http_pool *pool, const struct listener *listener, const char *setting, size_t limit)
{
    *pool = (struct http_pool){.listener = listener, .setting = setting, .limit = limit};
    TAILQ_INIT(&pool->idle);
    TAILQ_INIT(&pool->heads);
    TAILQ_INIT(&pool->reserve);
}

static struct http_connections *list_of(struct http_pool *pool, enum http_place place)
{
    return place == PLACE_IDLE      ? &pool->idle
           : place == PLACE_HEAD    ? &pool->heads
           : place == PLACE_RESERVE ? &pool->reserve
                                    : NULL;
}

static void add_to_count(struct http_pool *pool, enum http_place place, size_t n)
{
    if (place == PLACE_RESERVE)
        pool->reserve_count += n;
    else if (place != PLACE_NONE)
        atomic_fetch_add(&pool->count, n);
}

/* The lists are in the order in which their connections came to them. */
static void move_to_place(struct http_connection *owner, enum http_place place)
{
    struct http_pool *pool = owner->pool;
    struct http_connections *from = list_of(pool, owner->place), *to = list_of(pool, place);
    add_to_count(pool, owner->place, SIZE_MAX); /* -1 */
    add_to_count(pool, place, 1);
    if (from) TAILQ_REMOVE(from, owner, link);
    if (to) TAILQ_INSERT_TAIL(to, owner, link);
    owner->place = place;
    owner->placed_ns = clock_monotonic_ns();
}

/* One line, with the counts so far, for all of the next ten seconds: a flood of connections is no flood of lines. */
static void report_shortage(struct http_pool *pool)
{
    const uint64_t now = clock_monotonic_ns();
    if (pool->reported_ns && now - pool->reported_ns < REPORT_NS) return;
    log_event(LOG_WARNING, "connections are short", LOG_TEXT("limit", pool->setting), LOG_INTEGER("of", pool->limit),
              LOG_INTEGER("open", atomic_load(&pool->count)), LOG_INTEGER("closed", atomic_load(&pool->closed)),
              LOG_INTEGER("refused", atomic_load(&pool->refused)));
    pool->reported_ns = now;
}

static void make_room_by(struct http_connection *owner)
{
    struct http_pool *pool = owner->pool;
    move_to_place(owner, PLACE_NONE);
    http_guard_cut(owner);
    atomic_fetch_add(&pool->closed, 1);
    report_shortage(pool);
}

/* The client's next request is on its way. */
static bool has_unread(const struct http_connection *owner)
{
    char byte;
    return recv(owner->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

/* The connection that has been without a request for the longest time. A new one has a second to send its head before
 * it comes in question. NULL: everybody is busy. */
static struct http_connection *find_idlest(struct http_pool *pool)
{
    struct http_connection *idle, *head = TAILQ_FIRST(&pool->heads);
    while ((idle = TAILQ_FIRST(&pool->idle)) && has_unread(idle)) move_to_place(idle, PLACE_HEAD);
    if (head && clock_monotonic_ns() - head->placed_ns < HEAD_GRACE_NS) head = NULL;
    return !head || (idle && idle->placed_ns < head->placed_ns) ? idle : head;
}

bool http_pool_make_room(struct http_pool *pool)
{
    struct http_connection *idlest = find_idlest(pool);
    if (idlest) make_room_by(idlest);
    return idlest;
}

static bool pool_has_room(struct http_pool *pool)
{
    return atomic_load(&pool->count) < pool->limit || http_pool_make_room(pool);
}

void http_pool_join(struct http_connection *owner)
{
    struct http_pool *pool = owner->pool;
    if (pool_has_room(pool)) {
        move_to_place(owner, PLACE_HEAD);
        return;
    }
    if (pool->reserve_count >= HTTP_RESERVE) make_room_by(TAILQ_FIRST(&pool->reserve));
    move_to_place(owner, PLACE_RESERVE);
}

void http_pool_begin(struct http_request *request)
{
    struct http_connection *owner = request->owner;
    struct http_pool *pool = owner->pool;
    const bool admitted = owner->place != PLACE_NONE && (owner->place != PLACE_RESERVE || pool_has_room(pool));
    const bool probes = request->route && request->route->scope == HTTP_PROBE && !http_has_body(request);
    if (admitted) move_to_place(owner, PLACE_BUSY);
    if (admitted || probes || request->problem.status) return;
    http_pool_count_refusal(pool);
    problem_set(&request->problem, 503, "as many connections as %s says are busy, %zu", pool->setting, pool->limit);
    request->early = http_has_body(request);
}

void http_pool_rest(struct http_connection *owner)
{
    if (owner->place == PLACE_BUSY) move_to_place(owner, PLACE_IDLE);
}

void http_pool_leave(struct http_connection *owner)
{
    if (owner->place != PLACE_NONE) move_to_place(owner, PLACE_NONE);
}

void http_pool_count_refusal(struct http_pool *pool)
{
    atomic_fetch_add(&pool->refused, 1);
    report_shortage(pool);
}

struct http_connection_numbers http_pool_numbers(const struct http_pool *pool)
{
    return (struct http_connection_numbers){.open = atomic_load(&pool->count),
                                            .limit = pool->limit,
                                            .closed = atomic_load(&pool->closed),
                                            .refused = atomic_load(&pool->refused)};
}
