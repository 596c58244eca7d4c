/* HTTP/1.1 over libmicrohttpd: listening, routing, bodies and their limits, request ids, problem+json, the access log.
 * Handlers see requests and replies. Nothing here knows models, tokens or settings. Beside this header the rest of the
 * program includes problem.h, query.h, multipart.h and negotiate.h of this directory; the others are its own (state.h
 * lists them).
 *
 * One thread, the HTTP thread, serves all connections by epoll. It never waits and never computes. A handler that needs
 * the engine suspends its request and returns HTTP_LATER. Whoever has the result calls http_request_resume(), and the
 * HTTP thread makes the reply from it. A worker thread handles requests with a large body, since merely parsing them
 * would keep the others waiting.
 *
 * Life cycle of a request: handler -> (suspended -> resumed) -> reply -> access log -> release. Between a suspend and
 * the resume the request belongs to whoever will resume it; else to the thread that runs its handler.
 */
#ifndef LSTMD_SERVER_HTTP_HTTP_H
#define LSTMD_SERVER_HTTP_HTTP_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/log.h"
#include "server/http/problem.h"
#include "server/http/query.h"

struct http_server;
struct http_request;

enum http_outcome {
    HTTP_REPLIED, /* a reply was set */
    HTTP_LATER,   /* the request was suspended; it may be gone by now */
};

/* Runs in the HTTP thread, or in another one where the body is large; several may run at the same time. */
typedef enum http_outcome http_handler(struct http_request *request, void *context);

/* What a client must be allowed to do. */
enum http_scope {
    HTTP_PROBE,    /* as HTTP_PUBLIC; also served where all connections are busy, hence short and without a body */
    HTTP_PUBLIC,   /* everybody may: the page, the contract */
    HTTP_GENERATE, /* texts and scores */
    HTTP_ADMIN,    /* models, datasets, training */
};

/* Takes the body of one request piece by piece, so that it need not fit into memory. A thread of the request's own
 * calls everything in it and may wait for a disk. Meanwhile nobody reads the connection. */
struct http_sink {
    uint64_t max_size; /* bytes; a larger body is a 413 */
    const char *limit; /* the setting that says so, "limits.max_dataset" */
    /* Takes the next piece. False: it wants no more, and has set a reply. */
    bool (*write)(struct http_request *request, const char *data, size_t size, void *context);
    /* Called once, instead of the route's handler, where the body does not come to its end: the client left, the body
     * is too large, write() said no. The request may be gone. (Called in the HTTP thread where no thread could be
     * started: nothing was written then.) */
    void (*abandon)(void *context);
    void *context;
};

/* Called in the HTTP thread, once the head is complete and the client authorised: fills *sink and returns true, or sets
 * a reply and returns false. Must be short. After the last piece the sink's thread calls the route's handler, which
 * finds the sink's context by http_request_sink(), and owns it. */
typedef bool http_body(struct http_request *request, struct http_sink *sink, void *context);

struct http_route {
    const char *method;  /* GET also serves HEAD */
    const char *pattern; /* "/models/{name}" (server/http/query.h) */
    enum http_scope scope;
    http_handler *handler;
    http_body *body; /* NULL: a body is JSON, and kept in memory */
    bool query;      /* it reads the query; else a query is refused, except by public routes and probes */
};

/* A request that is over, as the access log has it. */
struct http_account {
    const char *route; /* its pattern; "-" for none */
    int status;        /* 499: the client left before the answer */
    double seconds;
    uint64_t bytes_in, bytes_out; /* of the bodies */
};

