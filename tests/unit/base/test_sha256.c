#include "base/sha256.h"

#include <string.h>

#include "tests/unit/support.h"

/* The examples of FIPS 180-4. */
static void test_sha256_matches_the_standard(void **state)
{
    (void)state;
    char text[SHA256_TEXT_SIZE];
    sha256_text("abc", 3, text);
    assert_string_equal(text, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    sha256_text("", 0, text);
    assert_string_equal(text, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    const char *two_blocks = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    sha256_text(two_blocks, 56, text);
    assert_string_equal(text, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

static void test_sha256_stream_is_the_digest_of_the_whole(void **state)
{
    (void)state;
    char whole[SHA256_TEXT_SIZE], pieces[SHA256_TEXT_SIZE], data[1000];
    struct sha256_stream *stream = sha256_stream_new(NULL);
    assert_non_null(stream);
    for (size_t i = 0; i < sizeof data; i++) data[i] = (char)(i * i);
    for (int round = 0; round < 2; round++) { /* the second on what the first has left */
        for (size_t at = 0, n = 1; at < sizeof data; at += n, n = n * 2 < sizeof data - at ? n * 2 : sizeof data - at)
            sha256_stream_add(stream, data + at, n);
        sha256_stream_end(stream, pieces);
        sha256_text(data, sizeof data, whole);
        assert_string_equal(pieces, whole);
    }
    sha256_stream_free(stream);
    sha256_stream_free(NULL);
    struct error err = {0};
    fail_allocation(1);
    assert_null(sha256_stream_new(&err));
    fail_allocation_done();
    assert_int_equal(err.code, ERROR_NO_MEMORY);
}

static void test_sha256_equal_looks_at_every_byte(void **state)
{
    (void)state;
    unsigned char a[SHA256_SIZE], b[SHA256_SIZE];
    sha256_bytes("abc", 3, a);
    sha256_bytes("abc", 3, b);
    assert_int_equal(a[0], 0xba);
    assert_true(sha256_equal(a, b));
    for (size_t i = 0; i < SHA256_SIZE; i++) {
        b[i] ^= 0x10;
        assert_false(sha256_equal(a, b));
        b[i] ^= 0x10;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sha256_matches_the_standard),
        cmocka_unit_test(test_sha256_stream_is_the_digest_of_the_whole),
        cmocka_unit_test(test_sha256_equal_looks_at_every_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
