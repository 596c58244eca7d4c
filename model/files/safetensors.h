/* The safetensors format (https://github.com/huggingface/safetensors, "Format"): 8-byte little-endian header length,
 * JSON header, tensor data. The reader is strict: header length, JSON, duplicate names, dtypes, shapes, offsets without
 * holes or overlaps, sizes against the file; every violation names the file and the tensor, and nothing is loaded.
 * F32, F16 and BF16 are read (converted to float32), F32 and BF16 are written; I8, I64 and U64 both ways, as they lie.
 * Entries may lie in the file in any order and at any alignment; their offsets alone count. A file that is open may be
 * read by any number of threads.
 */
#ifndef LSTMD_MODEL_FILES_SAFETENSORS_H
#define LSTMD_MODEL_FILES_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/file.h"

#define SAFETENSORS_MAX_HEADER ((size_t)16 << 20)
#define SAFETENSORS_MAX_RANK   8

enum safetensors_type {
    SAFETENSORS_F32,
    SAFETENSORS_F16,
    SAFETENSORS_BF16,
    SAFETENSORS_I8,
    SAFETENSORS_I64,
    SAFETENSORS_U64,
};

const char *safetensors_type_name(enum safetensors_type type); /* "F32" */

struct safetensors_entry {
    const char *name;
    enum safetensors_type type;
    size_t rank, shape[SAFETENSORS_MAX_RANK];
    size_t count;              /* elements */
    const unsigned char *data; /* reading: into the map; writing: the caller's */
};

struct safetensors {
    struct safetensors_entry *entries; /* in file order */
    size_t count;
    const char *metadata; /* the "__metadata__" object as JSON text, or NULL */
    struct file_map map;
    struct arena arena;
    const char *path; /* for messages */
};

/* Maps and checks a file; after a failure there is nothing to close, but closing is harmless. Errors: ERROR_NOT_FOUND,
 * ERROR_IO, ERROR_CORRUPT, ERROR_NO_MEMORY. */
bool safetensors_open(struct safetensors *file, const char *path, struct error *err);

/* The same for a file of a directory that is open (base/file.h). `place` stands in messages. */
bool safetensors_open_at(struct safetensors *file, int directory, const char *name, const char *place,
                         struct error *err);

/* The same for a file in memory (borrowed until safetensors_close()). `name` stands in messages. */
bool safetensors_open_memory(struct safetensors *file, const char *name, const void *data, size_t size,
                             struct error *err);
void safetensors_close(struct safetensors *file);
/* The entry of that name, or NULL. */
const struct safetensors_entry *safetensors_find(const struct safetensors *file, const char *name);

/* Converts the entry's floating-point elements to float32 into out[count]. Errors: ERROR_CORRUPT (names the tensor)
 * where its type is not a floating-point one. */
bool safetensors_read_float(const struct safetensors *file, const struct safetensors_entry *entry, float *out,
                            struct error *err);

/* The bytes of a file with these entries (all types but F16; `count` must be what the shape says); *data is the
 * caller's (free()). `metadata` is a JSON object of strings or NULL. The same entries give the same bytes: types of
 * more bytes come first, so that every element is aligned, otherwise the order is kept. Errors: ERROR_INVALID where the
 * entries or the metadata are not what is said here, ERROR_TOO_LARGE, ERROR_NO_MEMORY. */
bool safetensors_serialise(const struct safetensors_entry *entries, size_t count, const char *metadata,
                           unsigned char **data, size_t *size, struct error *err);

#endif
