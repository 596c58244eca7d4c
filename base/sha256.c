#include "base/sha256.h"

#include <nettle/memops.h>
#include <nettle/sha2.h>
#include <stdint.h>
#include <stdlib.h>

_Static_assert(SHA256_SIZE == SHA256_DIGEST_SIZE, "the size of a digest");

struct sha256_stream {
    struct sha256_ctx context;
};

static void write_text(const unsigned char digest[SHA256_SIZE], char out[SHA256_TEXT_SIZE])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < SHA256_SIZE; i++) {
        out[2 * i] = digits[digest[i] >> 4];
        out[2 * i + 1] = digits[digest[i] & 15];
    }
    out[SHA256_TEXT_SIZE - 1] = 0;
}

void sha256_bytes(const void *data, size_t n, unsigned char out[SHA256_SIZE])
{
    struct sha256_ctx context;
    sha256_init(&context);
    sha256_update(&context, n, data);
    sha256_digest(&context, SHA256_SIZE, out);
}

bool sha256_equal(const unsigned char a[SHA256_SIZE], const unsigned char b[SHA256_SIZE])
{
    return memeql_sec(a, b, SHA256_SIZE) != 0;
}

void sha256_text(const void *data, size_t n, char out[SHA256_TEXT_SIZE])
{
    unsigned char digest[SHA256_SIZE];
    sha256_bytes(data, n, digest);
    write_text(digest, out);
}

struct sha256_stream *sha256_stream_new(struct error *err)
{
    struct sha256_stream *stream = malloc(sizeof *stream);
    if (stream)
        sha256_init(&stream->context);
    else
        error_set_no_memory(err, sizeof *stream, "a checksum");
    return stream;
}

void sha256_stream_add(struct sha256_stream *stream, const void *data, size_t n)
{
    sha256_update(&stream->context, n, data);
}

void sha256_stream_end(struct sha256_stream *stream, char out[SHA256_TEXT_SIZE])
{
    unsigned char digest[SHA256_SIZE];
    sha256_digest(&stream->context, sizeof digest, digest);
    write_text(digest, out);
}

void sha256_stream_free(struct sha256_stream *stream)
{
    free(stream);
}
