/* Any text as the configuration of a Keras model, any bytes as an .h5 file or a .keras archive: refused with a message,
 * or read into a network that is whole. */
#include "model/interop_keras.h"
#include "tests/fuzz/fuzz.h"

/* The HDF5 library asks for as much memory as a file says, gets none, and reports it; after some errors it forgets what
 * it had. Neither is ours to find. */
const char *__asan_default_options(void); // NOLINT
const char *__asan_default_options(void)  // NOLINT
{
    return "allocator_may_return_null=1:detect_leaks=0";
}

static void read_config(const char *text, size_t size, unsigned major)
{
    struct error err = {0};
    struct keras_model model;
    bool ok = keras_model_parse(&model, text, size, major, "input", &err);
    REQUIRE(ok == (err.code == ERROR_NONE));
    REQUIRE(!ok || (model.layer_count >= 2 && architecture_check(&model.architecture, NULL)));
    keras_model_close(&model);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0 && data[0] == '{') {
        read_config((const char *)data, size, 2);
        read_config((const char *)data, size, 3);
        return 0;
    }
    struct error err = {0};
    struct foreign foreign = {0};
    bool ok = keras_read(&foreign, data, size, "input", &err);
    REQUIRE(ok == (err.code == ERROR_NONE));
    REQUIRE(!ok || foreign.network.parameter_count > 0);
    foreign_close(&foreign);
    return 0;
}
