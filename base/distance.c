#include "base/distance.h"

#include <string.h>

#define LENGTH_MAX 64

static size_t distance_least(size_t a, size_t b)
{
    return a < b ? a : b;
}

size_t text_distance(const char *a, const char *b)
{
    size_t n = strnlen(a, LENGTH_MAX), m = strnlen(b, LENGTH_MAX);
    /* rows[i % 3][j]: the distance of the first i bytes of a from the first j of b */
    size_t rows[3][LENGTH_MAX + 1];
    for (size_t j = 0; j <= m; j++) rows[0][j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t *now = rows[i % 3];
        const size_t *before = rows[(i + 2) % 3], *twice_before = rows[(i + 1) % 3];
        now[0] = i;
        for (size_t j = 1; j <= m; j++) {
            now[j] = distance_least(before[j - 1] + (a[i - 1] != b[j - 1]), distance_least(before[j], now[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                now[j] = distance_least(now[j], twice_before[j - 2] + 1);
        }
    }
    return rows[n % 3][m];
}
