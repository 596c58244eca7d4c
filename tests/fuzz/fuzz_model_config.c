/* Reads any bytes as config.json. The result is a refusal with a message, or a configuration of a possible network. */
#include "model/files/model_config.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = {0};
    struct model_config config = {0};
    json_t *json = model_config_parse(&config, (const char *)data, size, "input", &err);
    REQUIRE((json != NULL) == (err.code == ERROR_NONE));
    if (json)
        REQUIRE(architecture_validate(&config.architecture, NULL));
    else
        REQUIRE(err.message[0] != '\0');
    json_decref(json);
    return 0;
}
