#include "server/store/state_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"

enum {
    MODELS,   /* models/ */
    DATASETS, /* datasets/ */
    JOBS,     /* jobs/ */
    PARTS,    /* their number */
};
static const char *const part_names[PARTS] = {[MODELS] = "models", [DATASETS] = "datasets", [JOBS] = "jobs"};

struct state_dir {
    char *path;
    char *parts[PARTS];
    int lock;
};

static bool state_make_directory(const char *path, struct error *err)
{
    struct stat info;
    if (mkdir(path, 0700) == 0) return true;
    if (errno != EEXIST) return error_set_errno(err, errno, "%s: cannot make this directory", path);
    if (stat(path, &info) != 0) return error_set_errno(err, errno, "%s", path);
    return S_ISDIR(info.st_mode) || error_set(err, ERROR_INVALID, "%s: is there and is not a directory", path);
}

/* Volumes of containers pass: they belong to root, and a group may write. A daemon that runs as root may use any user's
 * directory, because a container may mount one from a home directory. */
static bool state_check_owner(const char *path, struct error *err)
{
    struct stat info;
    if (stat(path, &info) != 0) return error_set_errno(err, errno, "%s", path);
    if (info.st_mode & S_IWOTH)
        return error_set(err, ERROR_INVALID,
                         "%s: everybody may write into this directory; take that away (chmod o-w), or name a directory "
                         "below it",
                         path);
    if (info.st_uid == geteuid() || info.st_uid == 0) return true;
    if (geteuid() != 0)
        return error_set(err, ERROR_INVALID,
                         "%s: this directory belongs to user %lu, who could change what is in it, and the daemon runs "
                         "as user %lu",
                         path, (unsigned long)info.st_uid, (unsigned long)geteuid());
    char owner[24];
    snprintf(owner, sizeof owner, "%lu", (unsigned long)info.st_uid);
    log_event(LOG_WARNING, "the state directory belongs to user", LOG_TEXT("user", owner), LOG_TEXT("path", path));
    return true;
}

static bool state_refuse_link(const char *path, struct error *err)
{
    return error_set(err, ERROR_CONFLICT, "%s: is a symbolic link, which is not followed", path);
}

bool state_dir_check_file(const char *path, struct error *err)
{
    struct stat info;
    return lstat(path, &info) != 0 || !S_ISLNK(info.st_mode) || state_refuse_link(path, err);
}

/* The offset of "models/NAME" in "DIR/models/NAME". */
static size_t state_find_part(const char *path)
{
    size_t n = strlen(path);
    for (int slashes = 0; n > 0 && (path[n - 1] != '/' || ++slashes < 2); n--) continue;
    return n;
}

static bool state_check_tree(const char *path, size_t part, struct error *err);

/* NULL at the end, and with errno on a failure. */
static const struct dirent *state_next_child(DIR *directory)
{
    const struct dirent *entry;
    do {
        errno = 0;
        entry = readdir(directory);
    } while (entry ? strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 : errno == EINTR);
    return entry;
}

static bool state_check_children(DIR *directory, const char *path, size_t part, struct error *err)
{
    const struct dirent *entry;
    while ((entry = state_next_child(directory))) {
        char *child = path_join(path, entry->d_name, err);
        const bool good = child && state_check_tree(child, part, err);
        free(child);
        if (!good) return false;
    }
    return errno == 0 || error_set_errno(err, errno, "%s", path + part);
}

/* Not fts_open(): glibc's (2.36) uses memory that it did not get. */
static bool state_check_tree(const char *path, size_t part, struct error *err)
{
    struct stat info;
    if (lstat(path, &info) != 0) return errno == ENOENT || error_set_errno(err, errno, "%s", path + part);
    if (S_ISLNK(info.st_mode)) return state_refuse_link(path + part, err);
    if (!S_ISDIR(info.st_mode)) return true;
    DIR *directory = opendir(path);
    if (!directory) return errno == ENOENT || error_set_errno(err, errno, "%s", path + part);
    const bool good = state_check_children(directory, path, part, err);
    closedir(directory);
    return good;
}

bool state_dir_check_entry(const char *path, struct error *err)
{
    return state_check_tree(path, state_find_part(path), err);
}

