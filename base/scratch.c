#include "base/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "base/size.h"

/* Makes a file without a name. If the file system cannot, it makes a named one and removes the name at once. */
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

static bool map_file(struct scratch *scratch, size_t size, const char *directory, struct error *err)
{
    struct scratch mapped = {.size = size, .mapped = true, .file = open_nameless(directory, err)};
    if (mapped.file < 0) return error_set_errno(err, errno, "%s: cannot create a file", directory);
    int code = posix_fallocate(mapped.file, 0, (off_t)size);
    if (code == 0) mapped.data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, mapped.file, 0);
    if (code == 0 && mapped.data == MAP_FAILED) code = errno;
    if (code != 0) {
        close(mapped.file);
        return error_set_errno(err, code, "%s: no room for %zu bytes", directory, size);
    }
    if (scratch->size > 0) memcpy(mapped.data, scratch->data, scratch->size);
    free(scratch->data);
    *scratch = mapped;
    return true;
}

static bool grow_file(struct scratch *scratch, size_t size, const char *directory, struct error *err)
{
    int code = posix_fallocate(scratch->file, 0, (off_t)size);
    void *data = code == 0 ? mremap(scratch->data, scratch->size, size, MREMAP_MAYMOVE) : NULL;
    if (code == 0 && data == MAP_FAILED) code = errno;
    if (code != 0) return error_set_errno(err, code, "%s: no room for %zu bytes", directory, size);
    scratch->data = data;
    scratch->size = size;
    return true;
}

bool scratch_reserve(struct scratch *scratch, size_t size, const char *directory, const char *what, struct error *err)
{
    if (size <= scratch->size) return true;
    if (scratch->mapped) return grow_file(scratch, size, directory, err);
    if (directory && size > SCRATCH_IN_MEMORY) return map_file(scratch, size, directory, err);
    void *data = realloc(scratch->data, size);
    if (!data) return error_set_no_memory(err, size, what);
    scratch->data = data;
    scratch->size = size;
    return true;
}

bool scratch_reserve_array(struct scratch *scratch, size_t count, size_t element, const char *directory,
                           const char *what, struct error *err)
{
    size_t size;
    if (!size_multiply(count, element, &size)) return error_set(err, ERROR_TOO_LARGE, "%s: too many elements", what);
    return scratch_reserve(scratch, size, directory, what, err);
}

void scratch_let_go(const struct scratch *scratch)
{
    if (scratch->mapped) madvise(scratch->data, scratch->size, MADV_DONTNEED);
}

void scratch_close(struct scratch *scratch)
{
    if (scratch->mapped) {
        munmap(scratch->data, scratch->size);
        close(scratch->file);
    } else {
        free(scratch->data);
    }
    *scratch = (struct scratch){0};
}
