/* What the tests of the trainer share: a bench with a directory, small corpora, options of a tiny network, a clock that
 * only moves when it is asked, and a record of what the callbacks were told. */
#ifndef LSTMD_TESTS_UNIT_TRAIN_TRAINER_SUPPORT_H
#define LSTMD_TESTS_UNIT_TRAIN_TRAINER_SUPPORT_H

#include <stdatomic.h>

#include "model/train/trainer.h"
#include "tests/unit/support.h"

struct bench {
    char *directory;
    const char *data, *out, *work; /* paths in it */
    struct trainer_options options;
    /* the clock: each question moves it by tick_ns */
    uint64_t now, tick_ns, asked;
    uint64_t stop_after; /* the run is stopped at that question; 0: never */
    bool stop_at_once;   /* before it reads its corpus */
    atomic_bool stop;
    size_t memory_limit;
    /* what was told */
    size_t notes, reports, validations, samples;
    char note[256]; /* the last one */
    struct trainer_progress progress;
    struct trainer_validation validation;
    struct evaluation evaluation;
    char sampled[4096]; /* all samples, one after the other */
    struct trainer_result result;
    struct error err;
};

/* A corpus of `lines` short lines; the text is the same for the same number. */
void bench_open(struct bench *bench, size_t lines);
void bench_close(struct bench *bench);

/* trainer_run() with fresh records. */
bool bench_run(struct bench *bench, bool resume);

/* The bytes of the published model.safetensors; free(). */
char *bench_weights(const struct bench *bench, size_t *n);
bool bench_has_model(const struct bench *bench);

#endif
