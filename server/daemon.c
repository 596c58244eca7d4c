#include "server/daemon.h"

#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/descriptors.h"
#include "base/log.h"
#include "base/version.h"
#include "model/kernels/blas.h"
#include "model/network/quantize.h"
#include "server/api/api.h"
#include "server/confine.h"
#include "server/settings.h"

#define DESCRIPTORS           64 /* for the database, models, the log, and all that has no row below */
#define DESCRIPTORS_OF_UPLOAD 4
#define DESCRIPTORS_OF_JOB    16
#define FEWEST_CONNECTIONS    16                             /* with fewer it is better not to start */
#define LAST_ANSWERS_NS       (UINT64_C(1000) * 1000 * 1000) /* how long the last answers may take to be sent */

#define URL_SIZE 128

static uint64_t nanoseconds(double seconds)
{
    return (uint64_t)(seconds * 1e9);
}

static bool open_states(struct services *services, struct error *err)
{
    const struct config *config = services->config;
    const struct sessions_options options = {.max_count = (size_t)config->sessions_max,
                                             .max_name = (size_t)config->session_max_name,
                                             .ttl_ns = nanoseconds(config->session_ttl)};
    services->sessions = sessions_new(&options, err);
    if (!services->sessions) return false;
    if (config->cache_max_bytes == 0) return true;
    services->cache = state_cache_new((size_t)config->cache_max_bytes, err);
    return services->cache;
}

static bool open_registry(struct services *services, struct error *err)
{
    const struct config *config = services->config;
    const struct kernels *kernels = settings_kernels(config, err);
    if (!kernels) return false;
    const struct registry_options options = {
        .state = services->state,
        .path = config->model_path,
        .path_origin = settings_model_origin(config),
        .path_required = settings_model_is_required(config),
        .sessions = services->sessions,
        .served = {.kernels = kernels,
                   .weights = config->weights,
                   .library = settings_reads_with_library(config),
                   .engine = {.cache = services->cache,
                              .threads = (size_t)config->threads,
                              .max_batch = (size_t)config->max_batch,
                              .queue_limit = (size_t)config->queue,
                              .share_ns = ENGINE_SHARE_NS,
                              .cache_interval = (size_t)config->cache_interval,
                              .timeout_ns = nanoseconds(config->request_timeout)}},
    };
    services->registry = registry_new(&options, err);
    return services->registry;
}

static bool open_workers(struct services *services, struct error *err)
{
    return (services->scorer = worker_new(err)) && (services->loader = worker_new(err)) &&
           (services->reader = worker_new(err)) && (services->writer = worker_new(err)) &&
           (services->matcher = worker_new(err));
}

/* Takes a model that a job has made. */
static bool take_model(void *context, const char *model, bool deploy, struct error *err)
{
    struct services *services = context;
    return registry_load(services->registry, model, err) &&
           (!deploy || registry_set_default(services->registry, model, err));
}

static void count_job(void *context, enum job_state state)
{
    const struct services *services = context;
    const enum metrics_counter counter = state == JOB_SUCCEEDED ? METRICS_JOBS_SUCCEEDED
                                         : state == JOB_FAILED  ? METRICS_JOBS_FAILED
                                                                : METRICS_JOBS_CANCELLED;
    metrics_add(services->metrics, counter, 1);
}

static char *find_model(void *context, const char *model, struct error *err)
{
    return registry_directory(((struct services *)context)->registry, model, err);
}

static bool open_jobs(struct services *services, struct error *err)
{
    const struct config *config = services->config;
    if (!services->state) return true;
    const struct jobs_options options = {.state = services->state,
                                         .datasets = services->datasets,
                                         .max_parallel = (size_t)config->train_max_parallel,
                                         .snapshot_seconds = config->train_snapshot_seconds,
                                         .published = take_model,
                                         .ended = count_job,
                                         .find_model = find_model,
                                         .context = services};
    services->jobs = jobs_new(&options, err);
    return services->jobs;
}

/* The URL of the page, as a link in a terminal that shows the log. NULL: no browser reaches the address by a URL. */
static const char *page_url(const struct http_server *http, char out[URL_SIZE])
{
    const char *address = http_server_address(http);
    if (strncmp(address, "unix:", 5) == 0 || strchr(address, '%')) return NULL;
    if (strcmp(address, "0.0.0.0") == 0) address = "127.0.0.1";
    if (strcmp(address, "::") == 0) address = "::1";
    const bool version_6 = strchr(address, ':');
    snprintf(out, URL_SIZE, version_6 ? "http://[%s]:%u/" : "http://%s:%u/", address, http_server_port(http));
    return out;
}

