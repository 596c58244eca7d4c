/* The publishing half of base/file.h.
 *
 * The next publish to a path removes aside files that killed processes left there. The maker of an aside holds a lock
 * on it while it is in use; the kernel drops the lock when the process ends. Another process may remove a new aside
 * before its maker locks it; the maker sees that and makes another.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"

#define SUFFIX_FORMAT ".tmp-%012" PRIx64
#define SUFFIX_LENGTH (sizeof ".tmp-0123456789ab" - 1)
#define ATTEMPTS      100

/* A name that no other thread or process is likely to try at the same time; O_EXCL and mkdir() fail if one does. */
static void make_aside_name(char *out, const char *path)
{
    static atomic_uint_fast64_t counter;
    uint64_t mixed = clock_monotonic_ns() ^ (uint64_t)getpid() << 40;
    mixed += atomic_fetch_add(&counter, 1);
    mixed *= 0x9E3779B97F4A7C15u; /* 2^64 / golden ratio: spreads neighbours over the high bits */
    sprintf(out, "%s" SUFFIX_FORMAT, path, mixed >> 16);
}

/* Locks the new `aside`. False if somebody took it for a leftover. On a file system without locks nobody removes
 * leftovers. */
static bool lock_aside(int fd, const char *aside)
{
    struct stat held, named;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) return false;
    return fstat(fd, &held) == 0 && stat(aside, &named) == 0 && held.st_ino == named.st_ino;
}

static int make_aside_directory(const char *aside)
{
    if (mkdir(aside, 0777) != 0) return -1;
    int fd = open(aside, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int saved = errno == ENOENT ? EEXIST : errno; /* already removed: try another name, as if this one were taken */
    if (fd < 0) rmdir(aside);
    errno = saved;
    return fd;
}

/* Makes `aside` (room for path and suffix), a new empty file or directory, and locks it. Returns the descriptor (of a
 * file: for writing), or -1 with errno. */
static int make_aside(char *aside, const char *path, mode_t type)
{
    for (int i = 0; i < ATTEMPTS; i++) {
        make_aside_name(aside, path);
        int fd =
            type == S_IFDIR ? make_aside_directory(aside) : open(aside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        if (fd >= 0 && lock_aside(fd, aside)) return fd;
        if (fd < 0 && errno != EEXIST) return -1;
        if (fd >= 0) close(fd);
    }
    errno = EEXIST;
    return -1;
}

static bool write_all(int fd, const char *data, size_t size)
{
    const size_t most = (size_t)1 << 30; /* one write() takes at most 2 GiB */
    while (size > 0) {
        ssize_t n = write(fd, data, size < most ? size : most);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return false;
        data += n;
        size -= (size_t)n;
    }
    return true;
}

static bool sync_directory(const char *path, struct error *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return error_set_errno(err, errno, "%s", path);
    bool done = fsync(fd) == 0 || errno == EINVAL; /* EINVAL: this file system does not sync directories */
    if (!done) error_set_errno(err, errno, "%s", path);
    close(fd);
    return done;
}

/* The directory that holds the last component of the path; free() it. NULL: out of memory. */
static char *parent_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash) return strdup(".");
    return strndup(path, slash == path ? 1 : (size_t)(slash - path));
}

static bool sync_parent(const char *path, struct error *err)
{
    char *parent = parent_of(path);
    if (!parent) return error_set_no_memory(err, strlen(path), "a path");
    bool done = sync_directory(parent, err);
    if (!done) error_add_context(err, "%s: is in place, but may not survive a loss of power", path);
    free(parent);
    return done;
}

/* ---- removing ---- */

