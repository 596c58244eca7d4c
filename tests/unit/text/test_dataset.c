#include "model/text/dataset.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "tests/unit/support.h"

/* ---- helpers ---- */

static struct corpus load_as(enum corpus_format format, const char *text, bool bytes)
{
    struct corpus corpus;
    struct error err = {0};
    struct corpus_options options = {.format = format, .csv_header = 0};
    if (format == CORPUS_CSV) options.columns = "2", options.label_column = "1";
    options.bytes = bytes;
    if (!corpus_load_memory(&corpus, "test", text, strlen(text), &options, &err)) fail_msg("%s", err.message);
    return corpus;
}

static struct vocabulary *build(const struct corpus *corpus, enum token_level level)
{
    struct error err = {0};
    struct vocabulary_options options = {.level = level};
    struct vocabulary *vocabulary = vocabulary_build(corpus, &options, &err);
    if (!vocabulary) fail_msg("%s", err.message);
    return vocabulary;
}

/* The dataset as text: "^" for <eos>, "#1" for label 1. */
static void assert_encodes(const struct corpus *corpus, const struct vocabulary *vocabulary, const char *expected,
                           size_t expected_skipped)
{
    struct dataset dataset;
    struct error err = {0};
    size_t skipped = 99, used = 0;
    char all[512] = "";
    if (!dataset_encode(&dataset, corpus, vocabulary, NULL, &skipped, &err)) fail_msg("%s", err.message);
    for (size_t i = 0; i < dataset.token_count; i++) {
        uint32_t id = tokens_get(&dataset.tokens, i);
        size_t n;
        const char *text = vocabulary_token(vocabulary, id, &n);
        const char *mark = id == vocabulary_eos(vocabulary) ? "^" : vocabulary_is_special(vocabulary, id) ? "#" : "";
        used += (size_t)snprintf(all + used, sizeof all - used, "%s%s", mark, *mark == '^' ? "" : text);
    }
    assert_string_equal(all, expected);
    assert_int_equal(skipped, expected_skipped);
    assert_int_equal(dataset.document_count, corpus->count);
    for (size_t i = 0; i <= corpus->count; i++)
        assert_int_equal(tokens_get(&dataset.tokens, dataset.starts[i]), vocabulary_eos(vocabulary));
    assert_int_equal(dataset.starts[0], 0);
    assert_int_equal(dataset.starts[corpus->count], dataset.token_count - 1);
    dataset_close(&dataset);
}

/* ---- vocabulary ---- */

static void test_vocabulary_build_counts_documents_and_labels(void **state)
{
    (void)state;
    struct corpus corpus = load_as(CORPUS_CSV, "x,ab\ny,b\nx,bc\n", false);
    struct vocabulary *vocabulary = build(&corpus, TOKEN_LEVEL_CHAR);
    assert_int_equal(vocabulary_size(vocabulary), 6); /* <eos> b a c x y */
    assert_int_equal(vocabulary_find_label(vocabulary, "x"), 4);
    assert_int_equal(vocabulary_find_label(vocabulary, "y"), 5);
    vocabulary_free(vocabulary);
    corpus_close(&corpus);
}

static void test_vocabulary_build_refuses_a_single_character(void **state)
{
    (void)state;
    struct corpus corpus = load_as(CORPUS_LINES, "aa\naaaa\n", false);
    struct error err = {0};
    struct vocabulary_options options = {.level = TOKEN_LEVEL_CHAR};
    assert_null(vocabulary_build(&corpus, &options, &err));
    assert_int_equal(err.code, ERROR_INVALID);
    assert_string_equal(err.message, "the text has one token, repeated: at least 2 different characters are needed");
    corpus_close(&corpus);
}

/* ---- encoding ---- */

static void test_dataset_puts_eos_around_documents(void **state)
{
    (void)state;
    struct corpus corpus = load_as(CORPUS_LINES, "ab\nb\né\n", false);
    struct vocabulary *vocabulary = build(&corpus, TOKEN_LEVEL_CHAR);
    assert_encodes(&corpus, vocabulary, "^ab^b^é^", 0);
    vocabulary_free(vocabulary);
    corpus_close(&corpus);
}

