/* Reads any text as the model.json of a TensorFlow.js model with 3,120 bytes of weights. The result is a refusal with a
 * message, or a network with these weights. */
#include "base/file.h"
#include "model/interop/tfjs.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const float zeros[780];
    const struct file_map weights = {.data = (const unsigned char *)zeros, .size = sizeof zeros};
    struct error err = {0};
    struct foreign foreign = {.weights_file = "weights.bin"};
    if (interop_tfjs_read_memory("input", data, size, &weights, &foreign, &err))
        REQUIRE(foreign.format && foreign.network.parameter_count > 0);
    else
        REQUIRE(err.code != ERROR_NONE && err.message[0] != '\0');
    foreign_close(&foreign);
    return 0;
}
