/* lstmd bench: this machine's limits, lstmd's speed, and that of peers, measured in turns within one run. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/arguments.h"
#include "cli/bench_limits.h"
#include "cli/bench_pattern.h"
#include "cli/bench_report.h"
#include "cli/bench_state.h"
#include "cli/bench_tasks.h"
#include "cli/bench_text.h"
#include "cli/commands.h"
#include "model/kernels/blas.h"
#include "model/network/quantize.h"

#define GIGA             1e9
#define STEP_VOCABULARY  84
#define TRAIN_VOCABULARY 65

struct flags {
    bool json, quick;
    const char *only, *kernels;
    int products;        /* of product_names */
    int64_t repetitions; /* 0: the default */
    struct option_list peer;
};

static const char *const product_names[] = {"own", "openblas", NULL};

static const struct option rows[] = {
    {"json", OPTION_BOOL, offsetof(struct flags, json), "false", 0, 0, NULL, NULL, "Prints JSON instead of a table."},
    {"quick", OPTION_BOOL, offsetof(struct flags, quick), "false", 0, 0, NULL, NULL,
     "Fewer and shorter repetitions, no large shapes: a first look, not a measurement."},
    {"repetitions", OPTION_INT, offsetof(struct flags, repetitions), "0", 0, BENCH_MAX_VALUES, NULL, NULL,
     "Number of measurements of each row; 0: 9, with --quick 2."},
    {"only", OPTION_TEXT, offsetof(struct flags, only), NULL, 1, 63, NULL, NULL,
     "Measures only rows whose name contains this text."},
    {"kernels", OPTION_TEXT, offsetof(struct flags, kernels), "auto", 1, 31, NULL, NULL,
     "Instruction set of lstmd's arithmetic; auto: the best one of this processor."},
    {"products", OPTION_CHOICE, offsetof(struct flags, products), "own", 0, 0, product_names, NULL,
     "openblas: also measures training, reading and products with OpenBLAS, in turns with lstmd's own kernels."},
    {"peer", OPTION_LIST, offsetof(struct flags, peer), NULL, 0, 0, NULL, NULL,
     "NAME=COMMAND: a program to measure beside lstmd (cli/bench_peer.h); may be repeated."},
};

static const struct command_line line = {
    .usage = "lstmd bench [--quick] [--json] [--repetitions N] [--only TEXT] [--kernels NAME] [--products openblas] "
             "[--peer NAME=COMMAND]...",
    .description = "Measures the limits of this machine (arithmetic, reading memory) and what lstmd does on it:\n"
                   "steps of one and of many sequences, and training, each with its ratio to the machine's limit.",
    .table = {rows, sizeof rows / sizeof rows[0], NULL, NULL},
};

static const struct bench_shape shapes[] = {
    {1, 128, TRAIN_VOCABULARY, 8, 50},  {1, 128, TRAIN_VOCABULARY, 64, 64},   {1, 128, TRAIN_VOCABULARY, 128, 100},
    {2, 512, TRAIN_VOCABULARY, 64, 64}, {2, 512, TRAIN_VOCABULARY, 128, 100}, {3, 1024, TRAIN_VOCABULARY, 64, 16},
};
#define SHAPES (sizeof shapes / sizeof shapes[0])

struct bench {
    struct flags flags;
    struct bench_report report;
    struct bench_peak peaks[BENCH_MAX_THREADS]; /* for 1, 2, ... threads */
    size_t max_threads;
    double seconds;              /* of one measurement */
    struct kernels with_library; /* kernels with OpenBLAS, for the last column */
    bool has_library;
};

/* A new row, or NULL if --only leaves it out. */
static struct bench_row *add_row(struct bench *bench, const char *name, const char *unit)
{
    if (bench->flags.only && !strstr(name, bench->flags.only)) return NULL;
    struct bench_row *row = bench_report_add(&bench->report, name, unit);
    if (row) fprintf(stderr, "bench: %s\n", name);
    return row;
}