static void test_dataset_one_stream_is_one_document(void **state)
{
    (void)state;
    struct corpus corpus = load_as(CORPUS_TEXT, "ab\nb\n", false);
    struct vocabulary *vocabulary = build(&corpus, TOKEN_LEVEL_CHAR);
    assert_encodes(&corpus, vocabulary, "^ab\nb\n^", 0);
    struct dataset dataset;
    assert_true(dataset_encode(&dataset, &corpus, vocabulary, NULL, NULL, NULL));
    assert_true(dataset.one_stream);
    assert_int_equal(dataset.characters, 5);
    dataset_close(&dataset);
    vocabulary_free(vocabulary);
    corpus_close(&corpus);
}

static void test_dataset_encodes_words_and_bytes(void **state)
{
    (void)state;
    struct corpus corpus = load_as(CORPUS_LINES, "one two\ntwo, one!\n", false);
    struct vocabulary *vocabulary = build(&corpus, TOKEN_LEVEL_WORD);
    assert_encodes(&corpus, vocabulary, "^onetwo^twoone^", 0);
    vocabulary_free(vocabulary);
    corpus_close(&corpus);
    corpus = load_as(CORPUS_LINES, "a\xff\n\xff\xfe\n", true);
    vocabulary = build(&corpus, TOKEN_LEVEL_BYTE);
    assert_encodes(&corpus, vocabulary, "^a\xff^\xff\xfe^", 0);
    vocabulary_free(vocabulary);
    corpus_close(&corpus);
}

static void test_dataset_labels_follow_eos_except_every_tenth(void **state)
{
    (void)state;
    struct corpus corpus = load_as(CORPUS_CSV, "s,a\nt,b\n,a\ns,a\ns,a\ns,a\ns,a\ns,a\ns,a\ns,b\ns,a\n", false);
    struct vocabulary *vocabulary = build(&corpus, TOKEN_LEVEL_CHAR);
    assert_encodes(&corpus, vocabulary, "^#sa^#tb^a^#sa^#sa^#sa^#sa^#sa^#sa^b^#sa^", 0);
    vocabulary_free(vocabulary);
    corpus_close(&corpus);
}

static void test_dataset_counts_what_the_vocabulary_lacks(void **state)
{
    (void)state;
    struct corpus corpus = load_as(CORPUS_CSV, "s,abé\n", false), other = load_as(CORPUS_CSV, "s,aéx中\nu,yb\n", false);
    struct vocabulary *vocabulary = build(&corpus, TOKEN_LEVEL_CHAR);
    assert_encodes(&other, vocabulary, "^#saé^b^", 4); /* x, 中, y and the label u */
    struct dataset dataset;
    assert_true(dataset_encode(&dataset, &other, vocabulary, NULL, NULL, NULL));
    assert_int_equal(dataset.characters, 3);
    dataset_close(&dataset);
    vocabulary_free(vocabulary);
    corpus_close(&other);
    corpus_close(&corpus);
}

static void test_dataset_byte_vocabulary_counts_characters_of_utf8(void **state)
{
    (void)state;
    struct corpus corpus = load_as(CORPUS_LINES, "é中\n", false);
    struct vocabulary *vocabulary = build(&corpus, TOKEN_LEVEL_BYTE);
    struct dataset dataset;
    assert_true(dataset_encode(&dataset, &corpus, vocabulary, NULL, NULL, NULL));
    assert_int_equal(dataset.token_count, 7);
    assert_int_equal(dataset.characters, 2);
    dataset_close(&dataset);
    vocabulary_free(vocabulary);
    corpus_close(&corpus);
}

static void test_dataset_refuses_text_that_is_not_utf8(void **state)
{
    (void)state;
    struct corpus corpus = load_as(CORPUS_LINES, "ab\na\xff\n", true), good = load_as(CORPUS_LINES, "ab\n", false);
    struct vocabulary *vocabulary = build(&good, TOKEN_LEVEL_CHAR);
    struct dataset dataset;
    struct error err = {0};
    assert_false(dataset_encode(&dataset, &corpus, vocabulary, NULL, NULL, &err));
    assert_string_equal(err.message, "document 2: invalid UTF-8 at byte offset 1");
    dataset_close(&dataset);
    vocabulary_free(vocabulary);
    corpus_close(&good);
    corpus_close(&corpus);
}

