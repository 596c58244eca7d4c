/* Overflow-checked sizes. Every size that depends on input is computed with these before memory is allocated. */
#ifndef LSTMD_BASE_SIZE_H
#define LSTMD_BASE_SIZE_H

#include <stdbool.h>
#include <stddef.h>

/* *result = a * b or a + b; false (and *result unchanged) if that overflows. */
static inline bool size_multiply(size_t a, size_t b, size_t *result)
{
    size_t product;
    if (__builtin_mul_overflow(a, b, &product)) return false;
    *result = product;
    return true;
}

static inline bool size_add(size_t a, size_t b, size_t *result)
{
    size_t sum;
    if (__builtin_add_overflow(a, b, &sum)) return false;
    *result = sum;
    return true;
}

/* The smallest multiple of `unit` that is >= n. The caller knows that it does not overflow. */
static inline size_t size_round_up(size_t n, size_t unit)
{
    return (n + unit - 1) / unit * unit;
}

#endif