static bool is_dots(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* A file, or a directory with all that is in it. Follows no symbolic link; files that cannot be removed stay. */
static void remove_tree(int parent, const char *name)
{
    if (unlinkat(parent, name, 0) == 0 || errno != EISDIR) return;
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *directory = fd >= 0 ? fdopendir(fd) : NULL;
    if (!directory) {
        if (fd >= 0) close(fd);
        return;
    }
    for (struct dirent *entry; (entry = readdir(directory));)
        if (!is_dots(entry->d_name)) remove_tree(fd, entry->d_name);
    closedir(directory);
    unlinkat(parent, name, AT_REMOVEDIR);
}

/* The length of the original name if `name` is an aside's name (original, mark, digits); else 0. */
static size_t aside_of(const char *name, const char *mark)
{
    const size_t n = strlen(name);
    if (n <= SUFFIX_LENGTH) return 0;
    const char *suffix = name + n - SUFFIX_LENGTH;
    if (memcmp(suffix, mark, 5) != 0 || strspn(suffix + 5, "0123456789abcdef") != SUFFIX_LENGTH - 5) return 0;
    return n - SUFFIX_LENGTH;
}

bool file_name_is_aside(const char *name)
{
    return aside_of(name, ".tmp-") > 0 || aside_of(name, ".old-") > 0;
}

/* type: the file type that it must have; 0: any. */
static void remove_if_left_over(int parent, const char *name, mode_t type)
{
    struct stat info;
    int fd = openat(parent, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) return;
    if (fstat(fd, &info) == 0 && (type == 0 || (info.st_mode & S_IFMT) == type) && flock(fd, LOCK_EX | LOCK_NB) == 0)
        remove_tree(parent, name);
    close(fd);
}

/* Removes leftover asides of the path. Those that cannot be removed are harmless. */
static bool remove_leftovers(const char *target, mode_t type, struct error *err)
{
    const char *slash = strrchr(target, '/'), *last = slash ? slash + 1 : target;
    char *parent = parent_of(target);
    if (!parent) return error_set_no_memory(err, strlen(target), "a path");
    DIR *directory = opendir(parent);
    if (directory) {
        for (struct dirent *entry; (entry = readdir(directory));)
            if (aside_of(entry->d_name, ".tmp-") == strlen(last) && strncmp(entry->d_name, last, strlen(last)) == 0)
                remove_if_left_over(dirfd(directory), entry->d_name, type);
        closedir(directory);
    }
    free(parent);
    return true;
}

/* Renames "<path>.old-..." back to its path, unless the path exists: a crash between two renames leaves old content
 * so. */
static void publish_restore(int parent, const char *name, size_t n)
{
    char *target = strndup(name, n);
    struct stat info;
    if (target && fstatat(parent, target, &info, AT_SYMLINK_NOFOLLOW) == 0)
        remove_tree(parent, name);
    else if (target)
        renameat(parent, name, parent, target);
    free(target);
}

bool directory_next(DIR *directory, const char *path, struct dirent **entry, struct error *err)
{
    errno = 0;
    *entry = readdir(directory);
    return *entry || errno == 0 || error_set_errno(err, errno, "%s", path);
}

bool directory_sweep(const char *path, struct error *err)
{
    DIR *directory = opendir(path);
    if (!directory) return error_set_errno(err, errno, "%s", path);
    const int fd = dirfd(directory);
    for (struct dirent *entry; (entry = readdir(directory));) {
        const size_t old = aside_of(entry->d_name, ".old-");
        if (old > 0)
            publish_restore(fd, entry->d_name, old);
        else if (aside_of(entry->d_name, ".tmp-") > 0)
            remove_if_left_over(fd, entry->d_name, 0);
    }
    closedir(directory);
    return true;
}

bool directory_remove(const char *path, struct error *err)
{
    char *aside = malloc(strlen(path) + SUFFIX_LENGTH + 1);
    if (!aside) return error_set_no_memory(err, strlen(path), "a path");
    make_aside_name(aside, path);
    const bool gone = rename(path, aside) == 0;
    if (!gone) error_set_errno(err, errno, "%s: cannot remove", path);
    const bool durable = gone && sync_parent(path, err);
    if (durable)
        remove_tree(AT_FDCWD, aside);
    else if (gone)
        rename(aside, path); /* undo the rename */
    free(aside);
    return durable;
}

/* The path that the rename replaces: without trailing slashes; the target of a symbolic link, so the link stays. `type`
 * (S_IFREG, S_IFDIR): the kind of file that may be replaced. NULL and *err on failure; free() it. */
static char *resolve_target(const char *path, mode_t type, struct error *err)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    char *target = strndup(path, n);
    if (!target) {
        error_set_no_memory(err, n, "a path");
        return NULL;
    }
    const char *slash = strrchr(target, '/'), *last = slash ? slash + 1 : target;
    struct stat info;
    if (*last == '\0' || strcmp(last, ".") == 0 || strcmp(last, "..") == 0) {
        error_set(err, ERROR_INVALID, "\"%s\" does not end with a name that could be written", path);
    } else if (stat(target, &info) != 0) {
        if (errno == ENOENT) return target;
        error_set_errno(err, errno, "%s", path);
    } else if ((info.st_mode & S_IFMT) != type) {
        error_set(err, ERROR_CONFLICT, "%s: is there and is not a %s", path,
                  type == S_IFDIR ? "directory" : "regular file");
    } else if (lstat(target, &info) != 0 || !S_ISLNK(info.st_mode)) {
        return target;
    } else {
        char *real = realpath(target, NULL);
        if (!real) error_set_errno(err, errno, "%s", path);
        free(target);
        return real;
    }
    free(target);
    return NULL;
}

