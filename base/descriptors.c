#include "base/descriptors.h"

#include <stdint.h>
#include <sys/resource.h>

size_t descriptors_raise(size_t wanted)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return SIZE_MAX; /* unknown; open() then reports the limit */
    struct rlimit higher = {.rlim_cur = wanted < limit.rlim_max ? wanted : limit.rlim_max, .rlim_max = limit.rlim_max};
    if (limit.rlim_cur < higher.rlim_cur && setrlimit(RLIMIT_NOFILE, &higher) == 0) limit = higher;
    return limit.rlim_cur;
}
