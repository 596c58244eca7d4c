/* One generation without a network: its prompt, its end, refusals, skipped characters. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "tests/unit/generate/generate_support.h"

#define CHARACTERS                                                                                                     \
    "\"level\": \"char\", \"tokens\": [\"<eos>\", \"a\", \"b\", \"\xC3\xA9\", \" \", \"News\", \"Sport\"]"

static const char labelled[] = "{" CHARACTERS ", \"eos\": 0, \"pad\": null, \"unknown\": null, \"labels\": [5, 6]}";
static const char without_eos[] = "{\"level\": \"char\", \"tokens\": [\"<pad>\", \"a\", \"b\"], \"eos\": null, "
                                  "\"pad\": 0, \"unknown\": null}";
static const char words[] = "{\"level\": \"word\", \"tokens\": [\"<eos>\", \"the\", \"cat\", \"sat\"], \"eos\": 0, "
                            "\"pad\": null, \"unknown\": null, \"lower\": true, \"filters\": \".,\"}";

static void test_generation_feeds_eos_label_and_prompt_before_it_wants_logits(void **state)
{
    (void)state;
    struct vocabulary *vocabulary = vocabulary_of(labelled);
    struct generation_request request = prompt_of("ab\xC3\xA9", 5);
    const uint32_t expected[] = {0, 6, 1, 2, 3};
    struct generation generation;
    request.label = "Sport";
    generation_begin(&generation, vocabulary, &request);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(generation_token(&generation), expected[i]);
        assert_int_equal(generation_wants_logits(&generation), i == 4);
        generation_play(&generation, 2);
    }
    assert_int_equal(generation_token(&generation), 2);
    assert_true(generation_wants_logits(&generation));
    assert_int_equal(generation.prompt.count, 5);
    assert_string_equal(generation.text, "b");
    generation_close(&generation);
    vocabulary_free(vocabulary);
}

static void test_generation_ends_at_its_length(void **state)
{
    (void)state;
    struct vocabulary *vocabulary = vocabulary_of(labelled);
    struct generation_request request = prompt_of("a", 5);
    struct generation generation;
    generation_begin(&generation, vocabulary, &request);
    for (int i = 0; i < 6; i++) {
        assert_false(generation_done(&generation));
        generation_play(&generation, 3);
    }
    assert_true(generation_done(&generation));
    assert_int_equal(generation.finish, FINISH_LENGTH);
    assert_string_equal(finish_reason_name(generation.finish), "length");
    assert_int_equal(generation.produced, 5);
    assert_string_equal(generation.text, "\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9");
    generation_close(&generation);
    vocabulary_free(vocabulary);
}

static void test_generation_ends_at_eos_which_is_not_counted(void **state)
{
    (void)state;
    struct vocabulary *vocabulary = vocabulary_of(labelled);
    struct generation_request request = prompt_of("", 5);
    struct generation generation;
    generation_begin(&generation, vocabulary, &request);
    generation_play(&generation, 4);
    generation_play(&generation, 0);
    assert_true(generation_done(&generation));
    assert_string_equal(finish_reason_name(generation.finish), "eos");
    assert_int_equal(generation.produced, 1);
    assert_string_equal(generation.text, " ");
    generation_close(&generation);
    vocabulary_free(vocabulary);
}

static void test_generation_never_continues_with_a_label(void **state)
{
    (void)state;
    struct vocabulary *vocabulary = vocabulary_of(labelled);
    struct generation_request request = prompt_of("", 5);
    struct generation generation;
    generation_begin(&generation, vocabulary, &request);
    float logits[16] = {-5, 1, 2, 1, 1, 90, 90};
    generation_advance(&generation, logits);
    assert_int_equal(generation_token(&generation), 2);
    generation_close(&generation);
    vocabulary_free(vocabulary);
}

static void test_generation_refuses_numbers_out_of_range(void **state)
{
    (void)state;
    struct vocabulary *vocabulary = vocabulary_of(labelled);
    const double temperatures[] = {-0.001, 100.001, (double)NAN, (double)INFINITY, -(double)INFINITY};
    struct generation_request request = prompt_of("a", 5);
    for (size_t i = 0; i < sizeof temperatures / sizeof temperatures[0]; i++) {
        request.sampler.temperature = temperatures[i];
        assert_refused(vocabulary, &request, "temperature", ERROR_INVALID, "between 0 and 100");
    }
    request = prompt_of("a", 5);
    request.min_length = 6;
    assert_refused(vocabulary, &request, "min_length", ERROR_INVALID, "not be more than");
    request.length = SIZE_MAX;
    assert_refused(vocabulary, &request, "length", ERROR_TOO_LARGE, "memory");
    vocabulary_free(vocabulary);
}

static void test_generation_refuses_an_unknown_label_and_lists_the_known(void **state)
{
    (void)state;
    struct vocabulary *vocabulary = vocabulary_of(labelled), *plain = vocabulary_of(words);
    struct generation_request request = prompt_of("", 5);
    request.label = "Spor";
    assert_refused(vocabulary, &request, "label", ERROR_INVALID, "no label \"Spor\"; it has: News, Sport");
    assert_refused(plain, &request, "label", ERROR_INVALID, "no labels");
    vocabulary_free(vocabulary);
    vocabulary_free(plain);
}

static void test_generation_refuses_invalid_utf8_with_its_offset(void **state)
{
    (void)state;
    struct vocabulary *vocabulary = vocabulary_of(labelled);
    struct generation_request request = prompt_of("ab\xFF", 5);
    assert_refused(vocabulary, &request, "prompt", ERROR_INVALID, "2");
    vocabulary_free(vocabulary);
}

static void test_generation_without_eos_needs_a_prompt(void **state)
{
    (void)state;
    struct vocabulary *vocabulary = vocabulary_of(without_eos);
    struct generation_request request = prompt_of("", 5);
    struct generation generation;
    assert_refused(vocabulary, &request, "prompt", ERROR_INVALID, "empty");
    request = prompt_of("zz", 5);
    assert_refused(vocabulary, &request, "prompt", ERROR_INVALID, "nothing of the prompt");
    request = prompt_of("ab", 5);
    generation_begin(&generation, vocabulary, &request);
    assert_int_equal(generation.prompt.count, 2);
    assert_int_equal(generation_token(&generation), 1);
    generation_close(&generation);
    vocabulary_free(vocabulary);
}

static void test_generation_names_skipped_characters(void **state)
{
    (void)state;
    struct vocabulary *vocabulary = vocabulary_of(labelled);
    const char *prompt = "a\xD0\xB9"
                         "b\x01";
    struct generation_request request = prompt_of(prompt, 5);
    struct generation generation;
    char text[GENERATION_WARNING_SIZE];
    generation_begin(&generation, vocabulary, &request);
    assert_int_equal(generation.prompt.count, 3);
    assert_int_equal(generation_warning_count(&generation), 2);
    generation_warning(&generation, prompt, 0, text);
    assert_string_equal(text, "character '\xD0\xB9' (U+0439) at byte 1 of the prompt is not in the model's vocabulary "
                              "and was skipped");
    generation_warning(&generation, prompt, 1, text);
    assert_string_equal(text, "character U+0001 at byte 4 of the prompt is not in the model's vocabulary and was "
                              "skipped");
    generation_close(&generation);
    request.unknown_is_error = true;
    assert_refused(vocabulary, &request, "prompt", ERROR_INVALID, "'\xD0\xB9' (U+0439) at byte 1");
    vocabulary_free(vocabulary);
}

static void test_generation_counts_the_skipped_characters_that_it_does_not_name(void **state)
{
    (void)state;
    struct vocabulary *vocabulary = vocabulary_of(labelled);
    const char *prompt = "1234567890123456789012345";
    struct generation_request request = prompt_of(prompt, 5);
    struct generation generation;
    char text[GENERATION_WARNING_SIZE];
    generation_begin(&generation, vocabulary, &request);
    assert_int_equal(generation_warning_count(&generation), GENERATION_MAX_WARNINGS + 1);
    generation_warning(&generation, prompt, GENERATION_MAX_WARNINGS, text);
    assert_memory_equal(text, "9 more ", 7);
    generation_close(&generation);
    vocabulary_free(vocabulary);
}

static void test_generation_names_skipped_words_and_cuts_long_ones(void **state)
{
    (void)state;
    struct vocabulary *vocabulary = vocabulary_of(words);
    char prompt[3000], text[GENERATION_WARNING_SIZE];
    size_t n = (size_t)snprintf(prompt, sizeof prompt, "the dog ");
    for (int i = 0; i < 400; i++) n += (size_t)snprintf(prompt + n, sizeof prompt - n, "\xF0\x9F\x98\x80");
    struct generation_request request = prompt_of(prompt, 5);
    struct generation generation;
    generation_begin(&generation, vocabulary, &request);
    assert_int_equal(generation_warning_count(&generation), 2);
    generation_warning(&generation, prompt, 0, text);
    assert_memory_equal(text, "\"dog\" at byte 4", 15);
    generation_warning(&generation, prompt, 1, text);
    assert_int_equal(utf8_valid_prefix(text, strlen(text)), strlen(text));
    assert_non_null(strstr(text, "\"... at byte 8 of the prompt"));
    generation_close(&generation);
    vocabulary_free(vocabulary);
}

static void test_generation_puts_spaces_between_words(void **state)
{
    (void)state;
    struct vocabulary *vocabulary = vocabulary_of(words);
    const char *prompts[] = {"", "The", "The ", "the cat."};
    const char *expected[] = {"cat sat", " cat sat", "cat sat", " cat sat"};
    for (size_t i = 0; i < 4; i++) {
        struct generation_request request = prompt_of(prompts[i], 5);
        struct generation generation;
        generation_begin(&generation, vocabulary, &request);
        while (!generation_wants_logits(&generation)) generation_play(&generation, 0);
        generation_play(&generation, 2);
        generation_play(&generation, 3);
        assert_string_equal(generation.text, expected[i]);
        generation_close(&generation);
    }
    vocabulary_free(vocabulary);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_generation_feeds_eos_label_and_prompt_before_it_wants_logits),
        cmocka_unit_test(test_generation_ends_at_its_length),
        cmocka_unit_test(test_generation_ends_at_eos_which_is_not_counted),
        cmocka_unit_test(test_generation_never_continues_with_a_label),
        cmocka_unit_test(test_generation_refuses_numbers_out_of_range),
        cmocka_unit_test(test_generation_refuses_an_unknown_label_and_lists_the_known),
        cmocka_unit_test(test_generation_refuses_invalid_utf8_with_its_offset),
        cmocka_unit_test(test_generation_without_eos_needs_a_prompt),
        cmocka_unit_test(test_generation_names_skipped_characters),
        cmocka_unit_test(test_generation_counts_the_skipped_characters_that_it_does_not_name),
        cmocka_unit_test(test_generation_names_skipped_words_and_cuts_long_ones),
        cmocka_unit_test(test_generation_puts_spaces_between_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
