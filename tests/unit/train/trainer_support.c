#include "tests/unit/train/trainer_support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/rng.h"

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

static const char *keep(const struct bench *bench, const char *name)
{
    char *path = path_join(bench->directory, name, NULL);
    assert_non_null(path);
    return path;
}

void bench_open(struct bench *bench, size_t lines)
{
    memset(bench, 0, sizeof *bench);
    bench->directory = temp_dir_new();
    bench->data = keep(bench, "corpus.txt");
    bench->out = keep(bench, "model");
    bench->work = keep(bench, "model.train");
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

static void note(void *context, const char *text)
{
    struct bench *bench = context;
    bench->notes++;
    snprintf(bench->note, sizeof bench->note, "%s", text);
}

static void progress(void *context, const struct trainer_progress *told)
{
    struct bench *bench = context;
    bench->reports++;
    bench->progress = *told;
}

static void validation(void *context, const struct trainer_validation *told)
{
    struct bench *bench = context;
    bench->validations++;
    bench->validation = *told;
    bench->evaluation = *told->evaluation;
    bench->validation.evaluation = &bench->evaluation;
}

static void sample(void *context, const struct trainer_sample *told)
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
                                                .note = note,
                                                .progress = progress,
                                                .validation = validation,
                                                .sample = sample,
                                                .stop = &bench->stop,
                                                .memory_limit = bench->memory_limit};
    bench->asked = bench->notes = bench->reports = bench->validations = bench->samples = 0;
    bench->note[0] = bench->sampled[0] = 0;
    atomic_store(&bench->stop, bench->stop_at_once);
    error_clear(&bench->err);
    return trainer_run(&bench->options, bench->out, resume, &callbacks, &bench->result, &bench->err);
}

char *bench_weights(const struct bench *bench, size_t *n)
{
    char *data = NULL;
    struct error err = {0};
    if (!file_read(in_dir(bench->out, "model.safetensors"), (size_t)1 << 30, &data, n, &err))
        fail_msg("%s", err.message);
    return data;
}

bool bench_has_model(const struct bench *bench)
{
    return access(in_dir(bench->out, "model.safetensors"), F_OK) == 0;
}
