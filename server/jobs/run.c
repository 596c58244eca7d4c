#include "server/jobs/run.h"

#include <math.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/priority.h"
#include "model/train/snapshot.h"
#include "model/train/trainer.h"

#define NEWS_ON_THE_WAY 64 /* a run that is further ahead waits for the clerk */

/* How often a run tells its progress: several times a second at first, so that a short run has a curve; later less
 * often, so that the curve of a long one has a few thousand points. */
#define PROGRESS_MIN_SECONDS 0.2
#define PROGRESS_MAX_SECONDS 5.0
#define PROGRESS_PART        1e-3

struct job_run {
    struct task end_task; /* first */
    struct worker *clerk;
    void (*told)(struct run_news *news);
    void (*ended)(struct job_run *run);
    void *context;
    char *name, *model, *work, *data, *init_from;
    json_t *request;
    double snapshot_seconds;
    atomic_bool stop;
    pthread_t thread;
    bool has_thread, started; /* the thread waits for `may_start`, and looks at `started` then */
    sem_t may_start;
    sem_t room; /* for news */
    /* The thread's. */
    struct trainer_progress latest;
    double validation, best; /* nats per character; NaN: none yet */
    double told_seconds;     /* when progress was told last */
    struct trainer_result result;
    struct error err;
    enum run_end end;
};

/* ---- news ---- */

static json_t *json_of_number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static char *json_print_and_free(json_t *json)
{
    char *text = json ? json_text_print(json, JSON_COMPACT | JSON_REAL_PRECISION(9), &(size_t){0}, NULL) : NULL;
    json_decref(json);
    return text;
}

static char *print_progress(const struct job_run *run)
{
    const struct trainer_progress *now = &run->latest;
    return json_print_and_free(json_pack(
        "{s:I, s:I, s:I, s:I, s:f, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "epoch", (json_int_t)now->epoch,
        "epochs", (json_int_t)now->epochs, "step", (json_int_t)now->step, "steps", (json_int_t)now->steps, "fraction",
        now->fraction, "seconds", json_of_number(now->seconds), "eta_seconds", json_of_number(now->eta_seconds),
        "tokens_per_second", json_of_number(now->tokens_per_second), "chars_per_second",
        json_of_number(now->characters_per_second), "train_nats_per_char", json_of_number(now->nats_per_character),
        "validation_nats_per_char", json_of_number(run->validation), "best_validation_nats_per_char",
        json_of_number(run->best), "learning_rate", json_of_number(now->rate), "gradient_norm",
        json_of_number(now->gradient_norm)));
}

void run_news_free(struct run_news *news)
{
    sem_post(&news->run->room);
    free((char *)news->sample.prompt);
    free((char *)news->sample.text);
    free(news->event);
    free(news->progress);
    free(news);
}

static void news_deliver(struct task *task)
{
    struct run_news *news = (struct run_news *)task;
    news->run->told(news);
}

static struct run_news *news_new(struct job_run *run)
{
    struct run_news *news = calloc(1, sizeof *news);
    while (sem_wait(&run->room) != 0) continue;
    if (!news) {
        sem_post(&run->room);
        return NULL;
    }
    news->task.run = news_deliver;
    news->run = run;
    return news;
}

/* Drops news that memory was lacking for: the run goes on, and the next news has newer figures. */
static void news_send(struct run_news *news, bool complete)
{
    if (!complete || !worker_submit(news->run->clerk, &news->task)) run_news_free(news);
}

/* ---- what the trainer calls ---- */

static uint64_t run_now_ns(void *context)
{
    (void)context;
    return clock_monotonic_ns();
}

static void run_note(void *context, const char *text)
{
    struct job_run *run = context;
    log_event(LOG_INFO, "job note", LOG_TEXT("job", run->name), LOG_TEXT("note", text));
    struct run_news *news = news_new(run);
    if (!news) return;
    news->kind = NEWS_NOTE;
    news->event = json_print_and_free(json_pack("{s:o}", "text", json_safe_string(text, strlen(text))));
    news_send(news, news->event);
}

static void run_tell_progress(struct job_run *run)
{
    const struct trainer_progress *now = &run->latest;
    struct run_news *news = news_new(run);
    if (!news) return;
    news->kind = NEWS_PROGRESS;
    news->metric = (struct metric){.step = now->step,
                                   .epoch = now->epoch,
                                   .seconds = now->seconds,
                                   .train_nats = now->nats_per_character,
                                   .learning_rate = now->rate,
                                   .gradient_norm = now->gradient_norm,
                                   .tokens_per_second = now->tokens_per_second,
                                   .validation_nats = NAN};
    news->eta_seconds = now->eta_seconds;
    news->fraction = now->fraction;
    news->progress = print_progress(run);
    run->told_seconds = now->seconds;
    news_send(news, news->progress);
}