static void log_listening(const struct daemon *daemon, uint64_t begun)
{
    const struct services *services = &daemon->services;
    char url[URL_SIZE];
    struct served *served = registry_acquire(services->registry, NULL, 0, NULL);
    log_event(LOG_INFO, "listening", LOG_TEXT("address", http_server_address(services->http)),
              LOG_INTEGER("port", http_server_port(services->http)), LOG_TEXT("url", page_url(services->http, url)),
              LOG_TEXT("model", served ? served->model.name : NULL),
              LOG_TEXT("kernel", kernels_select(services->config->kernel)->name),
              LOG_TEXT("products", blas_name() ? blas_name() : "own"),
              LOG_TEXT("weights", served ? kernel_format_name(served->stepper.weights.format) : NULL),
              LOG_TEXT("version", version_full), LOG_REAL("start_ms", (double)(clock_monotonic_ns() - begun) * 1e-6));
    registry_release(served);
    if (geteuid() == 0) log_event(LOG_WARNING, "running as root", LOG_TEXT("set", "server.user"));
    for (size_t i = 0; i < 2; i++)
        if (daemon->lacking[i].code)
            log_event(LOG_WARNING, "not fully confined", LOG_TEXT("lacking", daemon->lacking[i].message));
    if (http_server_admin_address(services->http))
        log_event(LOG_INFO, "listening for administration",
                  LOG_TEXT("address", http_server_admin_address(services->http)),
                  LOG_INTEGER("port", http_server_admin_port(services->http)));
}

static bool open_metrics(struct services *services, struct error *err)
{
    services->metrics = metrics_new(api_route_count, err);
    for (size_t i = 0; services->metrics && i < api_route_count; i++)
        metrics_name_route(services->metrics, i, api_routes[i].pattern);
    return services->metrics;
}

static void daemon_account(const struct http_account *account, void *context)
{
    const struct services *services = context;
    metrics_request(services->metrics, account->route, account->status, account->seconds, account->bytes_in,
                    account->bytes_out);
}

/* Connections must not take the descriptors that everything else needs: if the system allows too few, there are fewer
 * connections. The daemon asks for twice as many as it counts, so that an operator sees a shortage before it hurts. */
static bool plan_connections(struct daemon *daemon, struct error *err)
{
    const struct config *config = daemon->services.config;
    const struct http_options options = {.max_connections = (size_t)config->max_connections,
                                         .max_admin_connections = (size_t)config->max_admin_connections};
    const size_t others = DESCRIPTORS + DESCRIPTORS_OF_UPLOAD * (size_t)config->max_uploads +
                          DESCRIPTORS_OF_JOB * (size_t)config->train_max_parallel;
    const size_t wanted = others + http_descriptors(&options), limit = descriptors_raise(2 * wanted);
    const size_t missing = wanted > limit ? wanted - limit : 0;
    if (missing > 0 && options.max_connections < FEWEST_CONNECTIONS + missing)
        return error_set(
            err, ERROR_INVALID,
            "RLIMIT_NOFILE allows %zu descriptors, and %zu are needed for limits.max_connections, %zu; the "
            "daemon starts with %zu, which leave %d connections: raise the limit (ulimit -n, LimitNOFILE)",
            limit, wanted, options.max_connections, wanted - options.max_connections + FEWEST_CONNECTIONS,
            FEWEST_CONNECTIONS);
    daemon->max_connections = options.max_connections - missing;
    if (missing == 0) return true;
    log_event(LOG_WARNING, "fewer connections than limits.max_connections",
              LOG_INTEGER("connections", daemon->max_connections), LOG_INTEGER("wanted", options.max_connections),
              LOG_INTEGER("descriptors", limit), LOG_INTEGER("needed", wanted));
    return true;
}

static bool open_http(struct daemon *daemon, struct error *err)
{
    struct http_options options;
    if (!settings_http(&options, daemon->services.config, err)) return false;
    options.max_connections = daemon->max_connections;
    options.routes = api_routes;
    options.route_count = api_route_count;
    options.authorise = api_authorise;
    options.account = daemon_account;
    options.context = &daemon->services;
    daemon->services.http = http_server_new(&options, err);
    return daemon->services.http;
}

/* Only the user who started the daemon may read tokens and take a port below 1024, so both come first. */
static bool open_confined(struct daemon *daemon, struct error *err)
{
    struct services *services = &daemon->services;
    const struct config *config = services->config;
    if (!(services->auth = auth_new(config, err)) || !open_http(daemon, err)) return false;
    const char *const sockets[2] = {http_server_address(services->http), http_server_admin_address(services->http)};
    return confine_user(config, sockets, err) &&
           (!config->state_dir || (services->state = state_dir_open(config->state_dir, err))) &&
           confine_paths(config, sockets, &daemon->lacking[0], err);
}

