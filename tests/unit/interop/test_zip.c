#include "model/interop/zip.h"

#include <stdlib.h>
#include <string.h>

#include "tests/unit/interop/zip_support.h"
#include "tests/unit/support.h"

static unsigned char archive[ZIP_SUPPORT_MAX];

static struct interop_zip *open_made(const struct made_entry *entries, size_t count, struct error *err)
{
    return interop_zip_open("a.zip", archive, make_zip(entries, count, archive), err);
}

static void assert_refused(const struct made_entry *entries, size_t count, const char *part)
{
    struct error err = {0};
    assert_null(open_made(entries, count, &err));
    assert_int_equal(err.code, ERROR_CORRUPT);
    assert_memory_equal(err.message, "a.zip: ", 7);
    assert_non_null(strstr(err.message, part));
}

static void test_entries_are_read_by_exact_name(void **state)
{
    (void)state;
    const struct made_entry entries[] = {{.name = "m/data.pkl", .data = "abc", .size = 3},
                                         {.name = "m/data/0", .data = "", .size = 0}};
    struct error err = {0};
    struct interop_zip *zip = open_made(entries, 2, &err);
    assert_non_null(zip);
    assert_int_equal(interop_zip_count(zip), 2);
    assert_string_equal(interop_zip_name(zip, 1), "m/data/0");
    assert_true(interop_zip_has(zip, "m/data.pkl"));
    assert_false(interop_zip_has(zip, "M/data.pkl"));
    char *data;
    size_t size;
    assert_true(interop_zip_read(zip, "m/data.pkl", 3, &data, &size, &err));
    assert_int_equal(size, 3);
    assert_string_equal(data, "abc");
    free(data);
    assert_true(interop_zip_read(zip, "m/data/0", 3, &data, &size, &err));
    assert_int_equal(size, 0);
    free(data);
    assert_false(interop_zip_read(zip, "data.pkl", 3, &data, &size, &err));
    assert_int_equal(err.code, ERROR_NOT_FOUND);
    interop_zip_close(zip);
}

/* "hello hello hello hello\n", deflated. */
static const unsigned char deflated[] = {0xCB, 0x48, 0xCD, 0xC9, 0xC9, 0x57, 0xC8, 0x40, 0x27, 0xB9, 0x00};

static void test_deflated_entries_are_unpacked(void **state)
{
    (void)state;
    const struct made_entry entry = {
        .name = "t", .data = deflated, .size = sizeof deflated, .unpacked = 24, .method = 8, .checksum = 0x0B598800};
    struct error err = {0};
    struct interop_zip *zip = open_made(&entry, 1, &err);
    assert_non_null(zip);
    char *data = NULL;
    size_t size;
    assert_true(interop_zip_read(zip, "t", 100, &data, &size, &err));
    assert_string_equal(data, "hello hello hello hello\n");
    free(data);
    interop_zip_close(zip);
}

static void assert_read_fails(const struct made_entry *entry, size_t max_bytes, enum error_code code, const char *part)
{
    struct error err = {0};
    struct interop_zip *zip = open_made(entry, 1, &err);
    assert_non_null(zip);
    char *data;
    size_t size;
    assert_false(interop_zip_read(zip, entry->name, max_bytes, &data, &size, &err));
    assert_null(data);
    assert_int_equal(err.code, code);
    assert_non_null(strstr(err.message, part));
    interop_zip_close(zip);
}

static void test_an_entry_gives_exactly_what_the_directory_promised(void **state)
{
    (void)state;
    struct made_entry entry = {
        .name = "t", .data = deflated, .size = sizeof deflated, .unpacked = 23, .method = 8, .checksum = 0x0B598800};
    assert_read_fails(&entry, 100, ERROR_CORRUPT, "\"t\" is damaged"); /* it unpacks to more */
    entry.unpacked = 25;
    assert_read_fails(&entry, 100, ERROR_CORRUPT, "\"t\" is damaged"); /* and to less */
    entry.unpacked = 24;
    entry.checksum = 1;
    assert_read_fails(&entry, 100, ERROR_CORRUPT, "\"t\" is damaged");
    entry.size--;
    entry.checksum = 0x0B598800;
    assert_read_fails(&entry, 100, ERROR_CORRUPT, "\"t\" is damaged");
}

