/* The data that the files of the HTTP server share: a server, its connections, their requests. No functions: those are
 * in a header per file. Nobody outside this directory includes this one.
 *
 * Each file calls only files above it in this list (tests/check_circles):
 *
 *   address, query, listen, watch, problem, multipart, negotiate: know nothing of requests
 *
 *   library      all calls of libmicrohttpd
 *   request      what handlers ask and set
 *   id           ids of requests
 *   refusal      answers that are written to the socket, past the library
 *   guard        how long a client may take, and that it has left
 *   linger       sockets of connections that are over
 *   wait         requests that wait for others
 *   body         the memory of bodies
 *   client       who is behind a connection, and how many connections each may have
 *   pool         how many connections there may be, and which one makes room
 *   head         whether a head is sound HTTP
 *   host         which names the daemon answers to
 *   route        which route a head asks for, and whether it may be asked so
 *   cors         which other origins' pages may read the answers
 *   upload       bodies that are streamed into a sink
 *   stream       replies that come in pieces
 *   send         replies
 *   receive      a request from its head to the end of its body
 *   dispatch     a request at its handler
 *   stuck        requests at which the library turns round and round
 *   connection   the life of a connection
 *   accept       new connections
 *   exchange     the life of a request: what is done at each event of the library
 *   loop         the HTTP thread
 *   http         the life of the server
 *
 * Functions that return bool and take a request: false ends the connection, unless the header says otherwise.
 */
#ifndef LSTMD_SERVER_HTTP_STATE_H
#define LSTMD_SERVER_HTTP_STATE_H

#include <pthread.h>
#include <sys/queue.h>

#include "base/worker.h"
#include "server/http/address.h"
#include "server/http/http.h"
#include "server/http/library.h"
#include "server/http/listen.h"
#include "server/http/watch.h"

#define REQUEST_ID_SIZE    129 /* 128 characters and a NUL */
#define STATUS_CLIENT_LEFT 499 /* in the log only, as nginx writes it */
#define MAX_EXTRAS         12  /* reply headers, log fields */
#define HTTP_LINGER        16  /* sockets that linger */
#define HTTP_LINGER_MS     20  /* between two looks at them */

/* --- The server --- */

enum {
    HTTP_PUBLIC_POOL, /* connections of `listen` */
    HTTP_ADMIN_POOL,  /* connections of `admin_listen` */
    HTTP_POOLS,       /* their number */
};

TAILQ_HEAD(http_connections, http_connection);
TAILQ_HEAD(http_requests, http_request);

/* The connections of a listener. Only the HTTP thread touches what is not atomic. */
struct http_pool {
    const struct listener *listener;
    const char *setting; /* that says `limit` */
    size_t limit;
    atomic_size_t count; /* without the reserve */
    size_t reserve_count;
    struct http_connections idle, heads, reserve; /* the longest there comes first */
    atomic_uint_fast64_t closed, refused;
    uint64_t reported_ns; /* when the log was told; 0: never */
};

/* A socket whose connection is over (linger.c). */
struct lingering {
    int fd; /* a copy of the connection's */
    bool sends;
    uint64_t end_ns; /* when it is closed at the latest */
};

struct http_server {
    struct http_options options;
    struct library *library;
    struct worker *worker;   /* handles requests with large bodies */
    struct uploads *uploads; /* upload.c */
    struct watch *watch;
    struct listener listener, admin; /* admin.fd is -1 where there is none */
    struct address_set trusted;
    pthread_t thread; /* the HTTP thread (loop.c) */
    bool looping;     /* the thread was started */
    atomic_bool stopping;
    int idle_fd;          /* eventfd: http_server_idle_fd() */
    atomic_size_t open;   /* requests between handler and reply sent */
    atomic_bool draining; /* every reply closes its connection */

    uint32_t boot;               /* random; makes generated ids differ between runs */
    atomic_uint_fast64_t serial; /* of generated ids */

    /* Only the HTTP thread changes what follows. */
    atomic_size_t body_memory; /* of large bodies (body.c) */
    struct http_pool pools[HTTP_POOLS];
    struct http_requests requests;            /* all that go on */
    void *clients;                            /* tsearch() of those that limits.max_connections_per_address counts */
    int spare_fd;                             /* given up to answer where there is no other descriptor; -1: none */
    size_t connection_count, connection_peak; /* peak: since memory went back to the system */
    struct lingering linger[HTTP_LINGER];     /* the oldest first */
    size_t linger_count;
};

/* --- A connection --- */

