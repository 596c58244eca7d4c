/* What the files of the HTTP server share, and nobody else knows.
 *
 *   http.c          libmicrohttpd's calls, the server, waiting
 *   http/accept.c   new connections
 *   http/pool.c     how many there may be, and which one makes room
 *   http/client.c   who is behind them, and how many each may have
 *   http/receive.c  a request from its head to its handler
 *   http/head.c     whether a head is sound HTTP
 *   http/host.c     which names the daemon answers to
 *   http/route.c    what the head says: id, route, content type
 *   http/cors.c     which other origins' pages may read the answers
 *   http/upload.c   bodies that are streamed into a sink
 *   http/request.c  what handlers ask and set
 *   http/send.c     replies and streams; refusals before the body has come
 *   http/guard.c    how long a client may take, and that it has left
 *
 * Functions that return bool: false ends the connection.
 */
#ifndef LSTMD_SERVER_HTTP_INTERNAL_H
#define LSTMD_SERVER_HTTP_INTERNAL_H

#include <pthread.h>
#include <sys/queue.h>

#include "base/worker.h"
#include "server/http/address.h"
#include "server/http/http.h"
#include "server/http/listen.h"
#include "server/http/watch.h"

#define REQUEST_ID_SIZE    129 /* 128 characters and a NUL */
#define STATUS_CLIENT_LEFT 499 /* in the log only, as nginx writes it */
#define MAX_EXTRAS         12  /* reply headers, log fields */

/* Connections of a listener beyond its limit, for probes and for saying 503. So many are accepted before those that are
 * there are looked at: each of the reserve is, before it gives way to the next. */
#define HTTP_RESERVE 32

enum { HTTP_PUBLIC_POOL, HTTP_ADMIN_POOL, HTTP_POOLS };

TAILQ_HEAD(http_connections, http_connection);
TAILQ_HEAD(http_requests, http_request);

/* The connections of a listener; only the HTTP thread touches what is not atomic. */
struct http_pool {
    const struct listener *listener;
    const char *setting; /* that says `limit` */
    size_t limit;
    atomic_size_t count; /* without the reserve */
    size_t reserve_count;
    struct http_connections idle, heads, reserve; /* the longest there comes first */
    atomic_uint_fast64_t closed, refused;
    uint64_t reported_ns; /* when the log was told, 0: never */
};

struct http_server {
    struct http_options options;
    struct MHD_Daemon *library;
    pthread_t thread; /* calls the library */
    bool serving;     /* the thread was started */
    int poke_fd;      /* eventfd: readable where it shall look at the library, or end */
    atomic_bool stopping;
    struct worker *worker;
    struct uploads *uploads;
    struct watch *watch;
    struct listener listener, admin; /* admin.fd is -1 where there is none */
    struct address_set trusted;
    struct http_pool pools[HTTP_POOLS];       /* the HTTP thread's, as what follows */
    struct http_requests requests;            /* all that go on; the HTTP thread's */
    void *clients;                            /* tsearch() of those that limits.max_connections_per_address counts */
    int spare_fd;                             /* given up to answer where there is no other descriptor; -1: none */
    uint64_t calls;                           /* of ours that the library has made: it does something */
    size_t connection_count, connection_peak; /* peak: since memory went back to the system */
    struct http_connection *accepted;         /* the one that the library is being given */
    uint32_t boot;                            /* random; makes generated ids differ between runs */
    atomic_uint_fast64_t serial;              /* of generated ids */
    atomic_size_t body_memory;                /* of bodies that are large; the HTTP thread changes it */
    atomic_size_t open;                       /* requests between handler and reply sent */
    atomic_bool draining;
    int idle_fd;
};

enum stage {
    STAGE_HEADERS, /* the request line has come */
    STAGE_BODY,
    STAGE_PIECE,   /* suspended while a piece of the body is written */
    STAGE_LINGER,  /* refused already; the rest of the body is thrown away */
    STAGE_WAITING, /* suspended */
    STAGE_REPLIED,
};

struct reply {
    enum { REPLY_NONE, REPLY_DATA, REPLY_STREAM, REPLY_NOTHING } kind;
    int status;
    const char *content_type;
    const char *body;
    size_t size; /* of a stream: bytes that were read from it */
    struct http_stream *stream;
    bool stream_ended;
    enum http_ownership ownership;
    struct {
        const char *name, *value;
    } headers[MAX_EXTRAS];
    size_t header_count;
};

enum http_place {
    PLACE_NONE,    /* it makes room for another one: its end is near */
    PLACE_HEAD,    /* its head is awaited */
    PLACE_IDLE,    /* a reply was sent, and the next head is awaited */
    PLACE_BUSY,    /* a request is going on */
    PLACE_RESERVE, /* beyond the limit */
};

