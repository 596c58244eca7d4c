#include "server/settings.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "model/files/checkpoint.h"
#include "model/kernels/blas.h"
#include "server/api/auth.h"
#include "server/confine.h"
#include "server/store/state_dir.h"

static bool read_mode(const struct config *config, unsigned *mode, struct error *err)
{
    char *end;
    const unsigned long number = strtoul(config->socket_mode, &end, 8);
    *mode = (unsigned)number;
    return (!*end && number <= 0777) ||
           error_set(err, ERROR_INVALID, "server.socket_mode: \"%s\" is not an octal number up to 0777",
                     config->socket_mode);
}

bool settings_http(struct http_options *options, const struct config *config, struct error *err)
{
    *options = (struct http_options){
        .listen = config->listen,
        .port = (uint16_t)config->port,
        .max_body = (size_t)config->max_body,
        .max_body_memory = (size_t)config->max_body_memory,
        .admin_listen = config->admin_listen,
        .admin_port = (uint16_t)config->admin_port,
        .trusted_proxies = config->trusted_proxies.items,
        .trusted_proxy_count = config->trusted_proxies.count,
        .forwarded = config->forwarded == 1,
        .hosts = config->hosts.items,
        .host_count = config->hosts.count,
        .cors_origins = config->cors_origins.items,
        .cors_origin_count = config->cors_origins.count,
        .max_connections_per_address = (size_t)config->max_per_address,
        .max_url = (size_t)config->max_url,
        .max_header = (size_t)config->max_header,
        .max_connections = (size_t)config->max_connections,
        .max_admin_connections = (size_t)config->max_admin_connections,
        .max_uploads = (size_t)config->max_uploads,
        .idle_timeout = config->idle_timeout,
        .body_timeout = config->body_timeout,
        .write_timeout = config->write_timeout,
    };
    return read_mode(config, &options->socket_mode, err);
}

const struct kernels *settings_kernels(const struct config *config, struct error *err)
{
    const struct kernels *kernels = kernels_select(config->kernel);
    if (!kernels)
        error_set(err, ERROR_INVALID, "engine.kernel: this machine cannot run \"%s\"; it can run %s", config->kernel,
                  kernels_names());
    return kernels;
}

bool settings_load_products(const struct config *config, struct error *err)
{
    const bool named = config->products == PRODUCTS_OPENBLAS;
    const bool wanted = config->products == PRODUCTS_AUTO && kernels_select("auto")->generic;
    if (named && !blas_load(err)) return error_add_context(err, "engine.products");
    if (!named && !(wanted && blas_load(NULL)))
        blas_forbid("this daemon did not load the library: engine.products must be openblas");
    return true;
}

bool settings_reads_with_library(const struct config *config)
{
    enum products chosen;
    const struct kernels *kernels = kernels_select(config->kernel);
    return kernels && products_choose((enum products)config->products, kernels, &chosen, NULL) &&
           chosen == PRODUCTS_OPENBLAS;
}

static const struct option *model_path(void)
{
    return options_find(&config_table, "model.path");
}

bool settings_model_is_required(const struct config *config)
{
    return !config->state_dir || strcmp(config->model_path, model_path()->fallback) != 0;
}

const char *settings_model_origin(const struct config *config)
{
    const char *place = config->origins ? config->origins[model_path() - config_table.options].place : "";
    if (!place) return "model.path (the default, relative to the working directory; --model names another)";
    return strcmp(place, "--model") == 0 ? place : "model.path";
}

/* --- Checks --- */

static bool check_mode(const struct config *config, struct error *err)
{
    unsigned mode;
    return read_mode(config, &mode, err);
}

typedef bool http_check(const struct http_options *options, struct error *err);

/* The mode has a check of its own. */
static bool check_http(const struct config *config, http_check *check, struct error *err)
{
    struct http_options options;
    settings_http(&options, config, NULL);
    return check(&options, err);
}

static bool check_listen(const struct config *config, struct error *err)
{
    return check_http(config, http_server_check_listen, err);
}

static bool check_proxies(const struct config *config, struct error *err)
{
    return check_http(config, http_server_check_proxies, err);
}

static bool check_hosts(const struct config *config, struct error *err)
{
    return check_http(config, http_hosts_check, err);
}

static bool check_origins(const struct config *config, struct error *err)
{
    return check_http(config, http_cors_check, err);
}

static bool check_kernel(const struct config *config, struct error *err)
{
    return settings_kernels(config, err);
}

static bool check_user(const struct config *config, struct error *err)
{
    struct user user;
    return !config->user || confine_find_user(config, &user, err);
}

/* The daemon first tries a model that was made the default, so it may never need this one. */
static bool has_other_default(const struct config *config)
{
    char *file = config->state_dir ? path_join(config->state_dir, STATE_DEFAULT_FILE, NULL) : NULL;
    const bool there = file && access(file, F_OK) == 0;
    free(file);
    return there;
}

static bool check_model(const struct config *config, struct error *err)
{
    struct model model = {0};
    if (!settings_model_is_required(config) || has_other_default(config)) return true;
    const bool good = model_load_config(&model, config->model_path, err);
    model_close(&model);
    return good || error_add_context(err, "%s", settings_model_origin(config));
}

bool settings_check(const struct config *config, void (*tell)(const struct error *err))
{
    static bool (*const checks[])(const struct config *config, struct error *err) = {
        check_listen,        check_mode, check_proxies, check_hosts, check_origins,
        auth_check_settings, check_user, check_kernel,  check_model,
    };
    bool good = true;
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++) {
        struct error err = {0};
        if (checks[i](config, &err)) continue;
        tell(&err);
        good = false;
    }
    return good;
}
