/* Reads any bytes as a safetensors file. The result is a refusal with a message, or tensors that lie inside the file.
 */
#include "model/files/safetensors.h"
#include "tests/fuzz/fuzz.h"

static void read_entry(const struct safetensors *file, const struct safetensors_entry *entry)
{
    REQUIRE(safetensors_find(file, entry->name) == entry);
    if (entry->type == SAFETENSORS_I64 || entry->type == SAFETENSORS_U64) return;
    struct error err = {0};
    float *out = malloc(entry->count > 0 ? entry->count * sizeof *out : 1);
    REQUIRE(out && safetensors_read_float(file, entry, out, &err));
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = {0};
    struct safetensors file;
    if (safetensors_open_memory(&file, "input", data, size, &err))
        for (size_t i = 0; i < file.count; i++) read_entry(&file, &file.entries[i]);
    else
        REQUIRE(err.code != ERROR_NONE && err.message[0] != '\0');
    safetensors_close(&file);
    return 0;
}
