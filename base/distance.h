/* How far apart two names are, for "did you mean". Pure, thread-safe. */
#ifndef LSTMD_BASE_DISTANCE_H
#define LSTMD_BASE_DISTANCE_H

#include <stddef.h>

/* The number of single characters (bytes) to insert, delete, replace or swap with the neighbour that turn a into b.
 * Only the first 64 bytes of each are looked at.
 * Source: Damerau-Levenshtein distance, restricted to one edit per place. */
size_t text_distance(const char *a, const char *b);

#endif
