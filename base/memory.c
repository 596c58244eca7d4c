#include "base/memory.h"

#include <errno.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATH_SIZE   4096
#define LARGE_BLOCK (128 * 1024) /* glibc's own initial value */

/* The number in a file; `otherwise` if there is none ("max", no such file). */
static size_t read_limit(const char *path, size_t otherwise)
{
    char text[32] = "";
    FILE *file = fopen(path, "re");
    if (!file) return otherwise;
    const bool read = fgets(text, sizeof text, file);
    fclose(file);
    char *end;
    errno = 0;
    const unsigned long long value = strtoull(text, &end, 10);
    return read && end != text && errno == 0 ? (size_t)value : otherwise;
}

/* The path of the process's group: the line "0::/path". */
static bool read_group(const char *cgroup, char group[PATH_SIZE])
{
    FILE *file = fopen(cgroup, "re");
    bool found = false;
    while (file && !found && fgets(group, PATH_SIZE, file)) found = strncmp(group, "0::/", 4) == 0;
    if (file) fclose(file);
    if (!found) return false;
    group[strcspn(group, "\n")] = '\0';
    memmove(group, group + 3, strlen(group + 3) + 1);
    return true;
}

size_t memory_limit_of(const char *cgroup, const char *root, size_t physical)
{
    char group[PATH_SIZE], path[2 * PATH_SIZE];
    size_t limit = physical ? physical : SIZE_MAX;
    if (!read_group(cgroup, group)) return physical;
    for (char *slash = group; slash;) { /* the group, its parent, ... , the root */
        snprintf(path, sizeof path, "%s%s/memory.max", root, group);
        const size_t value = read_limit(path, SIZE_MAX);
        if (value < limit) limit = value;
        slash = strrchr(group, '/');
        if (slash) *slash = '\0';
    }
    return limit == SIZE_MAX ? 0 : limit;
}

size_t memory_limit(void)
{
    const long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    const size_t physical = pages > 0 && size > 0 ? (size_t)pages * (size_t)size : 0;
    return memory_limit_of("/proc/self/cgroup", "/sys/fs/cgroup", physical);
}

void memory_return_large_blocks(void)
{
    mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK);
}
