#include "model/kernels/blas.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/priority.h"

#define LIBRARY "libopenblas.so.0"
#define HELP    "install libopenblas0-pthread (Debian, Ubuntu) or openblas (Fedora, Arch), or leave products at own"

/* Our own declarations of the few functions, so that lstmd is built with the backend everywhere. They are those of
 * <cblas.h> with 32-bit integers; the library with 64-bit ones has another name. */
enum {
    ROW_MAJOR = 101,    /* CblasRowMajor */
    NO_TRANSPOSE = 111, /* CblasNoTrans */
    TRANSPOSE = 112,    /* CblasTrans */
};
typedef void blas_sgemm(int order, int transpose_a, int transpose_b, int M, int N, int K, float alpha, const float *a,
                        int lda, const float *b, int ldb, float beta, float *c, int ldc);
typedef char *blas_text(void);
typedef int blas_count(void);
typedef void blas_set_count(int count);

const char *const products_choices[] = {"auto", "own", "openblas", NULL};

/* Of the process. `lock` guards loading; who sees `loaded` may read the rest. */
static struct {
    pthread_mutex_t lock;
    atomic_bool loaded;
    const char *forbidden; /* NULL: it may be loaded */
    blas_sgemm *sgemm;
    char name[96];
    atomic_uint_fast64_t calls;
} library = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ------------------------------------------------------------------ loading */

/* The core whose kernels have the vectors of ours; NULL: the library knows better. */
static const char *core_of_processor(void)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd"))
        return "SkylakeX";
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return "Haswell";
#endif
    return NULL;
}

/* Whether a core's kernels lack the vectors that this processor has. */
static bool is_ancient(const char *core)
{
    static const char *const cores[] = {"Katmai", "Coppermine", "Northwood",  "Prescott", "Banias",  "Atom",
                                        "Core2",  "Penryn",     "Dunnington", "Athlon",   "Opteron", "Opteron_SSE3"};
    for (size_t i = 0; i < sizeof cores / sizeof *cores; i++)
        if (strcmp(core, cores[i]) == 0) return core_of_processor();
    return false;
}

/* What a program of lstmd calls. */
struct functions {
    blas_sgemm *sgemm;
    blas_text *config, *corename;
    blas_count *threads;
    blas_set_count *set_threads;
};

/* function: the place of a pointer to it, which ISO C does not make of an object's. */
static bool find_function(void *handle, const char *name, void *function, struct error *err)
{
    void *symbol = dlsym(handle, name);
    memcpy(function, &symbol, sizeof symbol);
    return symbol || error_set(err, ERROR_INVALID, "products openblas: %s has no %s: %s", LIBRARY, name, HELP);
}

static bool find_functions(void *handle, struct functions *f, struct error *err)
{
    return find_function(handle, "cblas_sgemm", &f->sgemm, err) &&
           find_function(handle, "openblas_get_config", &f->config, err) &&
           find_function(handle, "openblas_get_corename", &f->corename, err) &&
           find_function(handle, "openblas_get_num_threads", &f->threads, err) &&
           find_function(handle, "openblas_set_num_threads", &f->set_threads, err);
}

/* The environment already asks for one thread; this makes sure of it. */
static bool limit_threads(const struct functions *f, struct error *err)
{
    if (f->threads() != 1) f->set_threads(1);
    return f->threads() == 1 ||
           error_set(err, ERROR_INVALID, "products openblas: %s does not stay at one thread", LIBRARY);
}

/* The configuration begins with "OpenBLAS 0.3.21". */
static bool describe_library(const struct functions *f, struct error *err)
{
    char version[32] = "of unknown version";
    const char *core = f->corename();
    sscanf(f->config(), "OpenBLAS %31s", version);
    snprintf(library.name, sizeof library.name, "openblas %s %s", version, core);
    return !is_ancient(core) ||
           error_set(err, ERROR_INVALID,
                     "products openblas: OpenBLAS %s takes this processor for a %s and would be slow: install a newer "
                     "one, or leave products at own",
                     version, core);
}

static bool open_library(struct error *err)
{
    const char *core = core_of_processor();
    struct functions functions;
    setenv("OPENBLAS_NUM_THREADS", "1", 1);
    setenv("OMP_NUM_THREADS", "1",
           1); /* a build with OpenMP starts threads by this one, in each thread that multiplies */
    if (core) setenv("OPENBLAS_CORETYPE", core, 0);
    void *handle = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (!handle) return error_set(err, ERROR_INVALID, "products openblas: %s: %s", dlerror(), HELP);
    if (!find_functions(handle, &functions, err) || !limit_threads(&functions, err) ||
        !describe_library(&functions, err)) {
        dlclose(handle);
        return false;
    }
    library.sgemm = functions.sgemm;
    atomic_store(&library.loaded, true);
    return true;
}

bool blas_load(struct error *err)
{
    pthread_mutex_lock(&library.lock);
    bool ok = atomic_load(&library.loaded);
    if (!ok && library.forbidden)
        error_set(err, ERROR_INVALID, "products openblas: %s", library.forbidden);
    else if (!ok)
        ok = open_library(err);
    pthread_mutex_unlock(&library.lock);
    return ok;
}

