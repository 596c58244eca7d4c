#include "config/config.h"

#include <stddef.h>
#include <string.h>

#include "base/log.h"
#include "base/sandbox.h"

static const char *const kernels[] = {"auto", "ref", "portable", "avx2", "avx512", "avx512vnni", "neon", NULL};
static const char *const products[] = {"auto", "own", "openblas", NULL};
static const char *const weights[] = {"auto", "f32", "bf16", "int8", NULL};
static const char *const log_levels[] = {"debug", "info", "warning", "error", NULL}; /* in the order of log_level */
static const char *const log_formats[] = {"logfmt", "json", NULL};                   /* in the order of log_format */

#define FIELD(name) offsetof(struct config, name)

static const char *const forwarded_headers[] = {"x-forwarded-for", "forwarded", NULL};

static const struct option rows[] = {
    {"server.listen", OPTION_TEXT, FIELD(listen), "127.0.0.1", 1, 255, NULL, NULL,
     "Address to listen on (0.0.0.0 or :: for every interface), or unix:/path."},
    {"server.port", OPTION_INT, FIELD(port), "8080", 0, 65535, NULL, NULL,
     "TCP port; 0 takes a free one; the log names it."},
    {"server.socket_mode", OPTION_TEXT, FIELD(socket_mode), "0660", 3, 4, NULL, NULL,
     "Permissions of the socket at unix:/path, in octal."},
    {"server.trusted_proxies", OPTION_LIST, FIELD(trusted_proxies), NULL, 0, 0, NULL, NULL,
     "Proxies (10.0.0.0/8, ::1, unix). The daemon takes the client's address from their header."},
    {"server.forwarded_header", OPTION_CHOICE, FIELD(forwarded), "x-forwarded-for", 0, 0, forwarded_headers, NULL,
     "The header in which these proxies send the client's address. They must set it themselves."},
    {"server.hosts", OPTION_LIST, FIELD(hosts), NULL, 0, 0, NULL, NULL,
     "Names (lstmd.example.org) that requests may send in Host, besides localhost and IP addresses; * for any. A "
     "request with another name gets 421."},
    {"server.cors_origins", OPTION_LIST, FIELD(cors_origins), NULL, 0, 0, NULL, NULL,
     "Origins (https://app.example.org) whose pages may read answers in a browser; * for all."},
    {"server.drain_seconds", OPTION_REAL, FIELD(drain_seconds), "10", 0, 3600, NULL, "s",
     "How long a stopping daemon waits for running requests."},
    {"server.ping_seconds", OPTION_REAL, FIELD(ping_seconds), "15", 0.1, 3600, NULL, "s",
     "Longest silence of a stream. The daemon then sends a comment line."},
    {"server.state_dir", OPTION_TEXT, FIELD(state_dir), NULL, 1, 3900, NULL, NULL,
     "Directory for models, datasets and training jobs. The daemon makes it if it is missing. Without it there is "
     "one model."},
    {"server.user", OPTION_TEXT, FIELD(user), NULL, 1, 255, NULL, NULL,
     "If root starts the daemon, it becomes this user when its sockets are open. Without it, the daemon stays root."},
    {"server.sandbox", OPTION_CHOICE, FIELD(sandbox), "auto", 0, 0, sandbox_choices, NULL,
     "Gives up the system calls and paths that serving does not need (seccomp, Landlock); auto: as far as the kernel "
     "allows it."},
    {"admin.listen", OPTION_TEXT, FIELD(admin_listen), NULL, 1, 255, NULL, NULL,
     "Address or unix:/path only for administration. Without it, administration is at server.listen."},
    {"admin.port", OPTION_INT, FIELD(admin_port), "8081", 0, 65535, NULL, NULL,
     "TCP port of admin.listen; 0 takes a free one; the log names it."},
    {"admin.max_connections", OPTION_INT, FIELD(max_admin_connections), "64", 1, 100000, NULL, "connections",
     "Most open connections of admin.listen. limits.max_connections does not count them."},
    {"model.path", OPTION_TEXT, FIELD(model_path), "model/pretrained/headlines", 1, 4095, NULL, NULL,
     "Directory of a model to serve. It is the default model, unless the state directory names another one."},
    {"engine.kernel", OPTION_TEXT, FIELD(kernel), "auto", 0, 0, kernels, NULL,
     "Instruction set of the arithmetic; auto: the best one of this CPU."},
    {"engine.products", OPTION_CHOICE, FIELD(products), "auto", 0, 0, products, NULL,
     "Who multiplies large matrices in training jobs that do not set it, and where /score reads a text and keeps no "
     "state: lstmd's kernels, or OpenBLAS, which the daemon then loads at its start; auto: own, except on a CPU "
     "without vector kernels."},
    {"engine.threads", OPTION_INT, FIELD(threads), "0", 0, 256, NULL, "threads",
     "Threads that generate, per loaded model; 0: one per processor."},
    {"engine.weights", OPTION_CHOICE, FIELD(weights), "auto", 0, 0, weights, NULL,
     "How the engine keeps the weights; auto: as the model directory does."},
    {"engine.max_batch", OPTION_INT, FIELD(max_batch), "64", 1, 4096, NULL, "sequences",
     "How many sequences a thread steps together."},
    {"limits.max_body", OPTION_SIZE, FIELD(max_body), "1MiB", 1024, 1 << 30, NULL, "bytes",
     "Largest body of a request; a larger one gets 413."},
    {"limits.max_body_memory", OPTION_SIZE, FIELD(max_body_memory), "64MiB", 1024, 0x1p40, NULL, "bytes",
     "Most memory of all bodies above 64 KiB together, at least limits.max_body. One more body gets 503. Smaller "
     "bodies do not count."},
    {"limits.max_url", OPTION_SIZE, FIELD(max_url), "5KiB", 64, 1 << 20, NULL, "bytes",
     "Longest URL of a request; a longer one gets 414."},
    {"limits.max_header", OPTION_SIZE, FIELD(max_header), "7KiB", 1024, 1 << 20, NULL, "bytes",
     "Largest head of a request: its first line and its headers. Each header and each cookie counts 64 bytes more, "
     "and cookies count twice. A larger head gets 431. Each open connection takes this much memory, and 2.3 kB more."},
    {"limits.max_prompt", OPTION_SIZE, FIELD(max_prompt), "256KiB", 1, 1 << 30, NULL, "bytes",
     "Longest prompt, in bytes of UTF-8, or all prompts of a request together; a longer one gets 422."},
    {"limits.max_length", OPTION_INT, FIELD(max_length), "10000", 1, 10000000, NULL, "tokens",
     "Most new tokens that one request may ask for."},
    {"limits.max_n", OPTION_INT, FIELD(max_n), "8", 1, 128, NULL, "texts",
     "Most continuations of one prompt (`n`, `best_of`) that a request may ask for."},
    {"limits.max_texts", OPTION_INT, FIELD(max_texts), "64", 1, 1024, NULL, "texts",
     "Most texts that one request with several prompts may ask for: prompts times `n`, or times `best_of`."},
    {"limits.max_pattern", OPTION_SIZE, FIELD(max_pattern), "4KiB", 1, 1 << 16, NULL, "bytes",
     "Longest `regex` of a request, or all of its `choices`; a longer one gets 422."},
    {"limits.max_pattern_states", OPTION_INT, FIELD(max_pattern_states), "2000", 2, 100000, NULL, "states",
     "Most states of a `regex` or of `choices`; a larger one gets 422. For each character of the vocabulary a state "
     "takes up to 4 bytes, and once a microsecond."},
    {"limits.max_score", OPTION_INT, FIELD(max_score), "20000", 1, 10000000, NULL, "tokens",
     "Longest text that /score, /state or /inspect takes."},
    {"limits.max_inspect", OPTION_SIZE, FIELD(max_inspect), "64MiB", 1, 0x1p40, NULL, "bytes",
     "Most numbers that an answer of /inspect may have, 4 bytes each; a request for more gets 422."},
    {"limits.max_connections", OPTION_INT, FIELD(max_connections), "1024", 1, 100000, NULL, "connections",
     "Most open connections of server.listen. When all are open, the daemon closes the one that was idle longest. If "
     "none is idle, a new one gets 503; /healthz, /readyz and /metrics still answer. A low RLIMIT_NOFILE lowers this "
     "limit; the log says so."},
    {"limits.max_dataset", OPTION_SIZE, FIELD(max_dataset), "4GiB", 1, 0x1p46, NULL, "bytes",
     "Largest dataset that may be uploaded; a larger one gets 413."},
    {"limits.max_import", OPTION_SIZE, FIELD(max_import), "1GiB", 1, 0x1p46, NULL, "bytes",
     "Largest body of an import, the file and its vocabulary; a larger one gets 413."},
    {"limits.max_connections_per_address", OPTION_INT, FIELD(max_per_address), "0", 0, 100000, NULL, "connections",
     "Most open connections of one address (of an IPv6 address the first 64 bits count), or its running requests "
     "behind a trusted proxy. Further ones get 429. 0: no limit."},
    {"limits.max_uploads", OPTION_INT, FIELD(max_uploads), "8", 1, 1000, NULL, "bodies",
     "Most uploads (bodies too large for memory) at a time. Each has a thread. One more gets 503."},
    {"limits.queue", OPTION_INT, FIELD(queue), "256", 0, 1000000, NULL, "requests",
     "Most requests that wait for a place in a model's batch. Further ones get 503."},
    {"limits.idle_timeout", OPTION_REAL, FIELD(idle_timeout), "60", 1, 86400, NULL, "s",
     "Longest time from one reply to the head of the next request. Then the daemon closes the connection."},
    {"limits.body_timeout", OPTION_REAL, FIELD(body_timeout), "30", 1, 86400, NULL, "s",
     "Longest time for 64 KiB of a body, or for its rest. Then the request gets 408."},
    {"limits.write_timeout", OPTION_REAL, FIELD(write_timeout), "30", 1, 86400, NULL, "s",
     "Longest time that a client may leave a reply unread. Then the daemon cancels its request and closes the "
     "connection."},
    {"limits.request_timeout", OPTION_REAL, FIELD(request_timeout), "60", 1, 86400, NULL, "s",
     "Longest time that a generation, or a text for /score, /state, /inspect or /tokenize, may wait and run. Then it "
     "ends with 503, a stream with an error."},
    {"cache.max_bytes", OPTION_SIZE, FIELD(cache_max_bytes), "64MiB", 0, 0x1p40, NULL, "bytes",
     "Most memory for hidden states of earlier prompts; 0: no cache."},
    {"cache.interval", OPTION_INT, FIELD(cache_interval), "1024", 1, 1000000, NULL, "tokens",
     "Distance between kept states in a long prompt."},
    {"sessions.ttl", OPTION_REAL, FIELD(session_ttl), "3600", 1, 31536000, NULL, "s",
     "How long a session is kept after its last use."},
    {"sessions.max_count", OPTION_INT, FIELD(sessions_max), "10000", 1, 10000000, NULL, "sessions",
     "Most sessions. A new one replaces the least recently used one."},
    {"sessions.max_name", OPTION_INT, FIELD(session_max_name), "128", 1, 128, NULL, "bytes",
     "Longest name of a session."},
    {"auth.generate_tokens", OPTION_SECRETS, FIELD(generate_tokens), NULL, 0, 0, NULL, NULL,
     "Tokens that may generate: the token itself, or sha256: and 64 hexadecimal digits. Without one, everybody may."},
    {"auth.generate_token_file", OPTION_TEXT, FIELD(generate_token_file), NULL, 1, 4095, NULL, NULL,
     "File with more generate tokens, one per line."},
    {"auth.admin_tokens", OPTION_SECRETS, FIELD(admin_tokens), NULL, 0, 0, NULL, NULL,
     "Tokens that may administer and generate. Without one, nobody may administer."},
    {"auth.admin_token_file", OPTION_TEXT, FIELD(admin_token_file), NULL, 1, 4095, NULL, NULL,
     "File with more admin tokens, one per line."},
    {"train.max_parallel", OPTION_INT, FIELD(train_max_parallel), "1", 1, 64, NULL, "jobs",
     "Most training jobs that run at a time. Further ones wait."},
    {"train.threads", OPTION_INT, FIELD(train_threads), "0", 0, 1024, NULL, "threads",
     "Threads of a training job that does not set its own; 0: one per processor."},
    {"train.snapshot_seconds", OPTION_REAL, FIELD(train_snapshot_seconds), "60", 0, 1e6, NULL, "s",
     "Time between two snapshots of a training job. After a restart the job goes on from the last one. 0: only at "
     "validations."},
    {"log.level", OPTION_CHOICE, FIELD(log_level), "info", 0, 0, log_levels, NULL, "Least level of logged lines."},
    {"log.format", OPTION_CHOICE, FIELD(log_format), "logfmt", 0, 0, log_formats, NULL, "Form of the log's lines."},
};

