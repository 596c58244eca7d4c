/* The tables that kernels_select() chooses from; each exists where its file is compiled for that architecture. */
#ifndef LSTMD_MODEL_KERNELS_TABLES_H
#define LSTMD_MODEL_KERNELS_TABLES_H

#include "model/kernels/kernels.h"

extern const struct kernels kernels_ref, kernels_portable;
#if defined(__x86_64__)
extern const struct kernels kernels_avx2, kernels_avx512, kernels_avx512vnni;
#elif defined(__aarch64__)
extern const struct kernels kernels_neon;
#endif

#endif
