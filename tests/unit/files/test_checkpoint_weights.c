/* model/files/checkpoint_weights.h: the three formats of model.safetensors, and the refusals in them. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/files/checkpoint.h"
#include "model/files/checkpoint_weights.h"
#include "model/network/quantize.h"
#include "tests/unit/network/reference.h"
#include "tests/unit/support.h"

static const struct architecture architectures[] = {
    {.cell = CELL_LSTM, .layers = 2, .hidden_size = 5, .vocabulary_size = 7},
    {.cell = CELL_GRU, .layers = 2, .hidden_size = 6, .embedding_size = 4, .vocabulary_size = 9},
    {.cell = CELL_RNN, .layers = 1, .hidden_size = 4, .embedding_size = 4, .vocabulary_size = 5, .tie_weights = true}};
#define ARCHITECTURES (sizeof architectures / sizeof architectures[0])

struct file {
    unsigned char *data;
    size_t size;
    struct safetensors tensors;
};

static void file_open(struct file *file, const struct network *network, enum kernel_format format)
{
    struct error err = {0};
    if (!checkpoint_weights_serialise(network, format, &file->data, &file->size, &err)) fail_msg("%s", err.message);
    if (!safetensors_open_memory(&file->tensors, "test", file->data, file->size, &err)) fail_msg("%s", err.message);
}

static void file_close(struct file *file)
{
    safetensors_close(&file->tensors);
    free(file->data);
}

/* The bytes of a tensor in the file, for changing them. */
static unsigned char *bytes_of(const struct file *file, const char *name)
{
    const struct safetensors_entry *entry = safetensors_find(&file->tensors, name);
    assert_non_null(entry);
    return file->data + (entry->data - file->data);
}

static void assert_refused(const struct file *file, const struct network *network, enum kernel_format format,
                           const char *fragment)
{
    struct network read = {0};
    struct error err = {0};
    assert_false(checkpoint_weights_read(&read, &file->tensors, &network->architecture, format, &err));
    assert_int_equal(err.code, ERROR_CORRUPT);
    if (strstr(err.message, fragment) == NULL) fail_msg("\"%s\" does not say \"%s\"", err.message, fragment);
    network_close(&read);
}

static void assert_rounded(const struct tensor *read, const struct tensor *original, enum kernel_format format)
{
    for (size_t row = 0; row < original->rows; row++) {
        int8_t q[16];
        const float *values = original->data + row * original->columns, *found = read->data + row * original->columns;
        const float scale = quantize_int8(original->columns, values, q);
        for (size_t i = 0; i < original->columns; i++) {
            const uint32_t bits = (uint32_t)quantize_bf16(values[i]) << 16;
            if (format == KERNEL_BF16) assert_memory_equal(&found[i], &bits, sizeof bits);
            if (format == KERNEL_INT8) assert_true(found[i] == (float)q[i] * scale);
        }
    }
}

static void test_weights_that_are_multiplied_are_rounded_and_all_others_kept(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARCHITECTURES * 3; i++) {
        const enum kernel_format format = (enum kernel_format)(i % 3);
        struct network network, read;
        struct file file;
        struct error err = {0};
        size_t rounded = 0;
        reference_random_network(&network, &architectures[i / 3], 2, 1);
        file_open(&file, &network, format);
        if (!checkpoint_weights_read(&read, &file.tensors, &network.architecture, format, &err))
            fail_msg("%s", err.message);
        for (size_t t = 0; t < network.tensor_count; t++) {
            const struct tensor *a = &read.tensors[t], *b = &network.tensors[t];
            if (format == KERNEL_F32 || !quantize_applies(&network.architecture, b)) {
                assert_memory_equal(a->data, b->data, b->rows * b->columns * sizeof(float));
            } else {
                assert_rounded(a, b, format);
                rounded++;
            }
        }
        assert_true(format == KERNEL_F32 ? rounded == 0 : rounded >= 2);
        file_close(&file);
        network_close(&read);
        network_close(&network);
    }
}