const struct option_table config_table = {rows, sizeof rows / sizeof rows[0], "LSTMD", NULL};

static const char *find_in(char *const *environment, const char *name)
{
    size_t n = strlen(name);
    for (; environment && *environment; environment++)
        if (strncmp(*environment, name, n) == 0 && (*environment)[n] == '=') return *environment + n + 1;
    return NULL;
}

bool config_load(struct config *config, const char *path, char *const *environment, const char *const *assignments,
                 size_t assignment_count, struct error *err)
{
    *config = (struct config){0};
    struct arena *arena = &config->arena;
    if (!path) path = find_in(environment, "LSTMD_CONFIG");
    config->file = path;
    config->origins = arena_alloc(arena, config_table.count, sizeof *config->origins, "the origins of settings", err);
    if (!config->origins) return false;
    const struct option_table table = config_origins(config);
    if (!options_set_defaults(&table, config, arena, err)) return false;
    if (path && !options_read_yaml(&table, config, path, arena, err)) return false;
    if (!options_read_environment(&table, config, environment, arena, err)) return false;
    for (size_t i = 0; i < assignment_count; i++)
        if (!options_set_assignment(&table, config, assignments[i], "--set", arena, err)) return false;
    return true;
}

struct option_table config_origins(const struct config *config)
{
    struct option_table table = config_table;
    table.origins = config->origins;
    return table;
}

void config_each_override(const struct config *config,
                          void (*tell)(const char *key, const char *variable, const char *overridden))
{
    for (size_t i = 0; i < config_table.count; i++) {
        const struct option_origin *origin = &config->origins[i];
        if (origin->is_variable && origin->overrides) tell(rows[i].key, origin->place, origin->overrides);
    }
}

void config_close(struct config *config)
{
    arena_free(&config->arena);
    *config = (struct config){0};
}
