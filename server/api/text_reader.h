/* A request whose text the daemon's scorer reads: /score, /state and /inspect. The thread that handles the request
 * encodes the text; the scorer feeds it to the model while the connection is suspended. Texts take turns of a few
 * milliseconds, so a short one does not wait for long ones. Each resource has a struct that begins with a text_reader,
 * and a kind.
 *
 * Most kinds read the whole text and then answer. A streamed kind answers while it reads: its write() has the next
 * token fed by text_reader_next(). The scorer writes the first buffer before the reply begins, so that what ends the
 * reading until then gets a status. Each further buffer is a turn in the scorer while the one before is being sent. So
 * such a request takes two buffers of memory, however long its answer, and limits.request_timeout counts, from then on,
 * the time of these turns alone.
 *
 * Life cycle: text_reader_run() makes the struct. The request and the answer that is being written share it, and the
 * last of them frees it.
 *
 * Threads: what the kind's fed() uses belongs to the scorer from the first turn on until the answer is written.
 */
#ifndef LSTMD_SERVER_API_TEXT_READER_H
#define LSTMD_SERVER_API_TEXT_READER_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/json_writer.h"
#include "base/worker.h"
#include "model/generate/reading.h"
#include "server/api/scored_text.h"
#include "server/api/services.h"
#include "server/api/text_reply.h"
#include "server/http/http.h"
#include "server/http/problem.h"

struct text_reader;

struct text_reader_kind {
    size_t size;              /* of the struct, whose first member is `struct text_reader` */
    const struct field *rows; /* [row_count] of the struct */
    size_t row_count;
    bool is_streamed;
    /* Opens the text, sets `count` and `wanted_from` (and `keep_gates`, `content_type`), takes memory. False with the
     * problem. */
    bool (*open)(struct text_reader *reader, struct problem *problem);
    /* Token i was fed; its logits are there if i >= wanted_from. NULL allowed. */
    void (*fed)(struct text_reader *reader, size_t i);
    /* As struct text_source has it; context is the reader. Streamed: runs in the scorer; TEXT_BROKEN where
     * text_reader_next() was false, and appends something otherwise. */
    enum text_state (*write)(void *context, struct json_writer *out, struct error *err);
    void (*close)(struct text_reader *reader); /* frees what is the kind's */
};

enum text_reader_outcome {
    TEXT_READING,   /* not over */
    TEXT_READ,      /* all tokens are fed */
    TEXT_LEFT,      /* the client has left */
    TEXT_CLOSED,    /* the daemon ends */
    TEXT_LATE,      /* limits.request_timeout */
    TEXT_NO_MEMORY, /* for reading */
};

struct text_reader {
    struct task task; /* first: the scorer gives it back */
    atomic_uint references;
    const struct text_reader_kind *kind;
    struct http_request *request;
    struct services *services;
    struct served *served; /* the model */
    json_t *body;
    struct scored_text text;
    size_t count;             /* tokens of the prompt that are fed */
    size_t wanted_from;       /* token that has logits, and all behind it */
    bool keep_gates;          /* the reading keeps the gates of each token */
    const char *content_type; /* of the answer; NULL: application/json */
    atomic_bool gone;
    uint64_t deadline_ns;

    /* The scorer's, from the text's first turn on. */
    struct reading reading;
    size_t read; /* tokens that were fed */
    enum text_reader_outcome outcome;

    /* Of a streamed answer. They belong to the scorer while it writes. */
    struct json_writer ready; /* what was written before the reply began */
    bool is_replied, is_written;
    uint64_t turn_ns, spent_ns; /* when the turn began; what the turns since the reply have taken */
};

/* Feeds the next token. False: the reading must end, and `outcome` says why. */
bool text_reader_next(struct text_reader *reader);

/* The problem that tells the client how the reading ended; not for TEXT_READ and TEXT_LEFT. */
void text_reader_set_problem(const struct text_reader *reader, struct problem *problem);

/* Handles the request: reads its fields and answers, now or later. */
enum http_outcome text_reader_run(struct http_request *request, struct services *services,
                                  const struct text_reader_kind *kind);

#endif
