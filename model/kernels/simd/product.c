/* The products of training. A file of an instruction set defines for them:
 *   TILE_ROWS, TILE_BLOCKS  the register tile of the product
 *   TILE_1_BLOCKS           blocks at once for a single row
 *   STRIP_ROWS, STRIP_BLOCKS  the register tile of the product over rows
 */
#include <string.h>

#include "base/priority.h"
#include "model/kernels/simd/vector.h"

/* The inputs and the outputs of a product, from some row and block on: x [M][ldx], y [M][ldy]. */
struct ends {
    const float *x;
    size_t ldx;
    float *y;
    size_t ldy;
    bool accumulate; /* adds to y */
};

/* The weights of a panel of blocks, `stride` floats from block to block, and where the next panel's lie that a tile
 * fetches from memory while it multiplies (NULL: it fetches none). */
struct panel {
    const float *packed, *fetched;
    size_t stride;
};

/* The compiler would read ahead until sums leave their registers. */
#define IN_ORDER() __asm__ volatile("" ::: "memory")

#define TILE_VECTORS (TILE_BLOCKS * VECTORS)

/* The products with one input. */
INLINE void tile_input(size_t rows, size_t blocks, const float *x, size_t ldx, const float *packed, size_t stride,
                       vf sum[TILE_ROWS][TILE_VECTORS])
{
    vf w[TILE_VECTORS];
#pragma GCC unroll 16
    for (size_t v = 0; v < blocks * VECTORS; v++) w[v] = vf_load(packed + v / VECTORS * stride + v % VECTORS * LANES);
#pragma GCC unroll 16
    for (size_t m = 0; m < rows; m++) {
        const vf input = vf_set(x[m * ldx]);
#pragma GCC unroll 16
        for (size_t v = 0; v < blocks * VECTORS; v++) sum[m][v] = vf_fma(input, w[v], sum[m][v]);
        IN_ORDER();
    }
}

/* rows x blocks accumulators, each over k in order. rows and blocks are constants at every call, so the arrays are
 * registers. Two inputs in a turn: where another thread shares the core's arithmetic units, the instructions of the
 * loop itself count. A turn fetches one input's weights of the next panel; what y holds there is fetched, too. */
INLINE void tile(size_t rows, size_t blocks, size_t K, struct panel panel, struct ends ends)
{
    const float *x = ends.x;
    float *y = ends.y;
    const size_t ldx = ends.ldx, ldy = ends.ldy;
    vf sum[TILE_ROWS][TILE_VECTORS];
#pragma GCC unroll 16
    for (size_t m = 0; m < rows; m++) {
#pragma GCC unroll 16
        for (size_t v = 0; v < blocks * VECTORS; v++)
            sum[m][v] = ends.accumulate ? vf_load(y + m * ldy + v * LANES) : (vf){0};
        for (size_t j = blocks; j < 2 * blocks; j++) __builtin_prefetch(y + m * ldy + j * KERNEL_BLOCK, 1);
    }
#pragma GCC unroll 1
    for (size_t turns = K / 2; turns > 0; turns--, x += 2, panel.packed += 2 * KERNEL_BLOCK) {
        if (panel.fetched) {
#pragma GCC unroll 16
            for (size_t j = 0; j < blocks; j++) __builtin_prefetch(panel.fetched + j * panel.stride, 0, 2);
            panel.fetched += KERNEL_BLOCK;
        }
        tile_input(rows, blocks, x, ldx, panel.packed, panel.stride, sum);
        tile_input(rows, blocks, x + 1, ldx, panel.packed + KERNEL_BLOCK, panel.stride, sum);
    }
    if (K % 2 != 0) tile_input(rows, blocks, x, ldx, panel.packed, panel.stride, sum);
#pragma GCC unroll 16
    for (size_t m = 0; m < rows; m++) {
#pragma GCC unroll 16
        for (size_t v = 0; v < blocks * VECTORS; v++) vf_store(y + m * ldy + v * LANES, sum[m][v]);
    }
}

/* tile() for a number of rows that is known at run time. */
INLINE void tile_of(size_t rows, size_t blocks, size_t K, struct panel panel, struct ends ends)
{
    switch (rows) {
#if TILE_ROWS > 5
    case 6:
        tile(6, blocks, K, panel, ends);
        break;
#endif
#if TILE_ROWS > 4
    case 5:
        tile(5, blocks, K, panel, ends);
        break;
#endif
#if TILE_ROWS > 3
    case 4:
        tile(4, blocks, K, panel, ends);
        break;
#endif
    case 3:
        tile(3, blocks, K, panel, ends);
        break;
    case 2:
        tile(2, blocks, K, panel, ends);
        break;
    case 1:
        tile(1, blocks, K, panel, ends);
        break;
    default:
        break;
    }
}

/* All M rows against `blocks` blocks (a constant at every call), in tiles of about as many rows each. The first two
 * tiles fetch half of the next panel each: memory would idle while this one's weights are multiplied, and delay the
 * next one's. */
