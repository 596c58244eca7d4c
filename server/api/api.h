/* The resources of the HTTP API: each handler is a thin translation between requests and calls of model/ and server/.
 * openapi.yaml describes them in full. The context of every handler is the struct services.
 */
#ifndef LSTMD_SERVER_API_API_H
#define LSTMD_SERVER_API_API_H

#include <stddef.h>

#include "server/http/http.h"

extern const struct http_route api_routes[];
extern const size_t api_route_count;

/* The http_options.authorise of the daemon (api/scopes.c). */
bool api_authorise(struct http_request *request, enum http_scope scope, void *context);

http_handler api_generate_post, api_generate_get;                            /* api/generate.c */
http_handler api_v1_completions, api_v1_models, api_v1_model;                /* api/openai.c */
http_handler api_inspect;                                                    /* api/inspect.c */
http_handler api_score;                                                      /* api/score.c */
http_handler api_state;                                                      /* api/state.c */
http_handler api_tokenize, api_detokenize;                                   /* api/tokens.c */
http_handler api_datasets, api_dataset, api_dataset_put, api_dataset_delete; /* api/datasets.c */
http_body api_dataset_body;
http_handler api_models, api_model; /* api/models.c */
http_handler api_model_import;      /* api/import.c */
http_body api_import_body;
http_handler api_model_load, api_model_unload, api_model_delete, api_default_put;
http_handler api_train_list, api_train_post, api_train_get, api_train_delete; /* api/train.c */
http_handler api_train_pause, api_train_resume, api_train_cancel;
http_handler api_train_events;        /* api/train_events.c */
http_handler api_train_metrics;       /* api/train_metrics.c */
http_handler api_healthz, api_readyz; /* api/health.c */
http_handler api_metrics;             /* api/metrics_text.c */
http_handler api_file;                /* api/files.c: the page, client.js, openapi.yaml */

#endif
