#include "model/interop/pickle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/support.h"

#define READ(arena, literal, err)                                                                                      \
    pickle_read(arena, &(struct pickle_source){"a.pt", literal, sizeof(literal) - 1}, NULL, NULL, err)

static void assert_text(const struct pickle_value *value, const char *text)
{
    assert_true(pickle_is(value, PICKLE_TEXT, text));
}

static void assert_integer(const struct pickle_value *value, int64_t integer)
{
    assert_int_equal(value->kind, PICKLE_INTEGER);
    assert_int_equal(value->integer, integer);
}

static void test_numbers(void **state)
{
    (void)state;
    struct arena arena = {0};
    const struct pickle_value *list = READ(&arena,
                                           "(lK\xFF"
                                           "aM\xFE\xFF"
                                           "aJ\xFE\xFF\xFF\xFF"
                                           "aI-7\naL-8L\na\x8A\x02\x00\x80"
                                           "a\x8A\x00"
                                           "aF-1.5\na"
                                           "G\x3F\xF8\x00\x00\x00\x00\x00\x00"
                                           "aI01\na\x89"
                                           "aNa\x8B\x01\x00\x00\x00\x05"
                                           "a.",
                                           NULL);
    assert_non_null(list);
    assert_int_equal(list->kind, PICKLE_LIST);
    assert_int_equal(list->items.count, 13);
    static const int64_t integers[] = {255, 65534, -2, -7, -8, -32768, 0};
    for (size_t i = 0; i < 7; i++) assert_integer(list->items.values[i], integers[i]);
    assert_true(list->items.values[7]->kind == PICKLE_REAL && list->items.values[7]->real == -1.5);
    assert_true(list->items.values[8]->kind == PICKLE_REAL && list->items.values[8]->real == 1.5);
    assert_true(list->items.values[9]->kind == PICKLE_BOOL && list->items.values[9]->integer == 1);
    assert_true(list->items.values[10]->kind == PICKLE_BOOL && list->items.values[10]->integer == 0);
    assert_int_equal(list->items.values[11]->kind, PICKLE_NONE);
    assert_integer(list->items.values[12], 5);
    arena_free(&arena);
}

static void test_integers_beyond_64_bits_keep_their_bytes(void **state)
{
    (void)state;
    struct arena arena = {0};
    const struct pickle_value *value = READ(&arena, "\x8A\x09\x01\x02\x03\x04\x05\x06\x07\x08\x09.", NULL);
    assert_int_equal(value->kind, PICKLE_BIG);
    assert_int_equal(value->length, 9);
    assert_true(pickle_is(READ(&arena, "L119547037146038801333356L\n.", NULL), PICKLE_BIG, "119547037146038801333356"));
    arena_free(&arena);
}

static void test_texts(void **state)
{
    (void)state;
    struct arena arena = {0};
    assert_text(READ(&arena, "S'a\\n\\x41\\'\\\\'\n.", NULL), "a\nA'\\");
    assert_text(READ(&arena, "V\\u20ac\xE9\\U0001F600\n.", NULL), "\xE2\x82\xAC\xC3\xA9\xF0\x9F\x98\x80");
    assert_text(READ(&arena, "X\x02\x00\x00\x00hi.", NULL), "hi");
    assert_text(READ(&arena, "U\x02hi.", NULL), "hi");
    assert_text(READ(&arena, "\x8C\x02hi.", NULL), "hi");
    assert_text(READ(&arena, "\x8D\x02\x00\x00\x00\x00\x00\x00\x00hi.", NULL), "hi");
    assert_true(pickle_is(READ(&arena, "C\x02hi.", NULL), PICKLE_BYTES, "hi"));
    assert_text(READ(&arena, "V\n.", NULL), ""); /* the first allocation needs no memory */
    arena_free(&arena);
}