struct http_options {
    const char *listen; /* IPv4 or IPv6 address, or "unix:/path" (server/http/listen.h) */
    uint16_t port;      /* 0: a free one */
    const char
        *admin_listen; /* where alone the routes of HTTP_ADMIN are served; NULL: they have no place of their own */
    uint16_t admin_port;
    unsigned socket_mode; /* permissions of a UNIX socket */
    /* Addresses and networks whose X-Forwarded-For (or Forwarded) tells who the client is. */
    const char *const *trusted_proxies;
    size_t trusted_proxy_count;
    bool forwarded;                     /* they send Forwarded */
    size_t max_connections_per_address; /* one more is a 429; 0: any number */
    const char *const *hosts;           /* our names, besides localhost and addresses; "*": all names */
    size_t host_count;
    const char *const *cors_origins; /* "https://app.example.org" or "*": whose pages may read answers */
    size_t cors_origin_count;
    size_t max_body;
    size_t max_body_memory;       /* that bodies of more than 64 KiB take together, or max_body; one more is a 503 */
    size_t max_connections;       /* of `listen`; the idlest makes room for one more, or it is a 503 */
    size_t max_admin_connections; /* the same of `admin_listen` */
    size_t max_url;               /* bytes of a request's target; 414 */
    size_t max_header;            /* bytes that a head takes, target included, 64 for each field of it besides; 431 */
    size_t max_uploads;           /* bodies that are streamed at a time; one more is a 503 */
    double idle_timeout;          /* seconds until the head of a request must have come, from the reply before */
    double body_timeout;          /* seconds that 64 KiB of a body may take, or what is left of it */
    double write_timeout;         /* seconds that a client may leave a reply unread */
    const struct http_route *routes;
    size_t route_count;
    /* Called in the HTTP thread, once the head is complete and its route known, before a body is read: whether the
     * client may do this. False: a reply was set (401, 403). Must be short. Not called for OPTIONS. NULL: everybody
     * may. */
    bool (*authorise)(struct http_request *request, enum http_scope scope, void *context);
    void (*account)(const struct http_account *account,
                    void *context); /* told of each; the HTTP thread; NULL: nobody */
    void *context;                  /* for handlers and the two above */
};

/* Descriptors that the connections may take. */
size_t http_descriptors(const struct http_options *options);

/* What http_server_new() checks before it binds: the form of the addresses to listen at, trusted_proxies, hosts,
 * cors_origins. */
bool http_server_check_listen(const struct http_options *options, struct error *err);
bool http_server_check_proxies(const struct http_options *options, struct error *err);
bool http_hosts_check(const struct http_options *options, struct error *err);
bool http_cors_check(const struct http_options *options, struct error *err);

/* Binds. Starts no thread, and nobody can connect yet. What `options` points to is borrowed for the server's life. */
struct http_server *http_server_new(const struct http_options *options, struct error *err);
/* Listens and serves. False: to be freed. */
bool http_server_start(struct http_server *server, struct error *err);

/* The address as text ("127.0.0.1", "::1", "unix:/run/lstmd.sock") and the port. Of the routes of HTTP_ADMIN: NULL and
 * 0 if they have no address of their own. */
const char *http_server_address(const struct http_server *server);
uint16_t http_server_port(const struct http_server *server);
const char *http_server_admin_address(const struct http_server *server);
uint16_t http_server_admin_port(const struct http_server *server);

/* Requests whose handler has begun and whose reply is not sent. Any thread. */
size_t http_server_open_requests(struct http_server *server);

/* Bytes that bodies of more than 64 KiB take. Any thread. */
size_t http_server_body_memory(const struct http_server *server);

/* The connections of a listener. */
struct http_connection_numbers {
    size_t open, limit;
    uint64_t closed;  /* idle ones that made room */
    uint64_t refused; /* those that got 503 where all were busy */
};

/* The numbers of `listen`, or of `admin_listen`. Any thread. */
struct http_connection_numbers http_server_connections(const struct http_server *server, bool admin);

/* A descriptor that becomes readable (8 bytes, eventfd) each time the number of open requests falls to zero. */
int http_server_idle_fd(const struct http_server *server);

/* Every reply from now on closes its connection. Any thread. */
void http_server_drain(struct http_server *server);

/* Closes all connections and ends the threads; no request may be suspended. NULL allowed. */
void http_server_free(struct http_server *server);

/* --- The request --- */