/* Lives as long as a socket; only the HTTP thread touches it. */
struct http_connection {
    struct http_server *server;
    struct http_pool *pool;
    enum http_place place;
    uint64_t placed_ns;                /* since when */
    TAILQ_ENTRY(http_connection) link; /* in the pool's list of the place */
    int fd;
    struct http_request *request; /* the one that is going on, or NULL */
    struct watch_entry watch;
    bool admin;                   /* came to the listener of that name */
    struct address peer;          /* the socket's */
    bool behind;                  /* the peer is a trusted proxy */
    struct address address;       /* of the client; behind a proxy, with each request anew */
    bool counted;                 /* among the connections of its address */
    atomic_uint_fast64_t late_ns; /* when time is up for what is awaited */
    atomic_bool late;             /* the body took too long, and 408 was sent */
};

struct http_request {
    struct task task; /* first: the worker's tasks are requests */
    struct http_server *server;
    struct http_connection *owner;
    struct MHD_Connection *connection;
    TAILQ_ENTRY(http_request) link; /* in server->requests */
    enum stage stage;
    char id[REQUEST_ID_SIZE];
    char trace[33]; /* id of the client's trace (W3C traceparent), or "" */
    char method[16];
    size_t target_size;
    char *target;     /* as it came, cut at the "?" */
    const char *path; /* into target */
    const char *query_text;
    char *parameter;
    char allow[64]; /* methods of the path */
    char client[ADDRESS_TEXT_SIZE];
    const char *pattern; /* of the path, for the log; "-" for none */
    const struct http_route *route;
    struct query query;
    struct problem problem; /* what the headers alone show to be wrong */
    bool refused;           /* by a function of the route's, which has set the reply; the body is thrown away */
    bool early;             /* a refusal that does not wait for the body */
    bool crowded;           /* the head is too large: there may be no memory for the library's reply */
    const char *encoding;   /* Content-Encoding of the body, or NULL */
    char *body;
    size_t body_size, body_capacity;
    struct upload *upload; /* of a body that is streamed, until it ends or is refused */
    void *sink_context;
    uint64_t received;           /* body bytes, kept or not */
    uint64_t guarded;            /* of which had come when the time began that the next ones may take */
    uint64_t looked;             /* and when it was last looked at whether the library gets on */
    int unread;                  /* bytes that it had left in the socket then */
    unsigned looks;              /* in a row at which it had not got on */
    bool ended;                  /* for which the request was ended */
    uint64_t begun_ns, ready_ns; /* ready: its body had come */
    bool counted;                /* in server->open */
    bool last;                   /* of its connection; the client may not know, and send another one */
    bool suspended;
    struct http_waiter waiter;
    struct reply reply;
    void (*release)(void *context);
    void *release_context;
    struct log_field log[MAX_EXTRAS];
    size_t log_count;
};

/* The request line as the library shows it: in the memory that it came into. */
struct http_head {
    const char *method, *target, *version;
};

/* A header. The texts end with a NUL. */
struct http_field {
    const char *name, *value;
    size_t name_size, value_size;
};

/* --- http/accept.c: in the HTTP thread --- */

/* Opens the spare descriptor. */
void http_accept_open(struct http_server *server);
/* Takes what waits at a pool's listener. False: the system has no memory or descriptor for more. */
bool http_accept(struct http_server *server, struct http_pool *pool);
void http_connection_free(struct http_connection *owner);

/* --- http/pool.c: in the HTTP thread --- */

void http_pool_open(struct http_pool *pool, const struct listener *listener, const char *setting, size_t limit);
/* A new connection. The idlest one makes room where there is none; where all are busy, it is of the reserve. */
void http_pool_join(struct http_connection *owner);
/* The head is complete, and its route known. Says 503 in request->problem for what the reserve does not serve. */
void http_pool_begin(struct http_request *request);
/* The request is over. */
void http_pool_rest(struct http_connection *owner);
void http_pool_leave(struct http_connection *owner);
/* Ends the idlest connection, which the library closes when it runs. False: all are busy. */
bool http_pool_make_room(struct http_pool *pool);
/* A connection was turned away: for the log. */
void http_pool_refused(struct http_pool *pool);

/* --- http/client.c: in the HTTP thread --- */

/* Whom the request comes from. Says 429 in request->problem. */
void http_find_client(struct http_request *request);
/* 429 in *problem: the address has limits.max_connections_per_address connections. */
bool http_client_may_connect(const struct http_server *server, const struct address *address, struct problem *problem);
/* Counts a connection for its address, until http_client_uncount(). False: memory is out. */
bool http_client_count(struct http_connection *owner);
void http_client_uncount(struct http_connection *owner);

/* --- http/route.c --- */

void http_new_id(struct http_server *server, char id[REQUEST_ID_SIZE]);
/* The id, and the trace's, if a valid traceparent names one. */
void http_choose_id(struct http_request *request);
/* What stands behind the scheme of "http://host/path" (a request that was meant for a proxy); NULL: it is a path. */
const char *http_absolute_target(const char *target);
/* 414 or 431 in request->problem. */
void http_check_head_size(struct http_request *request);
/* Path, route, allowed methods and query; says 400, 404 or 405 in request->problem. */
void http_find_route(struct http_request *request);
bool http_has_body(const struct http_request *request);
/* 422 in request->problem: of a query where the route takes none. */
void http_check_query(struct http_request *request);
/* 415 in request->problem: of a body whose type or encoding is not taken. */
void http_check_content(struct http_request *request);

