/* model/files/safetensors.h: a read returns the written tensors, bit for bit. A read refuses every malformed file with
 * a reason. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/rng.h"
#include "model/files/safetensors.h"
#include "tests/unit/support.h"

/* A file of this header and data_size bytes 0, 1, 2, ..., in a block of exactly its size, so that a sanitizer sees any
 * read beyond it. */
static unsigned char *file_of(const char *header, size_t data_size, size_t *size)
{
    uint64_t length = strlen(header);
    *size = sizeof length + length + data_size;
    unsigned char *bytes = malloc(*size);
    assert_non_null(bytes);
    memcpy(bytes, &length, sizeof length);
    memcpy(bytes + sizeof length, header, length);
    for (size_t i = 0; i < data_size; i++) bytes[sizeof length + length + i] = (unsigned char)i;
    return bytes;
}

static bool opens(const void *bytes, size_t size)
{
    struct safetensors file;
    struct error err = {0};
    bool ok = safetensors_open_memory(&file, "memory", bytes, size, &err);
    if (ok) safetensors_close(&file);
    assert_int_equal(ok, err.code == ERROR_NONE);
    return ok;
}

static void assert_refused(const void *bytes, size_t size, const char *fragment)
{
    struct safetensors file;
    struct error err = {0};
    assert_false(safetensors_open_memory(&file, "dir/file.safetensors", bytes, size, &err));
    assert_int_equal(err.code, ERROR_CORRUPT);
    assert_ptr_equal(strstr(err.message, "dir/file.safetensors: "), err.message);
    if (!strstr(err.message, fragment)) fail_msg("\"%s\" does not say \"%s\"", err.message, fragment);
    assert_null(strchr(err.message, '\n'));
    assert_null(file.entries);
}

#define A(dtype, shape, offsets) "{\"a\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
#define TWO(first, second)                                                                                             \
    "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":" first "},"                                             \
    "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":" second "}}"
#define VALID A("\"F32\"", "[2,1]", "[0,8]")