void blas_forbid(const char *reason)
{
    pthread_mutex_lock(&library.lock);
    library.forbidden = reason;
    pthread_mutex_unlock(&library.lock);
}

const char *blas_name(void)
{
    return atomic_load(&library.loaded) ? library.name : NULL;
}

uint64_t blas_calls(void)
{
    return atomic_load_explicit(&library.calls, memory_order_relaxed);
}

/* ------------------------------------------------------------------ the choice */

bool products_choose(enum products wanted, const struct kernels *kernels, enum products *chosen, struct error *err)
{
    *chosen = PRODUCTS_OWN;
    if (wanted == PRODUCTS_OPENBLAS && !blas_load(err)) return false;
    if (wanted == PRODUCTS_OPENBLAS || (wanted == PRODUCTS_AUTO && kernels->generic && blas_load(NULL)))
        *chosen = PRODUCTS_OPENBLAS;
    return true;
}

/* ------------------------------------------------------------------ products */

/* A call multiplies so much at most, a millisecond or two: a thread of the lowest priority gives way between two.
 * Larger pieces are not faster. */
#define PIECE_ROWS    512
#define PIECE_COLUMNS 512
#define PIECE_INPUTS  512

static size_t piece_of(size_t rest, size_t most)
{
    return rest < most ? rest : most;
}

/* Operands of c (+)= a b, or of c (+)= transpose(a) b. */
struct operands {
    bool transposed; /* a is [K][lda]; else [M][lda] */
    const float *a, *b;
    float *c;
    size_t lda, ldb, ldc;
};

static void multiply_piece(size_t M, size_t N, size_t K, const struct operands *o, bool accumulate)
{
    library.sgemm(ROW_MAJOR, o->transposed ? TRANSPOSE : NO_TRANSPOSE, NO_TRANSPOSE, (int)M, (int)N, (int)K, 1.0f, o->a,
                  (int)o->lda, o->b, (int)o->ldb, accumulate ? 1.0f : 0.0f, o->c, (int)o->ldc);
    atomic_fetch_add_explicit(&library.calls, 1, memory_order_relaxed);
    priority_give_way(M * N * K);
}

static void multiply(size_t M, size_t N, size_t K, const struct operands *all, bool accumulate)
{
    for (size_t m = 0; K == 0 && !accumulate && m < M; m++) memset(all->c + m * all->ldc, 0, N * sizeof *all->c);
    for (size_t k = 0; k < K; k += PIECE_INPUTS) {
        for (size_t m = 0; m < M; m += PIECE_ROWS) {
            for (size_t n = 0; n < N; n += PIECE_COLUMNS) {
                struct operands piece = *all;
                piece.a += all->transposed ? k * all->lda + m : m * all->lda + k;
                piece.b += k * all->ldb + n;
                piece.c += m * all->ldc + n;
                multiply_piece(piece_of(M - m, PIECE_ROWS), piece_of(N - n, PIECE_COLUMNS),
                               piece_of(K - k, PIECE_INPUTS), &piece, accumulate || k > 0);
            }
        }
    }
}

static void blas_product(const struct kernel_product *p)
{
    const size_t N = p->blocks * KERNEL_BLOCK;
    const struct operands operands = {.a = p->x, .lda = p->ldx, .b = p->packed, .ldb = N, .c = p->y, .ldc = p->ldy};
    multiply(p->M, N, p->K, &operands, p->accumulate);
}

static void blas_product_over_rows(const struct kernel_product_over_rows *p)
{
    const struct operands operands = {
        .transposed = true, .a = p->a, .lda = p->lda, .b = p->b, .ldb = p->ldb, .c = p->c, .ldc = p->ldc};
    multiply(p->M, p->blocks * KERNEL_BLOCK, p->K, &operands, p->accumulate);
}

/* The weights of a group are a matrix [K][16 * gates] of their own, so a call multiplies by one group: it takes a tenth
 * longer than all groups at once, and needs no second copy of the weights. */
void blas_inputs(const struct kernel_inputs *p)
{
    const size_t N = p->gates * KERNEL_BLOCK, K = p->matrix->inputs;
    for (size_t m = 0; m < p->rows; m++) memcpy(p->y + m * p->ldy, p->start, p->blocks * N * sizeof *p->y);
    for (size_t group = 0; group < p->blocks; group++) {
        const struct operands operands = {.a = p->x,
                                          .lda = p->ldx,
                                          .b = (const float *)p->matrix->weights + group * K * N,
                                          .ldb = N,
                                          .c = p->y + group * N,
                                          .ldc = p->ldy};
        multiply(p->rows, N, K, &operands, true);
    }
}

void blas_kernels(const struct kernels *own, size_t streams, struct kernels *out)
{
    *out = *own;
    out->plain_window = true;
    out->window_rows = PIECE_ROWS;
    out->product_of_window = blas_product;
    out->product_over_rows = blas_product_over_rows;
    if (!own->generic || streams < PRODUCTS_STREAMS) return;
    out->plain_step = true;
    out->product = blas_product;
}