static void test_a_bomb_is_refused_before_memory_is_taken(void **state)
{
    (void)state;
    struct made_entry entry = {.name = "t", .data = deflated, .size = sizeof deflated, .unpacked = 11352, .method = 8};
    struct error err = {0};
    struct interop_zip *zip = open_made(&entry, 1, &err);
    assert_non_null(zip);
    char *data = NULL;
    size_t size;
    fail_allocation(1);
    assert_false(interop_zip_read(zip, "t", 11351, &data, &size, &err));
    assert_false(fail_allocation_done());
    assert_int_equal(err.code, ERROR_TOO_LARGE);
    assert_non_null(strstr(err.message, "\"t\" is 11352 bytes, but at most 11351"));
    interop_zip_close(zip);
    entry.unpacked++; /* more than deflation can make of 11 bytes */
    assert_refused(&entry, 1, "\"t\" cannot be 11353 bytes: 11 are in the archive");
}

static void test_a_stored_entry_has_the_size_that_it_takes(void **state)
{
    (void)state;
    assert_refused(&(struct made_entry){.name = "t", .data = "abc", .size = 3, .unpacked = 2}, 1, "cannot be 2 bytes");
}

static void test_names_that_lead_out_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"/etc/passwd", "../a", "a/../../b", "a/..", "..", "a\\b", "C:a"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_refused(&(struct made_entry){.name = bad[i], .data = "x", .size = 1}, 1, "leads out of the archive");
    static const char *const good[] = {"a..b/c", "..a/b", "a/b..", "a/.b/", "a//b", "."};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct error err = {0};
        struct interop_zip *zip = open_made(&(struct made_entry){.name = good[i], .data = "x", .size = 1}, 1, &err);
        assert_non_null(zip);
        interop_zip_close(zip);
    }
}

static void test_two_entries_of_a_name_are_refused(void **state)
{
    (void)state;
    const struct made_entry entries[] = {{.name = "t", .data = "a", .size = 1}, {.name = "t", .data = "b", .size = 1}};
    assert_refused(entries, 2, "two entries are named \"t\"");
}

static void test_encryption_and_other_methods_are_refused(void **state)
{
    (void)state;
    assert_refused(&(struct made_entry){.name = "t", .data = "abc", .size = 3, .flags = 1}, 1, "\"t\" is encrypted");
    assert_refused(&(struct made_entry){.name = "t", .data = "abc", .size = 3, .method = 12}, 1, "method 12");
}

static void test_every_prefix_and_every_changed_byte_is_survived(void **state)
{
    (void)state;
    const struct made_entry entries[] = {
        {.name = "a", .data = "abc", .size = 3},
        {.name = "t", .data = deflated, .size = sizeof deflated, .unpacked = 24, .method = 8, .checksum = 0x0B598800}};
    size_t n = make_zip(entries, 2, archive);
    for (size_t cut = 0; cut < n; cut++) {
        struct error err = {0};
        unsigned char *exact = malloc(cut + 1);
        memcpy(exact, archive, cut);
        assert_null(interop_zip_open("a.zip", exact, cut, &err));
        assert_int_not_equal(err.code, ERROR_NONE);
        free(exact);
    }
    for (size_t at = 0; at < 8 * n; at++) {
        struct error err = {0};
        archive[at / 8] ^= (unsigned char)(1u << at % 8);
        struct interop_zip *zip = interop_zip_open("a.zip", archive, n, &err);
        for (size_t i = 0; zip && i < interop_zip_count(zip); i++) {
            char *data;
            size_t size;
            if (interop_zip_read(zip, interop_zip_name(zip, i), 100, &data, &size, &err)) free(data);
        }
        interop_zip_close(zip);
        archive[at / 8] ^= (unsigned char)(1u << at % 8);
    }
}

static bool read_one(void *context, struct error *err)
{
    struct interop_zip *zip = interop_zip_open("a.zip", archive, *(size_t *)context, err);
    char *data = NULL;
    size_t size;
    bool ok = zip && interop_zip_read(zip, "a", 3, &data, &size, err);
    free(data);
    interop_zip_close(zip);
    return ok;
}

static void test_failing_allocations(void **state)
{
    (void)state;
    size_t n = make_zip(&(struct made_entry){.name = "a", .data = "abc", .size = 3}, 1, archive);
    assert_survives_failing_allocations(read_one, &n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_entries_are_read_by_exact_name),
        cmocka_unit_test(test_deflated_entries_are_unpacked),
        cmocka_unit_test(test_an_entry_gives_exactly_what_the_directory_promised),
        cmocka_unit_test(test_a_bomb_is_refused_before_memory_is_taken),
        cmocka_unit_test(test_a_stored_entry_has_the_size_that_it_takes),
        cmocka_unit_test(test_names_that_lead_out_are_refused),
        cmocka_unit_test(test_two_entries_of_a_name_are_refused),
        cmocka_unit_test(test_encryption_and_other_methods_are_refused),
        cmocka_unit_test(test_every_prefix_and_every_changed_byte_is_survived),
        cmocka_unit_test(test_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
