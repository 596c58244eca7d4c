/* Vectors of 4 floats in GCC's portable notation: SSE2 on x86-64, whatever there is elsewhere. No fused multiply-add.
 */
#include "model/kernels_tables.h"

#define LANES                      4
#define TILE_ROWS                  3
#define TILE_BLOCKS                1
#define TILE_1_BLOCKS              2
#define vf_fma(a, b, c)            ((a) * (b) + (c))
#define vf_min(bound, x)           vf_select((bound) < (x), (bound), (x))
#define vf_max(bound, x)           vf_select((bound) > (x), (bound), (x))
#define vf_select(condition, a, b) ((vf)(((vi)(condition) & (vi)(a)) | (~(vi)(condition) & (vi)(b))))
#define KERNELS_TABLE              kernels_portable
#define KERNELS_NAME               "portable"
#include "model/kernels_simd.h"
