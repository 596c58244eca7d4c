/* What the files of /train share: api/train.c (jobs), api/train_request.c (the body of POST /train),
 * api/train_options.c (the table that the page makes its form from), api/train_events.c, api/train_metrics.c. */
#ifndef LSTMD_SERVER_API_TRAIN_H
#define LSTMD_SERVER_API_TRAIN_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "model/train/options.h"
#include "server/api/services.h"
#include "server/http/http.h"
#include "server/http/problem.h"

/* Answers with the problem, and closes it. */
enum http_outcome train_refuse(struct http_request *request, struct problem *problem);
enum http_outcome train_refuse_error(struct http_request *request, const struct error *err);

/* For a handler to return: runs another one in the clerk, or refuses where there is no state directory. */
enum http_outcome train_later(struct http_request *request, struct services *services, http_handler *handler);

/* The id in the path; false: the 404 is the reply. */
bool train_job_id(struct http_request *request, int64_t *id);

/* Whether an option is a field of POST /train. Paths of this machine are none, and the model to go on from is a name
 * there. */
bool train_option_is_field(const struct trainer_option *row);

/* {"options": a schema for each field, "presets": for each its description and the values of all options}. The caller
 * owns it; NULL without memory. */
json_t *train_options_schema(void);

struct train_request {
    json_t *request;  /* as jobs_add() takes it; owned, or NULL */
    const char *text; /* the body's, or NULL */
};

/* False: wanted->request is NULL. Checks a body by itself, and beside the models and datasets there are; adds all that
 * is wrong. The clerk. */
bool train_request_read(struct services *services, const json_t *body, struct train_request *wanted,
                        struct problem *problem);

#endif
