/* What the daemon counts, and the text form in which Prometheus reads it ("Exposition formats", text format 0.0.4).
 *
 * Counters and histograms are atomics that only grow: any thread adds, none waits, and a reader sees each at some
 * moment of its own. Numbers that other parts keep (the engine's load, the cache's size) are not here:
 * api/metrics_text.c asks these parts and writes the numbers with the functions below. No prompt or generated text ever
 * gets here.
 *
 * Life cycle: metrics_new(), any number of calls from any thread, metrics_free().
 */
#ifndef LSTMD_SERVER_API_METRICS_H
#define LSTMD_SERVER_API_METRICS_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"

/* One row per counter: X(name, the metric, its labels or "", help). Rows of one metric stand together. */
#define METRICS_COUNTERS(X)                                                                                            \
    X(PROMPT_TOKENS, "lstmd_prompt_tokens_total", "",                                                                  \
      "Tokens of prompts that were read or found in the cache; a request for n texts counts its prompt n times.")      \
    X(CACHED_TOKENS, "lstmd_cached_tokens_total", "", "Tokens of prompts whose hidden state was in the cache.")        \
    X(COMPLETION_TOKENS, "lstmd_completion_tokens_total", "", "New tokens.")                                           \
    X(SCORED_TOKENS, "lstmd_scored_tokens_total", "", "Tokens of texts that /score, /state and /inspect read.")        \
    X(ENDED_LENGTH, "lstmd_generations_total", "end=\"length\"", "Continuations by how they ended.")                   \
    X(ENDED_EOS, "lstmd_generations_total", "end=\"eos\"", "")                                                         \
    X(ENDED_PATTERN, "lstmd_generations_total", "end=\"pattern\"", "")                                                 \
    X(ENDED_STOP, "lstmd_generations_total", "end=\"stop\"", "")                                                       \
    X(ENDED_CANCELLED, "lstmd_generations_total", "end=\"cancelled\"", "")                                             \
    X(ENDED_TIMEOUT, "lstmd_generations_total", "end=\"timeout\"", "")                                                 \
    X(ENDED_STOPPED, "lstmd_generations_total", "end=\"shutdown\"", "")                                                \
    X(REFUSED, "lstmd_refused_total", "", "Requests for text that found the queue full.")                              \
    X(JOBS_SUCCEEDED, "lstmd_train_jobs_total", "outcome=\"succeeded\"", "Training jobs by how they ended.")           \
    X(JOBS_FAILED, "lstmd_train_jobs_total", "outcome=\"failed\"", "")                                                 \
    X(JOBS_CANCELLED, "lstmd_train_jobs_total", "outcome=\"cancelled\"", "")                                           \
    X(RELOAD_FAILURES, "lstmd_reload_failures_total", "",                                                              \
      "Reloads (SIGHUP) in which the configuration, a file of tokens or a model was wrong.")                           \
    X(IMPORTS_UNSANDBOXED, "lstmd_imports_unsandboxed_total", "", "Imports that had no complete sandbox.")

enum metrics_counter {
#define ROW(name, ...) METRICS_##name,
    METRICS_COUNTERS(ROW)
#undef ROW
        METRICS_COUNTER_COUNT
};

/* One row per histogram: X(name, the metric, help). All are in seconds. */
#define METRICS_HISTOGRAMS(X)                                                                                          \
    X(QUEUE, "lstmd_queue_seconds", "Time that a continuation waited for its place in the batch.")                     \
    X(FIRST_TOKEN, "lstmd_time_to_first_token_seconds", "From a request for text to its first new token.")             \
    X(TOKEN, "lstmd_time_per_token_seconds", "Mean time per new token of a continuation, after its first.")            \
    X(GENERATION, "lstmd_generation_seconds", "From a request for text to the end of a continuation.")

enum metrics_histogram {
#define ROW(name, ...) METRICS_##name,
    METRICS_HISTOGRAMS(ROW)
#undef ROW
        METRICS_HISTOGRAM_COUNT
};

struct metrics;

/* routes: how many patterns requests are counted by. */
struct metrics *metrics_new(size_t routes, struct error *err);
/* The i-th of them, borrowed; of two that are the same the first counts. Before all that follows. */
void metrics_name_route(struct metrics *metrics, size_t i, const char *pattern);
void metrics_free(struct metrics *metrics); /* NULL allowed */

void metrics_add(struct metrics *metrics, enum metrics_counter counter, uint64_t n);
void metrics_observe(struct metrics *metrics, enum metrics_histogram histogram, double seconds);

/* A request is over. route: one of the patterns; any other text counts as "other". */
void metrics_request(struct metrics *metrics, const char *route, int status, double seconds, uint64_t bytes_in,
                     uint64_t bytes_out);

/* --- Writing --- */

/* All of the above. */
void metrics_write(const struct metrics *metrics, FILE *out);

/* "# HELP" and "# TYPE" of a metric; type: "counter", "gauge". Its samples follow. */
void metrics_write_head(FILE *out, const char *name, const char *type, const char *help);
/* labels: as between braces, "" for none; values of labels that may hold anything go through metrics_label(). */
void metrics_write_sample(FILE *out, const char *name, const char *labels, double value);
/* Head and one sample without labels. */
void metrics_write_one(FILE *out, const char *name, const char *type, const char *help, double value);
/* `key="value"` with what the format wants escaped; cut at the size. Returns `out`. */
const char *metrics_label(char *out, size_t size, const char *key, const char *value);

#endif
