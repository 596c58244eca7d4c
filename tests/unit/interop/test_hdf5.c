/* model/interop/hdf5.h: a read returns the written data, reports absent data as absent, and refuses hostile bytes. */
#include <stdlib.h>
#include <string.h>

#include "model/interop/hdf5.h"
#include "tests/unit/support.h"

struct image {
    unsigned char *bytes;
    size_t size;
};

static const float weights[] = {1.0f, -2.5f, 3.0e-8f, 4.0f, 5.0f, 6.0f};

static bool write_file_of(struct hdf5 *file, struct image *image, struct error *err)
{
    const char *names[] = {"lstm/kernel:0", "a", "日本"};
    struct hdf5_texts texts = {names, 3}, none = {NULL, 0};
    struct hdf5_shape shape = {.rank = 2, .dimensions = {2, 3}, .count = 6};
    return hdf5_write_text(file, "", "model_config", "{\"a\": 1}", err) &&
           hdf5_write_text(file, "", "empty", "", err) &&
           hdf5_write_texts(file, "model_weights/lstm", "weight_names", &texts, err) &&
           hdf5_write_texts(file, "model_weights/dropout", "weight_names", &none, err) &&
           hdf5_write_texts(file, "model_weights", "split0", &texts, err) &&
           hdf5_write_texts(file, "model_weights", "split1", &texts, err) &&
           hdf5_write(file, "model_weights/lstm/lstm/kernel:0", &shape, weights, err) &&
           hdf5_image(file, &image->bytes, &image->size, err);
}

static struct image new_image(void)
{
    struct error err = {0};
    struct image image;
    struct hdf5 *file = hdf5_create(&err);
    assert_non_null(file);
    if (!write_file_of(file, &image, &err)) fail_msg("%s", err.message);
    hdf5_close(file);
    return image;
}

static struct hdf5 *open_image(const struct image *image)
{
    struct error err = {0};
    struct hdf5 *file = hdf5_open(image->bytes, image->size, "dir/x.h5", &err);
    if (!file) fail_msg("%s", err.message);
    return file;
}

static void test_texts_are_read_back(void **state)
{
    (void)state;
    struct error err = {0};
    struct image image = new_image();
    struct hdf5 *file = open_image(&image);
    struct hdf5_texts texts;
    assert_string_equal(hdf5_text(file, "", "model_config", &err), "{\"a\": 1}");
    assert_string_equal(hdf5_text(file, "", "empty", &err), "");
    assert_true(hdf5_texts(file, "model_weights/lstm", "weight_names", &texts, &err));
    assert_int_equal(texts.count, 3);
    assert_string_equal(texts.items[0], "lstm/kernel:0");
    assert_string_equal(texts.items[2], "日本");
    assert_true(hdf5_texts(file, "model_weights/dropout", "weight_names", &texts, &err));
    assert_int_equal(texts.count, 0);
    assert_true(hdf5_texts(file, "model_weights", "split", &texts, &err));
    assert_int_equal(texts.count, 6);
    assert_string_equal(texts.items[4], "a");
    assert_true(hdf5_members(file, "model_weights", &texts, &err));
    assert_int_equal(texts.count, 2);
    assert_string_equal(texts.items[0], "dropout");
    assert_string_equal(texts.items[1], "lstm");
    hdf5_close(file);
    free(image.bytes);
}

static void test_tensors_are_read_back(void **state)
{
    (void)state;
    struct error err = {0};
    struct image image = new_image();
    struct hdf5 *file = open_image(&image);
    struct hdf5_shape shape;
    float read[6];
    assert_true(hdf5_exists(file, "model_weights/lstm/lstm/kernel:0"));
    assert_true(hdf5_shape(file, "/model_weights//lstm/lstm/kernel:0", &shape, &err));
    assert_int_equal(shape.rank, 2);
    assert_int_equal(shape.dimensions[0], 2);
    assert_int_equal(shape.dimensions[1], 3);
    assert_int_equal(shape.count, 6);
    assert_true(hdf5_read(file, "model_weights/lstm/lstm/kernel:0", read, 6, &err));
    assert_memory_equal(read, weights, sizeof read);
    assert_false(hdf5_read(file, "model_weights/lstm/lstm/kernel:0", read, 5, &err));
    hdf5_close(file);
    free(image.bytes);
}

