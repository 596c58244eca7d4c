/* model/text/corpus_decode.h: gzip and UTF-16 in pieces of any size; damaged, short and too large files. */
#include "model/text/corpus_decode.h"

#include <stdlib.h>
#include <string.h>

#include "tests/unit/support.h"

#define TEXT "caf\u00e9 \U0001f600\nend\n"

/* Made by Python: gzip.compress(TEXT), its two halves, TEXT in UTF-16, that in gzip, 200,000 times "a", and gzip
 * twice. */
static const char packed[] =
    "\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\x4b\x4e\x4c\x3b\xbc\x52\xe1\xc3\xfc\x19\x0d\x5c\xa9\x79\x29\x5c"
    "\x00\x1f\x3d\x87\x9e\x0f\x00\x00\x00";
static const char packed_in_two[] =
    "\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\x4b\x4e\x4c\x3b\xbc\x52\x01\x00\x04\x25\xff\x52\x06\x00\x00\x00"
    "\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xfb\x30\x7f\x46\x03\x57\x6a\x5e\x0a\x17\x00\xed\xe3\x8d\xa1\x09"
    "\x00\x00\x00";
static const char little[] =
    "\xff\xfe\x63\x00\x61\x00\x66\x00\xe9\x00\x20\x00\x3d\xd8\x00\xde\x0a\x00\x65\x00\x6e\x00\x64\x00\x0a\x00";
static const char big[] =
    "\xfe\xff\x00\x63\x00\x61\x00\x66\x00\xe9\x00\x20\xd8\x3d\xde\x00\x00\x0a\x00\x65\x00\x6e\x00\x64\x00\x0a";
static const char packed_little[] =
    "\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xfb\xff\x2f\x99\x21\x91\x21\x8d\xe1\x25\x83\x02\x83\xed\x0d\x86"
    "\x7b\x5c\x0c\xa9\x0c\x79\x0c\x29\x0c\x5c\x0c\x00\xbd\x26\xbc\xb1\x1a\x00\x00\x00";
static const char bomb[] =
    "\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xed\xc1\x31\x01\x00\x00\x00\xc2\xa0\xac\xeb\x5f\xc2\x0c\xfe\x40"
    "\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
    "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
    "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
    "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
    "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
    "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
    "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
    "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xaf\x01\x9b\x53\x69\xe0\x40\x0d\x03\x00";
static const char packed_twice[] =
    "\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\x93\xef\xe6\x60\x00\x01\x26\x66\x6f\x3f\x1f\xeb\x3d\x41\x0f\x0f"
    "\xff\x91\xe4\x8d\x59\x59\xa9\x19\xc3\x20\x6f\xdb\x3e\x8f\x1f\x28\x05\x00\x5f\xd4\x78\x5f\x23\x00\x00\x00";

struct output {
    char *text;
    size_t n, room;
};

static bool keep(void *context, const char *data, size_t n, struct error *err)
{
    struct output *output = context;
    if (output->n + n > output->room) return error_set(err, ERROR_NO_SPACE, "no room");
    memcpy(output->text + output->n, data, n);
    output->n += n;
    return true;
}

static bool decode(const char *data, size_t n, size_t piece, uint64_t most, struct output *output, struct error *err)
{
    const struct corpus_decoder_options options = {.name = "f", .most = most, .write = keep, .context = output};
    struct corpus_decoder *decoder = corpus_decoder_new(&options, err);
    bool done = decoder != NULL;
    output->n = 0;
    for (size_t at = 0; done && at < n; at += piece)
        done = corpus_decoder_write(decoder, data + at, n - at < piece ? n - at : piece, err);
    done = done && corpus_decoder_end(decoder, err);
    corpus_decoder_free(decoder);
    return done;
}

static void assert_decodes(const char *data, size_t n, const char *expected)
{
    char text[300];
    for (size_t piece = 1; piece <= n + 1; piece++) {
        struct output output = {.text = text, .room = sizeof text};
        struct error err = {0};
        if (!decode(data, n, piece, 100, &output, &err)) fail_msg("%s", err.message);
        assert_int_equal(output.n, strlen(expected));
        assert_memory_equal(text, expected, output.n);
    }
}