static void reload_models(struct task *task)
{
    struct daemon *daemon = (struct daemon *)((char *)task - offsetof(struct daemon, reload));
    atomic_store(&daemon->reloading, false); /* first: a change from now on needs another reload */
    if (!registry_reload(daemon->services.registry)) metrics_add(daemon->services.metrics, METRICS_RELOAD_FAILURES, 1);
}

bool daemon_open(struct daemon *daemon, const struct config *config, struct error *err)
{
    struct services *services = &daemon->services;
    const uint64_t begun = clock_monotonic_ns();
    *daemon = (struct daemon){.services = {.config = config, .started = (int64_t)time(NULL)},
                              .reload = {.run = reload_models}};
    if (!settings_load_products(config, err)) return false;
    if (!plan_connections(daemon, err) || !open_metrics(services, err) || !open_confined(daemon, err)) return false;
    if (services->state && !(services->datasets = datasets_new(state_dir_datasets(services->state), err))) return false;
    if (!open_states(services, err) || !open_registry(services, err) || !open_workers(services, err) ||
        !open_jobs(services, err))
        return false;
    if (!http_server_start(services->http, err) || !confine_calls(config, &daemon->lacking[1], err)) return false;
    log_listening(daemon, begun);
    return true;
}

void daemon_refuse_reload(struct daemon *daemon, const struct error *err)
{
    metrics_add(daemon->services.metrics, METRICS_RELOAD_FAILURES, 1);
    log_event(LOG_ERROR, "not reloaded", LOG_TEXT("error", err->message));
}

void daemon_reload(struct daemon *daemon, const struct config *config)
{
    struct error err = {0};
    if (!atomic_exchange(&daemon->reloading, true)) worker_submit(daemon->services.loader, &daemon->reload);
    if (!auth_reload(daemon->services.auth, config, &err)) {
        daemon_refuse_reload(daemon, &err);
        return;
    }
    log_event(LOG_INFO, "reloaded", LOG_TEXT("section", "auth"));
    for (size_t i = 0; i < config_table.count; i++) {
        const struct option *option = &config_table.options[i];
        char now[1024], wanted[1024];
        options_format(option, daemon->services.config, now, sizeof now);
        options_format(option, config, wanted, sizeof wanted);
        if (strncmp(option->key, "auth.", 5) != 0 && strcmp(now, wanted) != 0)
            log_event(LOG_WARNING, "needs a restart", LOG_TEXT("key", option->key));
    }
}

void daemon_drain(struct daemon *daemon)
{
    atomic_store(&daemon->services.draining, true);
    http_server_drain(daemon->services.http);
    if (daemon->services.jobs) jobs_drain(daemon->services.jobs);
}

/* Gives answers that are ready the time to be sent. */
static void wait_for_answers(struct http_server *http)
{
    const uint64_t end = clock_monotonic_ns() + LAST_ANSWERS_NS;
    for (uint64_t now; http_server_open_requests(http) > 0 && (now = clock_monotonic_ns()) < end;) {
        struct pollfd idle = {.fd = http_server_idle_fd(http), .events = POLLIN};
        eventfd_t count;
        if (poll(&idle, 1, (int)((end - now) / 1000000) + 1) > 0) eventfd_read(idle.fd, &count);
    }
}

void daemon_close(struct daemon *daemon)
{
    struct services *services = &daemon->services;
    if (services->http) daemon_drain(daemon);
    atomic_store(&services->closing, true);
    if (services->jobs) jobs_stop(services->jobs);
    if (services->loader) worker_stop(services->loader);
    if (services->reader) worker_stop(services->reader);
    if (services->registry) registry_stop(services->registry);
    if (services->scorer) worker_stop(services->scorer);
    if (services->matcher) worker_stop(services->matcher);
    if (services->http) wait_for_answers(services->http);
    if (services->writer) worker_stop(services->writer);
    http_server_free(services->http);
    worker_free(services->reader);
    worker_free(services->loader);
    worker_free(services->scorer);
    worker_free(services->matcher);
    worker_free(services->writer);
    registry_free(services->registry);
    sessions_free(services->sessions);
    state_cache_free(services->cache);
    jobs_free(services->jobs);
    datasets_free(services->datasets);
    state_dir_close(services->state);
    auth_free(services->auth);
    metrics_free(services->metrics);
}
