/* Gives any bytes to the UTF-8 functions. Their results must agree. */
#include <string.h>

#include "base/utf8.h"
#include "tests/fuzz/fuzz.h"

/* Decodes and encodes each character of valid text. */
static void require_round_trip(const char *text, size_t n)
{
    size_t characters = 0;
    for (size_t at = 0; at < n; characters++) {
        uint32_t code_point;
        char out[UTF8_MAX_BYTES];
        size_t length = utf8_decode(text + at, n - at, &code_point);
        REQUIRE(length > 0 && utf8_encode(code_point, out) == length && memcmp(out, text + at, length) == 0);
        at += length;
    }
    REQUIRE(utf8_count(text, n) == characters);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    size_t valid = utf8_valid_prefix(text, size), complete = utf8_complete_prefix(text, size);
    REQUIRE(valid <= size && complete <= size && size - complete < UTF8_MAX_BYTES);
    REQUIRE(valid < size || complete == size);
    require_round_trip(text, valid);

    char *clean = malloc(size > 0 ? 3 * size : 1);
    REQUIRE(clean != NULL);
    size_t n = utf8_sanitize(text, size, clean);
    REQUIRE(n <= 3 * size && utf8_valid_prefix(clean, n) == n);
    REQUIRE(valid < size || (n == size && memcmp(clean, text, size) == 0));
    free(clean);
    return 0;
}
