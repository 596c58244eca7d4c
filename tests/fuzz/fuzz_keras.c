/* Reads any text as the configuration of a Keras model. The result is a refusal with a message, or a network that can
 * exist. Reads other bytes as an HDF5 file and looks a text of variable length up in it. The text must lie in the file.
 * fuzz_keras_file.c takes whole files, because the HDF5 library may crash on them. */
#include "model/interop/hdf5_heap.h"
#include "model/interop/keras.h"
#include "tests/fuzz/fuzz.h"

static void read_config(const char *text, size_t size, unsigned major)
{
    struct error err = {0};
    struct keras_model model;
    bool ok = keras_model_parse(&model, text, size, major, "input", &err);
    REQUIRE(ok == (err.code == ERROR_NONE));
    REQUIRE(!ok || (model.layer_count >= 2 && architecture_check(&model.architecture, NULL)));
    keras_model_close(&model);
}

static void look_up(const uint8_t *image, size_t size, const char *name)
{
    static const uint64_t roots[] = {48, 96}; /* offset of the root group's header in the two formats */
    struct hdf5_text texts[3];
    for (size_t i = 0; i < sizeof roots / sizeof roots[0]; i++) {
        if (!hdf5_heap_texts(image, size, roots[i], name, texts, 3)) continue;
        for (size_t k = 0; k < 3; k++) {
            const uint8_t *data = (const uint8_t *)texts[k].data;
            REQUIRE(texts[k].size == 0 || (data >= image && texts[k].size <= size - (size_t)(data - image)));
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0 && data[0] == '{') {
        read_config((const char *)data, size, 1);
        read_config((const char *)data, size, 2);
        read_config((const char *)data, size, 3);
    } else {
        look_up(data, size, "model_config");
        look_up(data, size, "weight_names");
    }
    return 0;
}
