/* Reads any bytes as lstmd.yaml. The result is a refusal with a message, or a configuration with values in range. */
#include <sys/mman.h>
#include <unistd.h>

#include "config/config.h"
#include "tests/fuzz/fuzz.h"

static void put(int file, const uint8_t *data, size_t size)
{
    REQUIRE(ftruncate(file, 0) == 0);
    REQUIRE(pwrite(file, data, size, 0) == (ssize_t)size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int file = -1;
    static char path[64];
    if (file < 0) {
        file = memfd_create("lstmd.yaml", 0);
        REQUIRE(file >= 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    }
    put(file, data, size);
    struct config config;
    struct error err = {0};
    char *environment[] = {NULL};
    if (config_load(&config, path, environment, NULL, 0, &err))
        REQUIRE(config.port >= 0 && config.port <= 65535 && config.max_batch > 0);
    else
        REQUIRE(err.code != ERROR_NONE && err.message[0] != '\0');
    config_close(&config);
    return 0;
}
