#include "base/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"

/* Where the file system makes no nameless files, one whose name is taken away at once. */
static int open_nameless(const char *directory, struct error *err)
{
    int fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)) return fd;
    char *path = path_join(directory, ".scratch-XXXXXX", err);
    fd = path ? mkostemp(path, O_CLOEXEC) : -1;
    if (fd >= 0) unlink(path);
    free(path);
    return fd;
}

bool scratch_open(struct scratch *scratch, const char *directory, size_t size, struct error *err)
{
    *scratch = (struct scratch){.size = size};
    int fd = open_nameless(directory, err);
    if (fd < 0) return error_set_errno(err, errno, "%s: cannot create a file", directory);
    int code = posix_fallocate(fd, 0, (off_t)size);
    if (code == 0) scratch->data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (code == 0 && scratch->data == MAP_FAILED) code = errno;
    close(fd);
    if (code == 0) return true;
    scratch->data = NULL;
    return error_set_errno(err, code, "%s: no room for %zu bytes", directory, size);
}

void scratch_let_go(const struct scratch *scratch)
{
    if (scratch->data) madvise(scratch->data, scratch->size, MADV_DONTNEED);
}

void scratch_close(struct scratch *scratch)
{
    if (scratch->data) munmap(scratch->data, scratch->size);
    *scratch = (struct scratch){0};
}
