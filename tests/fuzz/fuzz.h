/* A fuzz target is one file fuzz_NAME.c with this one function. Its inputs are in inputs/NAME. With driver.c it is a
 * plain program (`make fuzz-smoke`), with libFuzzer it searches (`make fuzz`). A target aborts if the code breaks a
 * promise of its header. The sanitizers find other faults. */
#ifndef LSTMD_TESTS_FUZZ_FUZZ_H
#define LSTMD_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Like assert(), but NDEBUG does not remove it. */
#define REQUIRE(condition)                                                                                             \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition);                              \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

#endif
