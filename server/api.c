#include "server/api.h"

const struct http_route api_routes[] = {
    {"GET", "/", api_file},
    {"POST", "/detokenize", api_detokenize},
    {"GET", "/generate", api_generate_get},
    {"POST", "/generate", api_generate_post},
    {"GET", "/healthz", api_healthz},
    {"GET", "/models", api_models},
    {"GET", "/models/{name}", api_model},
    {"GET", "/openapi.yaml", api_file},
    {"GET", "/readyz", api_readyz},
    {"POST", "/score", api_score},
    {"POST", "/tokenize", api_tokenize},
    {"POST", "/v1/completions", api_v1_completions},
    {"GET", "/v1/models", api_v1_models},
    {"GET", "/v1/models/{name}", api_v1_model},
    {"GET", "/web/{name}", api_file},
};

const size_t api_route_count = sizeof api_routes / sizeof *api_routes;
