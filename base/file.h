/* Files: whole reads, read-only maps, and atomic publishing.
 *
 * Publishing means: written aside (same directory, so the same file system), fsynced, renamed into place, directory
 * fsynced. A reader sees the old content or the new, never a part. After any failure the old content is intact and
 * the aside file is removed; after one of the very last fsync, of the directory, the new content is in place and it is
 * unknown whether it would survive a loss of power. What a killed process leaves aside is harmless, and the next that
 * publishes to the same path removes it, as directory_sweep() does. Where the path is a symbolic link, what it leads to
 * is replaced. Errors name the path; ERROR_NO_SPACE: disk full, quota, or limit of file size (a process that wants this
 * instead of a signal ignores SIGXFSZ, as main() does); ERROR_CONFLICT: something of another kind stands there.
 */
#ifndef LSTMD_BASE_FILE_H
#define LSTMD_BASE_FILE_H

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/* Reads a whole regular file. Ownership: *data is the caller's (free()); a NUL follows the content, not counted in
 * *size. Errors: ERROR_NOT_FOUND, ERROR_TOO_LARGE beyond max_bytes (checked before memory is taken), ERROR_IO. */
bool file_read(const char *path, size_t max_bytes, char **data, size_t *size, struct error *err);

/* The same for a file of a directory that is open (or AT_FDCWD), so that several files are of one directory whatever
 * its path leads to meanwhile. `place` stands in errors. */
bool file_read_at(int directory, const char *name, const char *place, size_t max_bytes, char **data, size_t *size,
                  struct error *err);

struct file_map {
    const unsigned char *data; /* NULL where size is 0 */
    size_t size;
};

/* Maps a regular file read-only. Somebody who truncates the file while it is mapped ends the process (SIGBUS);
 * published files are replaced and never truncated. */
bool file_map_open(struct file_map *map, const char *path, struct error *err);
bool file_map_open_at(struct file_map *map, int directory, const char *name, const char *place, struct error *err);
void file_map_close(struct file_map *map);

/* Publishes one file. Mode 0644 less the umask. */
bool file_publish(const char *path, const void *data, size_t size, struct error *err);

/* Publishes a directory of flat files: begin makes an empty directory aside ("<path>.tmp-" and 12 digits), the caller
 * writes files into it, commit makes it `path` (atomically exchanged with an older directory of that name, which is
 * then removed), abort removes it. A directory that holds other directories is not replaced (ERROR_CONFLICT). Where the
 * file system cannot exchange two names, the path is absent for a moment, and a crash just then leaves the old content
 * as
 * "<path>.old-...". Exactly one of commit and abort follows a successful begin; a failed commit has aborted.
 * Parent directories must exist. */
struct directory_publish {
    char *path;
    char *aside;
    int lock; /* tells other processes that aside is in use */
};
bool directory_publish_begin(struct directory_publish *publish, const char *path, struct error *err);
/* A file in publish->aside that comes in pieces: open, write as often as it takes, sync, close. */
struct publish_file {
    const struct directory_publish *publish;
    const char *name; /* borrowed */
    int fd;
};
bool publish_file_open(struct publish_file *file, const struct directory_publish *publish, const char *name,
                       struct error *err);
bool publish_file_write(struct publish_file *file, const void *data, size_t size, struct error *err);
bool publish_file_sync(struct publish_file *file, struct error *err);
void publish_file_close(struct publish_file *file); /* also where it is closed already */

/* Writes and fsyncs publish->aside/name. */
bool directory_publish_write(struct directory_publish *publish, const char *name, const void *data, size_t size,
                             struct error *err);
bool directory_publish_commit(struct directory_publish *publish, struct error *err);
void directory_publish_abort(struct directory_publish *publish);
/* In a process that was forked meanwhile: lets go of it; the other process ends it. */
void directory_publish_leave(struct directory_publish *publish);

/* Removes a directory with all that is in it: its name is gone at once, and what a killed process does not get to
 * remove is a leftover. Of a symbolic link, the link. Errors: ERROR_NOT_FOUND, ERROR_IO; it is there as before. */
bool directory_remove(const char *path, struct error *err);

/* The next entry of what opendir() opened, NULL at the end. readdir() alone ends a list early where reading fails. */
bool directory_next(DIR *directory, const char *path, struct dirent **entry, struct error *err);

/* Removes what killed processes left aside of everything in the directory, and gives "<path>.old-..." its name back
 * where nothing has it. What another process is just writing stays. */
bool directory_sweep(const char *path, struct error *err);

/* Whether something may be put aside under such a name: not a name for anything else. */
bool file_name_is_aside(const char *name);

/* "directory/name" in fresh memory (free()), or NULL with ERROR_NO_MEMORY. */
char *path_join(const char *directory, const char *name, struct error *err);

#endif
