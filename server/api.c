#include "server/api.h"

const struct http_route api_routes[] = {
    {"GET", "/", HTTP_PUBLIC, api_file},
    {"POST", "/detokenize", HTTP_GENERATE, api_detokenize},
    {"GET", "/generate", HTTP_GENERATE, api_generate_get},
    {"POST", "/generate", HTTP_GENERATE, api_generate_post},
    {"GET", "/healthz", HTTP_PUBLIC, api_healthz},
    {"GET", "/models", HTTP_GENERATE, api_models},
    {"GET", "/models/{name}", HTTP_GENERATE, api_model},
    {"GET", "/openapi.yaml", HTTP_PUBLIC, api_file},
    {"GET", "/readyz", HTTP_PUBLIC, api_readyz},
    {"POST", "/score", HTTP_GENERATE, api_score},
    {"POST", "/tokenize", HTTP_GENERATE, api_tokenize},
    {"POST", "/v1/completions", HTTP_GENERATE, api_v1_completions},
    {"GET", "/v1/models", HTTP_GENERATE, api_v1_models},
    {"GET", "/v1/models/{name}", HTTP_GENERATE, api_v1_model},
    {"GET", "/web/{name}", HTTP_PUBLIC, api_file},
};

const size_t api_route_count = sizeof api_routes / sizeof *api_routes;