static void test_dataset_without_eos_is_the_documents_alone(void **state)
{
    (void)state;
    static const char json[] =
        "{\"level\":\"char\",\"tokens\":[\"\\u0000\",\"a\",\"b\"],\"eos\":null,\"pad\":0,\"unknown\":null}";
    struct vocabulary *vocabulary = vocabulary_from_json(json, sizeof json - 1, "v", NULL);
    struct corpus corpus = load_as(CORPUS_LINES, "ab\nb\n", false);
    struct dataset dataset;
    static const uint8_t tokens[] = {1, 2, 2};
    static const size_t starts[] = {0, 2, 3};
    assert_non_null(vocabulary);
    assert_true(dataset_encode(&dataset, &corpus, vocabulary, NULL, NULL, NULL));
    assert_true(dataset.lacks_eos);
    assert_int_equal(dataset.pad, 0);
    assert_int_equal(dataset.token_count, 3);
    assert_memory_equal(dataset.tokens.data, tokens, sizeof tokens);
    assert_memory_equal(dataset.starts, starts, sizeof starts);
    struct streams streams;
    struct error err = {0};
    assert_false(streams_open(&streams, &dataset, 1, 1, 0, &err));
    assert_non_null(strstr(err.message, "the vocabulary has no <eos>"));
    streams_close(&streams);
    dataset_close(&dataset);
    corpus_close(&corpus);
    vocabulary_free(vocabulary);
}

static void test_dataset_knows_whether_eos_starts_texts(void **state)
{
    (void)state;
    static const char json[] = "{\"level\":\"char\",\"tokens\":[\"<eos>\",\"a\",\"b\"],\"eos\":0,\"eos_starts\":false,"
                               "\"pad\":null,\"unknown\":null}";
    struct vocabulary *vocabulary = vocabulary_from_json(json, sizeof json - 1, "v", NULL);
    struct corpus corpus = load_as(CORPUS_LINES, "ab\nb\n", false);
    static const uint8_t tokens[] = {0, 1, 2, 0, 2, 0};
    assert_non_null(vocabulary);
    for (int starts = 0; starts < 2; starts++) {
        struct dataset dataset;
        if (starts) vocabulary_let_eos_start(vocabulary);
        assert_true(dataset_encode(&dataset, &corpus, vocabulary, NULL, NULL, NULL));
        assert_int_equal(dataset.eos_only_ends, !starts);
        assert_false(dataset.lacks_eos);
        assert_int_equal(dataset.token_count, sizeof tokens);
        assert_memory_equal(dataset.tokens.data, tokens, sizeof tokens);
        dataset_close(&dataset);
    }
    corpus_close(&corpus);
    vocabulary_free(vocabulary);
}

/* ---- splitting ---- */

static void test_split_of_a_stream_takes_its_end(void **state)
{
    (void)state;
    struct corpus corpus = load_as(CORPUS_TEXT, "aé中d😀fghij", false), train, validation;
    assert_int_equal(corpus.characters, 10);
    for (size_t tenths = 1; tenths <= 9; tenths++) {
        assert_true(corpus_split(&corpus, (double)tenths / 10, 1, &train, &validation, NULL));
        assert_int_equal(train.count, 1);
        assert_int_equal(validation.count, 1);
        assert_true(train.one_stream && validation.one_stream);
        assert_true(train.characters + validation.characters == 10);
        assert_in_range(validation.characters, tenths, tenths + 1); /* 1 - 0.9 is not quite 0.1 */
        assert_int_equal(train.bytes + validation.bytes, corpus.bytes);
        assert_ptr_equal(train.documents[0].text, corpus.documents[0].text);
        assert_ptr_equal(validation.documents[0].text, corpus.documents[0].text + train.bytes);
        assert_int_not_equal(*validation.documents[0].text & 0xC0, 0x80); /* not inside a character */
        corpus_close(&train);
        corpus_close(&validation);
    }
    corpus_close(&corpus);
}

static void test_split_of_bytes_cuts_anywhere(void **state)
{
    (void)state;
    struct corpus corpus = load_as(CORPUS_TEXT, "\x80\x80\x80\x80", true), train, validation;
    assert_true(corpus_split(&corpus, 0.5, 1, &train, &validation, NULL));
    assert_int_equal(train.bytes, 2);
    assert_int_equal(validation.bytes, 2);
    assert_int_equal(validation.characters, 2);
    corpus_close(&train);
    corpus_close(&validation);
    corpus_close(&corpus);
}

