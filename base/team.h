/* A team of threads that do one thing together: a fixed number of workers, a run, barriers inside the run.
 *
 * team_run() has every worker call the same function with its index; the caller is worker 0 and returns when all are
 * done. team_barrier() may be called inside a run, by all workers, any number of times. Between runs the workers sleep;
 * inside a run they spin for a moment before they sleep, because waits there take microseconds. A team is used by one
 * thread at a time.
 */
#ifndef LSTMD_BASE_TEAM_H
#define LSTMD_BASE_TEAM_H

#include <stddef.h>

#include "base/error.h"

struct team;

struct team *team_new(size_t workers, struct error *err);
void team_free(struct team *team);
size_t team_size(const struct team *team);

typedef void team_function(void *context, size_t worker);
void team_run(struct team *team, team_function *function, void *context);
void team_barrier(struct team *team);

#endif
