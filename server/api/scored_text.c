#include "server/api/scored_text.h"

#include <stdlib.h>
#include <string.h>

const char *const scored_text_unknown[] = {"skip", "error", NULL};

size_t scored_text_special(const struct scored_text *text)
{
    return (vocabulary_start(text->generation.vocabulary) != TOKEN_NONE) + (text->label.data ? (size_t)1 : 0);
}

/* With a window, each token costs as many steps as the window has tokens. */
static void check_cost(const struct served *served, size_t tokens, size_t limit, struct problem *problem)
{
    const size_t window = served->stepper.architecture.window.size;
    if (tokens <= limit / (window > 0 ? window : 1)) return;
    if (window == 0)
        problem_add_field(problem, "text", "has %zu tokens; limits.max_score is %zu", tokens, limit);
    else
        problem_add_field(problem, "text",
                          "has %zu tokens, each scored from a window of %zu; limits.max_score is %zu tokens in all",
                          tokens, window, limit);
}

bool scored_text_open(struct scored_text *text, const struct services *services, const struct served *served,
                      struct problem *problem)
{
    char *label = text->label.data ? strndup(text->label.data, text->label.size) : NULL;
    const struct generation_request wanted = {.prompt = text->text.data ? text->text.data : "",
                                              .prompt_bytes = text->text.size,
                                              .label = label,
                                              .length = 1,
                                              .unknown_is_error = text->unknown == 1,
                                              .kernels = served->stepper.kernels};
    const char *field = NULL;
    struct error err = {0};
    if (!text->text.size) problem_add_field(problem, "text", "must be a text that is not empty");
    if (!generation_open(&text->generation, served->model.vocabulary, &wanted, &field, &err)) {
        if (field && err.code == ERROR_INVALID)
            problem_add_field(problem, strcmp(field, "prompt") == 0 ? "text" : field, "%s", err.message);
        else
            problem_set_error(problem, &err);
    }
    free(label);
    if (problem->status) return false;
    /* Without a start token, the first token has no probability. */
    const size_t special = scored_text_special(text), count = text->generation.prompt.count;
    text->first = special > 0 ? special : 1;
    if (count <= text->first)
        problem_add_field(problem, "text", "has no token of the model's vocabulary to score");
    else
        check_cost(served, count - special, (size_t)services->config->max_score, problem);
    return !problem->status;
}

void scored_text_close(struct scored_text *text)
{
    generation_close(&text->generation);
}

bool scored_text_submit(struct services *services, struct task *task)
{
    if (atomic_fetch_add(&services->scores, 1) <= (size_t)services->config->queue &&
        worker_submit(services->scorer, task))
        return true;
    atomic_fetch_sub(&services->scores, 1);
    return false;
}