/* Fills the file and gives it the name. The lock is held until the rename. On failure errno tells why. */
static bool fill_and_rename(int fd, const char *aside, const char *target, const void *data, size_t size)
{
    bool done = write_all(fd, data, size) && fsync(fd) == 0 && rename(aside, target) == 0;
    int saved = errno;
    if (!done) unlink(aside);
    close(fd);
    errno = saved;
    return done;
}

bool file_publish(const char *path, const void *data, size_t size, struct error *err)
{
    bool done = false;
    char *target = resolve_target(path, S_IFREG, err), *aside = NULL;
    if (!target) return false;
    aside = malloc(strlen(target) + SUFFIX_LENGTH + 1);
    if (!aside) {
        error_set_no_memory(err, strlen(target), "a path");
        goto out;
    }
    if (!remove_leftovers(target, S_IFREG, err)) goto out;
    int fd = make_aside(aside, target, S_IFREG);
    if (fd < 0)
        error_set_errno(err, errno, "%s: cannot create", path);
    else if (!fill_and_rename(fd, aside, target, data, size))
        error_set_errno(err, errno, "%s: cannot write", path);
    else
        done = sync_parent(target, err);
out:
    free(aside);
    free(target);
    return done;
}

/* Refuses a directory that holds directories: lstmd does not make such ones, and replacing it would delete them. */
static bool check_flat(const char *path, struct error *err)
{
    DIR *directory = opendir(path);
    if (!directory) return errno == ENOENT ? true : error_set_errno(err, errno, "%s", path);
    bool flat = true;
    for (struct dirent *entry; (flat = flat && directory_next(directory, path, &entry, err)) && entry;) {
        struct stat info;
        if (is_dots(entry->d_name)) continue;
        if (fstatat(dirfd(directory), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(info.st_mode)) {
            error_set(err, ERROR_CONFLICT, "%s: holds the directory \"%s\" and is not replaced", path, entry->d_name);
            flat = false;
        }
    }
    closedir(directory);
    return flat;
}

void directory_publish_leave(struct directory_publish *publish)
{
    if (publish->lock >= 0) close(publish->lock);
    free(publish->path);
    free(publish->aside);
    *publish = (struct directory_publish){.lock = -1};
}

bool directory_publish_begin(struct directory_publish *publish, const char *path, struct error *err)
{
    *publish = (struct directory_publish){.lock = -1};
    publish->path = resolve_target(path, S_IFDIR, err);
    if (!publish->path || !check_flat(publish->path, err)) goto out;
    publish->aside = malloc(strlen(publish->path) + SUFFIX_LENGTH + 1);
    if (!publish->aside) {
        error_set_no_memory(err, strlen(publish->path), "a path");
        goto out;
    }
    if (!remove_leftovers(publish->path, S_IFDIR, err)) goto out;
    publish->lock = make_aside(publish->aside, publish->path, S_IFDIR);
    if (publish->lock >= 0) return true;
    error_set_errno(err, errno, "%s: cannot create", path);
out:
    directory_publish_leave(publish);
    return false;
}

bool publish_file_open(struct publish_file *file, const struct directory_publish *publish, const char *name,
                       struct error *err)
{
    *file = (struct publish_file){.publish = publish, .name = name, .fd = -1};
    char *path = path_join(publish->aside, name, err);
    if (!path) return false;
    file->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (file->fd < 0) error_set_errno(err, errno, "%s/%s: cannot write", publish->path, name);
    free(path);
    return file->fd >= 0;
}

bool publish_file_write(struct publish_file *file, const void *data, size_t size, struct error *err)
{
    return write_all(file->fd, data, size) ||
           error_set_errno(err, errno, "%s/%s: cannot write", file->publish->path, file->name);
}

bool publish_file_sync(struct publish_file *file, struct error *err)
{
    return fsync(file->fd) == 0 || error_set_errno(err, errno, "%s/%s: cannot write", file->publish->path, file->name);
}

void publish_file_close(struct publish_file *file)
{
    if (file->fd >= 0) close(file->fd);
    file->fd = -1;
}

bool directory_publish_write(struct directory_publish *publish, const char *name, const void *data, size_t size,
                             struct error *err)
{
    struct publish_file file;
    const bool done = publish_file_open(&file, publish, name, err) && publish_file_write(&file, data, size, err) &&
                      publish_file_sync(&file, err);
    publish_file_close(&file);
    return done;
}

/* For file systems that cannot exchange two names (NFS, some FUSE): renames the old directory first, then the new one.
 * Between the two renames the path does not exist; a crash at that moment leaves the old content as "<path>.old-...".
 * On success the old directory has the name that the new one had. Returns false with errno. */
static bool exchange_in_two_steps(const char *path, const char *aside)
{
    char *old = strdup(aside);
    if (!old) return false;
    memcpy(old + strlen(path), ".old-", 5);
    bool stepped = rename(path, old) == 0;
    bool done = (stepped || errno == ENOENT) && rename(aside, path) == 0;
    int saved = errno;
    if (stepped && rename(old, done ? aside : path) != 0 && done) remove_tree(AT_FDCWD, old);
    free(old);
    errno = saved;
    return done;
}

/* Puts the new directory at the path; the old one, if any, then has the aside name. If there was none and another
 * publisher comes first, the other's directory counts as the old one. */
static bool put_in_place(const char *path, const char *aside)
{
    for (int i = 0; i < ATTEMPTS; i++) {
        if (renameat2(AT_FDCWD, aside, AT_FDCWD, path, RENAME_EXCHANGE) == 0) return true;
        if (errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP) return exchange_in_two_steps(path, aside);
        if (errno != ENOENT) return false;
        if (rename(aside, path) == 0) return true;
        if (errno != ENOTEMPTY && errno != EEXIST) return false;
    }
    return false;
}

bool directory_publish_commit(struct directory_publish *publish, struct error *err)
{
    bool placed = sync_directory(publish->aside, err);
    if (placed && !put_in_place(publish->path, publish->aside))
        placed = error_set_errno(err, errno, "%s: cannot replace", publish->path);
    if (!placed) {
        directory_publish_abort(publish);
        return false;
    }
    /* Sync first: the old content is removed only after the new is on disk. */
    bool durable = sync_parent(publish->path, err);
    if (durable) remove_tree(AT_FDCWD, publish->aside);
    directory_publish_leave(publish);
    return durable;
}

void directory_publish_abort(struct directory_publish *publish)
{
    if (!publish->aside) return;
    remove_tree(AT_FDCWD, publish->aside);
    directory_publish_leave(publish);
}