static void run_progress(void *context, const struct trainer_progress *now)
{
    struct job_run *run = context;
    const double wanted = fmax(PROGRESS_MIN_SECONDS, fmin(PROGRESS_MAX_SECONDS, PROGRESS_PART * now->seconds));
    run->latest = *now;
    if (!(now->seconds - run->told_seconds < wanted)) run_tell_progress(run);
}

static void run_validation(void *context, const struct trainer_validation *told)
{
    struct job_run *run = context;
    struct run_news *news = news_new(run);
    const double nats = told->held_out ? told->evaluation->nats_per_character : NAN;
    run->validation = nats;
    if (told->best) run->best = nats;
    run->latest.step = told->step;
    if (told->train_nats_per_character > 0) run->latest.nats_per_character = told->train_nats_per_character;
    if (run->latest.epoch < told->epoch) run->latest.epoch = told->epoch;
    if (!news) return;
    news->kind = NEWS_VALIDATION;
    news->metric = (struct metric){.step = told->step,
                                   .epoch = told->epoch,
                                   .seconds = run->latest.seconds,
                                   .train_nats = run->latest.nats_per_character,
                                   .learning_rate = NAN,
                                   .gradient_norm = NAN,
                                   .tokens_per_second = NAN,
                                   .validation_nats = nats};
    news->progress = print_progress(run);
    news->event = json_print_and_free(json_pack(
        "{s:I, s:I, s:o, s:o, s:o, s:o, s:b}", "epoch", (json_int_t)told->epoch, "step", (json_int_t)told->step,
        "validation_nats_per_char", json_of_number(nats), "validation_bits_per_char", json_of_number(nats / log(2)),
        "perplexity", json_of_number(told->held_out ? told->evaluation->perplexity : NAN), "train_nats_per_char",
        told->train_nats_per_character > 0 ? json_real(told->train_nats_per_character) : json_null(), "best",
        (int)told->best));
    news_send(news, news->progress && news->event);
}

/* A copy of the text with U+FFFD in place of what is not UTF-8; NULL: out of memory. */
static char *text_make_utf8(const char *text)
{
    json_t *json = json_safe_string(text, strlen(text));
    char *copy = json ? strdup(json_string_value(json)) : NULL;
    json_decref(json);
    return copy;
}

static void run_sample(void *context, const struct trainer_sample *told)
{
    struct run_news *news = news_new(context);
    if (!news) return;
    news->kind = NEWS_SAMPLE;
    news->sample =
        (struct job_sample){told->epoch, told->temperature, text_make_utf8(told->prompt), text_make_utf8(told->text)};
    if (news->sample.prompt && news->sample.text)
        news->event =
            json_print_and_free(json_pack("{s:I, s:f, s:s, s:s}", "epoch", (json_int_t)told->epoch, "temperature",
                                          told->temperature, "prompt", news->sample.prompt, "text", news->sample.text));
    news_send(news, news->event);
}

static void run_snapshot(void *context, uint64_t step)
{
    struct run_news *news = news_new(context);
    if (!news) return;
    news->kind = NEWS_CHECKPOINT;
    news->event = json_print_and_free(json_pack("{s:I}", "step", (json_int_t)step));
    news_send(news, news->event);
}

/* ---- the thread ---- */

static bool run_read_options(const struct job_run *run, struct trainer_options *options, struct error *err)
{
    trainer_options_default(options);
    options->snapshot_seconds = run->snapshot_seconds;
    if (!trainer_options_from_json(options, json_object_get(run->request, "options"), "the request", err)) return false;
    options->data = run->data;
    options->init_from = run->init_from;
    return true;
}

static bool run_train(struct job_run *run, struct error *err)
{
    struct trainer_options options;
    const char *dataset = json_string_value(json_object_get(run->request, "dataset"));
    json_t *provenance =
        json_pack("{s:s, s:O, s:O}", "job", run->name, "dataset", json_object_get(run->request, "dataset"), "init_from",
                  json_object_get(run->request, "init_from"));
    const struct trainer_callbacks callbacks = {.context = run,
                                                .now_ns = run_now_ns,
                                                .note = run_note,
                                                .progress = run_progress,
                                                .validation = run_validation,
                                                .sample = run_sample,
                                                .snapshot = run_snapshot,
                                                .stop = &run->stop,
                                                .provenance = provenance,
                                                .corpus_name = dataset ? dataset : "text",
                                                .keep_snapshot = true,
                                                .memory_limit = memory_limit()};
    bool ok = provenance || error_set_no_memory(err, 0, "a job");
    ok = ok && run_read_options(run, &options, err) &&
         trainer_run(&options, run->model, snapshot_exists(run->work), &callbacks, &run->result, err);
    json_decref(provenance);
    return ok;
}