/* Locks a file, not the directory, because network file systems only lock files that are open for writing. */
static bool state_take_lock(struct state_dir *state, struct error *err)
{
    char *path = path_join(state->path, "lock", err), holder[24] = "";
    if (!path) return false;
    if (!state_dir_check_file(path, err)) {
        free(path);
        return false;
    }
    state->lock = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    bool done = state->lock >= 0 && flock(state->lock, LOCK_EX | LOCK_NB) == 0;
    if (!done && state->lock >= 0 && errno == EWOULDBLOCK) {
        const ssize_t n = read(state->lock, holder, sizeof holder - 1);
        holder[n > 0 ? strspn(holder, "0123456789") : 0] = '\0';
        error_set(err, ERROR_CONFLICT, "%s: another daemon uses this state directory (process %s)", state->path,
                  *holder ? holder : "unknown");
    } else if (!done) {
        error_set_errno(err, errno, "%s: cannot lock", path);
    } else {
        snprintf(holder, sizeof holder, "%ld\n", (long)getpid());
        /* The process id is for people. It is missing if the disk is full. */
        done = (ftruncate(state->lock, 0) == 0 && write(state->lock, holder, strlen(holder)) > 0) || errno == ENOSPC ||
               errno == EDQUOT;
        if (!done) error_set_errno(err, errno, "%s: cannot write", path);
    }
    free(path);
    return done;
}

static bool state_make_parts(struct state_dir *state, struct error *err)
{
    for (size_t i = 0; i < PARTS; i++) {
        state->parts[i] = path_join(state->path, part_names[i], err);
        if (!state->parts[i] || !state_dir_check_file(state->parts[i], err) ||
            !state_make_directory(state->parts[i], err) || !state_check_owner(state->parts[i], err))
            return false;
    }
    return true;
}

/* Sweeps each job's directory, because jobs publish inside of it. */
static bool state_sweep_jobs(const char *jobs, struct error *err)
{
    DIR *directory = opendir(jobs);
    if (!directory) return error_set_errno(err, errno, "%s", jobs);
    bool good = true;
    for (struct dirent *entry; (good = good && directory_next(directory, jobs, &entry, err)) && entry;) {
        if (*entry->d_name == '.') continue;
        char *path = path_join(jobs, entry->d_name, err);
        struct stat info;
        good = path && (lstat(path, &info) != 0 || !S_ISDIR(info.st_mode) || directory_sweep(path, err));
        free(path);
    }
    closedir(directory);
    return good;
}

static bool state_sweep(const struct state_dir *state, struct error *err)
{
    if (!directory_sweep(state->path, err)) return false;
    for (size_t i = 0; i < PARTS; i++)
        if (!directory_sweep(state->parts[i], err)) return false;
    return state_sweep_jobs(state->parts[JOBS], err);
}

struct state_dir *state_dir_open(const char *path, struct error *err)
{
    struct state_dir *state = calloc(1, sizeof *state);
    if (!state) {
        error_set_no_memory(err, sizeof *state, "the state directory");
        return NULL;
    }
    state->lock = -1;
    state->path = strdup(path);
    if (!state->path)
        error_set_no_memory(err, strlen(path), "a path");
    else if (state_make_directory(path, err) && state_check_owner(path, err) && state_take_lock(state, err) &&
             state_make_parts(state, err) && state_sweep(state, err))
        return state;
    error_add_context(err, "server.state_dir");
    state_dir_close(state);
    return NULL;
}

void state_dir_close(struct state_dir *state)
{
    if (!state) return;
    if (state->lock >= 0) close(state->lock);
    for (size_t i = 0; i < PARTS; i++) free(state->parts[i]);
    free(state->path);
    free(state);
}

const char *state_dir_path(const struct state_dir *state)
{
    return state->path;
}

const char *state_dir_models(const struct state_dir *state)
{
    return state->parts[MODELS];
}

const char *state_dir_datasets(const struct state_dir *state)
{
    return state->parts[DATASETS];
}

const char *state_dir_jobs(const struct state_dir *state)
{
    return state->parts[JOBS];
}

bool state_dir_room(const struct state_dir *state, uint64_t *room, uint64_t *size)
{
    struct statvfs disk;
    if (statvfs(state->path, &disk) != 0) return false;
    *room = (uint64_t)disk.f_bavail * disk.f_frsize;
    *size = (uint64_t)disk.f_blocks * disk.f_frsize;
    return true;
}

bool state_dir_require(const struct state_dir *state, struct error *err)
{
    return state || error_set(err, ERROR_CONFLICT,
                              "this daemon has no state directory; start it with --set server.state_dir=DIR");
}

bool state_name_valid(const char *name, size_t size)
{
    char text[STATE_NAME_MAX + 1];
    if (size < 1 || size > STATE_NAME_MAX || *name == '.' || *name == '-') return false;
    for (size_t i = 0; i < size; i++) {
        const char c = name[i];
        const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!letter && !(c >= '0' && c <= '9') && !memchr("._-", c, 3)) return false;
        text[i] = c;
    }
    text[size] = '\0';
    return !file_name_is_aside(text);
}

bool state_name_check(const char *name, size_t size, const char *what, struct error *err)
{
    return state_name_valid(name, size) ||
           error_set(err, ERROR_INVALID,
                     "%s has 1 to %d letters, digits and ._-, of which the first is neither . nor -", what,
                     STATE_NAME_MAX);
}
