/* SHA-256 (FIPS 180-4) of bytes in memory, or of bytes that come in pieces. No other file calls the hash library.
 * Thread-safe; a stream belongs to one thread. */
#ifndef LSTMD_BASE_SHA256_H
#define LSTMD_BASE_SHA256_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

#define SHA256_SIZE      32
#define SHA256_TEXT_SIZE 65

void sha256_bytes(const void *data, size_t n, unsigned char out[SHA256_SIZE]);

/* Compares in constant time: the time does not depend on the digests. */
bool sha256_equal(const unsigned char a[SHA256_SIZE], const unsigned char b[SHA256_SIZE]);

/* 64 lower-case hexadecimal digits and a NUL. */
void sha256_text(const void *data, size_t n, char out[SHA256_TEXT_SIZE]);

struct sha256_stream;
struct sha256_stream *sha256_stream_new(struct error *err);
void sha256_stream_add(struct sha256_stream *stream, const void *data, size_t n);
/* The digest of all that was added, as text; the stream then begins anew. */
void sha256_stream_end(struct sha256_stream *stream, char out[SHA256_TEXT_SIZE]);
void sha256_stream_free(struct sha256_stream *stream); /* NULL allowed */

#endif
