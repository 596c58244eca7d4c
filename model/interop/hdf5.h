/* HDF5 files as Keras uses them: groups, text attributes, tensors of floating-point numbers. Only hdf5.c knows the HDF5
 * library.
 *
 * A file is an image in memory. The reader follows hard links alone, and takes tensors only as Keras writes them: in
 * one piece, not compressed, within the file. So a file cannot name other files or unpack to more than it is, and a
 * size counts only after a comparison with the size of the file. Paths are relative to the root group ("" is the root
 * itself, "layers/lstm/vars/0" a tensor).
 *
 * Threads: the library is not safe for threads, so one file is open at a time. Opening waits until the other file is
 * closed; the thread that opened a file closes it.
 *
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

/* Whether the bytes begin like an HDF5 file. */
bool hdf5_recognise(const void *data, size_t size);

bool hdf5_exists(struct hdf5 *file, const char *path);

/* The names in a group, sorted by their bytes. All texts that are read live until hdf5_close(). */
bool hdf5_members(struct hdf5 *file, const char *path, struct hdf5_texts *names, struct error *err);

/* Reads an attribute of one text. NULL: ERROR_NOT_FOUND or ERROR_CORRUPT. */
const char *hdf5_text(struct hdf5 *file, const char *path, const char *attribute, struct error *err);

/* Reads an attribute of many texts. Where Keras has split it ("name0", "name1", ...), the parts are joined. */
bool hdf5_texts(struct hdf5 *file, const char *path, const char *attribute, struct hdf5_texts *texts,
                struct error *err);

/* The shape of a tensor whose data lies in the file. Takes no memory. */
bool hdf5_shape(struct hdf5 *file, const char *path, struct hdf5_shape *shape, struct error *err);

/* Reads a whole tensor; `count` is that of its shape. */
bool hdf5_read(struct hdf5 *file, const char *path, float *out, size_t count, struct error *err);

/* --- Writing --- */

/* Makes an empty file in memory, in the form that Keras writes. Close it with hdf5_close(). */
struct hdf5 *hdf5_create(struct error *err);
/* Makes the groups of the path that are missing. */
bool hdf5_write_group(struct hdf5 *file, const char *path, struct error *err);
bool hdf5_write_text(struct hdf5 *file, const char *path, const char *attribute, const char *text, struct error *err);
bool hdf5_write_texts(struct hdf5 *file, const char *path, const char *attribute, const struct hdf5_texts *texts,
                      struct error *err);
bool hdf5_write(struct hdf5 *file, const char *path, const struct hdf5_shape *shape, const float *data,
                struct error *err);
/* Makes the bytes of the file; the caller frees them (free()). */
bool hdf5_image(struct hdf5 *file, unsigned char **image, size_t *size, struct error *err);

#endif
