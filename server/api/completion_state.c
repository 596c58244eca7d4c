/* `state` and `return_state` of a request: the texts go on from a state that the client has, and leave theirs to it. */
#include <stdlib.h>
#include <string.h>

#include "server/api/completion_internal.h"
#include "server/api/state_field.h"

bool completion_read_state(struct completion *completion, struct problem *problem)
{
    const struct completion_fields *fields = &completion->fields;
    const struct served *served = completion->served;
    bool good = true;
    if (fields->return_state) good = state_field_is_served(served, "return_state", problem);
    if (!fields->state) return good;
    if (fields->session.data)
        good =
            problem_add_field(problem, "session", "cannot be joined with state: the daemon keeps one, you the other");
    if (completion->label)
        good =
            problem_add_field(problem, "label", "stands at the start of a text; the text of state has begun already");
    return state_field_read(fields->state, served, &completion->carried, problem) && good;
}

bool completion_take_states(struct completion *completion, struct problem *problem)
{
    if (!completion->fields.return_state) return true;
    completion->owner = served_state_owner(completion->served);
    completion->end_states =
        calloc(completion->count, completion->served->stepper.state_size * sizeof *completion->end_states);
    return completion->end_states || problem_set(problem, 503, "out of memory");
}

bool completion_draws_on(const struct completion *completion)
{
    return completion->carried.has_rng && !completion->fields.seed_given;
}

void completion_set_state(const struct completion *completion, size_t i, struct rng *rng,
                          struct generation_request *wanted)
{
    const struct carried_state *carried = &completion->carried;
    if (completion->end_states) wanted->end_state = completion->end_states + i * completion->served->stepper.state_size;
    if (carried->state)
        generation_request_carry(wanted, carried, completion_draws_on(completion), completion_number(completion, i),
                                 rng);
}

void completion_copy_state(const struct completion *completion, const struct engine_job *job)
{
    if (!completion->session || !completion->end_states || job->outcome != ENGINE_DONE) return;
    memcpy(session_next_state(completion->session), job->generation.end_state,
           completion->served->stepper.state_size * sizeof *job->generation.end_state);
}

void completion_free_states(struct completion *completion)
{
    json_decref(completion->fields.state);
    free(completion->carried.state);
    free(completion->end_states);
}
