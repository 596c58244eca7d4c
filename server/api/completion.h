/* A request for continuations, from its fields to its answer: a completion is checked, encoded, given to the engine as
 * n jobs, and answered as a whole or as a stream. POST and GET /generate have one struct completion_dialect, POST
 * /v1/completions another: the names of the fields and the form of the answer.
 *
 * Life cycle: a handler calls completion_new(), then completion_read(), and ends with completion_run(). The request
 * and its jobs share the memory, and the last of them to end frees it. So a stream whose client has left does not wait
 * for the engine.
 *
 * Threads: `parts[i].job.generation` belongs to the engine from the submission until `over` is set. Before that the
 * stream reads only the bytes of its text that text_ready counts and the tokens that tokens_ready counts: these do not
 * change any more. Everything else belongs to the thread that handles the request.
 */
#ifndef LSTMD_SERVER_API_COMPLETION_H
#define LSTMD_SERVER_API_COMPLETION_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/json_writer.h"
#include "model/generate/answer.h"
#include "server/api/fields.h"
#include "server/api/services.h"
#include "server/engine/engine.h"
#include "server/http/http.h"
#include "server/http/problem.h"

struct completion;

#define COMPLETION_DEFAULT_LENGTH 100
#define COMPLETION_MAX_N          128 /* what limits.max_n may be */
#define COMPLETION_MAX_CHOICES    512
#define COMPLETION_MAX_TEXTS      1024 /* what limits.max_texts may be */

enum completion_choice_mode {
    COMPLETION_SAMPLE,    /* drawn token by token, as any text */
    COMPLETION_LIKELIEST, /* the choice with the largest probability behind the prompt */
};

struct completion_fields {
    json_t *prompt; /* owned; NULL: the empty text */
    struct field_text model, label, session;
    uint64_t length, min_length, seed, n, logprobs;
    uint64_t best_of;               /* 0: n */
    struct sampler_options sampler; /* without `bias` and `counts_written` */
    struct field_texts stop;
    json_t *logit_bias; /* owned, or NULL */
    int unknown;        /* 0: skip, 1: error */
    struct field_text regex;
    json_t *choices; /* owned, or NULL */
    int choice_mode; /* enum completion_choice_mode */
    json_t *state;   /* owned, or NULL */
    bool return_state;
    bool seed_given, ignore_eos, include_stop, stream, cache_prompt;
    /* OpenAI's: */
    uint64_t shown_logprobs; /* alternatives that are shown of the `logprobs` that are computed */
    struct field_text suffix;
    json_t *stream_options; /* owned, or NULL */
    bool echo, include_usage, scores_prompt;
};

/* One prompt of a request. */
struct completion_prompt {
    const char *text; /* [bytes] as it came, or what the tokens are */
    size_t bytes;
    uint32_t *ids; /* [id_count] owned; NULL: it came as text */
    size_t id_count;
    char *own_text; /* owned: of the tokens */
    struct engine_group group;
};

/* What one event of a stream carries: text[0..size) of a continuation, the text of some of its tokens. */
struct completion_piece {
    size_t index; /* of the continuation */
    const char *text;
    size_t size;
    size_t first_token, token_count;
    bool last; /* of this continuation: its generation is over */
};

/* The first rows of each dialect, in this order. */
enum {
    COMPLETION_ROW_LENGTH,  /* length, max_tokens */
    COMPLETION_ROW_N,       /* n */
    COMPLETION_ROW_SEED,    /* seed */
    COMPLETION_ROW_BEST_OF, /* best_of */
};

struct completion_dialect {
    const struct field *rows; /* [row_count] of struct completion_fields; the rows of the sampler are added to them. The
                                 maximum of length, n and best_of is the configuration's */
    size_t row_count;
    bool is_openai; /* null is as if a field were not given, and presence and frequency penalties have OpenAI's bounds
                       and count the written tokens alone */
    /* Finds the token that a name in logit_bias means; false with the error. */
    bool (*find_token)(const struct vocabulary *vocabulary, const char *name, size_t size, uint32_t *id,
                       struct error *err);
    /* Appends the next piece of the answer; false: that was all. `state`: answer_size bytes, zero at first. The first
     * piece is written while there is a request, the others may come later and in another thread. */
    bool (*answer)(const struct completion *completion, void *state, struct json_writer *out);
    size_t answer_size;
    /* Append a document to a stream. after (NULL allowed): one behind the last event; false: there is none. */
    void (*event)(const struct completion *completion, const struct completion_piece *piece, struct json_writer *out);
    bool (*after)(const struct completion *completion, struct json_writer *out);
};