static const char *bench_plural(size_t threads)
{
    return threads == 1 ? "thread" : "threads";
}

/* The column of OpenBLAS. */
static struct bench_series *library_series(struct bench *bench, struct bench_row *row)
{
    return &row->peers[bench->report.peer_count - 1];
}

/* ---- the machine ---- */

static double peak_rate(struct bench *bench, size_t threads)
{
    return bench_measure(&bench->peaks[threads - 1].work, bench->seconds / 2);
}

static void measure_peak(struct bench *bench, size_t threads)
{
    char name[64];
    snprintf(name, sizeof name, "arithmetic, %zu %s", threads, bench_plural(threads));
    struct bench_row *row = add_row(bench, name, "GFLOP/s");
    if (!row) return;
    peak_rate(bench, threads);
    for (size_t i = 0; i < bench->report.repetitions; i++) bench_add(&row->values, peak_rate(bench, threads) / GIGA);
}

/* One measurement of the limit, of each peer and of lstmd into `row` (NULL: to warm up). */
static bool measure_product_once(struct bench *bench, struct bench_product *product, struct bench_product *library,
                                 size_t threads, struct bench_row *row, struct error *err)
{
    const double peak = peak_rate(bench, threads);
    for (size_t i = 0; i < bench->report.peer_count; i++) {
        double rate;
        if (!bench_peer_product(&bench->report.peers[i], BENCH_PRODUCT_SIZE, threads, bench->seconds, &rate, err))
            return false;
        if (row && rate > 0) bench_add(&row->peers[i], rate / GIGA);
    }
    const double other = bench->has_library ? bench_measure(&library->work, bench->seconds) : 0;
    const double rate = bench_measure(&product->work, bench->seconds);
    if (!row) return true;
    if (other > 0) bench_add(library_series(bench, row), other / GIGA);
    bench_add(&row->limits, peak / GIGA);
    bench_add(&row->values, rate / GIGA);
    return true;
}

static bool measure_product(struct bench *bench, size_t threads, struct error *err)
{
    char name[64];
    struct bench_product product, library = {.work = {.team = NULL}};
    snprintf(name, sizeof name, "product %d, %zu %s", BENCH_PRODUCT_SIZE, threads, bench_plural(threads));
    struct bench_row *row = add_row(bench, name, "GFLOP/s");
    if (!row) return true;
    bool ok = bench_product_open(&product, bench->report.kernels, threads, err) &&
              (!bench->has_library || bench_product_open(&library, &bench->with_library, threads, err)) &&
              measure_product_once(bench, &product, &library, threads, NULL, err);
    for (size_t i = 0; ok && i < bench->report.repetitions; i++)
        ok = measure_product_once(bench, &product, &library, threads, row, err);
    bench_product_close(&product);
    bench_product_close(&library);
    return ok;
}

static bool measure_read(struct bench *bench, const struct bench_level *level, size_t threads, struct error *err)
{
    char name[64];
    struct bench_read read;
    const size_t kib = level->bytes >> 10;
    snprintf(name, sizeof name, "bandwidth %s (%zu %s), %zu %s", level->name, kib < 1024 ? kib : kib >> 10,
             kib < 1024 ? "KiB" : "MiB", threads, bench_plural(threads));
    struct bench_row *row = add_row(bench, name, "GB/s");
    if (!row) return true;
    const bool ok = bench_read_open(&read, bench->report.kernels, threads, level->bytes, err);
    for (size_t i = 0; ok && i < bench->report.repetitions; i++)
        bench_add(&row->values, bench_measure(&read.work, bench->seconds / 2) / GIGA);
    bench_read_close(&read);
    return ok;
}

