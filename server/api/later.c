#include "server/api/later.h"

#include <stdlib.h>

struct errand {
    struct task task; /* first: the worker gives it back */
    struct http_request *request;
    http_handler *handler;
    void *context;
};

static void later_run(struct task *task)
{
    struct errand *errand = (struct errand *)task;
    errand->handler(errand->request, errand->context);
    http_request_resume(errand->request);
    free(errand);
}

static void later_refuse(struct http_request *request, const char *why)
{
    struct problem problem = {0};
    problem_set(&problem, 503, "%s", why);
    http_reply_problem(request, &problem);
    problem_close(&problem);
}

enum http_outcome later(struct worker *worker, struct http_request *request, http_handler *handler, void *context)
{
    struct errand *errand = malloc(sizeof *errand);
    if (!errand) {
        later_refuse(request, "out of memory");
        return HTTP_REPLIED;
    }
    *errand = (struct errand){.task.run = later_run, .request = request, .handler = handler, .context = context};
    http_request_suspend(request, &(struct http_waiter){0});
    if (worker_submit(worker, &errand->task)) return HTTP_LATER;
    free(errand);
    later_refuse(request, "the daemon is shutting down");
    http_request_resume(request);
    return HTTP_LATER;
}