enum http_place {
    PLACE_NONE,    /* it makes room for another one: its end is near */
    PLACE_HEAD,    /* its head is awaited */
    PLACE_IDLE,    /* a reply was sent, and the next head is awaited */
    PLACE_BUSY,    /* a request goes on */
    PLACE_RESERVE, /* beyond the limit */
};

/* Lives as long as a socket. Only the HTTP thread touches it, but for what the watch's calls use: fd, watch, late. */
struct http_connection {
    struct http_server *server;
    struct http_pool *pool;
    enum http_place place;
    uint64_t placed_ns;                /* since when */
    TAILQ_ENTRY(http_connection) link; /* in the pool's list of the place */
    int fd;
    struct http_request *request; /* the one that goes on, or NULL */
    struct watch_entry watch;
    bool admin;                   /* came to the listener of that name */
    struct address peer;          /* the socket's */
    bool behind;                  /* the peer is a trusted proxy */
    struct address address;       /* of the client; behind a proxy, with each request anew */
    bool counted;                 /* among the connections of its address */
    atomic_uint_fast64_t late_ns; /* when time is up for what is awaited */
    atomic_bool late;             /* the body took too long, and 408 was sent */
};

/* --- A request --- */

enum stage {
    STAGE_HEADERS, /* the request line has come */
    STAGE_BODY,    /* the head is complete, and pieces of the body are kept */
    STAGE_PIECE,   /* suspended while a piece of the body is written */
    STAGE_LINGER,  /* refused already; the rest of the body is thrown away */
    STAGE_WAITING, /* suspended until there is a reply */
    STAGE_REPLIED, /* the library has the reply */
};

enum reply_kind {
    REPLY_NONE,    /* not set yet */
    REPLY_DATA,    /* one piece of memory */
    REPLY_STREAM,  /* comes in pieces */
    REPLY_NOTHING, /* the connection closes without one */
};

struct reply {
    enum reply_kind kind;
    int status;
    const char *content_type;
    const char *body;
    size_t size; /* of a stream: bytes that were read from it */
    struct http_stream *stream;
    struct library_stream source; /* what the library reads the stream by */
    bool stream_ended;
    enum http_ownership ownership;
    struct {
        const char *name, *value;
    } headers[MAX_EXTRAS];
    size_t header_count;
};

/* Whether the library, at a body in chunks, does anything at all (stuck.c). */
struct progress {
    uint64_t received; /* body bytes that had come at the last look */
    int unread;        /* bytes that the library had left in the socket then */
    unsigned looks;    /* in a row at which it had not got on */
    bool ended;        /* the request was ended for it */
};

struct http_request {
    struct task task; /* first: the worker's tasks are requests */
    struct http_server *server;
    struct http_connection *owner;
    struct MHD_Connection *connection;
    TAILQ_ENTRY(http_request) link; /* in server->requests */
    enum stage stage;
    uint64_t begun_ns, ready_ns; /* ready: its body had come */
    bool counted;                /* in server->open */
    bool last;                   /* of its connection; the client may not know, and send another one */

    /* What the head says. */
    char id[REQUEST_ID_SIZE];
    char trace[33]; /* id of the client's trace (W3C traceparent), or "" */
    char method[16];
    size_t target_size;
    char *target;     /* as it came, cut at the "?" */
    const char *path; /* into target */
    const char *query_text;
    struct query query;
    char *parameter;
    char allow[64]; /* methods of the path */
    char client[ADDRESS_TEXT_SIZE];
    const char *pattern; /* of the path, for the log; "-" for none */
    const struct http_route *route;
    const char *encoding; /* Content-Encoding of the body, or NULL */

    /* What is wrong with the request. */
    struct problem problem; /* what the head alone shows to be wrong */
    bool refused;           /* by a function of the route's, which has set the reply; the body is thrown away */
    bool early;             /* a refusal that does not wait for the body */
    bool crowded;           /* the head is too large: there may be no memory for the library's reply */

    /* Its body. */
    char *body;
    size_t body_size, body_capacity;
    struct upload *upload; /* of a body that is streamed, until it ends or is refused */
    void *sink_context;
    uint64_t received; /* body bytes, kept or not */
    uint64_t guarded;  /* of which had come when the time began that the next ones may take */
    struct progress progress;

    /* Its reply. */
    bool suspended;
    struct http_waiter waiter;
    struct reply reply;
    void (*release)(void *context);
    void *release_context;
    struct log_field log[MAX_EXTRAS];
    size_t log_count;
};

#endif
