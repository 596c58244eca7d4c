#include "cli/bench_limits.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N            BENCH_PRODUCT_SIZE
#define PEAK_CALLS   10000
#define LINE         8 /* doubles */
#define KIB          ((size_t)1024)
#define L3_READ_MOST (8192 * KIB)
#define DRAM_READ    (262144 * KIB) /* per thread; several times any cache of a few cores */

static void peak_once(void *context, size_t worker)
{
    struct bench_peak *peak = context;
    peak->sums[worker] = peak->kernels->multiply_add(PEAK_CALLS);
}

bool bench_peak_open(struct bench_peak *peak, const struct kernels *kernels, size_t threads, struct error *err)
{
    *peak = (struct bench_peak){.kernels = kernels};
    peak->work = (struct bench_work){.once = peak_once,
                                     .context = peak,
                                     .team = team_new(threads, err),
                                     .units = (double)threads * 2.0 * KERNEL_MULTIPLY_ADDS * PEAK_CALLS};
    return peak->work.team;
}

void bench_peak_close(struct bench_peak *peak)
{
    team_free(peak->work.team);
}

static void multiply_once(void *context, size_t worker)
{
    const struct bench_product *p = context;
    const size_t own = worker * N * N;
    p->kernels->product_over_rows(
        &(struct kernel_product_over_rows){.M = N,
                                           .blocks = N / KERNEL_BLOCK,
                                           .K = N,
                                           .a = p->a + own,
                                           .lda = N,
                                           .b = p->b + own,
                                           .ldb = N,
                                           .c = p->c + own,
                                           .ldc = N,
                                           .scratch = p->scratch + worker * KERNEL_SCRATCH(N / KERNEL_BLOCK)});
}

bool bench_product_open(struct bench_product *product, const struct kernels *kernels, size_t threads, struct error *err)
{
    *product = (struct bench_product){.kernels = kernels};
    struct arena *arena = &product->arena;
    const size_t count = threads * N * N;
    if (!(product->a = arena_alloc(arena, count, sizeof(float), "matrices", err))) return false;
    if (!(product->b = arena_alloc(arena, count, sizeof(float), "matrices", err))) return false;
    if (!(product->c = arena_alloc(arena, count, sizeof(float), "matrices", err))) return false;
    product->scratch = arena_alloc(arena, threads * KERNEL_SCRATCH(N / KERNEL_BLOCK), sizeof(float), "matrices", err);
    if (!product->scratch) return false;
    for (size_t i = 0; i < count; i++) {
        product->a[i] = (float)(i % 7) - 3.0f;
        product->b[i] = (float)(i % 5) - 2.0f;
    }
    product->work = (struct bench_work){.once = multiply_once,
                                        .context = product,
                                        .team = team_new(threads, err),
                                        .units = (double)threads * 2.0 * N * N * N};
    return product->work.team;
}

void bench_product_close(struct bench_product *product)
{
    team_free(product->work.team);
    arena_free(&product->arena);
}

static void read_once(void *context, size_t worker)
{
    const struct bench_read *r = context;
    r->sums[worker * LINE] += r->kernels->sum_of_squares(r->floats, r->buffers + worker * r->floats);
}

bool bench_read_open(struct bench_read *read, const struct kernels *kernels, size_t threads, size_t bytes,
                     struct error *err)
{
    *read = (struct bench_read){.kernels = kernels, .floats = bytes / sizeof(float)};
    read->sums = arena_alloc(&read->arena, threads * LINE, sizeof(double), "sums", err);
    read->buffers = arena_alloc(&read->arena, threads, read->floats * sizeof(float), "buffers", err);
    if (!read->sums || !read->buffers) return false;
    /* Write every page once: untouched pages may all map to one page of zeros. */
    for (size_t i = 0; i < threads * read->floats; i++) read->buffers[i] = 1.0f;
    read->work = (struct bench_work){.once = read_once,
                                     .context = read,
                                     .team = team_new(threads, err),
                                     .units = (double)(threads * read->floats * sizeof(float))};
    return read->work.team;
}

void bench_read_close(struct bench_read *read)
{
    team_free(read->work.team);
    arena_free(&read->arena);
}

/* A file of /sys/devices/system/cpu/cpu0/cache/index<i>; false if there is none. */
static bool read_cache_file(unsigned index, const char *file, char *out, size_t size)
{
    char path[96];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%u/%s", index, file);
    FILE *in = fopen(path, "r");
    if (!in) return false;
    const bool ok = fgets(out, (int)size, in);
    fclose(in);
    return ok;
}

/* Bytes of the data cache of a level, or `otherwise` if the system does not say. */
static size_t cache_size(unsigned long level, size_t otherwise)
{
    char text[32];
    for (unsigned index = 0; read_cache_file(index, "level", text, sizeof text); index++) {
        if (strtoul(text, NULL, 10) != level) continue;
        if (!read_cache_file(index, "type", text, sizeof text) || strncmp(text, "Instruction", 11) == 0) continue;
        if (!read_cache_file(index, "size", text, sizeof text)) continue;
        const size_t kib = strtoul(text, NULL, 10); /* "32768K" */
        if (kib > 0) return kib << 10;
    }
    return otherwise;
}

void bench_levels(struct bench_level levels[BENCH_LEVELS])
{
    const size_t l1 = cache_size(1, 32 * KIB), l2 = cache_size(2, 512 * KIB), l3 = cache_size(3, 8192 * KIB);
    /* The third level is shared, on a rented machine also with other customers; a quarter of it is likely to stay
     * ours. */
    const size_t l3_part = l3 / 4 < L3_READ_MOST ? l3 / 4 : L3_READ_MOST;
    levels[0] = (struct bench_level){"L1", l1, l1 / 2};
    levels[1] = (struct bench_level){"L2", l2, l2 / 2};
    levels[2] = (struct bench_level){"L3", l3, l3_part > 2 * l2 ? l3_part : 2 * l2};
    levels[3] = (struct bench_level){"DRAM", 0, DRAM_READ};
}
