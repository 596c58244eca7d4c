/* Reads any bytes as a form. The first byte gives the size of its pieces, a line gives its Content-Type, the rest is
 * its body. The result is a refusal with a message, or a form. It must be the same in pieces as at once. */
#include <string.h>

#include "server/http/multipart.h"
#include "tests/fuzz/fuzz.h"

/* Records the form: names between two marks that no name contains, and data. */
struct seen {
    char *text;
    size_t size, capacity;
};

static bool see(struct seen *seen, const char *data, size_t n)
{
    REQUIRE(seen->size + n <= seen->capacity);
    if (n > 0) memcpy(seen->text + seen->size, data, n);
    seen->size += n;
    return true;
}

static bool see_part(const char *name, void *context, struct error *err)
{
    (void)err;
    return see(context, "\1", 1) && see(context, name, strlen(name)) && see(context, "\2", 1);
}

static bool see_data(const char *data, size_t size, void *context, struct error *err)
{
    (void)err;
    return see(context, data, size);
}

static bool parse(const char *type, const char *body, size_t size, size_t piece, struct seen *seen)
{
    const struct multipart_sink sink = {see_part, see_data, seen};
    struct error err = {0};
    struct multipart *multipart = multipart_new(type, &sink, &err);
    bool good = multipart != NULL;
    for (size_t at = 0; good && at < size; at += piece)
        good = multipart_write(multipart, body + at, piece < size - at ? piece : size - at, &err);
    good = good && multipart_finish(multipart, &err);
    multipart_free(multipart);
    REQUIRE(good == (err.code == ERROR_NONE) && good == (err.message[0] == '\0'));
    return good;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *line = size > 1 ? memchr(data + 1, '\n', size - 1) : NULL;
    if (!line || memchr(data + 1, '\0', (size_t)(line - data) - 1)) return 0;
    const size_t type_size = (size_t)(line - data) - 1, body_size = size - type_size - 2;
    char *type = malloc(type_size + 1);
    struct seen once = {.capacity = 2 * size + 2}, pieces = {.capacity = 2 * size + 2};
    once.text = malloc(once.capacity);
    pieces.text = malloc(pieces.capacity);
    REQUIRE(type && once.text && pieces.text);
    memcpy(type, data + 1, type_size);
    type[type_size] = '\0';
    const char *body = (const char *)line + 1;
    const bool good = parse(type, body, body_size, body_size + 1, &once);
    REQUIRE(parse(type, body, body_size, data[0] % 64 + 1, &pieces) == good);
    if (good) REQUIRE(once.size == pieces.size && memcmp(once.text, pieces.text, once.size) == 0);
    free(type);
    free(once.text);
    free(pieces.text);
    return 0;
}
