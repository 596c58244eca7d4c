#include "base/base64.h"

#include <nettle/base64.h>
#include <stdint.h>

size_t base64_encoded_size(size_t n)
{
    return n / 3 * 4 + (n % 3 > 0 ? n % 3 + 1 : 0);
}

size_t base64_decoded_size(size_t n)
{
    return n / 4 * 3 + n % 4 * 3 / 4;
}

void base64_encode(const void *data, size_t n, char *out)
{
    struct base64_encode_ctx context;
    char end[BASE64_ENCODE_FINAL_LENGTH]; /* with padding, which URLs do not allow */
    base64url_encode_init(&context);
    const size_t written = base64_encode_update(&context, out, n, data), rest = base64_encoded_size(n) - written;
    base64_encode_final(&context, end);
    for (size_t i = 0; i < rest; i++) out[written + i] = end[i];
    out[written + rest] = '\0';
}

/* The value of a character plus one; 0: the character is not in the alphabet. The first 32 are not in it. */
static const unsigned char values[256] = {
    0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,
    0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  63, 0,  0,  53, 54, 55, 56,
    57, 58, 59, 60, 61, 62, 0,  0,  0,  0,  0,  0,  0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13,
    14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 0,  0,  0,  0,  64, 0,  27, 28, 29, 30, 31, 32, 33,
    34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 0,  0,  0,  0,  0,
};

/* The values of up to four characters as one number of 24 bits, the first in the highest; *good becomes false if one is
 * not in the alphabet. */
static uint32_t join_values(const char *text, size_t n, bool *good)
{
    uint32_t bits = 0;
    for (size_t i = 0; i < 4; i++) {
        const unsigned value = i < n ? values[(unsigned char)text[i]] : 1;
        *good &= value > 0;
        bits = bits << 6 | ((value - 1) & 63);
    }
    return bits;
}

/* nettle's decoder skips white space, accepts left-over bits, and takes five times as long. */
bool base64_decode(const char *text, size_t n, void *out, size_t *written)
{
    unsigned char *bytes = out;
    const size_t rest = n % 4;
    bool good = rest != 1;
    *written = base64_decoded_size(n);
    for (size_t i = 0; i + 4 <= n; i += 4) {
        const uint32_t bits = join_values(text + i, 4, &good);
        *bytes++ = (unsigned char)(bits >> 16);
        *bytes++ = (unsigned char)(bits >> 8);
        *bytes++ = (unsigned char)bits;
    }
    if (rest < 2 || !good) return good;
    const uint32_t bits = join_values(text + n - rest, rest, &good);
    *bytes++ = (unsigned char)(bits >> 16);
    if (rest == 3) *bytes++ = (unsigned char)(bits >> 8);
    return good && (bits & (rest == 3 ? 0xFF : 0xFFFF)) == 0;
}