static void test_split_keeps_one_on_each_side(void **state)
{
    (void)state;
    static const double fractions[] = {1e-9, 0.1, 0.5, 0.9, 0.999999};
    for (size_t i = 0; i < sizeof fractions / sizeof *fractions; i++) {
        struct corpus stream = load_as(CORPUS_TEXT, "ab", false), lines = load_as(CORPUS_LINES, "a\nb\n", false);
        struct corpus train, validation;
        assert_true(corpus_split(&stream, fractions[i], 1, &train, &validation, NULL));
        assert_int_equal(train.documents[0].n, 1);
        assert_int_equal(validation.documents[0].n, 1);
        corpus_close(&train);
        corpus_close(&validation);
        assert_true(corpus_split(&lines, fractions[i], 1, &train, &validation, NULL));
        assert_int_equal(train.count, 1);
        assert_int_equal(validation.count, 1);
        corpus_close(&train);
        corpus_close(&validation);
        corpus_close(&stream);
        corpus_close(&lines);
    }
}

/* Splits a text and joins both parts: the same text. The cut is within a long text, and the search for it goes
 * backwards. */
static void test_split_of_a_long_stream_counts_from_its_end(void **state)
{
    (void)state;
    enum { LENGTH = 3 * 1000 * 1000 };
    char *text = malloc(LENGTH + 1);
    for (size_t i = 0; i < LENGTH; i += 3) memcpy(text + i, i % 2 ? "abc" : "\u4e2d", 3);
    text[LENGTH] = '\0';
    struct corpus corpus = load_as(CORPUS_TEXT, text, false), train, validation;
    assert_int_equal(corpus.characters, LENGTH / 3 / 2 * 4);
    assert_true(corpus_split(&corpus, 0.3, 1, &train, &validation, NULL));
    assert_int_equal(train.characters, utf8_count(train.documents[0].text, train.documents[0].n));
    assert_int_equal(validation.characters, utf8_count(validation.documents[0].text, validation.documents[0].n));
    assert_int_equal(train.characters, (size_t)((double)corpus.characters * (1.0 - 0.3)));
    corpus_close(&train);
    corpus_close(&validation);
    corpus_close(&corpus);
    free(text);
}

/* After a stop, each step of reading a corpus ends early, for any result of the step before. */
static void test_reading_a_corpus_can_be_stopped_at_each_step(void **state)
{
    (void)state;
    static const char *const texts[] = {"some text", "one\ntwo\nthree\n", "x,ab\ny,b\nx,bc\n"};
    static const enum corpus_format formats[] = {CORPUS_TEXT, CORPUS_LINES, CORPUS_CSV};
    for (size_t i = 0; i < 3; i++) {
        atomic_bool stop = true;
        struct corpus corpus, train, validation;
        struct dataset dataset;
        struct error err = {0};
        const struct corpus_options options = {.format = formats[i], .columns = i == 2 ? "2" : NULL, .stop = &stop};
        const struct vocabulary_options characters = {.level = TOKEN_LEVEL_CHAR};
        assert_false(corpus_load_memory(&corpus, "test", texts[i], strlen(texts[i]), &options, &err));
        assert_int_equal(err.code, ERROR_CANCELLED);
        corpus_close(&corpus);
        error_clear(&err);

        stop = false;
        assert_true(corpus_load_memory(&corpus, "test", texts[i], strlen(texts[i]), &options, &err));
        assert_true(corpus_split(&corpus, 0.3, 1, &train, &validation, &err));
        struct vocabulary *vocabulary = vocabulary_build(&train, &characters, &err);
        assert_non_null(vocabulary);
        stop = true;
        assert_null(vocabulary_build(&train, &characters, &err));
        assert_int_equal(err.code, ERROR_CANCELLED);
        error_clear(&err);
        assert_false(dataset_encode(&dataset, &train, vocabulary, NULL, NULL, &err));
        assert_int_equal(err.code, ERROR_CANCELLED);
        dataset_close(&dataset);
        corpus_close(&train);
        corpus_close(&validation);
        error_clear(&err);
        assert_int_equal(corpus_split(&corpus, 0.3, 1, &train, &validation, &err), formats[i] == CORPUS_TEXT);
        assert_int_equal(err.code, formats[i] == CORPUS_TEXT ? ERROR_NONE : ERROR_CANCELLED);
        corpus_close(&train);
        corpus_close(&validation);
        vocabulary_free(vocabulary);
        corpus_close(&corpus);
    }
}

#define NUMBERED 1000

/* 1000 lines "0" to "999". */
static struct corpus numbered_lines(char *text, size_t size)
{
    size_t used = 0;
    for (int i = 0; i < NUMBERED; i++) used += (size_t)snprintf(text + used, size - used, "%d\n", i);
    return load_as(CORPUS_LINES, text, false);
}

