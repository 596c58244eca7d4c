/* Shared by the tests of generations: small vocabularies, requests, and a fake model. */
#ifndef LSTMD_TESTS_UNIT_GENERATE_GENERATE_SUPPORT_H
#define LSTMD_TESTS_UNIT_GENERATE_GENERATE_SUPPORT_H

#include "model/generate/generate.h"
#include "tests/unit/support.h"

/* Fails the test if the JSON is no vocabulary. Free it with vocabulary_free(). */
struct vocabulary *vocabulary_of(const char *json);

/* Greedy, seed 1. */
struct generation_request prompt_of(const char *prompt, size_t length);

/* generation_open(), which must succeed. */
void generation_begin(struct generation *generation, const struct vocabulary *vocabulary,
                      const struct generation_request *request);

/* One step of a pretended model that likes `token` best. */
void generation_play(struct generation *generation, uint32_t token);

/* generation_open() names the field, and says `part`. */
void assert_refused(const struct vocabulary *vocabulary, const struct generation_request *request, const char *field,
                    enum error_code code, const char *part);

#endif