static void test_weights_one_hot_input_and_untied_embedding_are_not_quantised(void **state)
{
    (void)state;
    struct network network;
    struct file file;
    reference_random_network(&network, &architectures[0], 2, 1);
    file_open(&file, &network, KERNEL_INT8);
    assert_int_equal(safetensors_find(&file.tensors, "rnn.weight_ih_l0")->type, SAFETENSORS_F32);
    assert_int_equal(safetensors_find(&file.tensors, "rnn.weight_ih_l1")->type, SAFETENSORS_I8);
    assert_int_equal(safetensors_find(&file.tensors, "rnn.weight_hh_l0")->type, SAFETENSORS_I8);
    assert_int_equal(safetensors_find(&file.tensors, "rnn.weight_hh_l0.scale")->count, 20);
    assert_int_equal(safetensors_find(&file.tensors, "rnn.bias_l0")->type, SAFETENSORS_F32);
    file_close(&file);
    network_close(&network);
    reference_random_network(&network, &architectures[1], 2, 1);
    file_open(&file, &network, KERNEL_BF16);
    assert_int_equal(safetensors_find(&file.tensors, "embedding.weight")->type, SAFETENSORS_F32);
    assert_int_equal(safetensors_find(&file.tensors, "rnn.weight_ih_l0")->type, SAFETENSORS_BF16);
    file_close(&file);
    network_close(&network);
}

static void test_weights_refuse_a_format_that_config_does_not_say(void **state)
{
    (void)state;
    struct network network;
    struct file file;
    reference_random_network(&network, &architectures[0], 2, 1);
    file_open(&file, &network, KERNEL_INT8);
    assert_refused(&file, &network, KERNEL_F32, ".scale\" does not belong to this network");
    file_close(&file);
    file_open(&file, &network, KERNEL_F32);
    assert_refused(&file, &network, KERNEL_INT8, ".scale\" is missing");
    file_close(&file);
    network_close(&network);
}

static void test_weights_refuse_int8_values_and_scales_that_quantising_never_gives(void **state)
{
    (void)state;
    struct network network;
    struct file file;
    const float bad[] = {NAN, INFINITY, -1};
    reference_random_network(&network, &architectures[0], 2, 1);
    file_open(&file, &network, KERNEL_INT8);
    unsigned char *value = bytes_of(&file, "output.weight") + 5 * 5, kept = *value;
    *value = 0x80;
    assert_refused(&file, &network, KERNEL_INT8, "\"output.weight\": row 5 has a value of -128");
    *value = kept;
    for (size_t i = 0; i < 3; i++) {
        memcpy(bytes_of(&file, "output.weight.scale") + 3 * sizeof(float), &bad[i], sizeof bad[i]);
        assert_refused(&file, &network, KERNEL_INT8, "\"output.weight.scale\": element 3 is not a finite scale");
    }
    file_close(&file);
    network_close(&network);
}

/* Puts the tensor `name` of an int8 file into another dtype. */
static void test_weights_refuse_int8_files_with_floats_in_them(void **state)
{
    (void)state;
    struct network network;
    struct file file, changed;
    struct safetensors_entry entries[40];
    float floats[100] = {0};
    reference_random_network(&network, &architectures[0], 2, 1);
    file_open(&file, &network, KERNEL_INT8);
    memcpy(entries, file.tensors.entries, file.tensors.count * sizeof entries[0]);
    for (size_t i = 0; i < file.tensors.count; i++) {
        if (strcmp(entries[i].name, "rnn.weight_hh_l1") != 0) continue;
        entries[i].type = SAFETENSORS_F32;
        entries[i].data = (const unsigned char *)floats;
    }
    assert_true(safetensors_serialise(entries, file.tensors.count, NULL, &changed.data, &changed.size, NULL));
    assert_true(safetensors_open_memory(&changed.tensors, "test", changed.data, changed.size, NULL));
    assert_refused(&changed, &network, KERNEL_INT8, "\"rnn.weight_hh_l1\": dtype is F32 and that of its scale F32");
    file_close(&changed);
    file_close(&file);
    network_close(&network);
}

static bool serialise(void *context, struct error *err)
{
    unsigned char *data = NULL;
    size_t size;
    const bool ok = checkpoint_weights_serialise(context, KERNEL_INT8, &data, &size, err);
    free(data);
    return ok;
}

static void test_weights_serialise_survives_failing_allocations(void **state)
{
    (void)state;
    struct network network;
    reference_random_network(&network, &architectures[0], 2, 1);
    assert_survives_failing_allocations(serialise, &network);
    network_close(&network);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_weights_that_are_multiplied_are_rounded_and_all_others_kept),
        cmocka_unit_test(test_weights_one_hot_input_and_untied_embedding_are_not_quantised),
        cmocka_unit_test(test_weights_refuse_a_format_that_config_does_not_say),
        cmocka_unit_test(test_weights_refuse_int8_values_and_scales_that_quantising_never_gives),
        cmocka_unit_test(test_weights_refuse_int8_files_with_floats_in_them),
        cmocka_unit_test(test_weights_serialise_survives_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