static void assert_refused(const char *data, size_t n, enum error_code code, const char *part)
{
    char text[300];
    struct output output = {.text = text, .room = sizeof text};
    struct error err = {0};
    assert_false(decode(data, n, n, sizeof text, &output, &err));
    assert_int_equal(err.code, code);
    if (!strstr(err.message, part)) fail_msg("\"%s\" lacks \"%s\"", err.message, part);
}

static void test_decode_gives_the_text_in_pieces_of_any_size(void **state)
{
    (void)state;
    assert_decodes(packed, sizeof packed - 1, TEXT);
    assert_decodes(packed_in_two, sizeof packed_in_two - 1, TEXT);
    assert_decodes(little, sizeof little - 1, TEXT);
    assert_decodes(big, sizeof big - 1, TEXT);
    assert_decodes(packed_little, sizeof packed_little - 1, TEXT);
    assert_decodes(TEXT, strlen(TEXT), TEXT);
    assert_decodes("", 0, "");
    assert_decodes("x", 1, "x");
    assert_decodes("\xff\xfe", 2, "");
}

static void test_decode_refuses_what_ends_too_early(void **state)
{
    (void)state;
    for (size_t n = 4; n < sizeof packed - 1; n++)
        assert_refused(packed, n, ERROR_INVALID, "f: the gzip file ends too early");
    assert_refused(little, sizeof little - 2, ERROR_INVALID, "ends within a character");
    assert_refused("\xff\xfe\x3d\xd8", 4, ERROR_INVALID, "ends within a character");
}

static void test_decode_refuses_what_is_damaged(void **state)
{
    (void)state;
    char damaged[sizeof packed + 3];
    memcpy(damaged, packed, sizeof packed);
    damaged[sizeof packed - 9] ^= 1; /* of the checksum */
    assert_refused(damaged, sizeof packed - 1, ERROR_INVALID, "f: the gzip file is damaged: incorrect data check");
    memcpy(damaged, packed, sizeof packed);
    memcpy(damaged + sizeof packed - 1, "more", 4);
    assert_refused(damaged, sizeof packed + 3, ERROR_INVALID, "f: the gzip file is damaged");
    assert_refused("\xff\xfe\x00\xdc\x00\x00", 6, ERROR_INVALID, "f: not UTF-16: half of a pair");
    assert_refused("\xfe\xff\xd8\x3d\x00\x41", 6, ERROR_INVALID, "f: not UTF-16: half of a pair");
    assert_refused("\xff\xfe\x00\x00", 4, ERROR_INVALID, "f: the file is UTF-32");
    assert_refused(packed_twice, sizeof packed_twice - 1, ERROR_INVALID, "packed twice");
}

static void test_decode_stops_at_the_limit(void **state)
{
    (void)state;
    const size_t size = 200000;
    struct output output = {.text = malloc(size), .room = size};
    struct error err = {0};
    assert_true(decode(bomb, sizeof bomb - 1, 7, size, &output, &err));
    assert_int_equal(output.n, size);
    assert_false(decode(bomb, sizeof bomb - 1, 7, size - 1, &output, &err));
    assert_int_equal(err.code, ERROR_TOO_LARGE);
    assert_true(output.n < size);
    free(output.text);
    assert_refused(bomb, sizeof bomb - 1, ERROR_TOO_LARGE, "more than 300 bytes");
}

static void test_decode_passes_a_failure_on(void **state)
{
    (void)state;
    struct output output = {.room = 0};
    struct error err = {0};
    assert_false(decode(packed, sizeof packed - 1, 5, 100, &output, &err));
    assert_int_equal(err.code, ERROR_NO_SPACE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode_gives_the_text_in_pieces_of_any_size),
        cmocka_unit_test(test_decode_refuses_what_ends_too_early),
        cmocka_unit_test(test_decode_refuses_what_is_damaged),
        cmocka_unit_test(test_decode_stops_at_the_limit),
        cmocka_unit_test(test_decode_passes_a_failure_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
