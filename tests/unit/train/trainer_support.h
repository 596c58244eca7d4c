/* Shared by the tests of the trainer: a bench with a directory, a small corpus, options of a tiny network, a clock that
 * moves only when it is asked, and a record of the callbacks. The tests of the learner do not need it. */
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

/* Runs that must not fail: a new one, a resumed one. */
void bench_start(struct bench *bench);
void bench_resume(struct bench *bench);

/* A new run that must end so. */
void bench_run_to(struct bench *bench, enum trainer_end end);

/* A run that must fail with that code, and with a message that holds `text`. */
void bench_refuse(struct bench *bench, bool resume, enum error_code code, const char *text);

/* Starts a run that is stopped early; the next one is not. */
void bench_interrupt(struct bench *bench);

/* The bytes of the published model.safetensors. */
struct weights {
    char *data;
    size_t size;
};
struct weights bench_weights(const struct bench *bench);
void weights_free(struct weights weights);
/* Frees both. */
void assert_same_weights(struct weights a, struct weights b);
/* Those that are published now; frees neither. */
void assert_published(const struct bench *bench, struct weights expected);
bool bench_has_model(const struct bench *bench);

/* A number of the published config.json's "training". */
double bench_training_number(const struct bench *bench, const char *key);

/* A group's set-up: snapshots do not wait for the disk. */
int skip_the_wait_for_the_disk(void **state);

#endif
