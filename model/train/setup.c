#include "model/train/setup.h"

#include <stdlib.h>
#include <string.h>

#include "model/files/checkpoint.h"
#include "model/kernels/blas.h"
#include "model/train/directories.h"
#include "model/train/fit.h"
#include "model/train/resume.h"

#define KINDS_SIZE 512 /* bytes of a list of skipped pieces */

/* ---------------------------------------------------------------- options that follow the text */

static void fit_batch(struct training_run *run)
{
    struct trainer_options *options = &run->options;
    const uint64_t targets = run->data.dataset.token_count - 1, batch = options->batch, window = options->window;
    trainer_options_fit(options, targets);
    if (batch && options->batch < batch)
        training_run_note(run, "the corpus has only %llu tokens: batch reduced from %llu to %llu",
                          (unsigned long long)targets, (unsigned long long)batch, (unsigned long long)options->batch);
    if ((!batch && options->batch < FIT_BATCH) || (!window && options->window < FIT_BPTT))
        training_run_note(run,
                          "this text is small (%llu tokens): batch is %llu and bptt %llu; large texts get %d and %d",
                          (unsigned long long)targets, (unsigned long long)options->batch,
                          (unsigned long long)options->window, FIT_BATCH, FIT_BPTT);
}

/* A small corpus makes a short run. A warm-up that was meant for longer runs must not take it up. */
static void fit_warmup(struct training_run *run)
{
    const uint64_t steps = training_run_steps(run), wanted = run->schedule.warmup, longest = steps / 4;
    if (wanted <= longest || run->options.max_minutes > 0) return;
    run->schedule.warmup = longest;
    training_run_note(run, "the run has only %llu steps: warm-up reduced from %llu to %llu", (unsigned long long)steps,
                      (unsigned long long)wanted, (unsigned long long)longest);
}

/* ---------------------------------------------------------------- network and learner */

/* Who multiplies. It follows from the processor, so a resumed run chooses as it did before. */
static bool choose_products(struct training_run *run, bool resumed, struct error *err)
{
    struct error cause = {0};
    enum products chosen;
    const uint64_t threads = run->options.threads, batch = run->options.batch;
    run->kernels = kernels_select("auto");
    if (!products_choose((enum products)run->options.products, run->kernels, &chosen, &cause)) {
        if (!resumed || !run->options.other_products) return error_set(err, cause.code, "%s", cause.message);
        training_run_note(run, "%s; the run goes on without it", cause.message);
        chosen = PRODUCTS_OWN;
    }
    run->options.products = (int)chosen;
    if (chosen != PRODUCTS_OPENBLAS) return true;
    blas_kernels(run->kernels, batch > threads ? batch / threads : 1, &run->with_library);
    run->kernels = &run->with_library;
    return true;
}

/* init: NULL, or the model that the run goes on from. Its network is closed. */
static bool fill_network(struct training_run *run, struct model *init, struct error *err)
{
    struct network *network = &run->network;
    if (!init) return network_initialise(network, run->options.seed, err);
    memcpy(network->parameters, init->network.parameters, network->parameter_count * sizeof *network->parameters);
    network_close(&init->network);
    return true;
}

static bool open_learner(struct training_run *run, struct model *init, struct error *err)
{
    const struct trainer_options *options = &run->options;
    const struct architecture architecture = trainer_architecture(options, vocabulary_size(run->data.vocabulary));
    if (!trainer_options_check_memory(options, architecture.vocabulary_size, run->callbacks->memory_limit, err))
        return false;
    if (!network_open(&run->network, &architecture, err) || !fill_network(run, init, err)) return false;
    struct learner_options learner = training_learner_options(options);
    learner.reset_token = vocabulary_eos(run->data.vocabulary);
    learner.kernels = run->kernels;
    run->learner = learner_new(&run->network, &learner, err);
    return run->learner;
}

static bool open_streams(struct training_run *run, struct error *err)
{
    const struct trainer_options *options = &run->options;
    if (!streams_open(&run->streams, &run->data.dataset, options->batch, options->seed, run->state.epoch, err))
        return false;
    size_t window = run->streams.batch * options->window; /* bounded by learner_bytes() */
    run->inputs = arena_alloc(&run->arena, window, sizeof *run->inputs, "a window", err);
    run->targets = arena_alloc(&run->arena, window, sizeof *run->targets, "a window", err);
    run->steps_per_epoch = (run->streams.length + options->window - 1) / options->window;
    return run->inputs && run->targets;
}

/* ---------------------------------------------------------------- notes about the text */

/* How much of a text is not learned from, and what. `skipped`: with labels. */
static void note_skipped(const struct training_run *run, const char *part, const struct dataset *dataset,
                         size_t skipped)
{
    const struct skipped_text *text = &dataset->skipped;
    const char *piece = run->options.level == TOKEN_LEVEL_WORD ? "word" : "character";
    const double share = (double)text->characters / (double)(dataset->characters + text->characters);
    char kinds[KINDS_SIZE];
    if (skipped > text->pieces)
        training_run_note(run, "%s: %zu label%s that the vocabulary lacks are skipped", part, skipped - text->pieces,
                          skipped - text->pieces == 1 ? "" : "s");
    if (text->pieces == 0) return;
    skipped_text_print(text, kinds, sizeof kinds);
    training_run_note(run, "%s: %zu %s%s that the vocabulary lacks %s skipped, %.2g %% of the text: %s", part,
                      text->pieces, piece, text->pieces == 1 ? "" : "s", text->pieces == 1 ? "is" : "are", 100 * share,
                      kinds);
}

