/* Looks up texts of variable length in an HDF5 file, without the library.
 *
 * Such a text lies in a "global heap"; an attribute holds its length and its place there. Releases of the library
 * before 1.14 trust both: a file in which they disagree overruns a buffer, or never ends. This code compares every
 * number with the size of the file first. It reads only what Keras's writer (h5py) makes: addresses of eight bytes, and
 * attributes in the object's header. Pure.
 *
 * Source: HDF5 File Format Specification, version 3.0, sections II.A, III.E, IV.A.
 */
#ifndef LSTMD_MODEL_INTEROP_HDF5_HEAP_H
#define LSTMD_MODEL_INTEROP_HDF5_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hdf5_text {
    const char *data; /* in the image */
    size_t size;
};

/* Finds the `count` texts of attribute `name`, of the object whose header is at `address` of the file. False: they are
 * not where they should be. */
bool hdf5_heap_texts(const unsigned char *image, size_t size, uint64_t address, const char *name,
                     struct hdf5_text *texts, size_t count);

#endif
