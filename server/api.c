#include "server/api.h"

const struct http_route api_routes[] = {
    {"GET", "/", api_file},
    {"GET", "/generate", api_generate_get},
    {"POST", "/generate", api_generate_post},
    {"GET", "/healthz", api_healthz},
    {"GET", "/models", api_models},
    {"GET", "/models/{name}", api_model},
    {"GET", "/openapi.yaml", api_file},
    {"GET", "/readyz", api_readyz},
    {"GET", "/web/{name}", api_file},
};

const size_t api_route_count = sizeof api_routes / sizeof *api_routes;
