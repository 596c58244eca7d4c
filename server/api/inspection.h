/* One request for a look inside, between its check (inspect.c) and its answer (inspect_answer.c).
 *
 * Threads: the fields belong to the thread that handles the request until the scorer takes the text, then to the
 * scorer.
 */
#ifndef LSTMD_SERVER_API_INSPECTION_H
#define LSTMD_SERVER_API_INSPECTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model/generate/generate.h"
#include "model/generate/inspect.h"
#include "model/generate/probe.h"
#include "server/api/text_reader.h"

#define INSPECT_MAX_PROBED 100 /* units of each property */

/* What is asked of a probe. */
struct inspect_probe {
    uint64_t layer, count; /* count: units of each property */
    int vector;            /* 0: h, 1: c */
    struct field_texts properties;
};

/* Some numbers, each once: layers of a model, or units of a layer. */
struct inspect_numbers {
    size_t *items; /* [count] owned; NULL: all */
    size_t count;
};

enum inspect_stage {
    INSPECT_BEGIN,   /* nothing is written */
    INSPECT_TOKENS,  /* the figures of the next token come next */
    INSPECT_VECTORS, /* the next vector of the token */
};

struct inspection {
    struct text_reader reader; /* first */
    uint64_t top;
    bool c, gates, stream;
    json_t *probe_field; /* owned, or NULL */

    /* Checked: */
    struct inspect_numbers layers, units;
    bool is_lines; /* NDJSON */
    bool probes;
    struct inspect_probe wanted;
    bool shown[PROBE_PROPERTIES];

    /* The scorer's: */
    enum inspect_stage stage;
    size_t at;            /* token of the prompt that comes next */
    size_t layer, vector; /* place in `layers`; 0: h, 1: c, then the gates */
    double nats;          /* of all tokens so far */
    float *gate_rows;     /* [G][H] of the layer that is being written; owned, NULL where no gates are asked for */
    struct inspect_token likeliest[GENERATION_MAX_LOGPROBS];
    struct probe probe;
    struct probe_text follower;
};

/* The kind's write(): api/text_reader.h. */
enum text_state inspect_write(void *context, struct json_writer *out, struct error *err);

#endif