static void test_containers(void **state)
{
    (void)state;
    struct arena arena = {0};
    const struct pickle_value *dict = READ(&arena,
                                           "}(U\x01"
                                           "a]U\x01"
                                           "bK\x01K\x02\x86us.",
                                           NULL);
    assert_null(dict); /* above the mark SETITEM has nothing to take */
    dict = READ(&arena,
                "}(U\x01"
                "a](K\x05K\x06"
                "eU\x01"
                "bK\x01K\x02\x86uU\x01"
                "aN0N0U\x01"
                "bNs.",
                NULL);
    assert_null(dict);
    dict = READ(&arena,
                "}(U\x01"
                "a](K\x05K\x06"
                "eU\x01"
                "bK\x01K\x02\x86uU\x01"
                "bNs.",
                NULL);
    assert_non_null(dict);
    assert_int_equal(dict->entries.count, 6);
    assert_int_equal(pickle_get(dict, "a")->kind, PICKLE_LIST);
    assert_integer(pickle_get(dict, "a")->items.values[1], 6);
    assert_int_equal(pickle_get(dict, "b")->kind, PICKLE_NONE); /* the last entry of a key counts */
    assert_null(pickle_get(dict, "c"));
    arena_free(&arena);
}

static void test_calls_are_described_and_not_made(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct pickle_list objects;
    static const char pickle[] = "cos\nsystem\n(S'touch executed'\ntR}S'x'\nI1\nsb.";
    const struct pickle_value *value =
        pickle_read(&arena, &(struct pickle_source){"a.pt", pickle, sizeof pickle - 1}, NULL, &objects, NULL);
    assert_non_null(value);
    assert_int_equal(value->kind, PICKLE_OBJECT);
    assert_true(pickle_is(value->callable, PICKLE_GLOBAL, "os.system"));
    assert_text(value->arguments->items.values[0], "touch executed");
    assert_integer(pickle_get(value->state, "x"), 1);
    assert_int_equal(objects.count, 1);
    assert_ptr_equal(objects.values[0], value);
    assert_null(fopen("executed", "r"));
    arena_free(&arena);
}

static void test_objects_of_every_protocol(void **state)
{
    (void)state;
    struct arena arena = {0};
    static const char *const pickles[] = {"(im\nC\n.", "(cm\nC\no.", "cm\nC\n)\x81.",
                                          ("\x8C\x01m\x8C\x01"
                                           "C\x93)}\x92."),
                                          "cm\nC\n)R."};
    for (size_t i = 0; i < sizeof pickles / sizeof *pickles; i++) {
        const struct pickle_value *value =
            pickle_read(&arena, &(struct pickle_source){"a.pt", pickles[i], strlen(pickles[i])}, NULL, NULL, NULL);
        assert_non_null(value);
        assert_int_equal(value->kind, PICKLE_OBJECT);
        assert_true(pickle_is(value->callable, PICKLE_GLOBAL, "m.C"));
    }
    arena_free(&arena);
}

static void test_the_memo_can_make_a_list_that_contains_itself(void **state)
{
    (void)state;
    struct arena arena = {0};
    const struct pickle_value *list = READ(&arena,
                                           "]q\x00h\x00"
                                           "a.",
                                           NULL);
    assert_ptr_equal(list->items.values[0], list);
    list = READ(&arena, "(lp5\ng5\na.", NULL);
    assert_ptr_equal(list->items.values[0], list);
    list = READ(&arena,
                "\x80\x04]\x94j\x00\x00\x00\x00"
                "a.",
                NULL);
    assert_ptr_equal(list->items.values[0], list);
    arena_free(&arena);
}

static void test_pickles_may_follow_each_other(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct error err = {0};
    size_t used;
    assert_non_null(pickle_read(&arena, &(struct pickle_source){"a.pt", "N.N.", 4}, &used, NULL, &err));
    assert_int_equal(used, 2);
    assert_null(pickle_read(&arena, &(struct pickle_source){"a.pt", "N.N.", 4}, NULL, NULL, &err));
    assert_non_null(strstr(err.message, "the data go on"));
    arena_free(&arena);
}

static void assert_refused(const char *pickle, size_t n, const char *part)
{
    struct arena arena = {0};
    struct error err = {0};
    assert_null(pickle_read(&arena, &(struct pickle_source){"a.pt", pickle, n}, NULL, NULL, &err));
    if (!strstr(err.message, part)) fail_msg("\"%s\" is not in \"%s\"", part, err.message);
    arena_free(&arena);
}
#define REFUSED(literal, part) assert_refused(literal, sizeof(literal) - 1, part)

