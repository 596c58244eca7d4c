/* Reads any bytes as a file of torch.save(). The result is a refusal with a message, or a network with all its weights.
 */
#include "model/interop/import.h"
#include "model/interop/other.h"
#include "model/interop/torch.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static volatile float sum;
    struct error err = {0};
    struct foreign foreign = {0};
    (void)interop_recognise(data, size);
    (void)interop_other_explain(data, size);
    if (interop_torch_read_memory("input", data, size, &foreign, &err)) {
        REQUIRE(foreign.format && foreign.network.parameter_count > 0);
        for (size_t i = 0; i < foreign.network.parameter_count; i++) sum = sum + foreign.network.parameters[i];
    } else {
        REQUIRE(err.code != ERROR_NONE && err.message[0] != '\0');
    }
    foreign_close(&foreign);
    return 0;
}
