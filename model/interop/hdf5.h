/* HDF5 files as far as Keras uses them: groups, attributes of text, tensors of floating-point numbers. The one place
 * that knows the HDF5 library.
 *
 * A file is an image in memory. Reading follows hard links alone, and takes tensors only as Keras writes them: in one
 * piece, not compressed, within the file. So a file cannot name other files, cannot unpack to more than it is, and is
 * believed about sizes only after they were compared with its own. A path is relative to the root group ("" is the root
 * itself, "layers/lstm/vars/0" a tensor).
 *
 * Threads: the library has none, so one file is open at a time: opening waits until the other is closed, and the thread
 * that opened a file closes it.
 * Errors: ERROR_CORRUPT with `place`, the object's path and the library's own words; ERROR_NOT_FOUND where an object or
 * attribute is absent.
 */
#ifndef LSTMD_MODEL_INTEROP_HDF5_H
#define LSTMD_MODEL_INTEROP_HDF5_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

#define HDF5_MAX_RANK 4

struct hdf5;

struct hdf5_texts {
    const char **items;
    size_t count;
};

struct hdf5_shape {
    size_t rank, dimensions[HDF5_MAX_RANK];
    size_t count; /* elements */
};

/* `image` is borrowed until hdf5_close(); `place` (a path) begins messages. */
struct hdf5 *hdf5_open(const void *image, size_t size, const char *place, struct error *err);
void hdf5_close(struct hdf5 *file); /* NULL allowed */

/* Whether the bytes begin as an HDF5 file does. */
bool hdf5_recognise(const void *data, size_t size);

bool hdf5_exists(struct hdf5 *file, const char *path);

/* The names in a group, in the order of their bytes. All texts that are read live until hdf5_close(). */
bool hdf5_members(struct hdf5 *file, const char *path, struct hdf5_texts *names, struct error *err);

/* The attribute of one text, or NULL with ERROR_NOT_FOUND or ERROR_CORRUPT. */
const char *hdf5_text(struct hdf5 *file, const char *path, const char *attribute, struct error *err);

/* The attribute of many texts; one that Keras has split ("name0", "name1", ...) is put together. */
bool hdf5_texts(struct hdf5 *file, const char *path, const char *attribute, struct hdf5_texts *texts,
                struct error *err);

/* The shape of a tensor whose data is in the file. No memory is taken. */
bool hdf5_shape(struct hdf5 *file, const char *path, struct hdf5_shape *shape, struct error *err);

/* Reads all of the tensor; `count` is its shape's. */
bool hdf5_read(struct hdf5 *file, const char *path, float *out, size_t count, struct error *err);

/* --- Writing --- */

/* An empty file in memory; it is written as Keras writes and closed with hdf5_close(). */
struct hdf5 *hdf5_create(struct error *err);
/* Groups of the path are made where they are missing. */
bool hdf5_write_group(struct hdf5 *file, const char *path, struct error *err);
bool hdf5_write_text(struct hdf5 *file, const char *path, const char *attribute, const char *text, struct error *err);
bool hdf5_write_texts(struct hdf5 *file, const char *path, const char *attribute, const struct hdf5_texts *texts,
                      struct error *err);
bool hdf5_write(struct hdf5 *file, const char *path, const struct hdf5_shape *shape, const float *data,
                struct error *err);
/* The bytes of the file; the caller's (free()). */
bool hdf5_image(struct hdf5 *file, unsigned char **image, size_t *size, struct error *err);

#endif
