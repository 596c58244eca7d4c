/* /metrics: what was counted (server/api/metrics.h), and what the parts of the daemon say of themselves at this moment.
 */
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/version.h"
#include "model/kernels/blas.h"
#include "server/api/api.h"
#include "server/api/services.h"

#define CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* --- Models --- */

struct model_numbers {
    FILE *out;
    const char *metric;
    double (*read)(const struct engine_load *load);
};

static double metrics_text_running(const struct engine_load *load)
{
    return (double)load->running;
}

static double metrics_text_waiting(const struct engine_load *load)
{
    return (double)load->waiting;
}

static double metrics_text_steps(const struct engine_load *load)
{
    return (double)load->steps;
}

static double metrics_text_sequences(const struct engine_load *load)
{
    return (double)load->sequences;
}

static void write_model(void *context, const struct served *served, bool is_default)
{
    const struct model_numbers *numbers = context;
    const struct engine_load load = engine_load(served->engine);
    char label[512];
    (void)is_default;
    metrics_write_sample(numbers->out, numbers->metric, metrics_label(label, sizeof label, "model", served->model.name),
                         numbers->read(&load));
}

static void count_model(void *context, const struct served *served, bool is_default)
{
    (void)served, (void)is_default;
    ++*(double *)context;
}

static void write_models(struct services *services, FILE *out)
{
    static const struct {
        const char *metric, *type, *help;
        double (*read)(const struct engine_load *load);
    } rows[] = {
        {"lstmd_sequences", "gauge", "Continuations that are generated at this moment.", metrics_text_running},
        {"lstmd_queue_depth", "gauge", "Continuations that wait for a place in the batch, or for their next turn.",
         metrics_text_waiting},
        {"lstmd_engine_steps_total", "counter", "Steps of the network, each for a batch of sequences.",
         metrics_text_steps},
        {"lstmd_engine_step_sequences_total", "counter",
         "Sequences that were stepped; by lstmd_engine_steps_total, the mean size of a batch.", metrics_text_sequences},
    };
    double count = 0;
    registry_each_loaded(services->registry, count_model, &count);
    metrics_write_one(out, "lstmd_models_loaded", "gauge", "Models that are in memory.", count);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct model_numbers numbers = {out, rows[i].metric, rows[i].read};
        metrics_write_head(out, rows[i].metric, rows[i].type, rows[i].help);
        registry_each_loaded(services->registry, write_model, &numbers);
    }
}

/* --- Training --- */

struct job_numbers {
    FILE *out;
    const char *metric, *data; /* data: a further label, or NULL */
    size_t member;
};

static void write_job(void *context, int64_t id, const struct job_figures *figures)
{
    const struct job_numbers *numbers = context;
    double value;
    memcpy(&value, (const char *)figures + numbers->member, sizeof value);
    char name[JOB_ID_SIZE], job[64], model[512], labels[640];
    if (!isfinite(value)) return;
    job_id_print(id, name);
    snprintf(labels, sizeof labels, "%s,%s%s", metrics_label(job, sizeof job, "train_job", name),
             metrics_label(model, sizeof model, "model", figures->model), numbers->data ? numbers->data : "");
    metrics_write_sample(numbers->out, numbers->metric, labels, value);
}

static void count_job(void *context, int64_t id, const struct job_figures *figures)
{
    (void)id, (void)figures;
    ++*(double *)context;
}