/* --- http/head.c --- */

/* 400, 413, 417 or 501 in request->problem, and request->early: such a head ends its connection. NULL: the library has
 * shown the headers alone. */
void http_check_head(struct http_request *request, const struct http_head *head);

/* --- http/host.c --- */

/* 400 or 421 in request->problem, and request->early. A UNIX socket has no names: who may connect to it is asked by its
 * permissions. */
void http_check_host(struct http_request *request);

/* --- http/cors.c --- */

/* Adds the reply's headers. After the route is known. */
void http_cors(struct http_request *request);

/* --- http/receive.c: in the HTTP thread, in this order --- */

/* The head is complete. */
bool http_begin(struct http_request *request, const struct http_head *head);
/* The library has refused the head, or a chunk of the body, with this status: answers in its place. */
void http_refuse_unread(struct http_request *request, int status);
/* A part of the body; *taken of its `size` bytes are done with. */
bool http_receive(struct http_request *request, const char *data, size_t size, size_t *taken);
/* The body is complete. */
bool http_dispatch(struct http_request *request);
/* The body is not needed any more. */
void http_drop_body(struct http_request *request);
/* The request was suspended for its reply, and resumed. */
bool http_wake(struct http_request *request);

/* --- http/upload.c --- */

struct uploads *http_uploads_new(size_t limit, struct error *err);
/* No piece is written afterwards. */
void http_uploads_stop(struct uploads *uploads);
/* Waits for what is left. After http_uploads_stop() and the end of all connections; NULL allowed. */
void http_uploads_free(struct uploads *uploads);

/* Starts the thread of a request whose body() gave a sink; false: there are too many (the sink is the caller's). */
bool http_upload_begin(struct http_request *request, const struct http_sink *sink);
uint64_t http_upload_limit(const struct upload *upload, const char **setting);
/* As http_receive(). May suspend the request (STAGE_PIECE), which then takes nothing. */
bool http_upload_receive(struct http_request *request, const char *data, size_t size, size_t *taken);
/* Suspends the request until the rest is written and the handler has replied. */
bool http_upload_finish(struct http_request *request);
/* The body will not be complete. */
void http_upload_abandon(struct http_request *request);

/* --- http/send.c --- */

/* Makes request->problem the reply, unless one is set already. */
void http_set_refusal(struct http_request *request);
bool http_send(struct http_request *request);
/* Sends the reply before the body has come, and closes the connection when it has. */
bool http_send_early(struct http_request *request);
/* Writes a reply to the socket, past the library, as the last one of the connection. */
bool http_write_last(const struct http_request *request, const struct reply *reply);
/* Writes a problem that may pass to the socket of a connection that is closed after it; nothing was read of it. */
void http_write_refusal(int fd, const char *id, const struct problem *problem);
/* The end of a reply's stream, if it has one. */
void http_close_stream(struct http_request *request, bool complete);

/* --- http/guard.c: what a connection is watched for, from now on --- */

/* Silence, or a head that does not end: limits.idle_timeout. */
void http_guard_head(struct http_connection *owner);
/* A body that comes too slowly: limits.body_timeout for each 64 KiB. Answered with 408 unless there was an answer. */
void http_guard_body(struct http_request *request);
/* To be called as the body comes. */
void http_guard_progress(struct http_request *request);
/* Ends a connection: the library, whatever it does, gives it up. */
void http_guard_cut(struct http_connection *owner);
/* Throws away what the client has sent: closing over it would reset the connection, and the answer might not arrive. */
void http_guard_drain(const struct http_connection *owner);
/* The library turns round and round: ends what it is stuck in, to be called again and again. */
void http_guard_stuck(struct http_server *server);
/* What is said; NULL: nothing. */
void http_guard_calls(struct http_request *request, const struct watch_calls *calls);

/* --- http.c --- */

/* Connections that there may be at a time, those whose end is near among them. */
size_t http_capacity(const struct http_options *options);
/* Gives a socket to the library, which closes it, and the owner with it, if that fails. */
void http_add_connection(struct http_connection *owner, const struct sockaddr *address, socklen_t size);
/* The text of the last header with that name, or NULL. */
const char *http_last_header(const struct http_request *request, const char *name);
/* Shows each header, in the order in which they came, until the visitor returns false. */
void http_visit_fields(const struct http_request *request, bool (*visit)(void *context, const struct http_field *field),
                       void *context);
/* Any thread. The connection, and what hangs on it, may be gone afterwards. */
void http_resume(struct http_server *server, struct MHD_Connection *connection);
/* Whether chunks of the body are awaited. */
bool http_comes_in_chunks(const struct http_request *request);
/* Bytes of the head; 0: it is not complete. */
size_t http_head_size(const struct http_request *request);
/* Bytes that the head takes in the library's memory. */
size_t http_head_memory(const struct http_request *request);
void http_set_timeout(struct http_request *request, double seconds);

#endif
