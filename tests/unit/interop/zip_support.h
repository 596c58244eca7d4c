/* Makes zip archives by hand, so that tests decide every field. The directory need not agree with the entries. An
 * archive has at most ZIP_SUPPORT_MAX bytes. */
#ifndef LSTMD_TESTS_UNIT_INTEROP_ZIP_SUPPORT_H
#define LSTMD_TESTS_UNIT_INTEROP_ZIP_SUPPORT_H

#include <stddef.h>
#include <stdint.h>

#define ZIP_SUPPORT_MAX ((size_t)1 << 20)

struct made_entry {
    const char *name;
    const void *data; /* as it lies in the archive */
    size_t size;
    size_t unpacked;   /* what the directory says; 0: size */
    uint16_t method;   /* 0 stored, 8 deflated */
    uint16_t flags;    /* 1: encrypted */
    uint32_t checksum; /* 0: that of the data */
};

/* Writes the archive to out[ZIP_SUPPORT_MAX]; returns its size. */
size_t make_zip(const struct made_entry *entries, size_t count, unsigned char *out);

#endif