/* The label is not called job: Prometheus has that label itself and would rename ours. */
static void write_jobs(struct services *services, FILE *out)
{
#define FIGURE(name) offsetof(struct job_figures, name)
    static const struct {
        const char *metric, *help, *data;
        size_t member;
    } rows[] = {
        {"lstmd_train_loss_nats", "Last loss of a running job, per character.", ",data=\"train\"", FIGURE(train_nats)},
        {"lstmd_train_loss_nats", NULL, ",data=\"validation\"", FIGURE(validation_nats)},
        {"lstmd_train_tokens_per_second", "How fast a running job trains.", NULL, FIGURE(tokens_per_second)},
        {"lstmd_train_eta_seconds", "Time until a running job ends, as far as it knows.", NULL, FIGURE(eta_seconds)},
        {"lstmd_train_progress_ratio", "How much of its steps a running job has done.", NULL, FIGURE(fraction)},
    };
#undef FIGURE
    double count = 0;
    if (services->jobs) jobs_each_running(services->jobs, count_job, &count);
    metrics_write_one(out, "lstmd_train_running_jobs", "gauge", "Jobs that train at this moment.", count);
    metrics_write_one(out, "lstmd_train_waiting_jobs", "gauge", "Jobs that wait for room on the disk or for memory.",
                      services->jobs ? (double)jobs_count_waiting(services->jobs) : 0);
    if (!services->jobs) return;
    metrics_write_one(out, "lstmd_train_store_open", "gauge",
                      "0 where the jobs cannot be read, since the disk was full at the start.",
                      jobs_require_open(services->jobs, NULL));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct job_numbers numbers = {out, rows[i].metric, rows[i].data, rows[i].member};
        if (rows[i].help) metrics_write_head(out, rows[i].metric, "gauge", rows[i].help);
        jobs_each_running(services->jobs, write_job, &numbers);
    }
}

/* --- Products --- */

static void write_products(FILE *out)
{
    char label[128];
    const char *name = blas_name() ? blas_name() : products_choices[PRODUCTS_OWN];
    metrics_write_head(out, "lstmd_products_info", "gauge", "Who multiplies large matrices, if a job does not say.");
    metrics_write_sample(out, "lstmd_products_info", metrics_label(label, sizeof label, "products", name), 1);
    metrics_write_one(out, "lstmd_openblas_products_total", "counter", "Products that OpenBLAS has computed.",
                      (double)blas_calls());
}

/* --- The state directory --- */

static void write_state_dir(const struct services *services, FILE *out)
{
    uint64_t room, size;
    if (!services->state || !state_dir_room(services->state, &room, &size)) return;
    metrics_write_one(out, "lstmd_state_dir_free_bytes", "gauge", "What the state directory's file system has free.",
                      (double)room);
    metrics_write_one(out, "lstmd_state_dir_size_bytes", "gauge", "How large the state directory's file system is.",
                      (double)size);
}

/* --- Hidden states --- */

static void write_states(struct services *services, FILE *out)
{
    metrics_write_one(out, "lstmd_sessions", "gauge", "Sessions that are kept.",
                      (double)sessions_count(services->sessions));
    if (!services->cache) return;
    const struct state_cache_numbers cache = state_cache_numbers(services->cache);
    metrics_write_one(out, "lstmd_cache_states", "gauge", "Hidden states in the prefix cache.", (double)cache.states);
    metrics_write_one(out, "lstmd_cache_bytes", "gauge", "Bytes of the prefix cache.", (double)cache.bytes);
    metrics_write_one(out, "lstmd_cache_hits_total", "counter", "Prompts of which a prefix was in the cache.",
                      (double)cache.hits);
    metrics_write_one(out, "lstmd_cache_misses_total", "counter", "Prompts of which none was.", (double)cache.misses);
    metrics_write_one(out, "lstmd_cache_evictions_total", "counter", "States that made room for others.",
                      (double)cache.evictions);
}

/* --- Connections --- */

static void write_connections(const struct http_server *http, FILE *out)
{
    static const char *const listeners[] = {"listener=\"server\"", "listener=\"admin\""};
    const size_t count = http_server_admin_address(http) ? 2 : 1;
    struct http_connection_numbers numbers[2];
    for (size_t i = 0; i < count; i++) numbers[i] = http_server_connections(http, i == 1);
    metrics_write_head(out, "lstmd_connections", "gauge", "Open connections.");
    for (size_t i = 0; i < count; i++)
        metrics_write_sample(out, "lstmd_connections", listeners[i], (double)numbers[i].open);
    metrics_write_head(out, "lstmd_connections_limit", "gauge", "Connections that may be open.");
    for (size_t i = 0; i < count; i++)
        metrics_write_sample(out, "lstmd_connections_limit", listeners[i], (double)numbers[i].limit);
    metrics_write_head(out, "lstmd_connections_closed_total", "counter", "Idle connections that made room for others.");
    for (size_t i = 0; i < count; i++)
        metrics_write_sample(out, "lstmd_connections_closed_total", listeners[i], (double)numbers[i].closed);
    metrics_write_head(out, "lstmd_connections_refused_total", "counter",
                       "Connections that got 503 where a request was going on at each of the others.");
    for (size_t i = 0; i < count; i++)
        metrics_write_sample(out, "lstmd_connections_refused_total", listeners[i], (double)numbers[i].refused);
}