static const struct {
    const char *header;
    size_t data_size;
    const char *fragment;
} malformed[] = {
    {"", 0, "not a JSON object"},
    {" {}", 0, "not a JSON object"},
    {"[]", 0, "not a JSON object"},
    {"{", 0, "not valid JSON"},
    {"{} x", 0, "not valid JSON"},
    {"{\"a\":1,\"a\":1}", 0, "duplicate"},
    {"{\"a\n\":1}", 0, "not valid JSON"},
    {"{\"a\\u0000\":1}", 0, "not valid JSON"},
    {"{\"\xff\":1}", 0, "not valid JSON"},
    {"{\"a\":1}", 0, "tensor \"a\": must be an object"},
    {"{\"a\":{}}", 0, "tensor \"a\": dtype is missing"},
    {A("4", "[2,1]", "[0,8]"), 8, "tensor \"a\": dtype is missing or not a string"},
    {A("\"F64\"", "[1]", "[0,8]"), 8, "tensor \"a\": dtype \"F64\" is not one of F32, F16, BF16, I8, I64, U64"},
    {A("\"f32\"", "[1]", "[0,4]"), 4, "dtype \"f32\""},
    {A("\"F32\"", "2", "[0,8]"), 8, "tensor \"a\": shape is missing or not an array"},
    {A("\"F32\"", "[2,-1]", "[0,8]"), 8, "tensor \"a\": shape[1] is not a non-negative integer"},
    {A("\"F32\"", "[2.0]", "[0,8]"), 8, "shape[0] is not"},
    {A("\"F32\"", "[\"2\"]", "[0,8]"), 8, "shape[0] is not"},
    {A("\"F32\"", "[18446744073709551617]", "[0,8]"), 8, "not valid JSON"},
    {A("\"F32\"", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4, "9 dimensions, at most 8"},
    {A("\"F32\"", "[4294967296,4294967296]", "[0,8]"), 8, "tensor \"a\": shape has too many elements"},
    {A("\"F32\"", "[4611686018427387905]", "[0,4]"), 4, "tensor \"a\": shape has too many elements"},
    {A("\"F32\"", "[2,1]", "8"), 8, "data_offsets is missing or not two"},
    {A("\"F32\"", "[2,1]", "[0]"), 8, "data_offsets is missing or not two"},
    {A("\"F32\"", "[2,1]", "[0,8,8]"), 8, "data_offsets is missing or not two"},
    {A("\"F32\"", "[2,1]", "[-8,0]"), 8, "data_offsets is missing or not two"},
    {A("\"F32\"", "[2,1]", "[8,0]"), 8, "[8, 0] end before they begin"},
    {A("\"F32\"", "[2,1]", "[0,8]"), 7, "[0, 8] go beyond the file, which has 7 bytes of data"},
    {A("\"F32\"", "[2,1]", "[9223372036854775799,9223372036854775807]"), 8, "go beyond the file"},
    {A("\"F32\"", "[2,1]", "[0,4]"), 4, "are 4 bytes, but 2 elements of F32 are 8"},
    {A("\"F16\"", "[2,1]", "[0,8]"), 8, "are 8 bytes, but 2 elements of F16 are 4"},
    {A("\"F32\"", "[0]", "[0,4]"), 4, "are 4 bytes, but 0 elements"},
    {A("\"F32\"", "[]", "[0,0]"), 0, "1 elements of F32 are 4"},
    {A("\"F32\"", "[2,1]", "[0,8],\"x\":1"), 8, "tensor \"a\": has fields besides"},
    {A("\"F32\"", "[2,1]", "[0,8]"), 9, "1 bytes after the last tensor"},
    {"{}", 1, "1 bytes after the last tensor"},
    {TWO("[0,4]", "[0,4]"), 4, "begin at 0, inside another tensor"},
    {TWO("[0,4]", "[2,6]"), 6, "tensor \"b\": data_offsets begin at 2, inside another tensor"},
    {TWO("[0,4]", "[5,9]"), 9, "tensor \"b\": 1 bytes of data before it belong to no tensor"},
    {TWO("[4,8]", "[8,12]"), 12, "tensor \"a\": 4 bytes of data before it"},
    {"{\"__metadata__\":[]}", 0, "__metadata__ is not an object of strings"},
    {"{\"__metadata__\":{\"a\":1}}", 0, "__metadata__ is not an object of strings"},
    {"{\"__metadata__\":{\"a\":\"x\",\"a\":\"y\"}}", 0, "duplicate"},
};

static void test_safetensors_refuses_every_malformed_header(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof malformed / sizeof malformed[0]; i++) {
        size_t size;
        unsigned char *bytes = file_of(malformed[i].header, malformed[i].data_size, &size);
        assert_refused(bytes, size, malformed[i].fragment);
        free(bytes);
    }
}

static void test_safetensors_refuses_a_header_length_that_cannot_be(void **state)
{
    (void)state;
    size_t size;
    unsigned char *bytes = file_of(VALID, 8, &size);
    uint64_t beyond = size - 7, limit = SAFETENSORS_MAX_HEADER + 1, wrap = UINT64_MAX;
    memcpy(bytes, &beyond, 8);
    assert_refused(bytes, size, "more than the file");
    memcpy(bytes, &limit, 8);
    assert_refused(bytes, size, "more than the limit of 16777216 bytes");
    memcpy(bytes, &wrap, 8);
    assert_refused(bytes, size, "18446744073709551615, more than the limit");
    assert_refused(bytes, 7, "the file has 7 bytes, too few");
    assert_refused(NULL, 0, "the file has 0 bytes, too few");
    free(bytes);
}

static void test_safetensors_refuses_every_prefix(void **state)
{
    (void)state;
    size_t size;
    unsigned char *bytes = file_of(TWO("[4,8]", "[0,4]"), 8, &size);
    assert_true(opens(bytes, size));
    for (size_t n = 0; n < size; n++) {
        unsigned char *prefix = malloc(n + 1);
        assert_non_null(prefix);
        memcpy(prefix + 1, bytes, n); /* ends where its block ends, and begins unaligned */
        assert_false(opens(prefix + 1, n));
        free(prefix);
    }
    free(bytes);
}

static void test_safetensors_survives_flipped_bytes(void **state)
{
    (void)state;
    size_t size;
    unsigned char *bytes = file_of(TWO("[4,8]", "[0,4]"), 8, &size);
    unsigned char *copy = malloc(size);
    assert_non_null(copy);
    struct rng rng;
    rng_seed(&rng, 1, 0);
    for (int round = 0; round < 20000; round++) {
        memcpy(copy, bytes, size);
        for (uint64_t flips = 1 + rng_below(&rng, 4); flips > 0; flips--)
            copy[rng_below(&rng, size - 8)] = (unsigned char)rng_next(&rng);
        opens(copy, size);
    }
    free(copy);
    free(bytes);
}