static bool measure_machine(struct bench *bench, struct error *err)
{
    struct bench_level levels[BENCH_LEVELS];
    bench_levels(levels);
    for (size_t threads = 1; threads <= bench->max_threads; threads++) measure_peak(bench, threads);
    for (size_t threads = 1; threads <= bench->max_threads; threads++)
        if (!measure_product(bench, threads, err)) return false;
    for (size_t i = 0; i < BENCH_LEVELS; i++)
        for (size_t threads = 1; threads <= bench->max_threads; threads++)
            if (!measure_read(bench, &levels[i], threads, err)) return false;
    return true;
}

/* ---- lstmd ---- */

/* Each shape is stepped in these formats: a row per format, measured in turns with the peers. */
enum {
    FORMATS = 3 /* f32, bf16, int8 */
};
static const enum kernel_format formats[FORMATS] = {KERNEL_F32, KERNEL_BF16, KERNEL_INT8};

struct stepping_row {
    struct bench_row *row; /* NULL: left out */
    struct bench_stepping stepping;
    struct bench_read read; /* of one sequence */
};

/* The limit of one sequence: its weights cannot be read faster than a buffer of their size, by all threads together.
 * The limit of many: their products are multiply-adds; the integers of int8 may be faster. */
static bool open_stepping_row(struct stepping_row *one, const struct kernels *kernels,
                              const struct bench_step_shape *shape, struct error *err)
{
    if (!bench_stepping_open(&one->stepping, kernels, shape, err)) return false;
    if (shape->batch > 1) return true;
    const size_t bytes = step_weights_bytes(&one->stepping.stepper.weights);
    return bench_read_open(&one->read, kernels, shape->threads, bytes / shape->threads, err);
}

static double stepping_limit(struct bench *bench, const struct bench_step_shape *shape, struct bench_read *read)
{
    if (shape->batch > 1) return peak_rate(bench, shape->threads) / bench_stepping_operations(shape);
    return bench_measure(&read->work, bench->seconds / 2) / read->work.units;
}

/* Measures the peers, then every format, once each. The first call warms up and keeps no figures. */
static bool measure_stepping_once(struct bench *bench, const struct bench_step_shape *shape,
                                  struct stepping_row all[FORMATS], bool keep, struct error *err)
{
    for (size_t i = 0; i < bench->report.peer_count; i++) {
        double rate;
        if (!bench_peer_step(&bench->report.peers[i], shape, bench->seconds, &rate, err)) return false;
        for (size_t f = 0; keep && rate > 0 && f < FORMATS; f++)
            if (all[f].row) bench_add(&all[f].row->peers[i], rate);
    }
    for (size_t f = 0; f < FORMATS; f++) {
        if (!all[f].row) continue;
        const double limit = stepping_limit(bench, shape, &all[f].read);
        const double rate = bench_measure(&all[f].stepping.work, bench->seconds);
        if (!keep) continue;
        bench_add(&all[f].row->limits, limit);
        bench_add(&all[f].row->values, rate);
    }
    return true;
}

static bool measure_stepping(struct bench *bench, struct bench_step_shape shape, struct error *err)
{
    struct stepping_row all[FORMATS] = {{.row = NULL}};
    bool ok = true, wanted = false;
    for (size_t f = 0; f < FORMATS; f++) {
        char name[64];
        shape.format = formats[f];
        snprintf(name, sizeof name, "step %ux%u %s B=%zu, sampled, %zu %s", shape.layers, shape.hidden,
                 kernel_format_name(shape.format), shape.batch, shape.threads, bench_plural(shape.threads));
        all[f].row = add_row(bench, name, "chars/s");
        if (!all[f].row) continue;
        wanted = true;
        ok = ok && open_stepping_row(&all[f], bench->report.kernels, &shape, err);
    }
    for (size_t i = 0; wanted && ok && i <= bench->report.repetitions; i++)
        ok = measure_stepping_once(bench, &shape, all, i > 0, err);
    for (size_t f = 0; f < FORMATS; f++) {
        bench_read_close(&all[f].read);
        bench_stepping_close(&all[f].stepping);
    }
    return ok;
}