/* Marks which of the numbered lines a corpus has; they must come in order, and each once. */
static void mark(const struct corpus *corpus, char which, char marks[NUMBERED])
{
    long last = -1;
    for (size_t i = 0; i < corpus->count; i++) {
        long number = strtol(corpus->documents[i].text, NULL, 10);
        assert_true(number > last);
        last = number;
        assert_int_equal(marks[number], 0);
        marks[number] = which;
    }
}

static void test_split_of_documents_is_a_choice_by_seed(void **state)
{
    (void)state;
    static char text[8192];
    struct corpus corpus = numbered_lines(text, sizeof text), train, validation;
    char marks[4][NUMBERED] = {{0}};
    static const uint64_t seeds[] = {1, 1, 2, 3};
    for (size_t i = 0; i < 4; i++) {
        assert_true(corpus_split(&corpus, 0.1, seeds[i], &train, &validation, NULL));
        assert_int_equal(train.count, 900);
        assert_int_equal(validation.count, 100);
        mark(&train, 't', marks[i]);
        mark(&validation, 'v', marks[i]);
        assert_int_equal(train.bytes + validation.bytes, corpus.bytes);
        assert_int_equal(train.characters + validation.characters, corpus.characters);
        corpus_close(&train);
        corpus_close(&validation);
    }
    assert_memory_equal(marks[0], marks[1], NUMBERED);
    assert_memory_not_equal(marks[0], marks[2], NUMBERED);
    assert_memory_not_equal(marks[2], marks[3], NUMBERED);
    size_t early = 0;
    for (size_t i = 0; i < NUMBERED / 2; i++) early += marks[0][i] == 'v';
    assert_in_range(early, 30, 70); /* from everywhere, not from one end */
    corpus_close(&corpus);
}

static void test_split_of_nothing_gives_an_empty_validation(void **state)
{
    (void)state;
    struct corpus corpus = load_as(CORPUS_LINES, "one\n", false), train, validation;
    assert_true(corpus_split(&corpus, 0, 1, &train, &validation, NULL));
    assert_int_equal(train.count, 1);
    assert_int_equal(train.characters, 3);
    assert_int_equal(validation.count, 0);
    struct vocabulary *vocabulary = build(&train, TOKEN_LEVEL_CHAR);
    struct dataset dataset;
    assert_true(dataset_encode(&dataset, &validation, vocabulary, NULL, NULL, NULL));
    assert_int_equal(dataset.token_count, 1);
    dataset_close(&dataset);
    vocabulary_free(vocabulary);
    corpus_close(&train);
    corpus_close(&validation);
    corpus_close(&corpus);
}

static void test_split_refuses_what_cannot_be_split(void **state)
{
    (void)state;
    struct corpus line = load_as(CORPUS_LINES, "one\n", false), character = load_as(CORPUS_TEXT, "中", false);
    struct corpus train, validation;
    static const double fractions[] = {-0.1, 1.0, 2.0};
    struct error err = {0};
    assert_false(corpus_split(&line, 0.1, 1, &train, &validation, &err));
    assert_string_equal(
        err.message, "a corpus of one document cannot be split: give validation data, or a validation fraction of 0");
    corpus_close(&train);
    corpus_close(&validation);
    error_clear(&err);
    assert_false(corpus_split(&character, 0.1, 1, &train, &validation, &err));
    assert_int_equal(err.code, ERROR_INVALID);
    for (size_t i = 0; i < sizeof fractions / sizeof *fractions; i++) {
        error_clear(&err);
        assert_false(corpus_split(&line, fractions[i], 1, &train, &validation, &err));
        assert_int_equal(err.code, ERROR_INVALID);
    }
    error_clear(&err);
    assert_false(corpus_split(&line, (double)NAN, 1, &train, &validation, &err));
    assert_int_equal(err.code, ERROR_INVALID);
    corpus_close(&character);
    corpus_close(&line);
}

/* ---- memory ---- */