static void assert_says(struct error *err, enum error_code code, const char *fragment)
{
    assert_int_equal(err->code, code);
    assert_ptr_equal(strstr(err->message, "dir/x.h5: "), err->message);
    if (!strstr(err->message, fragment)) fail_msg("\"%s\" does not say \"%s\"", err->message, fragment);
    error_clear(err);
}

static void test_what_is_absent_or_of_another_kind_is_named(void **state)
{
    (void)state;
    struct error err = {0};
    struct image image = new_image();
    struct hdf5 *file = open_image(&image);
    struct hdf5_texts texts;
    struct hdf5_shape shape;
    char path[2000];
    memset(path, 'x', sizeof path);
    path[sizeof path - 1] = '\0';
    assert_false(hdf5_exists(file, "model_weights/gru"));
    assert_false(hdf5_exists(file, "model_weights/lstm/lstm/kernel:0/x"));
    assert_null(hdf5_text(file, "", "weight_names", &err));
    assert_says(&err, ERROR_NOT_FOUND, "the root group has no attribute weight_names");
    assert_false(hdf5_texts(file, "model_weights/x/y", "weight_names", &texts, &err));
    assert_says(&err, ERROR_NOT_FOUND, "there is no model_weights/x/y");
    assert_null(hdf5_text(file, "model_weights/lstm", "weight_names", &err));
    assert_says(&err, ERROR_CORRUPT, "model_weights/lstm: an attribute is not one text");
    assert_false(hdf5_shape(file, "model_weights", &shape, &err));
    assert_says(&err, ERROR_CORRUPT, "model_weights: is not a tensor");
    assert_false(hdf5_members(file, "model_weights/lstm/lstm/kernel:0", &texts, &err));
    assert_says(&err, ERROR_CORRUPT, "is not a group");
    assert_false(hdf5_shape(file, path, &shape, &err));
    assert_says(&err, ERROR_CORRUPT, "a path of 1999 bytes");
    hdf5_close(file);
    free(image.bytes);
}

static void test_every_truncation_is_refused_or_reads_what_is_left(void **state)
{
    (void)state;
    struct image image = new_image();
    assert_true(hdf5_recognise(image.bytes, image.size));
    for (size_t size = 0; size < image.size; size += 7) {
        struct error err = {0};
        unsigned char *part = malloc(size + 1);
        assert_non_null(part);
        memcpy(part, image.bytes, size);
        struct hdf5 *file = hdf5_open(part, size, "dir/x.h5", &err);
        assert_null(file);
        assert_says(&err, ERROR_CORRUPT, size < 8 ? "not an HDF5 file" : "not all of an HDF5 file (");
        free(part);
    }
    free(image.bytes);
}

static bool open_and_read(void *context, struct error *err)
{
    const struct image *image = context;
    struct hdf5_texts texts;
    struct hdf5 *file = hdf5_open(image->bytes, image->size, "dir/x.h5", err);
    bool ok = file && hdf5_text(file, "", "model_config", err) &&
              hdf5_texts(file, "model_weights", "split", &texts, err) && hdf5_members(file, "", &texts, err);
    hdf5_close(file);
    return ok;
}

static bool create(void *context, struct error *err)
{
    struct image image = {0};
    (void)context;
    struct hdf5 *file = hdf5_create(err);
    bool ok = file && write_file_of(file, &image, err);
    hdf5_close(file);
    free(image.bytes);
    return ok;
}

static void test_failing_allocations(void **state)
{
    (void)state;
    struct image image = new_image();
    assert_survives_failing_allocations(open_and_read, &image);
    assert_survives_failing_allocations(create, NULL);
    free(image.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts_are_read_back),
        cmocka_unit_test(test_tensors_are_read_back),
        cmocka_unit_test(test_what_is_absent_or_of_another_kind_is_named),
        cmocka_unit_test(test_every_truncation_is_refused_or_reads_what_is_left),
        cmocka_unit_test(test_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