static bool measure_all_stepping(struct bench *bench, struct error *err)
{
    static const struct bench_step_shape sizes[] = {{.layers = 1, .hidden = 128, .vocabulary = STEP_VOCABULARY},
                                                    {.layers = 2, .hidden = 512, .vocabulary = STEP_VOCABULARY},
                                                    {.layers = 3, .hidden = 1024, .vocabulary = STEP_VOCABULARY}};
    static const size_t batches[] = {1, 8, 32, 128};
    const size_t size_count = bench->flags.quick ? 1 : sizeof sizes / sizeof sizes[0];
    for (size_t i = 0; i < size_count; i++) {
        for (size_t b = 0; b < sizeof batches / sizeof batches[0]; b++) {
            for (size_t threads = 1; threads <= bench->max_threads; threads++) {
                struct bench_step_shape shape = sizes[i];
                shape.batch = batches[b];
                shape.threads = threads;
                if (!measure_stepping(bench, shape, err)) return false;
            }
        }
    }
    return true;
}

/* Measures texts that are read in pieces. The limit is the rate of reading them token by token. */
static bool measure_text(struct bench *bench, const struct bench_text_shape *shape, struct error *err)
{
    struct bench_text text;
    char name[64];
    snprintf(name, sizeof name, "reading %ux%u f32 V=%u, 1 thread", shape->layers, shape->hidden, shape->vocabulary);
    struct bench_row *row = add_row(bench, name, "chars/s");
    if (!row) return true;
    const bool ok = bench_text_open(&text, bench->report.kernels, shape, bench->has_library, err);
    for (size_t i = 0; ok && i <= bench->report.repetitions; i++) {
        const double steps = bench_measure(&text.steps, bench->seconds);
        const double library = bench->has_library ? bench_measure(&text.library, bench->seconds) : 0;
        const double pieces = bench_measure(&text.pieces, bench->seconds);
        if (i == 0) continue; /* warms up */
        bench_add(&row->limits, steps);
        if (library > 0) bench_add(library_series(bench, row), library);
        bench_add(&row->values, pieces);
    }
    bench_text_close(&text);
    return ok;
}

static bool measure_texts(struct bench *bench, struct error *err)
{
    static const struct bench_text_shape texts[] = {
        {1, 128, STEP_VOCABULARY}, {2, 512, STEP_VOCABULARY}, {2, 512, 10000}, {3, 1024, STEP_VOCABULARY}};
    const size_t count = bench->flags.quick ? 1 : sizeof texts / sizeof *texts;
    for (size_t i = 0; i < count; i++)
        if (!measure_text(bench, &texts[i], err)) return false;
    return true;
}

/* Measures tokens under a pattern. The limit is the rate without one. */
static bool measure_patterns(struct bench *bench, struct error *err)
{
    struct bench_pattern pattern = {.pattern = NULL};
    struct bench_row *masked = add_row(bench, "pattern 1x128 V=84 B=1, 1 thread", "chars/s");
    struct bench_row *masks = add_row(bench, "pattern masks V=84, 1 thread", "masks/s");
    if (!masked && !masks) return true;
    const bool ok = bench_pattern_open(&pattern, bench->report.kernels, 128, err);
    for (size_t i = 0; ok && i <= bench->report.repetitions; i++) {
        const double plain = bench_measure(&pattern.stepping.work, bench->seconds);
        const double rate = bench_measure(&pattern.masked, bench->seconds);
        const double alone = bench_measure(&pattern.masks, bench->seconds / 2);
        if (i == 0) continue; /* warms up */
        if (masked) bench_add(&masked->limits, plain);
        if (masked) bench_add(&masked->values, rate);
        if (masks) bench_add(&masks->values, alone);
    }
    bench_pattern_close(&pattern);
    return ok;
}

/* A row about states of LxH; NULL: --only leaves it out. */
static struct bench_row *add_state_row(struct bench *bench, const char *what, uint32_t layers, uint32_t hidden,
                                       const char *unit)
{
    char name[64];
    snprintf(name, sizeof name, "state %s %lux%lu", what, (unsigned long)layers, (unsigned long)hidden);
    return add_row(bench, name, unit);
}

