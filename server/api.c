#include "server/api.h"

const struct http_route api_routes[] = {
    {"GET", "/", HTTP_PUBLIC, api_file, NULL},
    {"GET", "/datasets", HTTP_ADMIN, api_datasets, NULL},
    {"GET", "/datasets/{name}", HTTP_ADMIN, api_dataset, NULL},
    {"PUT", "/datasets/{name}", HTTP_ADMIN, api_dataset_put, api_dataset_body},
    {"DELETE", "/datasets/{name}", HTTP_ADMIN, api_dataset_delete, NULL},
    {"POST", "/detokenize", HTTP_GENERATE, api_detokenize, NULL},
    {"GET", "/generate", HTTP_GENERATE, api_generate_get, NULL},
    {"POST", "/generate", HTTP_GENERATE, api_generate_post, NULL},
    {"GET", "/healthz", HTTP_PUBLIC, api_healthz, NULL},
    {"GET", "/metrics", HTTP_PUBLIC, api_metrics, NULL},
    {"GET", "/models", HTTP_GENERATE, api_models, NULL},
    {"PUT", "/models/default", HTTP_ADMIN, api_default_put, NULL},
    {"GET", "/models/{name}", HTTP_GENERATE, api_model, NULL},
    {"DELETE", "/models/{name}", HTTP_ADMIN, api_model_delete, NULL},
    {"POST", "/models/{name}/load", HTTP_ADMIN, api_model_load, NULL},
    {"POST", "/models/{name}/unload", HTTP_ADMIN, api_model_unload, NULL},
    {"GET", "/openapi.yaml", HTTP_PUBLIC, api_file, NULL},
    {"GET", "/readyz", HTTP_PUBLIC, api_readyz, NULL},
    {"POST", "/score", HTTP_GENERATE, api_score, NULL},
    {"POST", "/tokenize", HTTP_GENERATE, api_tokenize, NULL},
    {"POST", "/v1/completions", HTTP_GENERATE, api_v1_completions, NULL},
    {"GET", "/v1/models", HTTP_GENERATE, api_v1_models, NULL},
    {"GET", "/v1/models/{name}", HTTP_GENERATE, api_v1_model, NULL},
    {"GET", "/web/{name}", HTTP_PUBLIC, api_file, NULL},
};

const size_t api_route_count = sizeof api_routes / sizeof *api_routes;
