/* The daemon's configuration. Its sources: defaults, the YAML file, the environment, --set; later sources win. The
 * table in config.c is the reference: `lstmd config --help` prints it.
 */
#ifndef LSTMD_CONFIG_CONFIG_H
#define LSTMD_CONFIG_CONFIG_H

#include "base/arena.h"
#include "base/error.h"
#include "config/option.h"

struct config {
    /* server */
    const char *listen;      /* server.listen: address, default 127.0.0.1 */
    const char *socket_mode; /* server.socket_mode: octal permissions of a UNIX socket */
    const char
        *admin_listen; /* admin.listen: the only address for administration; NULL: server.listen serves it, too */
    int64_t admin_port;
    int64_t max_admin_connections;      /* admin.max_connections */
    struct option_list trusted_proxies; /* server.trusted_proxies */
    int forwarded;                      /* server.forwarded_header: 0 x-forwarded-for, 1 forwarded */
    struct option_list hosts;           /* server.hosts */
    struct option_list cors_origins;    /* server.cors_origins */
    int64_t port;                       /* server.port: 0: any free port; the log names it */
    double drain_seconds;
    double ping_seconds;   /* server.ping_seconds: a stream is never silent for longer */
    const char *state_dir; /* server.state_dir (server/store/state_dir.h); NULL: none */
    const char *user;      /* server.user: the user that root changes to; NULL: no change */
    int sandbox;           /* server.sandbox: enum sandbox_choice */
    /* model */
    const char *model_path; /* model.path: a model directory */
    /* engine */
    const char *kernel; /* engine.kernel: auto, ref, portable, avx2, avx512, avx512vnni, neon */
    int products;       /* engine.products: 0 auto, 1 own, 2 openblas (model/kernels/blas.h) */
    int weights;        /* engine.weights: 0 auto, then 1 + enum kernel_format */
    int64_t threads;    /* engine.threads: 0: one per processor */
    int64_t max_batch;  /* engine.max_batch: sequences that one thread steps together */
    /* limits */
    uint64_t max_body;        /* limits.max_body bytes */
    uint64_t max_body_memory; /* limits.max_body_memory bytes of all large bodies together */
    uint64_t max_url;         /* limits.max_url bytes */
    uint64_t max_header;      /* limits.max_header bytes of a request's head */
    uint64_t max_prompt;      /* limits.max_prompt bytes */
    int64_t max_length;       /* limits.max_length new tokens */
    int64_t max_n;            /* limits.max_n continuations of one request */
    int64_t max_texts;        /* limits.max_texts of one request with several prompts */
    uint64_t max_pattern;     /* limits.max_pattern bytes of an expression, or of all choices */
    int64_t max_pattern_states;
    uint64_t max_inspect; /* limits.max_inspect bytes of numbers in one answer */
    int64_t max_score;    /* limits.max_score tokens of a text that is scored */
    int64_t max_connections;
    int64_t max_per_address; /* limits.max_connections_per_address; 0: any number */
    uint64_t max_dataset;    /* limits.max_dataset bytes */
    uint64_t max_import;     /* limits.max_import bytes */
    int64_t max_uploads;     /* limits.max_uploads: streamed bodies at a time */
    int64_t queue;           /* limits.queue: requests waiting for a slot; beyond: 503 */
    double idle_timeout;     /* limits.idle_timeout seconds until a request's head is complete */
    double body_timeout;     /* limits.body_timeout seconds for 64 KiB of a body */
    double write_timeout;    /* limits.write_timeout seconds that a reply may stay unread */
    double request_timeout;  /* limits.request_timeout seconds that a generation may wait and run */
    /* cache */
    uint64_t cache_max_bytes; /* cache.max_bytes of hidden states by prompt prefix; 0: no cache */
    int64_t cache_interval;   /* cache.interval: tokens between two kept states of a long prompt */
    /* sessions */
    double session_ttl;       /* sessions.ttl seconds after a session's last use */
    int64_t sessions_max;     /* sessions.max_count */
    int64_t session_max_name; /* sessions.max_name bytes */
    /* auth: bearer tokens (server/api/auth.h) */
    struct option_list generate_tokens, admin_tokens;
    const char *generate_token_file, *admin_token_file;
    /* train */
    int64_t train_max_parallel;    /* train.max_parallel jobs at a time */
    int64_t train_threads;         /* train.threads of a job; 0: one per processor */
    double train_snapshot_seconds; /* train.snapshot_seconds between two snapshots of a job */
    /* log */
    int log_level;                 /* log.level: debug, info, warning, error (enum log_level) */
    int log_format;                /* log.format: logfmt, json (enum log_format) */
    const char *file;              /* the file that was read; NULL: none. Borrowed */
    struct option_origin *origins; /* origins of the values, in the order of config_table */
    struct arena arena;
};

extern const struct option_table config_table;

/* Reads everything. path: the YAML file; NULL: the one that LSTMD_CONFIG names, if any. environment: as environ, or
 * NULL. assignments: --set values. Close with config_close(), also after failure. */
bool config_load(struct config *config, const char *path, char *const *environment, const char *const *assignments,
                 size_t assignment_count, struct error *err);
void config_close(struct config *config);

/* config_table with the origins of these values, for options_print_yaml(). */
struct option_table config_origins(const struct config *config);

/* Calls tell() for each environment variable that replaced a value of the file, because a reader of the file cannot see
 * that. */
void config_each_override(const struct config *config,
                          void (*tell)(const char *key, const char *variable, const char *overridden));

#endif