static void measure_state(struct bench *bench, struct bench_work *work, struct bench_row *row)
{
    for (size_t i = 0; row && i <= bench->report.repetitions; i++) {
        const double rate = bench_measure(work, bench->seconds / 4);
        if (i > 0) bench_add(&row->values, rate); /* the first warms up */
    }
}

/* States that clients keep: the length of one as text, and how many are written and read per second. */
static bool measure_states(struct bench *bench, uint32_t layers, uint32_t hidden, struct error *err)
{
    struct bench_state state;
    struct bench_row *text = add_state_row(bench, "text", layers, hidden, "characters");
    struct bench_row *writes = add_state_row(bench, "write", layers, hidden, "states/s");
    struct bench_row *reads = add_state_row(bench, "read", layers, hidden, "states/s");
    struct bench_row *digest = add_state_row(bench, "digest of the weights", layers, hidden, "MB/s");
    if (!text && !writes && !reads && !digest) return true;
    const bool ok = bench_state_open(&state, layers, hidden, err);
    if (ok) {
        if (text) bench_add(&text->values, (double)state.size);
        measure_state(bench, &state.write, writes);
        measure_state(bench, &state.read, reads);
        measure_state(bench, &state.digest, digest);
    }
    bench_state_close(&state);
    return ok;
}

/* The peer's rate of training. If it has none but multiplies: the rate if training consisted of its products alone. 0:
 * neither. */
static bool peer_training_rate(struct bench *bench, struct bench_peer *peer, const struct bench_shape *shape,
                               size_t threads, double *rate, struct error *err)
{
    if (!bench_peer_train(peer, shape, threads, bench->seconds, rate, err)) return false;
    if (*rate > 0) return true;
    if (!bench_peer_product(peer, BENCH_PRODUCT_SIZE, threads, bench->seconds, rate, err)) return false;
    *rate /= bench_training_operations(shape);
    return true;
}

/* The same training with lstmd's kernels and with OpenBLAS's products. */
struct training_pair {
    struct bench_training own, library;
};

/* One measurement of the limit, of each peer and of lstmd into `row` (NULL: to warm up). */
static bool measure_training_once(struct bench *bench, struct training_pair *training, const struct bench_shape *shape,
                                  size_t threads, struct bench_row *row, struct error *err)
{
    const double peak = peak_rate(bench, threads);
    for (size_t i = 0; i < bench->report.peer_count; i++) {
        double rate;
        if (!peer_training_rate(bench, &bench->report.peers[i], shape, threads, &rate, err)) return false;
        if (row && rate > 0) bench_add(&row->peers[i], rate);
    }
    const double other = bench->has_library ? bench_measure(&training->library.work, bench->seconds) : 0;
    const double rate = bench_measure(&training->own.work, bench->seconds);
    if (!row) return true;
    if (other > 0) bench_add(library_series(bench, row), other);
    bench_add(&row->limits, peak / bench_training_operations(shape));
    bench_add(&row->values, rate);
    return true;
}

static bool measure_training(struct bench *bench, const struct bench_shape *shape, size_t threads, struct error *err)
{
    char name[64];
    struct training_pair training = {.own = {.learner = NULL}};
    snprintf(name, sizeof name, "train %ux%u B=%zu T=%zu, %zu %s", shape->layers, shape->hidden, shape->batch,
             shape->window, threads, bench_plural(threads));
    struct bench_row *row = add_row(bench, name, "chars/s");
    if (!row) return true;
    bool ok =
        bench_training_open(&training.own, bench->report.kernels, shape, threads, err) &&
        (!bench->has_library || bench_training_open(&training.library, &bench->with_library, shape, threads, err)) &&
        measure_training_once(bench, &training, shape, threads, NULL, err);
    for (size_t i = 0; ok && i < bench->report.repetitions; i++)
        ok = measure_training_once(bench, &training, shape, threads, row, err);
    bench_training_close(&training.own);
    bench_training_close(&training.library);
    return ok;
}