static void test_safetensors_sorts_entries_by_place(void **state)
{
    (void)state;
    size_t size;
    unsigned char *bytes = file_of("{\"late\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[3,7]},"
                                   "\"empty\":{\"dtype\":\"I64\",\"shape\":[2,0],\"data_offsets\":[3,3]},"
                                   "\"__metadata__\":{\"k\":\"v\"},"
                                   "\"gap\":{\"dtype\":\"BF16\",\"shape\":[0],\"data_offsets\":[0,0]},"
                                   "\"early\":{\"dtype\":\"F16\",\"shape\":[],\"data_offsets\":[0,2]}}  ",
                                   7, &size);
    assert_refused(bytes, size, "1 bytes of data before it");
    free(bytes);
    bytes = file_of("{\"late\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[2,6]},"
                    "\"empty\":{\"dtype\":\"I64\",\"shape\":[2,0],\"data_offsets\":[2,2]},"
                    "\"__metadata__\":{\"k\":\"v\"},"
                    "\"early\":{\"dtype\":\"F16\",\"shape\":[],\"data_offsets\":[0,2]}}  ",
                    6, &size);
    struct safetensors file;
    struct error err = {0};
    assert_true(safetensors_open_memory(&file, "memory", bytes, size, &err));
    assert_int_equal(file.count, 3);
    assert_string_equal(file.entries[0].name, "early");
    assert_int_equal(file.entries[0].rank, 0);
    assert_int_equal(file.entries[0].count, 1);
    assert_string_equal(file.entries[1].name, "empty");
    assert_int_equal(file.entries[1].count, 0);
    assert_string_equal(file.entries[2].name, "late");
    assert_string_equal(file.metadata, "{\"k\":\"v\"}");
    assert_null(safetensors_find(&file, "__metadata__"));
    const struct safetensors_entry *late = safetensors_find(&file, "late");
    assert_ptr_equal(late, &file.entries[2]);
    float value;
    uint32_t bits;
    assert_true(safetensors_read_float(&file, late, &value, &err));
    memcpy(&bits, &value, sizeof bits);
    assert_int_equal(bits, 0x05040302); /* the header has an odd length: this was an unaligned read */
    assert_false(safetensors_read_float(&file, safetensors_find(&file, "empty"), &value, &err));
    assert_int_equal(err.code, ERROR_CORRUPT);
    assert_string_equal(err.message, "memory: tensor \"empty\": dtype is I64, but floating-point numbers are needed");
    safetensors_close(&file);
    free(bytes);
}

/* By the definition: sign, exponent of `exponent_bits` bits, fraction. Shares nothing with the code under test. */
static double plain_value(uint32_t bits, int exponent_bits, int fraction_bits)
{
    int top = (1 << exponent_bits) - 1, bias = top >> 1;
    int exponent = (int)(bits >> fraction_bits) & top;
    double fraction = ldexp((double)(bits & ((1u << fraction_bits) - 1)), -fraction_bits);
    double sign = bits >> (exponent_bits + fraction_bits) ? -1.0 : 1.0;
    if (exponent == top) return fraction == 0 ? sign * INFINITY : NAN;
    if (exponent == 0) return sign * ldexp(fraction, 1 - bias);
    return sign * ldexp(1 + fraction, exponent - bias);
}

static void check_all_patterns(const char *header, int exponent_bits, int fraction_bits)
{
    size_t size;
    unsigned char *bytes = file_of(header, 65536 * 2, &size);
    for (uint32_t i = 0; i < 65536; i++) {
        uint16_t pattern = (uint16_t)i;
        memcpy(bytes + 8 + strlen(header) + 2 * i, &pattern, 2);
    }
    struct safetensors file;
    struct error err = {0};
    assert_true(safetensors_open_memory(&file, "memory", bytes, size, &err));
    float *values = malloc(65536 * sizeof *values);
    assert_non_null(values);
    assert_true(safetensors_read_float(&file, &file.entries[0], values, &err));
    for (uint32_t i = 0; i < 65536; i++) {
        double expected = plain_value(i, exponent_bits, fraction_bits);
        if (isnan(expected)) {
            assert_true(isnan(values[i]));
        } else {
            assert_true((double)values[i] == expected);
            assert_int_equal(signbit(values[i]) != 0, signbit(expected) != 0);
        }
    }
    free(values);
    safetensors_close(&file);
    free(bytes);
}

