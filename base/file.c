#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/size.h"

/* Opens a regular file for reading. O_NONBLOCK: open() does not wait for a FIFO's writer, and the FIFO is refused. */
static int open_regular(int directory, const char *name, const char *path, size_t *size, struct error *err)
{
    struct stat info;
    int fd = openat(directory, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &info) != 0) {
        error_set_errno(err, errno, "%s", path);
    } else if (!S_ISREG(info.st_mode)) {
        error_set(err, ERROR_INVALID, "%s: %s, not a regular file", path,
                  S_ISDIR(info.st_mode) ? "a directory" : "a device, pipe or socket");
    } else if ((uintmax_t)info.st_size > SIZE_MAX) {
        error_set(err, ERROR_TOO_LARGE, "%s: larger than memory can address", path);
    } else {
        *size = (size_t)info.st_size;
        return fd;
    }
    if (fd >= 0) close(fd);
    return -1;
}

/* Reads n bytes, or fewer if the file has shrunk meanwhile. */
static bool read_all(int fd, char *data, size_t n, size_t *size)
{
    size_t done = 0;
    while (done < n) {
        ssize_t got = read(fd, data + done, n - done);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return false;
        if (got == 0) break;
        done += (size_t)got;
    }
    *size = done;
    return true;
}

bool file_read(const char *path, size_t max_bytes, char **data, size_t *size, struct error *err)
{
    return file_read_at(&(struct file_at){AT_FDCWD, path, path}, max_bytes, data, size, err);
}

bool file_read_at(const struct file_at *at, size_t max_bytes, char **data, size_t *size, struct error *err)
{
    size_t n, capacity;
    char *content = NULL;
    int fd = open_regular(at->directory, at->name, at->place, &n, err);
    if (fd < 0) return false;
    if (n > max_bytes || !size_add(n, 1, &capacity)) {
        error_set(err, ERROR_TOO_LARGE, "%s: has %zu bytes, at most %zu are allowed", at->place, n, max_bytes);
        goto out;
    }
    content = malloc(capacity);
    if (!content) {
        error_set_no_memory(err, capacity, at->place);
        goto out;
    }
    if (!read_all(fd, content, n, size)) {
        error_set_errno(err, errno, "%s", at->place);
        free(content);
        content = NULL;
        goto out;
    }
    content[*size] = '\0';
    *data = content;
out:
    close(fd);
    return content;
}

bool file_map_open(struct file_map *map, const char *path, struct error *err)
{
    return file_map_open_at(map, &(struct file_at){AT_FDCWD, path, path}, err);
}

bool file_map_open_at(struct file_map *map, const struct file_at *at, struct error *err)
{
    size_t n;
    *map = (struct file_map){0};
    int fd = open_regular(at->directory, at->name, at->place, &n, err);
    if (fd < 0) return false;
    void *data = NULL;
    if (n > 0) data = mmap(NULL, n, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED) error_set_errno(err, errno, "%s", at->place);
    close(fd);
    if (data == MAP_FAILED) return false;
    *map = (struct file_map){data, n};
    return true;
}

void file_map_close(struct file_map *map)
{
    if (map->data) munmap((void *)(uintptr_t)map->data, map->size);
    *map = (struct file_map){0};
}

char *path_join(const char *directory, const char *name, struct error *err)
{
    size_t n = strlen(directory), m = strlen(name);
    bool separate = n > 0 && directory[n - 1] != '/';
    char *path = malloc(n + m + 2);
    if (!path) {
        error_set_no_memory(err, n + m + 2, "a path");
        return NULL;
    }
    memcpy(path, directory, n);
    if (separate) path[n++] = '/';
    memcpy(path + n, name, m + 1);
    return path;
}