static bool measure_all(struct bench *bench, struct error *err)
{
    const size_t shape_count = bench->flags.quick ? SHAPES - 2 : SHAPES;
    if (!measure_machine(bench, err) || !measure_all_stepping(bench, err) || !measure_texts(bench, err) ||
        !measure_patterns(bench, err) || !measure_states(bench, 1, 128, err) || !measure_states(bench, 3, 1024, err))
        return false;
    for (size_t i = 0; i < shape_count; i++)
        for (size_t threads = 1; threads <= bench->max_threads; threads++)
            if (!measure_training(bench, &shapes[i], threads, err)) return false;
    return true;
}

/* ---- the command ---- */

static bool choose_kernels(struct bench *bench, struct error *err)
{
    bench->report.kernels = kernels_select(bench->flags.kernels);
    return bench->report.kernels ||
           error_set(err, ERROR_USAGE, "--kernels: this machine cannot run \"%s\"; it can run %s", bench->flags.kernels,
                     kernels_names());
}

/* Adds a column for OpenBLAS, after those of the peers. */
static bool add_library(struct bench *bench, struct error *err)
{
    struct bench_report *report = &bench->report;
    if (bench->flags.products == 0) return true;
    if (!blas_load(err)) return false;
    blas_kernels(report->kernels, PRODUCTS_STREAMS, &bench->with_library);
    bench_peer_name(&report->peers[report->peer_count++], "products", blas_name());
    bench->has_library = true;
    return true;
}

static bool bench_prepare(struct bench *bench, struct error *err)
{
    struct bench_report *report = &bench->report;
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    bench->max_threads = cores >= BENCH_MAX_THREADS ? BENCH_MAX_THREADS : 1;
    bench->seconds = bench->flags.quick ? 0.05 : 0.4;
    report->repetitions = bench->flags.quick ? 2 : 9;
    if (bench->flags.repetitions > 0) report->repetitions = (size_t)bench->flags.repetitions;
    if (getloadavg(&report->load, 1) < 1) report->load = 0;
    if (!choose_kernels(bench, err)) return false;
    for (size_t i = 0; i < bench->max_threads; i++)
        if (!bench_peak_open(&bench->peaks[i], report->kernels, i + 1, err)) return false;
    const struct option_list *peers = &bench->flags.peer;
    if (peers->count >= BENCH_MAX_PEERS)
        return error_set(err, ERROR_USAGE, "--peer: at most %d peers", BENCH_MAX_PEERS - 1);
    for (size_t i = 0; i < peers->count; i++)
        if (!bench_peer_open(&report->peers[report->peer_count++], peers->items[i], err)) return false;
    return add_library(bench, err);
}

static void bench_finish(struct bench *bench)
{
    for (size_t i = 0; i < bench->report.peer_count; i++) bench_peer_close(&bench->report.peers[i]);
    for (size_t i = 0; i < BENCH_MAX_THREADS; i++) bench_peak_close(&bench->peaks[i]);
}

static bool bench_run(struct bench *bench, struct error *err)
{
    if (!bench_prepare(bench, err) || !measure_all(bench, err)) return false;
    if (bench->report.count == 0)
        return error_set(err, ERROR_INVALID, "--only: no row's name contains \"%s\"", bench->flags.only);
    if (bench->flags.json) return bench_report_print_json(&bench->report, stdout, err);
    bench_report_print(&bench->report, stdout);
    return true;
}

int cmd_bench(int argc, char **argv)
{
    static struct bench bench; /* large */
    struct arena arena = {0};
    struct error err = {0};
    int exit_code;
    if (arguments_parse(&line, argc, argv, &bench.flags, &arena, &exit_code)) {
        if (!bench_run(&bench, &err)) exit_code = command_fail(&err);
        bench_finish(&bench);
    }
    arena_free(&arena);
    return exit_code;
}
