/* What the files of a generation share: generate.c calls generate_prompt.c, which calls it never. */
#ifndef LSTMD_MODEL_GENERATE_GENERATE_INTERNAL_H
#define LSTMD_MODEL_GENERATE_GENERATE_INTERNAL_H

#include "model/generate/generate.h"

/* ERROR_INVALID about a field of the request; false. field: NULL allowed. */
bool generation_refuse(const char **field, const char *name, struct error *err, const char *message);

/* Fills in generation->prompt, prompt_begin and unknown. Errors: as generation_open() has them. */
bool generation_encode_prompt(struct generation *generation, const struct generation_request *request,
                              const char **field, struct error *err);

#endif