INLINE void rows_by_blocks(size_t M, size_t blocks, size_t K, struct panel panel, struct ends ends)
{
    const size_t tiles = (M + TILE_ROWS - 1) / TILE_ROWS;
    const float *next = panel.fetched;
    for (size_t t = 0, m = 0, end; t < tiles; t++, m = end) {
        struct ends at = ends;
        end = M * (t + 1) / tiles;
        at.x += m * ends.ldx;
        at.y += m * ends.ldy;
        panel.fetched = next && t < 2 ? next + t * (K / 2) * KERNEL_BLOCK : NULL;
        tile_of(end - m, blocks, K, panel, at);
    }
    priority_give_way(M * K * blocks * KERNEL_BLOCK);
}

/* Functions of their own: within a larger one the compiler runs out of registers. */
static NOINLINE void rows_by_panel(size_t M, size_t K, struct panel panel, struct ends ends)
{
    rows_by_blocks(M, TILE_BLOCKS, K, panel, ends);
}

static NOINLINE void rows_by_block(size_t M, size_t K, struct panel panel, struct ends ends)
{
    rows_by_blocks(M, 1, K, panel, ends);
}

/* A single row against TILE_1_BLOCKS blocks. */
INLINE void single_row(size_t K, const float *x, struct panel panel, float *y, bool accumulate)
{
    vf sum[TILE_1_BLOCKS * VECTORS];
#pragma GCC unroll 16
    for (size_t v = 0; v < TILE_1_BLOCKS * VECTORS; v++) sum[v] = accumulate ? vf_load(y + v * LANES) : (vf){0};
    for (size_t k = 0; k < K; k++, panel.packed += KERNEL_BLOCK) {
#pragma GCC unroll 16
        for (size_t v = 0; v < TILE_1_BLOCKS * VECTORS; v++) {
            vf w = vf_load(panel.packed + v / VECTORS * panel.stride + v % VECTORS * LANES);
            sum[v] = vf_fma(vf_set(x[k]), w, sum[v]);
        }
    }
#pragma GCC unroll 16
    for (size_t v = 0; v < TILE_1_BLOCKS * VECTORS; v++) vf_store(y + v * LANES, sum[v]);
    priority_give_way(K * TILE_1_BLOCKS * KERNEL_BLOCK);
}

/* K of the product's inputs; packed: their weights. */
INLINE void product_of_piece(const struct kernel_product *p, size_t K, const float *packed, struct ends ends)
{
    const size_t M = p->M, blocks = p->blocks, stride = p->stride;
    struct panel panel = {.stride = stride};
    size_t j = 0;
    for (; M == 1 && j + TILE_1_BLOCKS <= blocks; j += TILE_1_BLOCKS, ends.y += TILE_1_BLOCKS * KERNEL_BLOCK) {
        panel.packed = packed + j * stride;
        single_row(K, ends.x, panel, ends.y, ends.accumulate);
    }
    for (; j + TILE_BLOCKS <= blocks; j += TILE_BLOCKS, ends.y += TILE_BLOCKS * KERNEL_BLOCK) {
        panel.packed = packed + j * stride;
        panel.fetched = j + 2 * TILE_BLOCKS <= blocks ? panel.packed + TILE_BLOCKS * stride : NULL;
        rows_by_panel(M, K, panel, ends);
    }
    for (; j < blocks; j++, ends.y += KERNEL_BLOCK) {
        panel = (struct panel){.packed = packed + j * stride, .stride = stride};
        rows_by_block(M, K, panel, ends);
    }
}

/* A piece of the inputs at a time, so that a panel and the next one stay in the second-level cache. */
#define PRODUCT_INPUTS 1024

void KERNEL(product)(const struct kernel_product *p)
{
    size_t k = 0;
    do { /* once at least: without inputs, y becomes zero */
        const size_t piece = p->K - k < PRODUCT_INPUTS ? p->K - k : PRODUCT_INPUTS;
        const struct ends ends = {p->x + k, p->ldx, p->y, p->ldy, p->accumulate || k > 0};
        product_of_piece(p, piece, p->packed + k * KERNEL_BLOCK, ends);
        k += piece;
    } while (k < p->K);
}

/* Both factors of a product over rows are copied so that a tile reads them as two streams: KERNEL_DEPTH rows at a time,
 * b as packed blocks, a as strips of STRIP columns: [STRIP/STRIP_ROWS][depth][STRIP_ROWS], zero beyond the last column.
 */
#define STRIP (KERNEL_STRIP / STRIP_ROWS * STRIP_ROWS)

/* A few lines of every row are read, which the processor does not foresee: they are fetched so many rows before, beyond
 * the last one in vain. */
#define ROWS_AHEAD 16

static void pack_rows(size_t depth, size_t blocks, const float *b, size_t ldb, float *packed)
{
    for (size_t j = 0; j < blocks; j++, b += KERNEL_BLOCK) {
        for (size_t k = 0; k < depth; k++, packed += KERNEL_BLOCK) {
            __builtin_prefetch(b + (k + ROWS_AHEAD) * ldb);
            memcpy(packed, b + k * ldb, KERNEL_BLOCK * sizeof *b);
        }
    }
}

