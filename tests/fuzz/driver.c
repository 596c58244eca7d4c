/* Runs a fuzz target over the files of a directory, and then over mutations of them. The number of mutations and the
 * seed are fixed, so that two runs do the same. If time is short, it runs fewer mutations. */
#include <dirent.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/rng.h"
#include "tests/fuzz/fuzz.h"

enum { MAX_INPUTS = 1000, MUTATIONS = 20000, MAX_SECONDS = 4 };
static const size_t max_input = (size_t)1 << 20;

struct input {
    char *data;
    size_t size;
};

static size_t read_inputs(const char *directory, struct input *inputs)
{
    size_t count = 0;
    DIR *entries = opendir(directory);
    REQUIRE(entries != NULL);
    for (struct dirent *entry; count < MAX_INPUTS && (entry = readdir(entries)) != NULL;) {
        if (entry->d_name[0] == '.') continue;
        struct error err = {0};
        char *path = path_join(directory, entry->d_name, &err);
        REQUIRE(path && file_read(path, max_input, &inputs[count].data, &inputs[count].size, &err));
        free(path);
        count++;
    }
    closedir(entries);
    return count;
}

static size_t below(struct rng *rng, size_t n)
{
    return (size_t)(rng_next(rng) % n);
}

/* Makes one to four edits: changes a byte, flips a bit, removes or doubles a piece, or cuts the end. */
static size_t mutate(struct rng *rng, uint8_t *data, size_t size)
{
    static const uint8_t telling[] = {0, 0x7F, 0x80, 0xC0, 0xFF, '"', ',', '\n', '{', '}', '[', ']', ':', '-', '9'};
    for (size_t edits = 1 + below(rng, 4); edits > 0 && size > 0; edits--) {
        size_t at = below(rng, size), n = below(rng, size - at) % 16 + 1;
        if (n > size - at) n = size - at;
        switch (below(rng, 5)) {
        case 0:
            data[at] = telling[below(rng, sizeof telling)];
            break;
        case 1:
            data[at] ^= (uint8_t)(1u << below(rng, 8));
            break;
        case 2:
            memmove(data + at, data + at + n, size - at - n);
            size -= n;
            break;
        case 3: /* there is room for twice the input */
            memmove(data + at + n, data + at, size - at);
            size += n;
            break;
        default:
            size = at;
        }
    }
    return size;
}

/* Each call gets memory of exactly its size, so that a sanitizer sees an access to the next byte. */
static void run_exact(const uint8_t *data, size_t size)
{
    uint8_t *exact = malloc(size > 0 ? size : 1);
    REQUIRE(exact != NULL);
    memcpy(exact, data, size);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
}

int main(int argc, char **argv)
{
    static struct input inputs[MAX_INPUTS];
    REQUIRE(argc == 2);
    size_t count = read_inputs(argv[1], inputs), runs = 0;
    REQUIRE(count > 0);
    for (size_t i = 0; i < count; i++) run_exact((const uint8_t *)inputs[i].data, inputs[i].size);

    struct rng rng;
    rng_seed(&rng, 1, 0);
    uint64_t end = clock_monotonic_ns() + MAX_SECONDS * UINT64_C(1000000000);
    for (; runs < MUTATIONS && clock_monotonic_ns() < end; runs++) {
        const struct input *input = &inputs[below(&rng, count)];
        uint8_t *copy = malloc(input->size + 64);
        REQUIRE(copy != NULL);
        memcpy(copy, input->data, input->size);
        run_exact(copy, mutate(&rng, copy, input->size));
        free(copy);
    }
    for (size_t i = 0; i < count; i++) free(inputs[i].data);
    printf("%zu inputs, %zu mutations\n", count, runs);
    return 0;
}