static void test_safetensors_converts_every_half_float(void **state)
{
    (void)state;
    check_all_patterns(A("\"F16\"", "[65536]", "[0,131072]"), 5, 10);
}

static void test_safetensors_converts_every_bfloat(void **state)
{
    (void)state;
    check_all_patterns(A("\"BF16\"", "[256,256]", "[0,131072]"), 8, 7);
}

struct sample {
    float floats[3];
    int64_t integers[2];
    uint64_t words[1];
    struct safetensors_entry entries[4];
};

static void fill_sample(struct sample *sample)
{
    *sample = (struct sample){.floats = {1.5f, -0.0f, NAN}, .integers = {INT64_MIN, 7}, .words = {UINT64_MAX}};
    const struct safetensors_entry entries[] = {
        {"f", SAFETENSORS_F32, 2, {3, 1}, 3, (const unsigned char *)sample->floats},
        {"i", SAFETENSORS_I64, 1, {2}, 2, (const unsigned char *)sample->integers},
        {"none", SAFETENSORS_F32, 2, {0, 5}, 0, NULL},
        {"w", SAFETENSORS_U64, 0, {0}, 1, (const unsigned char *)sample->words},
    };
    memcpy(sample->entries, entries, sizeof entries);
}

static void test_safetensors_reads_back_what_it_wrote(void **state)
{
    (void)state;
    struct sample sample;
    fill_sample(&sample);
    unsigned char *bytes, *again;
    size_t size, size_again;
    struct error err = {0};
    assert_true(safetensors_serialise(sample.entries, 4, "{\"step\":\"12\"}", &bytes, &size, &err));
    assert_true(safetensors_serialise(sample.entries, 4, "{\"step\":\"12\"}", &again, &size_again, &err));
    assert_int_equal(size, size_again);
    assert_memory_equal(bytes, again, size);
    struct safetensors file;
    assert_true(safetensors_open_memory(&file, "memory", bytes, size, &err));
    assert_string_equal(file.metadata, "{\"step\":\"12\"}");
    assert_int_equal(file.count, 4);
    for (size_t i = 0; i < 4; i++) {
        const struct safetensors_entry *in = &sample.entries[i], *out = safetensors_find(&file, in->name);
        assert_non_null(out);
        assert_int_equal(out->type, in->type);
        assert_int_equal(out->rank, in->rank);
        assert_memory_equal(out->shape, in->shape, in->rank * sizeof in->shape[0]);
        assert_int_equal(out->count, in->count);
        assert_int_equal((out->data - bytes) % (in->type == SAFETENSORS_F32 ? 4 : 8), 0);
        if (in->count > 0) assert_memory_equal(out->data, in->data, in->count * (in->type == SAFETENSORS_F32 ? 4 : 8));
    }
    float floats[3];
    assert_true(safetensors_read_float(&file, safetensors_find(&file, "f"), floats, &err));
    assert_memory_equal(floats, sample.floats, sizeof floats);
    assert_true(safetensors_read_float(&file, safetensors_find(&file, "none"), floats, &err));
    safetensors_close(&file);
    free(again);
    free(bytes);
}

static void test_safetensors_writes_a_file_without_tensors(void **state)
{
    (void)state;
    unsigned char *bytes;
    size_t size;
    struct error err = {0};
    assert_true(safetensors_serialise(NULL, 0, NULL, &bytes, &size, &err));
    assert_int_equal(size, 16);
    assert_memory_equal(bytes, "\x8\0\0\0\0\0\0\0{}      ", 16);
    assert_true(opens(bytes, size));
    free(bytes);
}

static void assert_not_written(const struct safetensors_entry *entries, size_t count, const char *metadata,
                               const char *fragment)
{
    unsigned char *bytes;
    size_t size;
    struct error err = {0};
    assert_false(safetensors_serialise(entries, count, metadata, &bytes, &size, &err));
    assert_null(bytes);
    assert_int_equal(err.code, ERROR_INVALID);
    if (!strstr(err.message, fragment)) fail_msg("\"%s\" does not say \"%s\"", err.message, fragment);
}