/* U+FEFF, the mark at the start of a file, stays in the middle where files were joined. Nobody sees it, and the model
 * writes it. */
static bool has_mark(const struct vocabulary *vocabulary)
{
    static const char mark[] = "\xEF\xBB\xBF";
    for (uint32_t id = 0; id < vocabulary_size(vocabulary); id++) {
        size_t n;
        const char *token = vocabulary_token(vocabulary, id, &n);
        if (n >= sizeof mark - 1 && memcmp(token, mark, sizeof mark - 1) == 0) return true;
    }
    return false;
}

/* Tells what is learned and probably was not meant to be. */
static void note_oddities(const struct training_run *run)
{
    const struct training_data *data = &run->data;
    if (*data->header)
        training_run_note(run,
                          "the first row is taken as text: %s; with csv_header yes it is skipped, with no this note",
                          data->header);
    if (!run->options.init_from && has_mark(data->vocabulary))
        training_run_note(run, "the text holds U+FEFF, the invisible mark at the start of a file, as joined files do; "
                               "sed 's/\\xEF\\xBB\\xBF//g' takes it out");
}

static void note_text(const struct training_run *run)
{
    const struct training_data *data = &run->data;
    note_oddities(run);
    note_skipped(run, "training", &data->dataset, data->skipped_training);
    if (data->has_validation) note_skipped(run, "validation", &data->validation, data->skipped);
    if (data->unknown_part)
        training_run_note(run, "validation: nothing of the part held out is in the vocabulary: all is trained on");
    if (!data->has_validation)
        training_run_note(run, "no validation data: the training loss decides which model is the best");
}

/* ---------------------------------------------------------------- the whole run */

/* init: NULL, or the model that the run goes on from. It decides what the vocabulary and the network are. */
static bool open_data(struct training_run *run, struct model *init, struct error *err)
{
    /* Tokens that are too many for memory go to a file without a name beside the model. */
    const struct training_source source = {.name = run->callbacks->corpus_name,
                                           .directory = training_directories_parent(run->out, &run->arena, err),
                                           .stop = run->callbacks->stop};
    if (!source.directory) return false;
    if (init && !(model_load(init, run->options.init_from, err) && trainer_options_adopt(&run->options, init, err)))
        return error_add_context(err, "init_from");
    return training_data_open(&run->data, &run->options, &source, init, err);
}

/* snapshot: NULL, or what the run goes on from. */
static bool open_parts(struct training_run *run, const struct snapshot *snapshot, struct model *init, struct error *err)
{
    if (!open_data(run, init, err)) return false;
    fit_batch(run);
    if (!choose_products(run, snapshot, err)) return false;
    if (snapshot && !training_resume_check(run, snapshot, err)) return false;
    note_text(run);
    if (run->options.products == PRODUCTS_OPENBLAS) training_run_note(run, "products: %s", training_run_products(run));
    if (!open_learner(run, init, err) || !open_streams(run, err)) return false;
    fit_warmup(run);
    return !snapshot || training_resume_restore(run, snapshot, err);
}

static bool open_run(struct training_run *run, const struct snapshot *snapshot, struct error *err)
{
    struct model init = {0};
    const bool ok = open_parts(run, snapshot, run->options.init_from ? &init : NULL, err);
    model_close(&init);
    return ok;
}

static bool open_resumed(struct training_run *run, struct error *err)
{
    struct snapshot snapshot = {0};
    const bool opened = snapshot_open(&snapshot, run->work, err);
    if (opened) run->state = snapshot.state;
    const bool ok = opened && open_run(run, &snapshot, err);
    snapshot_close(&snapshot);
    return ok;
}

static bool check_directories(const struct training_run *run, bool resume, struct error *err)
{
    if (!resume && snapshot_exists(run->work))
        return error_set(err, ERROR_CONFLICT, "%s holds an unfinished run: resume it, or remove the directory",
                         run->work);
    if (resume && !training_resume_is_possible(run->work, err)) return false;
    return training_directories_check(run->out, err);
}

bool training_run_open(struct training_run *run, const struct trainer_options *options, const char *out, bool resume,
                       const struct trainer_callbacks *callbacks, struct error *err)
{
    *run = (struct training_run){.options = *options, .callbacks = callbacks};
    if (run->options.threads == 0) run->options.threads = 1;
    run->schedule = trainer_schedule_options(&run->options);
    run_state_init(&run->state);
    bool ok = trainer_options_validate(&run->options, err) &&
              training_directories_name(out, &run->out, &run->work, err) && check_directories(run, resume, err) &&
              (resume ? open_resumed(run, err) : open_run(run, NULL, err));
    run->snapshot_ns = run->started_ns = training_run_now(run);
    return ok;
}

void training_run_close(struct training_run *run)
{
    streams_close(&run->streams);
    learner_free(run->learner);
    network_close(&run->network);
    network_close(&run->best);
    training_data_close(&run->data);
    arena_free(&run->arena);
    free(run->out);
    free(run->work);
}
