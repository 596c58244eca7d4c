/* SHA-256 (FIPS 180-4) of bytes in memory, as text. The one place that knows the hash library. Thread-safe. */
#ifndef LSTMD_BASE_SHA256_H
#define LSTMD_BASE_SHA256_H

#include <stddef.h>

#define SHA256_TEXT_SIZE 65

/* 64 lower-case hexadecimal digits and a NUL. */
void sha256_text(const void *data, size_t n, char out[SHA256_TEXT_SIZE]);

#endif
