/* Reads any bytes as the token file of an imported model: JSON, a pickle, or a token per line. The result is a refusal
 * with a message, or a vocabulary of the wanted size. */
#include <string.h>

#include "model/interop/vocabulary_file.h"
#include "tests/fuzz/fuzz.h"

static void read_as(const char *text, size_t n, uint32_t size, bool pad)
{
    struct error err = {0};
    const struct interop_wanted wanted = {.size = size, .pad = pad, .notes = json_array()};
    struct vocabulary *vocabulary = interop_vocabulary_from_memory(text, n, &wanted, "input", &err);
    REQUIRE(wanted.notes != NULL);
    if (vocabulary)
        REQUIRE(vocabulary_size(vocabulary) == size);
    else
        REQUIRE(err.code != ERROR_NONE && err.message[0] != '\0');
    vocabulary_free(vocabulary);
    json_decref(wanted.notes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    REQUIRE(text != NULL);
    if (size > 0) memcpy(text, data, size);
    text[size] = '\0';
    read_as(text, size, 12, false);
    read_as(text, size, 13, true);
    free(text);
    return 0;
}