static void test_safetensors_does_not_write_what_it_would_refuse(void **state)
{
    (void)state;
    struct sample sample;
    fill_sample(&sample);
    assert_not_written(sample.entries, 4, "[]", "metadata is not a JSON object of strings");
    assert_not_written(sample.entries, 4, "{\"a\":1}", "metadata is not a JSON object of strings");
    assert_not_written(sample.entries, 4, "{", "metadata is not a JSON object of strings");
    sample.entries[1].name = "f";
    assert_not_written(sample.entries, 4, NULL, "tensor \"f\": there are two of that name");
    sample.entries[1].name = "__metadata__";
    assert_not_written(sample.entries, 4, NULL, "reserved");
    fill_sample(&sample);
    sample.entries[0].shape[1] = 2;
    assert_not_written(sample.entries, 4, NULL, "tensor \"f\": the shape is not one of 3 elements");
    sample.entries[0].rank = SAFETENSORS_MAX_RANK + 1;
    assert_not_written(sample.entries, 4, NULL, "9 dimensions");
    sample.entries[0].type = SAFETENSORS_F16;
    assert_not_written(sample.entries, 4, NULL, "F16 is not written");
}

static void test_safetensors_maps_a_file_and_names_it_in_errors(void **state)
{
    (void)state;
    char *directory = temp_dir_new();
    const char *path = in_dir(directory, "file.safetensors");
    size_t size;
    unsigned char *bytes = file_of(VALID, 8, &size);
    write_file(path, bytes, size);
    struct safetensors file;
    struct error err = {0};
    assert_true(safetensors_open(&file, path, &err));
    assert_int_equal(file.count, 1);
    safetensors_close(&file);
    safetensors_close(&file);
    assert_int_equal(truncate(path, (off_t)size - 1), 0);
    assert_false(safetensors_open(&file, path, &err));
    assert_ptr_equal(strstr(err.message, path), err.message);
    assert_non_null(strstr(err.message, "go beyond the file"));
    error_clear(&err);
    assert_false(safetensors_open(&file, in_dir(directory, "none"), &err));
    assert_int_equal(err.code, ERROR_NOT_FOUND);
    safetensors_close(&file);
    free(bytes);
    temp_dir_remove(directory);
}

static bool serialise_sample(void *context, struct error *err)
{
    const struct sample *sample = context;
    unsigned char *bytes;
    size_t size;
    bool ok = safetensors_serialise(sample->entries, 4, NULL, &bytes, &size, err);
    free(bytes);
    return ok;
}

static bool open_sample(void *context, struct error *err)
{
    struct safetensors file;
    const char *path = context;
    if (!safetensors_open(&file, path, err)) return false;
    safetensors_close(&file);
    return true;
}

static void test_safetensors_survives_each_failing_allocation(void **state)
{
    (void)state;
    char *directory = temp_dir_new();
    const char *path = in_dir(directory, "sample.safetensors");
    struct sample sample;
    fill_sample(&sample);
    unsigned char *bytes;
    size_t size;
    assert_true(safetensors_serialise(sample.entries, 4, "{\"a\":\"b\"}", &bytes, &size, NULL));
    write_file(path, bytes, size);
    free(bytes);
    assert_survives_failing_allocations(open_sample, (void *)path);
    json_malloc_t allocate;
    json_free_t release;
    json_get_alloc_funcs(&allocate, &release);
    json_set_alloc_funcs(malloc, free); /* those of this program: jansson's allocations fail, too */
    assert_survives_failing_allocations(serialise_sample, &sample);
    json_set_alloc_funcs(allocate, release);
    temp_dir_remove(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_safetensors_refuses_every_malformed_header),
        cmocka_unit_test(test_safetensors_refuses_a_header_length_that_cannot_be),
        cmocka_unit_test(test_safetensors_refuses_every_prefix),
        cmocka_unit_test(test_safetensors_survives_flipped_bytes),
        cmocka_unit_test(test_safetensors_sorts_entries_by_place),
        cmocka_unit_test(test_safetensors_converts_every_half_float),
        cmocka_unit_test(test_safetensors_converts_every_bfloat),
        cmocka_unit_test(test_safetensors_reads_back_what_it_wrote),
        cmocka_unit_test(test_safetensors_writes_a_file_without_tensors),
        cmocka_unit_test(test_safetensors_does_not_write_what_it_would_refuse),
        cmocka_unit_test(test_safetensors_maps_a_file_and_names_it_in_errors),
        cmocka_unit_test(test_safetensors_survives_each_failing_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
