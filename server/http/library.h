/* All calls of libmicrohttpd (0.9.75), behind small functions. The library reads heads and bodies and writes replies.
 * Nothing here knows what a request means. Whoever opens the library registers for its events.
 *
 * Life cycle: library_new(), then one thread calls library_run() again and again, then library_free(). That thread
 * waits for epoll's descriptor and for the poke descriptor, never longer than library_wait_ms() says. Events come from
 * library_run(), library_add_connection() and library_free(), in the thread that calls them.
 *
 * Threads: library_resume() and library_poke() may be called by any thread; the rest belongs to the thread that runs
 * the library.
 */
#ifndef LSTMD_SERVER_HTTP_LIBRARY_H
#define LSTMD_SERVER_HTTP_LIBRARY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/error.h"

struct library;
struct MHD_Connection; /* the library's handle of a connection */
struct MHD_Response;   /* the library's handle of a reply */

/* The request line, in the memory that it came into. */
struct library_head {
    const char *method, *target, *version;
};

/* A header. The texts end with a NUL. */
struct library_field {
    const char *name, *value;
    size_t name_size, value_size;
};

typedef bool library_visitor(void *context, const struct library_field *field); /* false: visit no more */

/* What happens. `owner` is what library_add_connection() got, `request` what request_began() returned. */
struct library_events {
    /* A request line has come; `target` includes the query. NULL: memory is out, the connection ends. */
    void *(*request_began)(void *owner, struct MHD_Connection *connection, const char *target);
    /* First: the head is complete. Then for each piece of the body, which may take less than all of it (*taken, 0
     * before); with size 0 at the body's end; and after each resume. False ends the connection. */
    bool (*request_went_on)(void *request, const struct library_head *head, const char *data, size_t size,
                            size_t *taken);
    /* sent: the reply was sent whole. The library does not call it for every request: where a head has two faults, it
     * closes the connection at the second one without a word. */
    void (*request_ended)(void *request, bool sent);
    /* Exactly once for each connection, also for one that the library did not take. The socket closes right after it;
     * one that was not taken is closed already. */
    void (*connection_ended)(void *owner);
    /* The library refuses something that it cannot read with this status, and does not say of whom. chunk: it is a
     * chunk of a body. */
    void (*refused)(void *context, int status, bool chunk);
    void *context; /* of refused() */
};

struct library_options {
    size_t max_header;      /* bytes that a head may take: library_head_memory() */
    size_t max_connections; /* at a time */
    struct library_events events;
};

struct library *library_new(const struct library_options *options, struct error *err);
/* Closes all connections; none may be suspended, and nobody runs the library any more. NULL allowed. */
void library_free(struct library *library);

/* --- Running --- */

int library_epoll_fd(const struct library *library); /* readable: something has come */
int library_poke_fd(const struct library *library);  /* readable: library_poke() or library_resume() was called */
/* Milliseconds until the library wants to be run; 0: at once; -1: when something comes. */
int library_wait_ms(const struct library *library);
void library_run(struct library *library);
void library_poke(struct library *library);
void library_take_pokes(struct library *library); /* nothing is readable at the poke descriptor afterwards */
/* Calls of ours that the library has made. While the number stays, the library does nothing. */
uint64_t library_call_count(const struct library *library);

/* --- Connections --- */

/* Gives a socket to the library, which closes it. */
void library_add_connection(struct library *library, int fd, const struct sockaddr *address, socklen_t size,
                            void *owner);
/* Stops all work on a connection. From within an event, or from within read() of its stream. */
void library_suspend(struct MHD_Connection *connection);
/* Exactly once for each suspend. The connection, and what hangs on it, may be gone afterwards. */
void library_resume(struct library *library, struct MHD_Connection *connection);
/* Silence of so many seconds ends the connection; 0: none does. */
void library_set_timeout(struct MHD_Connection *connection, double seconds);

/* --- The head of a request: texts belong to the library, until the request is over --- */

/* The text of the first header with that name in any case, or NULL. */
const char *library_header(struct MHD_Connection *connection, const char *name);
/* The same of the last one. */
const char *library_last_header(struct MHD_Connection *connection, const char *name);
/* Shows each header, in the order in which they came. */
void library_visit_headers(struct MHD_Connection *connection, library_visitor *visit, void *context);
size_t library_head_size(struct MHD_Connection *connection);   /* bytes of the head; 0: it is not complete */
size_t library_head_memory(struct MHD_Connection *connection); /* bytes that it takes in the library's memory */
int library_own_status(struct MHD_Connection *connection);     /* of the reply that the library itself has made, or 0 */

/* --- Replies --- */

#define LIBRARY_STREAM_END    SIZE_MAX
#define LIBRARY_STREAM_BROKEN (SIZE_MAX - 1)

/* A body that is read piece by piece. Memory of the caller's, until the request has ended. */
struct library_stream {
    struct library *library;
    /* Writes up to `size` bytes to `out` and returns how many, or one of the two above. 0: nothing now, and the
     * connection is suspended. */
    size_t (*read)(void *context, char *out, size_t size);
    void *context;
};

/* owned: `body` is malloc'ed, and the library frees it; else it stays as it is until the request has ended. NULL:
 * memory is out, and the body is still the caller's. */
struct MHD_Response *library_reply_new(const char *body, size_t size, bool owned);
struct MHD_Response *library_reply_new_stream(struct library_stream *stream);
void library_reply_add_header(struct MHD_Response *reply, const char *name, const char *value);
/* Consumes the reply. */
bool library_reply_send(struct MHD_Connection *connection, struct MHD_Response *reply, int status);

#endif
