/* The parts of the daemon that handlers of requests use. It is not their owner: server/daemon.c opens them, fills this
 * in before the first request comes, and closes them after the last one.
 *
 * Threads: each part has its own locks; the pointers do not change while requests come. */
#ifndef LSTMD_SERVER_API_SERVICES_H
#define LSTMD_SERVER_API_SERVICES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/worker.h"
#include "config/config.h"
#include "server/api/auth.h"
#include "server/api/metrics.h"
#include "server/engine/sessions.h"
#include "server/engine/state_cache.h"
#include "server/http/http.h"
#include "server/jobs/jobs.h"
#include "server/models/registry.h"
#include "server/store/datasets.h"
#include "server/store/state_dir.h"

struct services {
    const struct config *config;
    int64_t started; /* seconds since 1970 */
    struct metrics *metrics;
    struct auth *auth;
    struct state_dir *state;   /* NULL: server.state_dir is not set */
    struct datasets *datasets; /* NULL: there is no state directory */
    struct jobs *jobs;         /* the same */
    struct state_cache *cache; /* NULL: cache.max_bytes is 0 */
    struct sessions *sessions;
    struct registry *registry;
    struct worker *loader;  /* changes the registry: one change at a time, as long as each takes; deletes datasets */
    struct worker *reader;  /* describes models: reads a few small files */
    struct worker *writer;  /* writes answers that are too long for one buffer, a buffer of each in turn */
    struct worker *scorer;  /* reads the texts of /score, a slice of each in turn */
    struct worker *matcher; /* makes patterns: a slow one takes seconds, and only other patterns wait for it */
    atomic_size_t scores;   /* requests that the scorer has */
    struct http_server *http;
    atomic_bool draining; /* new generations are refused */
    atomic_bool closing;  /* what still waits ends now */
};

#endif
