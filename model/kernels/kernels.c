/* Which kernels this machine can run, best first.
 *
 * Maximum errors of the vector functions against the exact value, as tests/unit/kernels/test_kernels.c checks over
 * their whole range: exp 2e-7 relative on [-87, 88] (clamped outside), sigmoid 2e-7 absolute, tanh 3e-7 relative.
 */
#include "model/kernels/kernels.h"

#include <string.h>

#include "model/kernels/tables.h"

#define MEMBER(set, name) .name = kernels_##set##_##name,
/* The members of a set; beside: the set that has all but the steps. */
#define MEMBERS(set, beside)                                                                                           \
    .name = #set, .window_rows = KERNEL_WINDOW_ROWS, .product_of_window = kernels_##beside##_product,                  \
    KERNELS_OF_STEPS(MEMBER, set) KERNELS_BESIDE_STEPS(MEMBER, beside)
#define TABLE(set)                                                                                                     \
    {                                                                                                                  \
        MEMBERS(set, set)                                                                                              \
    }
static const struct kernels kernels_portable = {.generic = true, MEMBERS(portable, portable)};
#if defined(__x86_64__)
static const struct kernels kernels_avx2 = TABLE(avx2), kernels_avx512 = TABLE(avx512);
static const struct kernels kernels_avx512vnni = {MEMBERS(avx512vnni, avx512)};
#elif defined(__aarch64__)
static const struct kernels kernels_neon = TABLE(neon);
#endif

struct candidate {
    const struct kernels *kernels;
    bool (*runs)(void);
    const char *names; /* of this one and all after it */
};

static bool runs_always(void)
{
    return true;
}

#if defined(__x86_64__)
static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
}

static bool has_avx512vnni(void)
{
    return has_avx512() && __builtin_cpu_supports("avx512vnni");
}
#endif

static const struct candidate candidates[] = {
#if defined(__x86_64__)
    {&kernels_avx512vnni, has_avx512vnni, "avx512vnni, avx512, avx2, portable, ref"},
    {&kernels_avx512, has_avx512, "avx512, avx2, portable, ref"},
    {&kernels_avx2, has_avx2, "avx2, portable, ref"},
#elif defined(__aarch64__)
    {&kernels_neon, runs_always, "neon, portable, ref"},
#endif
    {&kernels_portable, runs_always, "portable, ref"},
    {&kernels_ref, runs_always, "ref"},
};
#define CANDIDATES (sizeof candidates / sizeof candidates[0])

const struct kernels *kernels_select(const char *name)
{
    for (size_t i = 0; i < CANDIDATES; i++) {
        if (!candidates[i].runs()) continue;
        if (strcmp(name, "auto") == 0 || strcmp(name, candidates[i].kernels->name) == 0) return candidates[i].kernels;
    }
    return NULL;
}

const char *kernels_names(void)
{
    for (size_t i = 0; i < CANDIDATES; i++)
        if (candidates[i].runs()) return candidates[i].names;
    return "";
}
