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

/* nettle skips white space, so that and padding are refused first. It counts left-over bits itself. */
bool base64_decode(const char *text, size_t n, void *out, size_t *written)
{
    static const char padding[] = "==";
    struct base64_decode_ctx context;
    uint8_t none[BASE64_DECODE_LENGTH(2)];
    size_t more;
    const size_t rest = n % 4, missing = rest > 0 ? 4 - rest : 0;
    *written = base64_decoded_size(n);
    base64url_decode_init(&context);
    for (size_t i = 0; i < n; i++)
        if (text[i] == '=' || text[i] <= ' ') return false;
    if (rest == 1 || !base64_decode_update(&context, written, out, n, text)) return false;
    return base64_decode_update(&context, &more, none, missing, padding) && base64_decode_final(&context);
}
