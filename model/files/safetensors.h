/* The safetensors format (https://github.com/huggingface/safetensors, "Format"): 8-byte little-endian header length,
 * JSON header, tensor data. The reader is strict about header length, JSON, duplicate names, dtypes, shapes, offsets
 * (no holes, no overlaps) and the size of the file. Every refusal names the file and the tensor, and loads nothing. The
 * reader converts F32, F16 and BF16 to float32; the writer takes F32 and BF16; I8, I64 and U64 pass unchanged both
 * ways. Entries may lie in the file in any order and at any alignment. Threads may read an open file together. */
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

/* Maps and checks a file. After a failure there is nothing to close, but closing is harmless. Errors: ERROR_NOT_FOUND,
 * ERROR_IO, ERROR_CORRUPT, ERROR_NO_MEMORY. */
bool safetensors_open(struct safetensors *file, const char *path, struct error *err);

/* The same for a file of an open directory (base/file.h). Messages call it `place`. */
bool safetensors_open_at(struct safetensors *file, int directory, const char *name, const char *place,
                         struct error *err);

/* The same for a file in memory (borrowed until safetensors_close()). Messages call it `name`. */
bool safetensors_open_memory(struct safetensors *file, const char *name, const void *data, size_t size,
                             struct error *err);
void safetensors_close(struct safetensors *file);
/* The entry of that name, or NULL. */
const struct safetensors_entry *safetensors_find(const struct safetensors *file, const char *name);

/* Converts the entry's floating-point elements to float32 into out[count]. Errors: ERROR_CORRUPT (names the tensor)
 * where its type is not a floating-point one. */
bool safetensors_read_float(const struct safetensors *file, const struct safetensors_entry *entry, float *out,
                            struct error *err);

/* Makes the bytes of a file with these entries (any type but F16; `count` must fit the shape). *data is the caller's
 * (free()). `metadata` is a JSON object of strings, or NULL. The same entries give the same bytes. Larger types come
 * first, so that every element is aligned; otherwise the order stays. Errors: ERROR_INVALID where entries or metadata
 * are not as said here, ERROR_TOO_LARGE, ERROR_NO_MEMORY. */
bool safetensors_serialise(const struct safetensors_entry *entries, size_t count, const char *metadata,
                           unsigned char **data, size_t *size, struct error *err);

#endif
