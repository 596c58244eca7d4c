#include "base/subnormals.h"

#if defined(__x86_64__)
#define FLUSH_RESULTS  0x8000u /* FTZ */
#define FLUSH_OPERANDS 0x0040u /* DAZ */

uint64_t subnormals_flush(void)
{
    const unsigned mode = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(mode | FLUSH_RESULTS | FLUSH_OPERANDS);
    return mode;
}

void subnormals_restore(uint64_t mode)
{
    __builtin_ia32_ldmxcsr((unsigned)mode);
}

#elif defined(__aarch64__)

#define FLUSH ((uint64_t)1 << 24) /* FZ: results and operands */

uint64_t subnormals_flush(void)
{
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    subnormals_restore(mode | FLUSH);
    return mode;
}

void subnormals_restore(uint64_t mode)
{
    __asm__ volatile("msr fpcr, %0" : : "r"(mode) : "memory");
}

#else

uint64_t subnormals_flush(void)
{
    return 0;
}

void subnormals_restore(uint64_t mode)
{
    (void)mode;
}

#endif
