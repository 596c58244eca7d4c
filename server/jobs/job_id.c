/* "j000042" and back. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/jobs/jobs.h"

void job_id_print(int64_t id, char out[JOB_ID_SIZE])
{
    snprintf(out, JOB_ID_SIZE, "j%06lld", (long long)id);
}

bool job_id_parse(const char *text, int64_t *id)
{
    char again[JOB_ID_SIZE], *end;
    if (*text != 'j') return false;
    errno = 0;
    *id = strtoll(text + 1, &end, 10);
    if (errno != 0 || *end != '\0' || *id < 1) return false;
    job_id_print(*id, again);
    return strcmp(again, text) == 0;
}
