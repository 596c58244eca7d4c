/* Stop texts of a generation, and the text that is ready while a stop text may still begin. */
#include <string.h>

#include "base/rng.h"
#include "base/utf8.h"
#include "tests/unit/generate/generate_support.h"

static const char characters[] = "{\"level\": \"char\", \"tokens\": [\"<eos>\", \"a\", \"b\", \"\xC3\xA9\", "
                                 "\"\xE2\x82\xAC\", \"News\"], \"eos\": 0, \"pad\": null, \"unknown\": null, "
                                 "\"labels\": [5]}";
static const char words[] = "{\"level\": \"word\", \"tokens\": [\"<eos>\", \"the\", \"cat\", \"sat\"], \"eos\": 0, "
                            "\"pad\": null, \"unknown\": null, \"lower\": true, \"filters\": \".,\"}";
/* Bytes: the three of U+20AC, the two of U+00E9, and "a". */
static const char bytes[] = "{\"level\": \"byte\", \"tokens\": [\"<eos>\", \"\xC3\xA2\", \"\xC2\x82\", \"\xC2\xAC\", "
                            "\"\xC3\x83\", \"\xC2\xA9\", \"a\"], \"eos\": 0, \"pad\": null, \"unknown\": null}";

static void read_prompt(struct generation *generation)
{
    while (!generation_wants_logits(generation)) generation_play(generation, 0);
}

/* Plays tokens until the generation is done; checks at each step what is ready, and in the end that what was ready, in
 * pieces, is the text, and that no piece ended inside a character. */
static void play(struct generation *generation, const uint32_t *ids, size_t count)
{
    char sent[512], clean[3 * 512], whole[3 * 512]; /* clean: each piece made valid UTF-8 on its own */
    size_t n = 0, tokens = 0, clean_bytes = 0;
    read_prompt(generation);
    for (size_t i = 0; i < count && !generation_done(generation); i++) {
        generation_play(generation, ids[i]);
        assert_true(generation->text_ready >= n && generation->text_ready <= generation->text_bytes);
        assert_true(generation->tokens_ready >= tokens && generation->tokens_ready <= generation->produced);
        memcpy(sent + n, generation->text + n, generation->text_ready - n);
        clean_bytes += utf8_sanitize(sent + n, generation->text_ready - n, clean + clean_bytes);
        n = generation->text_ready;
        tokens = generation->tokens_ready;
        if (!generation_done(generation) && tokens > 0) assert_true(generation->tokens[tokens - 1].text_end <= n);
    }
    assert_true(generation_done(generation));
    assert_int_equal(n, generation->text_bytes);
    assert_memory_equal(sent, generation->text, n);
    assert_int_equal(generation->text[n], '\0');
    assert_int_equal(utf8_sanitize(generation->text, n, whole), clean_bytes);
    assert_memory_equal(whole, clean, clean_bytes);
}

/* The text as it is shown; raw[i]: the byte of it that what stands at shown[i] comes from. */
static size_t show(const char *text, size_t n, char *shown, size_t *raw)
{
    size_t size = 0, length;
    uint32_t code_point;
    for (size_t at = 0; at < n; at += length) {
        utf8_scan(text + at, n - at, &length, &code_point);
        const size_t before = size;
        size += utf8_sanitize(text + at, length, shown + size);
        for (size_t i = before; i < size; i++) raw[i] = at;
    }
    return size;
}

/* Where text[0..n) ends by definition: before the first stop text to be complete, the longest of these, all of them as
 * they are shown. */
static size_t plain_end(const char *text, size_t n, const struct text_span *stops, size_t count)
{
    char shown[3 * 512], stop[3 * 512];
    size_t raw[3 * 512];
    const size_t size = show(text, n, shown, raw);
    for (size_t end = 1; end <= size; end++) {
        size_t longest = 0;
        for (size_t s = 0; s < count; s++) {
            const size_t length = utf8_sanitize(stops[s].text, stops[s].bytes, stop);
            if (length <= end && length > longest && memcmp(shown + end - length, stop, length) == 0) longest = length;
        }
        if (longest > 0) return raw[end - longest];
    }
    return n;
}

