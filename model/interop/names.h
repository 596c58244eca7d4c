/* The names under which programs keep a vocabulary beside a model, in PyTorch checkpoints and in JSON files. */
#ifndef LSTMD_MODEL_INTEROP_NAMES_H
#define LSTMD_MODEL_INTEROP_NAMES_H

#include <stddef.h>
#include <stdint.h>

/* Rank of a name as a source of tokens: 0 is the best, SIZE_MAX is no source. */
size_t interop_name_rank(const char *name, size_t n);

#endif
