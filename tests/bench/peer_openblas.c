/* OpenBLAS as a peer of `lstmd bench` (cli/bench_peer.h). It measures products of square matrices only.
 *
 * A library that is older than the processor may take it for a very old one. To be fair, this program then names the
 * newest kernels that the library knows (OPENBLAS_CORETYPE, which the library reads when it is loaded).
 */
#include <cblas.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MAX_THREADS 64

struct job {
    pthread_t thread;
    blasint size;
    size_t count;
    float *a, *b, *c;
};

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void *multiply(void *argument)
{
    const struct job *job = argument;
    const blasint n = job->size;
    for (size_t i = 0; i < job->count; i++)
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, n, n, n, 1.0f, job->a, n, job->b, n, 0.0f, job->c, n);
    return NULL;
}

/* Returns the seconds of `count` products on each of `threads` threads, or less than 0 if a thread cannot start. */
static double run(struct job *jobs, size_t threads, size_t count)
{
    const double begin = now();
    for (size_t i = 0; i < threads; i++) {
        jobs[i].count = count;
        if (pthread_create(&jobs[i].thread, NULL, multiply, &jobs[i]) != 0) return -1;
    }
    for (size_t i = 0; i < threads; i++) pthread_join(jobs[i].thread, NULL);
    return now() - begin;
}

static int prepare(struct job *jobs, size_t threads, size_t size)
{
    for (size_t i = 0; i < threads; i++) {
        struct job *job = &jobs[i];
        *job = (struct job){.size = (blasint)size};
        job->a = malloc(size * size * sizeof(float));
        job->b = malloc(size * size * sizeof(float));
        job->c = malloc(size * size * sizeof(float));
        if (job->a == NULL || job->b == NULL || job->c == NULL) return 0;
        for (size_t k = 0; k < size * size; k++) {
            job->a[k] = (float)(k % 7) - 3.0f;
            job->b[k] = (float)(k % 5) - 2.0f;
        }
    }
    return 1;
}

static double rate(size_t size, size_t threads, double seconds)
{
    static struct job jobs[MAX_THREADS];
    double result = 0;
    if (prepare(jobs, threads, size)) {
        const double once = run(jobs, threads, 2) / 2;
        const size_t count = once > 0 && once < seconds ? (size_t)(seconds / once) : 1;
        const double time = run(jobs, threads, count);
        if (once > 0 && time > 0) result = 2.0 * (double)(size * size * size * count * threads) / time;
    }
    for (size_t i = 0; i < threads; i++) {
        free(jobs[i].a);
        free(jobs[i].b);
        free(jobs[i].c);
    }
    return result;
}

static void name_the_processor(char **argv)
{
#if defined(__x86_64__)
    const char *taken_for = openblas_get_corename();
    const int misjudged = strcmp(taken_for, "Prescott") == 0 || strcmp(taken_for, "Core2") == 0;
    if (!misjudged || !__builtin_cpu_supports("avx2") || getenv("OPENBLAS_CORETYPE") != NULL) return;
    setenv("OPENBLAS_CORETYPE", __builtin_cpu_supports("avx512vl") ? "SkylakeX" : "Haswell", 1);
    execv("/proc/self/exe", argv);
#else
    (void)argv;
#endif
}

int main(int argc, char **argv)
{
    char line[200];
    size_t size, threads;
    double seconds;
    (void)argc;
    name_the_processor(argv);
    openblas_set_num_threads(1);
    printf("%s\n", openblas_get_config());
    fflush(stdout);
    while (fgets(line, sizeof line, stdin) != NULL) {
        double value = 0;
        if (sscanf(line, "product %zu %zu %lf", &size, &threads, &seconds) == 3 && threads >= 1 &&
            threads <= MAX_THREADS)
            value = rate(size, threads, seconds);
        if (value > 0)
            printf("%.0f\n", value);
        else
            printf("skip\n");
        fflush(stdout);
    }
    return 0;
}
