#include "tests/unit/train/trainer_support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/rng.h"
#include "model/files/checkpoint.h"

static void write_corpus(const char *path, size_t lines)
{
    static const char *const words[] = {"oil", "prices", "rise", "fall", "again", "on", "the", "market", "quietly"};
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    struct rng rng;
    rng_seed(&rng, 7, 0);
    for (size_t i = 0; i < lines; i++) {
        for (size_t n = 2 + rng_below(&rng, 4); n > 0; n--)
            fprintf(file, "%s%s", words[rng_below(&rng, sizeof words / sizeof *words)], n > 1 ? " " : "\n");
    }
    fclose(file);
}

static const char *bench_path(const struct bench *bench, const char *name)
{
    char *path = path_join(bench->directory, name, NULL);
    assert_non_null(path);
    return path;
}

void bench_open(struct bench *bench, size_t lines)
{
    memset(bench, 0, sizeof *bench);
    bench->directory = temp_dir_new();
    bench->data = bench_path(bench, "corpus.txt");
    bench->out = bench_path(bench, "model");
    bench->work = bench_path(bench, "model.train");
    write_corpus(bench->data, lines);
    bench->tick_ns = 1000000;
    struct trainer_options *options = &bench->options;
    trainer_options_default(options);
    options->data = bench->data;
    options->format = CORPUS_LINES;
    options->hidden = 12;
    options->batch = 4;
    options->window = 8;
    options->epochs = 3;
    options->threads = 1;
    options->rate = 0.01;
    options->sample_length = 10;
    options->snapshot_seconds = 0;
}

void bench_close(struct bench *bench)
{
    free((char *)bench->data);
    free((char *)bench->out);
    free((char *)bench->work);
    temp_dir_remove(bench->directory);
}

static uint64_t now_ns(void *context)
{
    struct bench *bench = context;
    bench->now += bench->tick_ns;
    if (++bench->asked == bench->stop_after) atomic_store(&bench->stop, true);
    return bench->now;
}

static void record_note(void *context, const char *text)
{
    struct bench *bench = context;
    bench->notes++;
    snprintf(bench->note, sizeof bench->note, "%s", text);
}

static void record_progress(void *context, const struct trainer_progress *told)
{
    struct bench *bench = context;
    bench->reports++;
    bench->progress = *told;
}

static void record_validation(void *context, const struct trainer_validation *told)
{
    struct bench *bench = context;
    bench->validations++;
    bench->validation = *told;
    bench->evaluation = *told->evaluation;
    bench->validation.evaluation = &bench->evaluation;
}

static void record_sample(void *context, const struct trainer_sample *told)
{
    struct bench *bench = context;
    bench->samples++;
    size_t n = strlen(bench->sampled);
    snprintf(bench->sampled + n, sizeof bench->sampled - n, "%.1f %s|%s\n", told->temperature, told->prompt,
             told->text);
}

bool bench_run(struct bench *bench, bool resume)
{
    const struct trainer_callbacks callbacks = {.context = bench,
                                                .now_ns = now_ns,
                                                .note = record_note,
                                                .progress = record_progress,
                                                .validation = record_validation,
                                                .sample = record_sample,
                                                .stop = &bench->stop,
                                                .memory_limit = bench->memory_limit};
    bench->asked = bench->notes = bench->reports = bench->validations = bench->samples = 0;
    bench->note[0] = bench->sampled[0] = 0;
    atomic_store(&bench->stop, bench->stop_at_once);
    error_clear(&bench->err);
    return trainer_run(&bench->options, bench->out, resume, &callbacks, &bench->result, &bench->err);
}

void bench_start(struct bench *bench)
{
    if (!bench_run(bench, false)) fail_msg("%s", bench->err.message);
}

void bench_resume(struct bench *bench)
{
    if (!bench_run(bench, true)) fail_msg("%s", bench->err.message);
}

void bench_run_to(struct bench *bench, enum trainer_end end)
{
    bench_start(bench);
    assert_int_equal(bench->result.end, end);
}

void bench_refuse(struct bench *bench, bool resume, enum error_code code, const char *text)
{
    assert_false(bench_run(bench, resume));
    assert_int_equal(bench->err.code, code);
    if (!strstr(bench->err.message, text)) fail_msg("\"%s\" lacks \"%s\"", bench->err.message, text);
}

void bench_interrupt(struct bench *bench)
{
    bench->stop_after = 25;
    bench_run_to(bench, TRAINER_INTERRUPTED);
    bench->stop_after = 0;
}

struct weights bench_weights(const struct bench *bench)
{
    struct weights weights = {0};
    struct error err = {0};
    if (!file_read(in_dir(bench->out, "model.safetensors"), (size_t)1 << 30, &weights.data, &weights.size, &err))
        fail_msg("%s", err.message);
    return weights;
}

void weights_free(struct weights weights)
{
    free(weights.data);
}

void assert_same_weights(struct weights a, struct weights b)
{
    assert_int_equal(a.size, b.size);
    assert_memory_equal(a.data, b.data, a.size);
    weights_free(a);
    weights_free(b);
}

void assert_published(const struct bench *bench, struct weights expected)
{
    struct weights now = bench_weights(bench);
    assert_int_equal(now.size, expected.size);
    assert_memory_equal(now.data, expected.data, now.size);
    weights_free(now);
}

bool bench_has_model(const struct bench *bench)
{
    return access(in_dir(bench->out, "model.safetensors"), F_OK) == 0;
}

double bench_training_number(const struct bench *bench, const char *key)
{
    struct model model;
    struct error err = {0};
    if (!model_load(&model, bench->out, &err)) fail_msg("%s", err.message);
    const json_t *value = json_object_get(json_object_get(model.config, "training"), key);
    assert_true(json_is_number(value));
    const double number = json_number_value(value);
    model_close(&model);
    return number;
}

int skip_the_wait_for_the_disk(void **state)
{
    (void)state;
    skip_fsync = true;
    return 0;
}
