/* Reads any bytes as vocabulary.json. The result is a refusal with a message, or a vocabulary that takes any text. Its
 * JSON, read again, must give the same JSON. */
#include <string.h>

#include "model/text/vocabulary.h"
#include "tests/fuzz/fuzz.h"

static void require_same_again(const char *json, size_t n)
{
    struct error err = {0};
    size_t m;
    struct vocabulary *again = vocabulary_from_json(json, n, "again", &err);
    REQUIRE(again != NULL);
    char *same = vocabulary_to_json(again, &m, &err);
    REQUIRE(same && m == n && memcmp(json, same, n) == 0);
    free(same);
    vocabulary_free(again);
}

static void decode_all(const struct vocabulary *vocabulary, const struct token_list *ids)
{
    char *out = malloc(vocabulary_max_token_bytes(vocabulary) + 1);
    REQUIRE(out != NULL);
    for (size_t i = 0; i < ids->count; i++) {
        REQUIRE(ids->ids[i] < vocabulary_size(vocabulary));
        size_t n = vocabulary_decode(vocabulary, ids->ids[i], i == 0, out);
        REQUIRE(n <= vocabulary_max_token_bytes(vocabulary) + 1);
    }
    free(out);
}

static void encode(const struct vocabulary *vocabulary, const char *text, size_t n)
{
    struct error err = {0};
    struct token_list ids = {0};
    struct unknown_list unknown = {.most = 4};
    if (vocabulary_encode(vocabulary, text, n, &ids, &unknown, &err))
        decode_all(vocabulary, &ids);
    else
        REQUIRE(err.code == ERROR_INVALID && vocabulary_level(vocabulary) != TOKEN_LEVEL_BYTE);
    token_list_free(&ids);
    unknown_list_free(&unknown);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = {0};
    struct vocabulary *vocabulary = vocabulary_from_json((const char *)data, size, "input", &err);
    if (!vocabulary) {
        REQUIRE(err.code != ERROR_NONE && err.message[0] != '\0');
        return 0;
    }
    size_t n;
    char *json = vocabulary_to_json(vocabulary, &n, &err);
    REQUIRE(json != NULL);
    require_same_again(json, n);
    encode(vocabulary, (const char *)data, size);
    free(json);
    vocabulary_free(vocabulary);
    return 0;
}
