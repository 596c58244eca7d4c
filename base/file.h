/* Files: whole reads, read-only maps, and atomic publishing.
 *
 * Publishing takes four steps: write the content to an aside file (same directory, so same file system), fsync it,
 * rename it into place, fsync the directory. A reader sees the old content or the new, never a part. If one of these
 * steps fails, the old content is intact and the aside file is removed. Exception: if the last fsync fails, the new
 * content is in place, and a loss of power may still undo it. A killed process may leave an aside file. That file is
 * harmless; the next publish to the same path removes it, and directory_sweep() does, too. If the path is a symbolic
 * link, publishing replaces the link's target. Errors name the path. ERROR_NO_SPACE: disk full, quota, or limit of file
 * size (the process must ignore SIGXFSZ to get this error instead of a signal; main() does). ERROR_CONFLICT: the path
 * is something of another kind.
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

/* A file of an open directory. Several reads then see one directory, even if its path changes meanwhile. */
struct file_at {
    int directory;     /* or AT_FDCWD */
    const char *name;  /* in the directory */
    const char *place; /* the file in errors */
};

bool file_read_at(const struct file_at *at, size_t max_bytes, char **data, size_t *size, struct error *err);

struct file_map {
    const unsigned char *data; /* NULL if size is 0 */
    size_t size;
};

/* Maps a regular file read-only. If somebody truncates the file while it is mapped, SIGBUS kills this process;
 * publishing replaces files and never truncates them. */
bool file_map_open(struct file_map *map, const char *path, struct error *err);
bool file_map_open_at(struct file_map *map, const struct file_at *at, struct error *err);
void file_map_close(struct file_map *map);

/* Publishes one file. Mode 0644 less the umask. */
bool file_publish(const char *path, const void *data, size_t size, struct error *err);

/* Publishes a directory of flat files. begin makes an empty aside directory ("<path>.tmp-" and 12 digits); the caller
 * writes files into it. commit makes it `path`: it atomically exchanges it with an older directory of that name, then
 * removes the old one. abort removes the aside directory. A directory that holds other directories is not replaced
 * (ERROR_CONFLICT). If the file system cannot exchange two names, the path is absent for a moment, and a crash in that
 * moment leaves the old content as "<path>.old-...". After a successful begin the caller calls exactly one of commit
 * and abort; a failed commit aborts. Parent directories must exist. */
struct directory_publish {
    char *path;
    char *aside;
    int lock; /* tells other processes that aside is in use */
};
bool directory_publish_begin(struct directory_publish *publish, const char *path, struct error *err);
/* A file in publish->aside that the caller writes in pieces: open, any number of writes, sync, close. */
struct publish_file {
    const struct directory_publish *publish;
    const char *name; /* borrowed */
    int fd;
};
bool publish_file_open(struct publish_file *file, const struct directory_publish *publish, const char *name,
                       struct error *err);
bool publish_file_write(struct publish_file *file, const void *data, size_t size, struct error *err);
bool publish_file_sync(struct publish_file *file, struct error *err);
void publish_file_close(struct publish_file *file); /* may be called again */

/* Writes and fsyncs publish->aside/name. */
bool directory_publish_write(struct directory_publish *publish, const char *name, const void *data, size_t size,
                             struct error *err);
bool directory_publish_commit(struct directory_publish *publish, struct error *err);
void directory_publish_abort(struct directory_publish *publish);
/* For a forked process: releases its copy and touches no file. The other process commits or aborts. */
void directory_publish_leave(struct directory_publish *publish);

/* Removes a directory and its content; of a symbolic link, the link. The name is gone at once; if the process is killed
 * meanwhile, the rest is a leftover for directory_sweep(). Errors: ERROR_NOT_FOUND, ERROR_IO; the directory is then
 * unchanged. */
bool directory_remove(const char *path, struct error *err);

/* The next entry of a directory from opendir(), NULL at the end. It reports a failed read; readdir() alone looks like
 * the end of the list then. */
bool directory_next(DIR *directory, const char *path, struct dirent **entry, struct error *err);

/* Removes all aside files that killed processes left in the directory, and renames "<path>.old-..." back if its name is
 * free. It leaves files that another process is writing. */
bool directory_sweep(const char *path, struct error *err);

/* Whether this is a name of an aside file. Nothing else may have such a name. */
bool file_name_is_aside(const char *name);

/* "directory/name" in fresh memory (free()), or NULL with ERROR_NO_MEMORY. */
char *path_join(const char *directory, const char *name, struct error *err);

#endif
