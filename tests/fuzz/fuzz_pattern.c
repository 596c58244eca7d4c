/* Reads any bytes as a regular expression. The first byte chooses the vocabulary. The result is a refusal with a
 * message, or a pattern. No path of the pattern may end before the text is complete, and PCRE2's other matcher must
 * accept each complete text. */
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/rng.h"
#include "model/generate/pattern.h"
#include "tests/fuzz/fuzz.h"

static const char *const vocabularies[] = {
    "{\"level\":\"char\",\"tokens\":[\"<eos>\",\"a\",\"b\",\"c\",\" \",\"1\",\"2\",\".\",\"\\u00e9\",\"\\n\"],"
    "\"eos\":0,\"pad\":null,\"unknown\":null}",
    "{\"level\":\"word\",\"lower\":true,\"filters\":\".\",\"tokens\":[\"<eos>\",\"a\",\"b\",\"ab\",\"abc\",\"12\"],"
    "\"eos\":0,\"pad\":null,\"unknown\":null}",
    "{\"level\":\"byte\",\"tokens\":[\"<eos>\",\"a\",\"b\",\"\\u00c3\",\"\\u00a9\",\"1\"],"
    "\"eos\":0,\"pad\":null,\"unknown\":null}",
};

/* Asks the other matcher. If it gives up, so does this target. */
static void require_match(const char *regex, size_t n, bool utf8, const char *text, size_t size)
{
    char *whole = malloc(n + 8);
    REQUIRE(whole != NULL);
    const int length = sprintf(whole, "(?:%.*s)\\z", (int)n, regex);
    int code;
    PCRE2_SIZE offset;
    pcre2_code *compiled = pcre2_compile((PCRE2_SPTR)whole, (size_t)length,
                                         PCRE2_ANCHORED | PCRE2_NO_AUTO_CAPTURE | PCRE2_DOLLAR_ENDONLY |
                                             (utf8 ? PCRE2_UTF | PCRE2_UCP : 0),
                                         &code, &offset, NULL);
    free(whole);
    REQUIRE(compiled != NULL);
    pcre2_match_data *data = pcre2_match_data_create(1, NULL);
    pcre2_match_context *context = pcre2_match_context_create(NULL);
    pcre2_set_match_limit(context, 100000);
    code = pcre2_match(compiled, (PCRE2_SPTR)text, size, 0, 0, data, context);
    REQUIRE(code >= 0 || code < PCRE2_ERROR_PARTIAL); /* anything but "no match" and "partial match" */
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
    pcre2_code_free(compiled);
}

/* Follows one path of up to 40 tokens through the pattern. */
static void walk(const struct pattern *pattern, const struct vocabulary *vocabulary, const char *regex, size_t n,
                 uint64_t seed)
{
    const bool utf8 = vocabulary_level(vocabulary) != TOKEN_LEVEL_BYTE;
    const uint32_t V = vocabulary_size(vocabulary);
    char text[40 * 8];
    size_t size = 0;
    struct rng rng;
    rng_seed(&rng, seed, 0);
    for (uint32_t state = PATTERN_START, steps = 0; steps < 40; steps++) {
        if (size > 0 && pattern_is_complete(pattern, state)) require_match(regex, n, utf8, text, size);
        REQUIRE(pattern_is_complete(pattern, state) || !pattern_is_final(pattern, state));
        if (pattern_is_final(pattern, state)) return;
        uint32_t token = (uint32_t)rng_below(&rng, V);
        while (!pattern_allows(pattern, state, token)) token = (token + 1) % V;
        REQUIRE(!vocabulary_is_special(vocabulary, token));
        size += vocabulary_decode(vocabulary, token, size == 0, text + size);
        state = pattern_next(pattern, state, token);
        REQUIRE(state < pattern_state_count(pattern));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > 300) return 0;
    const char *json = vocabularies[data[0] % 3];
    const struct pattern_options options = {.max_states = 300, .max_steps = 100000};
    struct error err = {0};
    struct vocabulary *vocabulary = vocabulary_from_json(json, strlen(json), "fuzz", &err);
    REQUIRE(vocabulary != NULL);
    char *regex = malloc(size);
    REQUIRE(regex != NULL);
    memcpy(regex, data + 1, size - 1);
    regex[size - 1] = '\0';
    struct pattern *pattern = pattern_new(regex, size - 1, vocabulary, &options, &err);
    REQUIRE(pattern || (err.code != ERROR_NONE && err.message[0] != '\0'));
    for (uint64_t seed = 0; pattern && seed < 3; seed++) walk(pattern, vocabulary, regex, size - 1, seed);
    pattern_free(pattern);
    vocabulary_free(vocabulary);
    free(regex);
    return 0;
}