/* Plays the tokens with the stop texts and checks the end; `whole` is their text. */
static void assert_stops(const struct vocabulary *vocabulary, const uint32_t *ids, size_t count, const char *whole,
                         const struct text_span *stops, size_t stop_count)
{
    struct generation_request request = prompt_of("", count);
    struct generation generation;
    const size_t n = strlen(whole), end = plain_end(whole, n, stops, stop_count);
    request.stop = stops;
    request.stop_count = stop_count;
    generation_begin(&generation, vocabulary, &request);
    play(&generation, ids, count);
    assert_int_equal(generation.text_bytes, end);
    assert_memory_equal(generation.text, whole, end);
    assert_int_equal(generation.finish, end < n ? FINISH_STOP : FINISH_LENGTH);
    assert_string_equal(finish_reason_name(generation.finish), end < n ? "stop" : "length");
    for (size_t i = 0; i < generation.produced; i++) assert_int_equal(generation.tokens[i].id, ids[i]);
    generation_close(&generation);
}

static void test_generation_stops_at_any_place_within_and_across_tokens(void **state)
{
    (void)state;
    struct vocabulary *vocabulary = vocabulary_of(words);
    const uint32_t ids[] = {1, 2, 3, 1, 2};
    const char *whole = "the cat sat the cat";
    const size_t n = strlen(whole);
    for (size_t from = 0; from < n; from++) {
        for (size_t to = from + 1; to <= n; to++) {
            const struct text_span stop = {whole + from, to - from};
            assert_stops(vocabulary, ids, 5, whole, &stop, 1);
        }
    }
    vocabulary_free(vocabulary);
}

static void test_generation_stops_at_the_first_of_nested_and_overlapping_texts(void **state)
{
    (void)state;
    struct vocabulary *vocabulary = vocabulary_of(words);
    const uint32_t ids[] = {1, 2, 3};
    const struct text_span nested[] = {{"e cat s", 7}, {"cat", 3}, {"at", 2}, {"t", 1}},
                           overlapping[] = {{"cat sat", 7}, {"e ca", 4}, {"t s", 3}}, absent[] = {{"cats", 4}};
    for (size_t first = 0; first < 4; first++)
        assert_stops(vocabulary, ids, 3, "the cat sat", nested + first, 4 - first);
    for (size_t first = 0; first < 3; first++)
        assert_stops(vocabulary, ids, 3, "the cat sat", overlapping + first, 3 - first);
    assert_stops(vocabulary, ids, 3, "the cat sat", absent, 1);
    vocabulary_free(vocabulary);
}

static void test_generation_stops_at_characters_of_several_bytes_and_at_parts_as_they_are_shown(void **state)
{
    (void)state;
    struct vocabulary *vocabulary = vocabulary_of(bytes);
    const uint32_t ids[] = {6, 1, 2, 3, 4, 5, 6};
    const char *whole = "a\xE2\x82\xAC\xC3\xA9"
                        "a";
    for (size_t from = 0; from < 7; from++) {
        for (size_t to = from + 1; to <= 7; to++) {
            const struct text_span stop = {whole + from, to - from};
            assert_stops(vocabulary, ids, 7, whole, &stop, 1);
        }
    }
    vocabulary_free(vocabulary);
}

/* Random tokens of each vocabulary and random stop texts cut out of such texts, a byte changed now and then. */
static void test_generation_is_the_pieces_that_were_ready_for_random_texts_and_stops(void **state)
{
    (void)state;
    static const char *const jsons[] = {characters, words, bytes};
    static const uint32_t sizes[] = {4, 3, 6}; /* tokens 1 .. size have text */
    struct rng rng;
    rng_seed(&rng, 3, 0);
    for (size_t level = 0; level < 3; level++) {
        struct vocabulary *vocabulary = vocabulary_of(jsons[level]);
        for (int round = 0; round < 3000; round++) {
            uint32_t ids[40];
            char whole[400], other[STOP_MAX_TEXTS][8];
            struct text_span stops[STOP_MAX_TEXTS];
            const size_t count = 1 + rng_below(&rng, 40), stop_count = rng_below(&rng, 5);
            size_t n = 0;
            for (size_t i = 0; i < count; i++) {
                ids[i] = 1 + (uint32_t)rng_below(&rng, sizes[level]);
                n += vocabulary_decode(vocabulary, ids[i], i == 0, whole + n);
            }
            whole[n] = '\0';
            for (size_t s = 0; s < stop_count; s++) {
                const size_t length = 1 + rng_below(&rng, n < 8 ? n : 8), from = rng_below(&rng, n - length + 1);
                memcpy(other[s], whole + from, length);
                if (rng_below(&rng, 2)) other[s][length - 1] = whole[rng_below(&rng, n)];
                stops[s] = (struct text_span){other[s], length};
            }
            assert_stops(vocabulary, ids, count, whole, stops, stop_count);
        }
        vocabulary_free(vocabulary);
    }
}

