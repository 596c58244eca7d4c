#include "tests/unit/text/vocabulary_support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/support.h"

struct vocabulary *build_vocabulary_bytes(const struct vocabulary_options *options, const char *text, size_t n)
{
    struct error err = {0};
    struct vocabulary_builder *builder = vocabulary_builder_new(options, &err);
    assert_non_null(builder);
    assert_true(vocabulary_builder_add(builder, text, n, &err));
    struct vocabulary *vocabulary = vocabulary_builder_finish(builder, &err);
    assert_string_equal(err.message, "");
    assert_non_null(vocabulary);
    return vocabulary;
}

struct vocabulary *build_vocabulary(struct vocabulary_options options, const char *text)
{
    return build_vocabulary_bytes(&options, text, strlen(text));
}

struct vocabulary *read_vocabulary(const char *json)
{
    struct error err = {0};
    struct vocabulary *vocabulary = vocabulary_from_json(json, strlen(json), "vocabulary.json", &err);
    assert_string_equal(err.message, "");
    assert_non_null(vocabulary);
    return vocabulary;
}

/* "id:text id:text ..." of all tokens. */
void assert_tokens(const struct vocabulary *vocabulary, const char *expected)
{
    char all[1024] = "";
    for (uint32_t id = 0; id < vocabulary_size(vocabulary); id++) {
        size_t n, used = strlen(all);
        const char *text = vocabulary_token(vocabulary, id, &n);
        assert_int_equal(text[n], '\0');
        snprintf(all + used, sizeof all - used, "%s%s", id ? "|" : "", text);
    }
    assert_string_equal(all, expected);
}

struct encoded encode_bytes(const struct vocabulary *vocabulary, const char *text, size_t n)
{
    struct encoded encoded = {.unknown.most = 4};
    struct error err = {0};
    assert_true(vocabulary_encode(vocabulary, text, n, &encoded.ids, &encoded.unknown, &err));
    return encoded;
}

void encoded_free(struct encoded *encoded)
{
    token_list_free(&encoded->ids);
    unknown_list_free(&encoded->unknown);
}

/* Encodes and compares with "1 2 3"; returns what was skipped, to be freed. */
struct unknown_list assert_encodes(const struct vocabulary *vocabulary, const char *text, const char *expected)
{
    struct encoded encoded = encode_bytes(vocabulary, text, strlen(text));
    char all[1024] = "";
    for (size_t i = 0; i < encoded.ids.count; i++) {
        size_t used = strlen(all);
        snprintf(all + used, sizeof all - used, "%s%u", i ? " " : "", (unsigned)encoded.ids.ids[i]);
    }
    assert_string_equal(all, expected);
    token_list_free(&encoded.ids);
    return encoded.unknown;
}

void assert_encodes_all(const struct vocabulary *vocabulary, const char *text, const char *expected)
{
    struct unknown_list unknown = assert_encodes(vocabulary, text, expected);
    assert_int_equal(unknown.total, 0);
    unknown_list_free(&unknown);
}

/* The whole text of the ids, as a generation would print it. */
void assert_decodes(const struct vocabulary *vocabulary, const uint32_t *ids, size_t count, const char *expected)
{
    char all[256];
    size_t n = 0;
    for (size_t i = 0; i < count; i++) n += vocabulary_decode(vocabulary, ids[i], n == 0, all + n);
    all[n] = '\0';
    assert_string_equal(all, expected);
}

void assert_vocabulary_build_fails(struct vocabulary_options options, const char *text, enum error_code code,
                                   const char *part)
{
    struct error err = {0};
    struct vocabulary_builder *builder = vocabulary_builder_new(&options, &err);
    if (builder && vocabulary_builder_add(builder, text, strlen(text), &err)) {
        assert_null(vocabulary_builder_finish(builder, &err));
        builder = NULL;
    }
    vocabulary_builder_free(builder);
    assert_int_equal(err.code, code);
    if (!strstr(err.message, part)) fail_msg("\"%s\" does not say \"%s\"", err.message, part);
}

const struct vocabulary_options of_characters = {.level = TOKEN_LEVEL_CHAR};
const struct vocabulary_options of_bytes = {.level = TOKEN_LEVEL_BYTE};
const struct vocabulary_options of_words = {.level = TOKEN_LEVEL_WORD, .lower = true};

struct vocabulary *build_labelled_vocabulary(void)
{
    struct error err = {0};
    struct vocabulary_builder *builder = vocabulary_builder_new(&of_characters, &err);
    assert_true(vocabulary_builder_add_label(builder, "sport", &err));
    assert_true(vocabulary_builder_add(builder, "aab1", 4, &err));
    assert_true(vocabulary_builder_add_label(builder, "1", &err));
    assert_true(vocabulary_builder_add_label(builder, "sport", &err));
    return vocabulary_builder_finish(builder, &err);
}