/* --- The process: the names that Prometheus' own clients use --- */

/* All of `limit` where not even the directory that lists them can be opened. */
static double open_files(double limit)
{
    DIR *directory = opendir("/proc/self/fd");
    if (!directory) return errno == EMFILE ? limit : 0;
    double count = -3; /* ".", "..", and the directory that is read */
    while (readdir(directory)) count++;
    closedir(directory);
    return count;
}

static void write_memory(FILE *out)
{
    char line[128] = "", *end;
    FILE *file = fopen("/proc/self/statm", "re");
    if (!file) return;
    const bool good = fgets(line, sizeof line, file);
    fclose(file);
    if (!good) return;
    const double page = (double)sysconf(_SC_PAGESIZE);
    const double pages = (double)strtoul(line, &end, 10), resident = (double)strtoul(end, &end, 10);
    metrics_write_one(out, "process_resident_memory_bytes", "gauge", "Memory in use.", resident * page);
    metrics_write_one(out, "process_virtual_memory_bytes", "gauge", "Address space in use.", pages * page);
}

static double metrics_text_seconds(struct timeval time)
{
    return (double)time.tv_sec + (double)time.tv_usec * 1e-6;
}

static void write_process(const struct services *services, FILE *out)
{
    struct rusage usage;
    struct rlimit files = {0};
    write_memory(out);
    if (getrusage(RUSAGE_SELF, &usage) == 0)
        metrics_write_one(out, "process_cpu_seconds_total", "counter", "Processor time of user and system.",
                          metrics_text_seconds(usage.ru_utime) + metrics_text_seconds(usage.ru_stime));
    getrlimit(RLIMIT_NOFILE, &files);
    metrics_write_one(out, "process_open_fds", "gauge", "Open file descriptors.", open_files((double)files.rlim_cur));
    metrics_write_one(out, "process_max_fds", "gauge", "File descriptors that may be open.", (double)files.rlim_cur);
    metrics_write_one(out, "process_start_time_seconds", "gauge", "When the daemon started, in seconds since 1970.",
                      (double)services->started);
}

static void write_build(FILE *out)
{
    char version[64], revision[64], labels[136];
    metrics_write_head(out, "lstmd_build_info", "gauge", "Always 1; its labels say what runs.");
    metrics_label(version, sizeof version, "version", version_number);
    metrics_label(revision, sizeof revision, "revision", version_revision);
    snprintf(labels, sizeof labels, "%s,%s", version, revision);
    metrics_write_sample(out, "lstmd_build_info", labels, 1);
}

enum http_outcome api_metrics(struct http_request *request, void *context)
{
    struct services *services = context;
    struct problem problem = {0};
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    bool good = out;
    if (good) {
        metrics_write(services->metrics, out);
        write_models(services, out);
        write_jobs(services, out);
        write_products(out);
        write_state_dir(services, out);
        write_states(services, out);
        metrics_write_one(out, "lstmd_open_requests", "gauge", "Requests that are being answered, this one included.",
                          (double)http_server_open_requests(services->http));
        metrics_write_one(out, "lstmd_body_memory_bytes", "gauge", "What bodies of more than 64 KiB take.",
                          (double)http_server_body_memory(services->http));
        write_connections(services->http, out);
        write_process(services, out);
        write_build(out);
        good = !ferror(out);
        good = fclose(out) == 0 && good;
    }
    if (good) {
        http_reply_header(request, "Cache-Control", "no-store");
        http_reply(request, 200, CONTENT_TYPE, text, size, HTTP_TAKEN);
        return HTTP_REPLIED;
    }
    free(text);
    problem_set(&problem, 503, "out of memory");
    http_reply_problem(request, &problem);
    problem_close(&problem);
    return HTTP_REPLIED;
}