static void test_generation_counts_the_tokens_of_a_stop_text_and_shows_those_before_it(void **state)
{
    (void)state;
    struct vocabulary *vocabulary = vocabulary_of(words);
    struct generation_request request = prompt_of("", 10);
    struct generation generation;
    const struct text_span stop = {"at sa", 5};
    request.stop = &stop;
    request.stop_count = 1;
    generation_begin(&generation, vocabulary, &request);
    read_prompt(&generation);
    generation_play(&generation, 1);
    assert_int_equal(generation.tokens_ready, 1);
    generation_play(&generation, 2);
    assert_int_equal(generation.text_ready, 5); /* "the c" */
    assert_int_equal(generation.tokens_ready, 1);
    generation_play(&generation, 3);
    assert_int_equal(generation.finish, FINISH_STOP);
    assert_string_equal(generation.text, "the c");
    assert_int_equal(generation.produced, 3);
    assert_int_equal(generation.tokens_ready, 2);
    assert_int_equal(generation.tokens[1].text_end, 7);
    generation_close(&generation);
    vocabulary_free(vocabulary);
}

static void test_generation_gives_what_was_held_back_when_it_ends_otherwise(void **state)
{
    (void)state;
    struct vocabulary *vocabulary = vocabulary_of(characters);
    const struct text_span stop = {"abb", 3};
    for (int eos = 0; eos < 2; eos++) {
        struct generation_request request = prompt_of("", 3);
        struct generation generation;
        request.stop = &stop;
        request.stop_count = 1;
        generation_begin(&generation, vocabulary, &request);
        generation_play(&generation, 3);
        generation_play(&generation, 1);
        assert_int_equal(generation.text_ready, 2);
        generation_play(&generation, eos ? 0 : 2);
        assert_int_equal(generation.finish, eos ? FINISH_EOS : FINISH_LENGTH);
        assert_string_equal(generation.text, eos ? "\xC3\xA9"
                                                   "a"
                                                 : "\xC3\xA9"
                                                   "ab");
        assert_int_equal(generation.text_ready, generation.text_bytes);
        assert_int_equal(generation.tokens_ready, generation.produced);
        generation_close(&generation);
    }
    vocabulary_free(vocabulary);
}

static void test_generation_does_not_search_the_prompt_for_stop_texts(void **state)
{
    (void)state;
    struct vocabulary *vocabulary = vocabulary_of(characters);
    const struct text_span stop = {"ab", 2};
    struct generation_request request = prompt_of("aba", 2);
    struct generation generation;
    request.stop = &stop;
    request.stop_count = 1;
    generation_begin(&generation, vocabulary, &request);
    read_prompt(&generation);
    generation_play(&generation, 2);
    assert_false(generation_done(&generation));
    generation_play(&generation, 2);
    assert_string_equal(generation.text, "bb");
    generation_close(&generation);
    vocabulary_free(vocabulary);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_generation_stops_at_any_place_within_and_across_tokens),
        cmocka_unit_test(test_generation_stops_at_the_first_of_nested_and_overlapping_texts),
        cmocka_unit_test(test_generation_stops_at_characters_of_several_bytes_and_at_parts_as_they_are_shown),
        cmocka_unit_test(test_generation_is_the_pieces_that_were_ready_for_random_texts_and_stops),
        cmocka_unit_test(test_generation_counts_the_tokens_of_a_stop_text_and_shows_those_before_it),
        cmocka_unit_test(test_generation_gives_what_was_held_back_when_it_ends_otherwise),
        cmocka_unit_test(test_generation_does_not_search_the_prompt_for_stop_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
