#include "base/clock.h"

#include <time.h>

uint64_t clock_monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void clock_utc_text(char out[CLOCK_UTC_SIZE])
{
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t n = strftime(out, CLOCK_UTC_SIZE, "%Y-%m-%dT%H:%M:%S", &utc);
    long milliseconds = now.tv_nsec / 1000000;
    out[n++] = '.';
    out[n++] = (char)('0' + milliseconds / 100);
    out[n++] = (char)('0' + milliseconds / 10 % 10);
    out[n++] = (char)('0' + milliseconds % 10);
    out[n++] = 'Z';
    out[n] = '\0';
}
