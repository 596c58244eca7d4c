/* A fuzz target is one file fuzz_NAME.c with this one function; its inputs are in inputs/NAME. Linked with driver.c it
 * is a plain program (`make fuzz-smoke`), linked with libFuzzer it searches (`make fuzz`). A target aborts where a
 * promise of a header is broken; the sanitizers find the rest. */
#ifndef LSTMD_TESTS_FUZZ_FUZZ_H
#define LSTMD_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* assert() that no NDEBUG removes. */
#define REQUIRE(condition)                                                                                             \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition);                              \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

#endif
