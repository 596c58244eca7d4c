/* model/interop/torch.h over the files of tests/golden/make_torch_import.py. The tests damage each place of a file, and
 * let each allocation fail. tests/cli/test_import.py tests the models' results. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "model/interop/import.h"
#include "model/interop/torch.h"
#include "tests/unit/support.h"

#define DIRECTORY "tests/golden/data/torch/"

static const char *const files[] = {DIRECTORY "rnn_tanh.pt", DIRECTORY "lstm_half_legacy.pt",
                                    DIRECTORY "module_tied.pt", DIRECTORY "safetensors_tied.safetensors"};
#define FILE_COUNT (sizeof files / sizeof *files)

static bool read_memory(const char *data, size_t size, struct error *err)
{
    struct foreign foreign = {0};
    const bool ok = interop_torch_read_memory("a.pt", data, size, &foreign, err);
    foreign_close(&foreign);
    return ok;
}

static char *read_file(const char *path, size_t *size)
{
    char *data;
    struct error err = {0};
    if (!file_read(path, SIZE_MAX - 1, &data, size, &err)) fail_msg("%s", err.message);
    return data;
}

static void test_every_prefix_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < FILE_COUNT; i++) {
        size_t size;
        char *data = read_file(files[i], &size);
        for (size_t n = 0; n < size; n++) {
            struct error err = {0};
            char *exact = malloc(n + 1);
            memcpy(exact, data, n);
            if (read_memory(exact, n, &err)) fail_msg("%s: its first %zu bytes are read", files[i], n);
            assert_true(err.code != ERROR_NONE && err.code != ERROR_NO_MEMORY);
            free(exact);
        }
        assert_true(read_memory(data, size, NULL));
        free(data);
    }
}

/* Some changes leave a readable file. No change may break the bounds of memory; the sanitizers watch that. */
static void test_every_changed_byte_is_survived(void **state)
{
    (void)state;
    for (size_t i = 0; i < FILE_COUNT; i++) {
        size_t size;
        char *data = read_file(files[i], &size);
        for (size_t at = 0; at < size; at++) {
            struct error err = {0};
            data[at] = (char)~data[at];
            if (!read_memory(data, size, &err)) assert_true(err.code != ERROR_NONE && err.code != ERROR_NO_MEMORY);
            data[at] = (char)~data[at];
        }
        free(data);
    }
}

static bool import(void *context, struct error *err)
{
    const struct interop_options options = {.vocabulary = DIRECTORY "vocabulary.json"};
    return interop_import(files[1], "a.pt", &options, in_dir(context, "model"), NULL, err);
}

static void test_failing_allocations(void **state)
{
    (void)state;
    char *directory = temp_dir_new();
    skip_fsync = true;
    assert_survives_failing_allocations(import, directory);
    temp_dir_remove(directory);
}

static void test_files_are_recognised_by_content(void **state)
{
    (void)state;
    for (size_t i = 0; i < FILE_COUNT; i++) {
        size_t size;
        char *data = read_file(files[i], &size);
        assert_int_equal(interop_recognise(data, size), INTEROP_TORCH);
        free(data);
    }
    assert_int_equal(interop_recognise("\x89HDF\r\n\x1a\n", 8), INTEROP_KERAS);
    assert_int_equal(interop_recognise("some text\n", 10), INTEROP_UNKNOWN);
    assert_int_equal(interop_recognise("", 0), INTEROP_UNKNOWN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_prefix_is_refused),
        cmocka_unit_test(test_every_changed_byte_is_survived),
        cmocka_unit_test(test_failing_allocations),
        cmocka_unit_test(test_files_are_recognised_by_content),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