static void run_judge(struct job_run *run, bool ok)
{
    struct error *err = &run->err;
    if (!ok) {
        run->end = err->code == ERROR_NO_SPACE ? RUN_NO_ROOM : RUN_FAILED;
        return;
    }
    run->end = RUN_DONE;
    if (run->result.end == TRAINER_INTERRUPTED) run->end = RUN_INTERRUPTED;
    if (run->result.end != TRAINER_DIVERGED) return;
    run->end = RUN_FAILED;
    error_set(err, ERROR_NUMERIC, "training diverged at step %llu: the loss is %.3g nats per token; try a smaller lr",
              (unsigned long long)run->result.steps + 1, run->result.last_loss);
}

static void run_deliver_end(struct task *task)
{
    struct job_run *run = (struct job_run *)task;
    run->ended(run);
}

static void *run_main(void *argument)
{
    struct job_run *run = argument;
    while (sem_wait(&run->may_start) != 0) continue;
    if (!run->started) return NULL;
    priority_lowest(); /* all threads that the trainer starts inherit it */
    run_judge(run, run_train(run, &run->err));
    if (run->end == RUN_DONE) {
        run->latest.step = run->latest.steps = run->result.steps;
        run->latest.epoch = run->result.epochs;
        run->latest.fraction = 1;
        run->latest.seconds = run->result.seconds;
        run->latest.eta_seconds = 0;
        if (isfinite(run->best)) run->best = run->result.best.nats_per_character;
        run_tell_progress(run);
    }
    run->end_task.run = run_deliver_end;
    worker_submit(run->clerk, &run->end_task); /* the clerk ends after its runs */
    return NULL;
}

/* ---- life ---- */

/* Takes up the figures that a resumed run begins with. */
static void run_take_up_figures(struct job_run *run, const json_t *progress)
{
    const json_t *last = json_object_get(progress, "validation_nats_per_char"),
                 *best = json_object_get(progress, "best_validation_nats_per_char");
    run->validation = json_is_number(last) ? json_number_value(last) : NAN;
    run->best = json_is_number(best) ? json_number_value(best) : NAN;
    run->latest = (struct trainer_progress){
        .epochs = (uint64_t)json_integer_value(json_object_get(json_object_get(run->request, "options"), "epochs")),
        .nats_per_character = NAN,
        .eta_seconds = NAN,
        .tokens_per_second = NAN,
        .characters_per_second = NAN,
        .rate = NAN,
        .gradient_norm = NAN};
    run->told_seconds = -INFINITY;
}

static bool run_copy_texts(struct job_run *run, const struct run_order *order, struct error *err)
{
    run->name = strdup(order->name);
    run->data = strdup(order->data);
    run->init_from = order->init_from ? strdup(order->init_from) : NULL;
    run->model = path_join(order->directory, "model", NULL);
    run->work = path_join(order->directory, "model.train", NULL);
    return (run->name && run->data && run->model && run->work && (run->init_from || !order->init_from)) ||
           error_set_no_memory(err, sizeof *run, "a job");
}

struct job_run *job_run_new(const struct run_order *order, struct error *err)
{
    struct job_run *run = calloc(1, sizeof *run);
    if (!run) {
        error_set_no_memory(err, sizeof *run, "a job");
        return NULL;
    }
    run->clerk = order->clerk;
    run->told = order->told;
    run->ended = order->ended;
    run->context = order->context;
    run->snapshot_seconds = order->snapshot_seconds;
    run->request = json_incref((json_t *)order->request);
    sem_init(&run->room, 0, NEWS_ON_THE_WAY);
    sem_init(&run->may_start, 0, 0);
    run_take_up_figures(run, order->progress);
    if (run_copy_texts(run, order, err)) {
        int code = pthread_create(&run->thread, NULL, run_main, run);
        run->has_thread = code == 0;
        if (code != 0) error_set_errno(err, code, "cannot start a thread for a job");
    }
    if (run->has_thread) return run;
    job_run_free(run);
    return NULL;
}

void job_run_start(struct job_run *run)
{
    run->started = true;
    sem_post(&run->may_start);
}

void job_run_stop(struct job_run *run)
{
    atomic_store(&run->stop, true);
}

void job_run_free(struct job_run *run)
{
    if (run->has_thread && !run->started) sem_post(&run->may_start);
    if (run->has_thread) pthread_join(run->thread, NULL);
    sem_destroy(&run->may_start);
    sem_destroy(&run->room);
    json_decref(run->request);
    free(run->name);
    free(run->model);
    free(run->work);
    free(run->data);
    free(run->init_from);
    free(run);
}

void *job_run_context(const struct job_run *run)
{
    return run->context;
}

enum run_end job_run_end(const struct job_run *run)
{
    return run->end;
}

const char *job_run_reason(const struct job_run *run)
{
    return run->err.message;
}

const char *job_run_model(const struct job_run *run)
{
    return run->model;
}

/* Five times the weights, which are the new snapshot (weights, two moments, perhaps an average) and the model beside
 * it, and a MiB for the rest. */
uint64_t job_run_room(const struct job_run *run)
{
    return (uint64_t)run->result.parameters * 5 * sizeof(float) + ((uint64_t)1 << 20);
}
