/* Bytes <-> text in the URL-safe alphabet of RFC 4648, section 5, without padding. Pure, thread-safe. */
#ifndef LSTMD_BASE_BASE64_H
#define LSTMD_BASE_BASE64_H

#include <stdbool.h>
#include <stddef.h>

/* Characters that n bytes take, without a NUL; n <= SIZE_MAX / 2. */
size_t base64_encoded_size(size_t n);

/* Writes base64_encoded_size(n) characters and a NUL to out. */
void base64_encode(const void *data, size_t n, char *out);

/* The most bytes that n characters can hold. */
size_t base64_decoded_size(size_t n);

/* Writes at most base64_decoded_size(n) bytes to out; *written: how many. False if base64_encode() cannot have made
 * text[0..n): it has other characters, padding, or left-over bits. */
bool base64_decode(const char *text, size_t n, void *out, size_t *written);

#endif