static void test_wrong_programs_are_refused_with_the_byte(void **state)
{
    (void)state;
    REFUSED("", "byte 0: the data end here");
    REFUSED("X\xFF\xFF\xFF\x7F"
            "a.",
            "byte 7: the data end here");
    REFUSED("NN\x82\x01.", "byte 2: 0x82 is not an opcode");
    REFUSED("\x80\x06N.", "byte 0: a protocol above 5");
    REFUSED("NR.", "byte 1: takes more from the stack than is there");
    REFUSED("N(a.", "byte 2: takes more");
    REFUSED("N(R.", "byte 2: takes more");
    REFUSED(".", "takes more");
    REFUSED("(.", "takes more");
    REFUSED("t.", "byte 0: needs a mark");
    REFUSED("Nh\x01.", "byte 1: refers to a value that there is not");
    REFUSED("q\x01N.", "byte 0: takes more");
    REFUSED("Ng-1\n.", "byte 1: not the number of a value");
    REFUSED("NNa.", "byte 2: adds to what is not a container");
    REFUSED("}(Nu.", "byte 3: a key without a value");
    REFUSED("(Nd.", "byte 2: a key without a value");
    REFUSED("cm\nC\nNR.", "byte 6: arguments that are not a tuple");
    REFUSED("]Nb.", "byte 2: a state for what is not an object");
    REFUSED("NN\x93.", "byte 2: a class whose name is not a text");
    REFUSED("(o.", "byte 1: an object without a class");
    REFUSED("S'a\n.", "byte 0: a string without its quotes");
    REFUSED("V\\ud800\n.", "byte 0: an escape that is no character");
    REFUSED("I1x\n.", "byte 0: not an integer");
    REFUSED("F\n.", "byte 0: not a number");
    REFUSED("Nr\xFF\xFF\xFF\xFF.", "byte 1: more values or memory than are read");
}

/* Four million values in as many bytes are too many. The limit comes before much memory is taken. */
static void test_values_are_counted(void **state)
{
    (void)state;
    const size_t n = PICKLE_MAX_VALUES + 2;
    char *pickle = malloc(n);
    memset(pickle, ']', n);
    assert_refused(pickle, n, "more values or memory than are read");
    memset(pickle, '(', n);
    assert_refused(pickle, n, "more values or memory than are read");
    free(pickle);
}

static const char whole[] = "\x80\x02}q\x00(X\x01\x00\x00\x00"
                            "acm\nC\n(K\x01]q\x01(Nh\x01"
                            "etR}X\x01\x00\x00\x00xG"
                            "\x3F\xF8\x00\x00\x00\x00\x00\x00sbX\x01\x00\x00\x00"
                            "b(S's'\nI5\ntu.";

static void test_every_prefix_is_refused(void **state)
{
    (void)state;
    for (size_t n = 0; n < sizeof whole - 1; n++) {
        char *exact = malloc(n + 1);
        memcpy(exact, whole, n);
        struct arena arena = {0};
        struct error err = {0};
        assert_null(pickle_read(&arena, &(struct pickle_source){"a.pt", exact, n}, NULL, NULL, &err));
        char part[64];
        snprintf(part, sizeof part, "byte %zu: the data end here", n);
        assert_non_null(strstr(err.message, part));
        arena_free(&arena);
        free(exact);
    }
}

static bool read_whole(void *context, struct error *err)
{
    (void)context;
    struct arena arena = {0};
    const bool ok = READ(&arena, whole, err) != NULL;
    arena_free(&arena);
    return ok;
}

static void test_failing_allocations(void **state)
{
    (void)state;
    assert_survives_failing_allocations(read_whole, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_integers_beyond_64_bits_keep_their_bytes),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_containers),
        cmocka_unit_test(test_calls_are_described_and_not_made),
        cmocka_unit_test(test_objects_of_every_protocol),
        cmocka_unit_test(test_the_memo_can_make_a_list_that_contains_itself),
        cmocka_unit_test(test_pickles_may_follow_each_other),
        cmocka_unit_test(test_wrong_programs_are_refused_with_the_byte),
        cmocka_unit_test(test_values_are_counted),
        cmocka_unit_test(test_every_prefix_is_refused),
        cmocka_unit_test(test_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