const char *http_request_id(const struct http_request *request);
const char *http_request_path(const struct http_request *request); /* as it came, percent signs and all */
/* Borrowed: until the request is over, or the stream of its reply begins. */
const char *http_request_body(const struct http_request *request, size_t *size);
/* The text of a header by its name in any case (of several, the first); NULL: there is none. */
const char *http_request_header(const struct http_request *request, const char *name);
/* Who sent it: an IP address as text, as the connection or a trusted proxy says; "unix" for a UNIX socket. */
const char *http_request_client(const struct http_request *request);
const struct query *http_request_query(const struct http_request *request);
/* When it was complete and its handler could begin: clock_monotonic_ns(). */
uint64_t http_request_ready_ns(const struct http_request *request);
bool http_request_is_head(const struct http_request *request);
const char *http_request_parameter(const struct http_request *request); /* the text of {name}; "" for none */

/* The context of the sink that the route's body() gave. */
void *http_request_sink(const struct http_request *request);

/* `release(context)` is called when the request is over, in the HTTP thread. One per request. */
void http_request_on_release(struct http_request *request, void (*release)(void *context), void *context);

/* Adds a field to the request's line in the access log (8 at most; names and texts are borrowed until release). */
void http_request_log(struct http_request *request, struct log_field field);

/* --- Replies: exactly one per request --- */

enum http_ownership {
    HTTP_BORROWED, /* lives as long as the server */
    HTTP_TAKEN,    /* malloc'ed; the server frees it */
};

/* The body of a 304 is not sent. Its size is the Content-Length that the 200 would have; its content_type is NULL. */
void http_reply(struct http_request *request, int status, const char *content_type, const char *body, size_t size,
                enum http_ownership ownership);
/* Consumes the reference; NULL means that memory is out. */
void http_reply_json(struct http_request *request, int status, json_t *json);
void http_reply_problem(struct http_request *request, const struct problem *problem);
/* Closes the connection without an answer: the client has left. */
void http_reply_nothing(struct http_request *request);
/* Adds a header to the reply (8 at most; both texts are borrowed until release). */
void http_reply_header(struct http_request *request, const char *name, const char *value);

/* A reply that comes in pieces. Memory of the caller's, which leaves it alone from http_reply_stream() to over(). After
 * that http_stream_wake() may still be called, and does nothing. */
struct http_stream {
    /* Called in the HTTP thread: writes up to `size` bytes to `out` and returns how many. 0: nothing now; the next call
     * follows http_stream_wake(), or comes when quiet_seconds have passed. */
    size_t (*read)(void *context, char *out, size_t size);
    /* Called once in the HTTP thread, before the access log gets the request's line. complete: read() came to the end,
     * and the socket has everything, or it was a HEAD; else the client left, or did not read in time. */
    void (*over)(struct http_request *request, bool complete, void *context);
    /* Called in another thread, at most once: the client closed its connection (or its sending half). Must be short. */
    void (*gone)(void *context);
    void *context;
    double quiet_seconds;

    /* The server's. */
    struct library *library;
    struct MHD_Connection *connection;
    atomic_int state;
};

#define HTTP_STREAM_END    SIZE_MAX       /* read(): that was all */
#define HTTP_STREAM_BROKEN (SIZE_MAX - 1) /* read(): the rest cannot be had; the connection is cut */

/* Sends the head at once, then what read() gives: in chunks, or to an HTTP/1.0 client until the connection closes. */
void http_reply_stream(struct http_request *request, int status, const char *content_type, struct http_stream *stream);
/* There may be something to read. Any thread, also before the request was resumed. Costs next to nothing where the
 * stream does not wait. */
void http_stream_wake(struct http_stream *stream);

/* --- Waiting --- */

struct http_waiter {
    /* Called in the HTTP thread, after http_request_resume() where no reply was set before: must set one. */
    void (*resumed)(struct http_request *request, void *context);
    /* Called in another thread, before http_request_resume() was: the client closed its connection (or its sending
     * half; the two look the same). May only set flags. */
    void (*gone)(void *context);
    void *context;
};

/* Stops all work on the connection. Call it before the request is given to whoever resumes it. */
void http_request_suspend(struct http_request *request, const struct http_waiter *waiter);
/* Any thread, exactly once for each suspend. The request must not be touched afterwards. */
void http_request_resume(struct http_request *request);

#endif