static void pack_columns(size_t depth, size_t columns, const float *a, size_t lda, float *strip)
{
    const size_t whole = columns / STRIP_ROWS * STRIP_ROWS, rest = columns - whole;
    for (size_t k = 0; k < depth; k++, a += lda, strip += STRIP_ROWS) {
        for (size_t m = 0; m < columns; m += KERNEL_BLOCK) __builtin_prefetch(a + ROWS_AHEAD * lda + m);
        for (size_t m = 0; m < whole; m += STRIP_ROWS) memcpy(strip + m * depth, a + m, STRIP_ROWS * sizeof *a);
        if (rest == 0) continue;
        memset(strip + whole * depth, 0, STRIP_ROWS * sizeof *a);
        memcpy(strip + whole * depth, a + whole, rest * sizeof *a);
    }
}

/* A strip of a, some blocks of b and the sums that both add to, c [..][ldc]. */
struct strip {
    size_t depth;
    const float *strip, *packed;
    float *c;
    size_t ldc;
    bool accumulate; /* adds to c */
};

/* STRIP_ROWS x blocks accumulators, of which the first `rows` rows are wanted; what c holds for the next tile is
 * fetched. blocks is a constant at every call. */
INLINE void strip_tile(size_t rows, size_t blocks, struct strip s)
{
    const size_t depth = s.depth, ldc = s.ldc;
    const float *strip = s.strip, *packed = s.packed;
    float *c = s.c;
    vf sum[STRIP_ROWS][STRIP_BLOCKS * VECTORS];
#pragma GCC unroll 16
    for (size_t m = 0; m < STRIP_ROWS; m++) {
#pragma GCC unroll 16
        for (size_t v = 0; v < blocks * VECTORS; v++)
            sum[m][v] = s.accumulate && m < rows ? vf_load(c + m * ldc + v * LANES) : (vf){0};
        for (size_t j = 0; j < blocks; j++) __builtin_prefetch(c + (STRIP_ROWS + m) * ldc + j * KERNEL_BLOCK, 1);
    }
    for (size_t k = 0; k < depth; k++) {
        vf w[STRIP_BLOCKS * VECTORS];
#pragma GCC unroll 16
        for (size_t v = 0; v < blocks * VECTORS; v++)
            w[v] = vf_load(packed + (v / VECTORS * depth + k) * KERNEL_BLOCK + v % VECTORS * LANES);
#pragma GCC unroll 16
        for (size_t m = 0; m < STRIP_ROWS; m++) {
            const vf x = vf_set(strip[k * STRIP_ROWS + m]);
#pragma GCC unroll 16
            for (size_t v = 0; v < blocks * VECTORS; v++) sum[m][v] = vf_fma(x, w[v], sum[m][v]);
        }
    }
#pragma GCC unroll 16
    for (size_t m = 0; m < STRIP_ROWS; m++) {
        if (m == rows) break;
#pragma GCC unroll 16
        for (size_t v = 0; v < blocks * VECTORS; v++) vf_store(c + m * ldc + v * LANES, sum[m][v]);
    }
}

/* The columns of a strip against `blocks` blocks (a constant at every call). */
INLINE void strip_panel(size_t columns, size_t blocks, struct strip strip)
{
    for (size_t m = 0; m < columns; m += STRIP_ROWS) {
        struct strip at = strip;
        at.strip += m * strip.depth;
        at.c += m * strip.ldc;
        strip_tile(columns - m < STRIP_ROWS ? columns - m : STRIP_ROWS, blocks, at);
    }
    priority_give_way(columns * strip.depth * blocks * KERNEL_BLOCK);
}

/* A strip of `columns` columns against all blocks. */
INLINE void strip_by_blocks(size_t columns, size_t blocks, struct strip strip)
{
    const size_t block = strip.depth * KERNEL_BLOCK;
    size_t j = 0;
    for (; j + STRIP_BLOCKS <= blocks; j += STRIP_BLOCKS) {
        strip_panel(columns, STRIP_BLOCKS, strip);
        strip.packed += STRIP_BLOCKS * block;
        strip.c += STRIP_BLOCKS * KERNEL_BLOCK;
    }
    for (; j < blocks; j++) {
        strip_panel(columns, 1, strip);
        strip.packed += block;
        strip.c += KERNEL_BLOCK;
    }
}

void KERNEL(product_over_rows)(const struct kernel_product_over_rows *p)
{
    float *packed = p->scratch + KERNEL_DEPTH * KERNEL_STRIP;
    for (size_t k = 0; k < p->K; k += KERNEL_DEPTH) {
        const size_t depth = p->K - k < KERNEL_DEPTH ? p->K - k : KERNEL_DEPTH;
        pack_rows(depth, p->blocks, p->b + k * p->ldb, p->ldb, packed);
        for (size_t m = 0; m < p->M; m += STRIP) {
            const size_t columns = p->M - m < STRIP ? p->M - m : STRIP;
            const struct strip strip = {depth, p->scratch, packed, p->c + m * p->ldc, p->ldc, p->accumulate || k > 0};
            pack_columns(depth, columns, p->a + k * p->lda + m, p->lda, p->scratch);
            strip_by_blocks(columns, p->blocks, strip);
        }
    }
}
