/* Room on the disk: how much is free, and how much a job needs. */
#include <string.h>

#include "base/clock.h"
#include "server/jobs/internal.h"

#define ROOM_STEP          ((uint64_t)1 << 20) /* bytes that must have become free before a job tries again */
#define ROOM_RETRY_SECONDS 600                 /* after this time it tries in any case */

uint64_t room_free(const struct jobs *jobs)
{
    uint64_t room, size;
    return state_dir_room(jobs->options.state, &room, &size) ? room : 0;
}

uint64_t room_needed(const struct stored_dataset *dataset, const json_t *request)
{
    const json_t *options = json_object_get(request, "options");
    const char *level = json_string_value(json_object_get(options, "level"));
    if (!dataset) return 0;
    const double trained = 1 - json_number_value(json_object_get(options, "validation"));
    const bool words = level && strcmp(level, "word") == 0; /* their number is not known */
    return corpus_disk_bytes(dataset->corpus.format, dataset->size, dataset->documents,
                             words ? 0 : (uint64_t)((double)dataset->characters * trained));
}

/* Nobody knows how much a run lacked: its snapshot is the least, and the tokens of a large corpus may be far more. What
 * was free when it failed was too little. That does not tell of a quota, so the job tries again after a while. */
bool room_is_back(const struct active_job *active)
{
    const uint64_t room = room_free(active->jobs);
    return room >= (active->run ? job_run_room(active->run) : active->room_needed) &&
           (room >= active->room_then + ROOM_STEP ||
            clock_monotonic_ns() - active->waits_since_ns >= (uint64_t)ROOM_RETRY_SECONDS * 1000000000);
}