static bool load_split_encode(void *context, struct error *err)
{
    const char *text = context;
    struct corpus corpus, train = {0}, validation = {0};
    struct dataset dataset = {0};
    struct vocabulary *vocabulary = NULL;
    struct corpus_options options = {.format = CORPUS_CSV, .csv_header = 0, .columns = "2,3", .label_column = "1"};
    struct vocabulary_options words = {.level = TOKEN_LEVEL_WORD, .lower = true};
    size_t skipped;
    bool ok = corpus_load_memory(&corpus, "test.csv", text, strlen(text), &options, err) &&
              corpus_split(&corpus, 0.5, 1, &train, &validation, err) &&
              (vocabulary = vocabulary_build(&corpus, &words, err)) &&
              dataset_encode(&dataset, &train, vocabulary, NULL, &skipped, err);
    dataset_close(&dataset);
    vocabulary_free(vocabulary);
    corpus_close(&validation);
    corpus_close(&train);
    corpus_close(&corpus);
    return ok;
}

static void test_dataset_survives_every_failing_allocation(void **state)
{
    (void)state;
    char text[4096];
    size_t used = 0;
    for (int i = 0; i < 90; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "l%d,\"W%d \"\"x\"\"\",É%d\n", i % 20, i, i / 2);
    assert_survives_failing_allocations(load_split_encode, text);
}

static void add_times(struct skipped_text *skipped, const char *piece, size_t times)
{
    struct unknown_text item = {0, strlen(piece)};
    struct unknown_list list = {.items = &item};
    for (size_t i = 0; i < times; i++) {
        list.count = 1;
        skipped_text_add(skipped, piece, &list);
        assert_int_equal(list.count, 0);
    }
}

static void test_skipped_text_names_the_most_frequent_kinds_first(void **state)
{
    (void)state;
    struct skipped_text skipped = {0};
    char text[400], small[60], piece[2] = "A";
    skipped_text_print(&skipped, text, sizeof text);
    assert_string_equal(text, "");
    add_times(&skipped, "b", 1);
    add_times(&skipped, "word", 3);
    add_times(&skipped, "\n", 2);
    skipped_text_print(&skipped, text, sizeof text);
    assert_string_equal(text, "\"word\" 3 times, character U+000A 2 times, character 'b' (U+0062) 1 time");
    skipped_text_print(&skipped, small, sizeof small);
    assert_string_equal(small, "\"word\" 3 times, character U+000A 2 times");
    for (; piece[0] < 'A' + 2 * SKIPPED_KINDS; piece[0]++) add_times(&skipped, piece, 4);
    assert_int_equal(skipped.kind_count, SKIPPED_KINDS);
    skipped_text_print(&skipped, text, sizeof text);
    assert_string_equal(text,
                        "character 'A' (U+0041) 4 times, character 'B' (U+0042) 4 times, character 'C' (U+0043) 4 "
                        "times, character 'D' (U+0044) 4 times, character 'E' (U+0045) 4 times");
    assert_int_equal(skipped_text_wanted(&skipped), SKIPPED_LOOKED_AT - 6 - 4 * 2 * SKIPPED_KINDS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_skipped_text_names_the_most_frequent_kinds_first),
        cmocka_unit_test(test_vocabulary_build_counts_documents_and_labels),
        cmocka_unit_test(test_vocabulary_build_refuses_a_single_character),
        cmocka_unit_test(test_dataset_puts_eos_around_documents),
        cmocka_unit_test(test_dataset_one_stream_is_one_document),
        cmocka_unit_test(test_dataset_encodes_words_and_bytes),
        cmocka_unit_test(test_dataset_labels_follow_eos_except_every_tenth),
        cmocka_unit_test(test_dataset_counts_what_the_vocabulary_lacks),
        cmocka_unit_test(test_dataset_byte_vocabulary_counts_characters_of_utf8),
        cmocka_unit_test(test_dataset_refuses_text_that_is_not_utf8),
        cmocka_unit_test(test_dataset_without_eos_is_the_documents_alone),
        cmocka_unit_test(test_dataset_knows_whether_eos_starts_texts),
        cmocka_unit_test(test_split_of_a_stream_takes_its_end),
        cmocka_unit_test(test_split_of_bytes_cuts_anywhere),
        cmocka_unit_test(test_split_of_a_long_stream_counts_from_its_end),
        cmocka_unit_test(test_reading_a_corpus_can_be_stopped_at_each_step),
        cmocka_unit_test(test_split_keeps_one_on_each_side),
        cmocka_unit_test(test_split_of_documents_is_a_choice_by_seed),
        cmocka_unit_test(test_split_of_nothing_gives_an_empty_validation),
        cmocka_unit_test(test_split_refuses_what_cannot_be_split),
        cmocka_unit_test(test_dataset_survives_every_failing_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
