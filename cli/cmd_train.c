/* lstmd train: the trainer in a terminal. */
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/memory.h"
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/progress.h"
#include "cli/train_options.h"
#include "model/train/trainer.h"

static atomic_bool stop;

static void on_signal(int number)
{
    (void)number;
    atomic_store(&stop, true);
}

/* The first signal asks the run to save its state and stop; the second one kills the process. */
static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

static uint64_t train_count_cores(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? (uint64_t)CPU_COUNT(&set) : 1;
}

static uint64_t now_ns(void *context)
{
    (void)context;
    return clock_monotonic_ns();
}

static void train_show_note(void *context, const char *text)
{
    progress_note(context, text);
}

static void train_show_progress(void *context, const struct trainer_progress *now)
{
    progress_show(context, now);
}

static void train_show_validation(void *context, const struct trainer_validation *told)
{
    progress_validation(context, told);
}

static void train_show_sample(void *context, const struct trainer_sample *told)
{
    progress_sample(context, told);
}

static int report_interrupted(const char *out, bool saved)
{
    if (saved)
        fprintf(stderr, "lstmd: interrupted; the run is saved in %s.train, go on with: lstmd train --out %s --resume\n",
                out, out);
    else
        fputs("lstmd: interrupted before the first step; there is nothing to resume\n", stderr);
    return 1;
}

/* Says what went wrong, and which snapshot is left. */
static int report_failed(const struct train_arguments *arguments, const struct trainer_result *result,
                         const struct error *err)
{
    command_fail(err);
    if (result->saved)
        fprintf(stderr, "lstmd: the run is saved in %s.train; %sgo on with: lstmd train --out %s --resume\n",
                arguments->out, err->code == ERROR_NO_SPACE ? "make room on the disk, then " : "", arguments->out);
    return 1;
}

static int report_diverged(const struct train_arguments *arguments, const struct trainer_result *result)
{
    fprintf(stderr,
            "lstmd: training diverged at step %llu: the loss is %.3g nats per token; try a smaller lr than %.3g",
            (unsigned long long)result->steps + 1, result->last_loss, arguments->trainer.rate);
    if (result->has_best)
        fprintf(stderr, "; the best model, of epoch %llu, stays in %s, the last snapshot in %s.train",
                (unsigned long long)result->best_epoch, arguments->out, arguments->out);
    fputc('\n', stderr);
    return 1;
}

static int report_done(const struct train_arguments *arguments, const struct trainer_result *result)
{
    if (result->within_epoch)
        fprintf(stderr, "%s in epoch %llu", trainer_end_name(result->end), (unsigned long long)result->epochs + 1);
    else
        fprintf(stderr, "%s after %llu epoch%s", trainer_end_name(result->end), (unsigned long long)result->epochs,
                result->epochs == 1 ? "" : "s");
    fprintf(stderr, ", %llu step%s, %.1f s; %zu parameters%s\n", (unsigned long long)result->steps,
            result->steps == 1 ? "" : "s", result->seconds, result->parameters,
            result->exact ? "" : "; the loss below is an estimate, lstmd eval gives it exactly");
    printf("%s nats_per_char=%.6f bits_per_char=%.6f epoch=%llu step=%llu\n", arguments->out,
           result->best.nats_per_character, result->best.bits_per_character, (unsigned long long)result->best_epoch,
           (unsigned long long)result->best_step);
    return 0;
}

static int train_report(const struct train_arguments *arguments, const struct trainer_result *result)
{
    if (result->end == TRAINER_INTERRUPTED) return report_interrupted(arguments->out, result->saved);
    if (result->end == TRAINER_DIVERGED) return report_diverged(arguments, result);
    return report_done(arguments, result);
}

static int train_run(struct train_arguments *arguments)
{
    struct progress progress;
    struct trainer_result result;
    struct error err = {0};
    const struct trainer_callbacks callbacks = {.context = &progress,
                                                .now_ns = now_ns,
                                                .note = train_show_note,
                                                .progress = train_show_progress,
                                                .validation = train_show_validation,
                                                .sample = train_show_sample,
                                                .stop = &stop,
                                                .memory_limit = memory_limit()};
    if (arguments->trainer.threads == 0) arguments->trainer.threads = train_count_cores();
    catch_signals();
    command_make_parent(arguments->out);
    progress_open(&progress, stderr);
    bool ok = trainer_run(&arguments->trainer, arguments->out, arguments->resume, &callbacks, &result, &err);
    progress_close(&progress);
    return ok ? train_report(arguments, &result) : report_failed(arguments, &result, &err);
}

int cmd_train(int argc, char **argv)
{
    struct arena arena = {0};
    struct train_arguments arguments;
    int exit_code;
    if (train_arguments_parse(argc, argv, &arguments, &arena, &exit_code)) exit_code = train_run(&arguments);
    arena_free(&arena);
    return exit_code;
}