struct completion_part {
    struct engine_job job; /* first: the engine gives it back */
    struct completion *completion;
    atomic_size_t tokens_ready, text_ready; /* stored in this order, read in the other */
    atomic_bool over;                       /* job and generation are the request's again */
    bool chosen;                            /* the answer shows it */
    size_t sent_text, sent_tokens;          /* the stream's */
    bool closed;                            /* its last event was made */
};

struct completion {
    struct http_request *request;
    struct services *services;
    struct served *served; /* the model; acquired until the last job and the request are over */
    const struct completion_dialect *dialect;
    json_t *body; /* owns the texts of `fields` where they came from JSON */
    struct completion_fields fields;
    const char *label; /* the vocabulary's own text, or NULL */
    struct logit_bias *bias;
    size_t bias_count;
    struct pattern **patterns; /* [pattern_count] owned: none, one for all texts, or one for each text */
    size_t pattern_count;
    struct session *session; /* busy until the job is over, or NULL */
    bool session_lost;
    struct carried_state carried;      /* that the client gave; its `state` is owned, NULL: there is none */
    struct state_owner owner;          /* with return_state */
    float *end_states;                 /* [count][state_size] owned; NULL without return_state */
    struct completion_prompt *prompts; /* [prompt_count] */
    size_t prompt_count;
    bool has_prompts;              /* they came as a list of prompts, be it of one */
    struct completion_part *parts; /* [count] `made` of each prompt, beside one another */
    size_t count, made;
    struct answer_choice *choices; /* [shown] what the answer has: all parts, or the best of each prompt. The choice of
                                    * a stream is the part of the same number */
    size_t shown;
    atomic_bool prepared; /* `parts` may be read by other threads */
    atomic_bool left;     /* the client closed its connection */
    int64_t created;      /* seconds since 1970 */
    atomic_size_t running, references;

    struct task task; /* the check, where a worker does it */
    void *answer;     /* the dialect's state of an answer that is being written */

    /* The stream's: the event that is being sent. */
    struct http_stream stream;
    struct json_writer event;
    size_t event_sent;
    size_t turn; /* the continuation whose event comes next */
    uint64_t sent_ns;
    bool ended, failed;
};

/* NULL without memory. Consumes body (NULL allowed). Fields have their defaults. The request owns it: it needs no free.
 */
struct completion *completion_new(struct http_request *request, struct services *services,
                                  const struct completion_dialect *dialect, json_t *body);

/* Reads the body, or the query where there is no body, into completion->fields. given (NULL allowed): as
 * fields_read_json() has it, for the dialect's own rows. */
void completion_read(struct completion *completion, uint64_t *given, struct problem *problem);

/* Checks the fields together and beside the model, and adds errors to `problem`, which may hold some already. Answers
 * with the problem, or starts the jobs. Closes the problem. */
enum http_outcome completion_run(struct completion *completion, struct problem *problem);

/* Answers with the problem and closes it. */
enum http_outcome completion_refuse(struct http_request *request, struct problem *problem);

/* Acquires the model that a request names, or the default. NULL with the problem; an unknown name is the wrong field
 * "model". */
struct served *completion_acquire(const struct services *services, const struct field_text *model,
                                  struct problem *problem);

/* True while the daemon shuts down; the request then has its refusal. */
bool completion_is_draining(struct http_request *request, const struct services *services);

/* A warning beside those of the prompt, or NULL. */
const char *completion_warning(const struct completion *completion);

/* Fills in the answer about choices [first .. first + count), which are over. */
void completion_describe(const struct completion *completion, size_t first, size_t count, struct answer *answer);

#endif
