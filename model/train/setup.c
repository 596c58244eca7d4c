/* Opening a run: where it writes, what it reads, the network and its learner; and taking up a snapshot. */
#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/size.h"
#include "model/train/internal.h"

#define NOTE_SIZE 1024

/* Saving waits for the disk: an epoch of a tiny corpus takes a fraction of that. A run that is killed does what came
 * after its last snapshot again, to the same bits. */
#define SAVE_SECONDS 3.0

/* Where batch and bptt are left to the corpus (trainer_options_fit()). */
#define BATCH       64
#define BPTT        64
#define BPTT_SMALL  32
#define EPOCH_STEPS 240

void trainer_note(const struct trainer *trainer, const char *format, ...)
{
    if (!trainer->callbacks->note) return;
    char text[NOTE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    trainer->callbacks->note(trainer->callbacks->context, text);
}

bool trainer_stopped(const struct trainer *trainer)
{
    return trainer->callbacks->stop && atomic_load(trainer->callbacks->stop);
}

double trainer_seconds(const struct trainer *trainer)
{
    uint64_t now = trainer->callbacks->now_ns(trainer->callbacks->context);
    return trainer->earlier_seconds + (double)(now - trainer->started_ns) / 1e9;
}

bool trainer_may_save(const struct trainer *trainer)
{
    uint64_t now = trainer->callbacks->now_ns(trainer->callbacks->context);
    return !trainer->has_snapshot || (double)(now - trainer->snapshot_ns) / 1e9 >= SAVE_SECONDS;
}

bool trainer_snapshot(struct trainer *trainer, struct error *err)
{
    if (!trainer_publish_held(trainer, err)) return false;
    trainer->state.seconds = trainer_seconds(trainer);
    if (!snapshot_save(trainer->work, &trainer->options, training_data_describe(&trainer->data), &trainer->state,
                       &trainer->network, trainer->learner, err))
        return false;
    trainer->snapshot_ns = trainer->callbacks->now_ns(trainer->callbacks->context);
    trainer->has_snapshot = true;
    trainer->snapshot_wanted = false;
    if (trainer->callbacks->snapshot) trainer->callbacks->snapshot(trainer->callbacks->context, trainer->state.step);
    return true;
}

/* ---------------------------------------------------------------- directories */

/* `out` without trailing slashes, and `<out>.train`. */
static bool set_directories(const char *out, char **model, char **work, struct error *err)
{
    size_t n = strlen(out);
    while (n > 0 && out[n - 1] == '/') n--;
    const char *slash = memrchr(out, '/', n);
    const char *last = slash ? slash + 1 : out;
    size_t length = n - (size_t)(last - out);
    if (n == 0 || (length == 1 && last[0] == '.') || (length == 2 && memcmp(last, "..", 2) == 0))
        return error_set(err, ERROR_INVALID, "out is \"%s\": it must name a directory for the model", out);
    if (asprintf(model, "%.*s", (int)n, out) < 0) *model = NULL;
    if (asprintf(work, "%.*s.train", (int)n, out) < 0) *work = NULL;
    return (*model && *work) || error_set_no_memory(err, n, "a path");
}

/* Where tokens go that are too many for memory: a file without a name beside the model. */
static const char *parent_of(const char *path, struct arena *arena, struct error *err)
{
    const char *slash = strrchr(path, '/');
    if (!slash) return ".";
    return arena_copy_text(arena, path, slash == path ? 1 : (size_t)(slash - path), err);
}

static bool is_model_file(const char *name)
{
    static const char *const names[] = {".", "..", "config.json", "vocabulary.json", "model.safetensors"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(name, names[i]) == 0) return true;
    }
    return false;
}

/* Publishing replaces the whole directory, so it must hold a model or nothing. */
static bool check_replaceable(const char *out, struct error *err)
{
    DIR *directory = opendir(out);
    if (!directory) return errno == ENOENT || error_set_errno(err, errno, "%s", out);
    bool ok = true;
    for (struct dirent *entry; (ok = ok && directory_next(directory, out, &entry, err)) && entry;) {
        if (!is_model_file(entry->d_name))
            ok =
                error_set(err, ERROR_CONFLICT, "%s holds \"%s\", which is no part of a model: choose another directory",
                          out, entry->d_name);
    }
    closedir(directory);
    return ok;
}

/* Finds out before the training, not after it, that a model cannot be written. */
static bool check_writable(const char *out, struct error *err)
{
    struct directory_publish publish;
    if (!directory_publish_begin(&publish, out, err)) return false;
    directory_publish_abort(&publish);
    return true;
}

static bool check_directories(const struct trainer *trainer, bool resume, struct error *err)
{
    if (!resume && snapshot_exists(trainer->work))
        return error_set(err, ERROR_CONFLICT, "%s holds an unfinished run: resume it, or remove the directory",
                         trainer->work);
    if (resume && !snapshot_exists(trainer->work))
        return error_set(err, ERROR_NOT_FOUND, "there is nothing to resume: %s holds no snapshot", trainer->work);
    return check_replaceable(trainer->out, err) && check_writable(trainer->out, err);
}

/* ---------------------------------------------------------------- network and learner */

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

void trainer_options_fit(struct trainer_options *options, uint64_t targets)
{
    const uint64_t streams = options->batch ? options->batch : BATCH;
    const bool many = targets / streams / BPTT >= EPOCH_STEPS;
    if (!options->window) options->window = many ? BPTT : BPTT_SMALL;
    const uint64_t windows = targets / options->window;
    if (!options->batch) {
        options->batch = BATCH;
        while (options->batch > 1 && windows / options->batch < EPOCH_STEPS) options->batch /= 2;
    }
    options->batch = windows < 1 ? 1 : smaller(windows, options->batch);
}

static void fit_batch(struct trainer *trainer)
{
    struct trainer_options *options = &trainer->options;
    const uint64_t targets = trainer->data.dataset.token_count - 1, batch = options->batch, window = options->window;
    trainer_options_fit(options, targets);
    if (batch && options->batch < batch)
        trainer_note(trainer, "the corpus has only %llu tokens: batch reduced from %llu to %llu",
                     (unsigned long long)targets, (unsigned long long)batch, (unsigned long long)options->batch);
    if ((!batch && options->batch < BATCH) || (!window && options->window < BPTT))
        trainer_note(trainer,
                     "this text is small (%llu tokens): batch is %llu and bptt %llu; large texts get %d and %d",
                     (unsigned long long)targets, (unsigned long long)options->batch,
                     (unsigned long long)options->window, BATCH, BPTT);
}

/* A small corpus makes a short run, which a warm-up that was meant for longer ones must not take up. */
static void fit_warmup(struct trainer *trainer)
{
    const uint64_t steps = trainer_total_steps(trainer), wanted = trainer->schedule.warmup, longest = steps / 4;
    if (wanted <= longest || trainer->options.max_minutes > 0) return;
    trainer->schedule.warmup = longest;
    trainer_note(trainer, "the run has only %llu steps: warm-up reduced from %llu to %llu", (unsigned long long)steps,
                 (unsigned long long)wanted, (unsigned long long)longest);
}

static struct learner_options learner_options(const struct trainer_options *options)
{
    return (struct learner_options){.batch = options->batch,
                                    .window = options->window,
                                    .threads = options->threads,
                                    .dropout = options->dropout,
                                    .weight_drop = options->weight_drop,
                                    .seed = options->seed,
                                    .reset_token = TOKEN_NONE,
                                    .optimizer = trainer_optimizer_options(options),
                                    .average = options->average};
}

/* The learner, and the best weights while they wait to be published. */
static bool training_bytes(const struct trainer_options *options, uint32_t vocabulary_size_, size_t *bytes)
{
    const struct architecture architecture = trainer_architecture(options, vocabulary_size_);
    struct trainer_options fitted = *options;
    trainer_options_fit(&fitted, UINT64_MAX);
    const struct learner_options learner = learner_options(&fitted);
    struct network best;
    return learner_bytes(&architecture, &learner, bytes) && network_layout(&best, &architecture, NULL) &&
           size_add(*bytes, best.parameter_count * sizeof(float), bytes);
}

/* What would be needed if the option were at its default, or at half of less than that. */
static size_t bytes_without(const struct trainer_options *options, uint32_t vocabulary_size_, size_t field)
{
    struct trainer_options other = *options, defaults;
    trainer_options_default(&defaults);
    trainer_options_fit(&defaults, UINT64_MAX);
    uint64_t *value = (uint64_t *)(void *)((char *)&other + field);
    const uint64_t usual = *(const uint64_t *)(const void *)((const char *)&defaults + field);
    *value = *value > usual ? usual : (*value + 1) / 2;
    size_t bytes;
    return training_bytes(&other, vocabulary_size_, &bytes) ? bytes : SIZE_MAX;
}

/* The option that has the greatest part in what is needed. */
static const char *find_largest(const struct trainer_options *options, uint32_t vocabulary_size_, uint64_t *value)
{
    static const struct {
        const char *key;
        size_t field;
    } rows[] = {{"batch", offsetof(struct trainer_options, batch)},
                {"bptt", offsetof(struct trainer_options, window)},
                {"hidden", offsetof(struct trainer_options, hidden)},
                {"layers", offsetof(struct trainer_options, layers)}};
    size_t largest = 0, least = SIZE_MAX;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const size_t bytes = bytes_without(options, vocabulary_size_, rows[i].field);
        if (bytes < least) {
            least = bytes;
            largest = i;
        }
    }
    *value = *(const uint64_t *)(const void *)((const char *)options + rows[largest].field);
    return rows[largest].key;
}

bool trainer_options_check_memory(const struct trainer_options *options, uint32_t vocabulary_size_, size_t limit,
                                  struct error *err)
{
    size_t bytes;
    uint64_t value;
    const bool countable = training_bytes(options, vocabulary_size_, &bytes);
    if (countable && (limit == 0 || bytes <= limit)) return true;
    const char *key = find_largest(options, vocabulary_size_, &value);
    if (!countable)
        return error_set(err, ERROR_TOO_LARGE, "%s is %llu: a network of this size does not fit into any memory", key,
                         (unsigned long long)value);
    return error_set(err, ERROR_TOO_LARGE,
                     "%s is %llu: training needs about %.1f GB of memory and there are %.1f GB: use a smaller one, or "
                     "fewer units, layers, tokens, streams or steps elsewhere",
                     key, (unsigned long long)value, (double)bytes / 1e9, (double)limit / 1e9);
}

static bool fill_network(struct trainer *trainer, struct error *err)
{
    struct network *network = &trainer->network;
    if (!trainer->options.init_from) return network_initialise(network, trainer->options.seed, err);
    memcpy(network->parameters, trainer->init.network.parameters,
           network->parameter_count * sizeof *network->parameters);
    network_close(&trainer->init.network);
    return true;
}

static bool open_learner(struct trainer *trainer, struct error *err)
{
    const struct trainer_options *options = &trainer->options;
    const struct architecture architecture = trainer_architecture(options, vocabulary_size(trainer->data.vocabulary));
    trainer->kernels = kernels_select("auto");
    if (!trainer_options_check_memory(options, architecture.vocabulary_size, trainer->callbacks->memory_limit, err))
        return false;
    if (!network_open(&trainer->network, &architecture, err) || !fill_network(trainer, err)) return false;
    struct learner_options learner = learner_options(options);
    learner.reset_token = vocabulary_eos(trainer->data.vocabulary);
    learner.kernels = trainer->kernels;
    trainer->learner = learner_new(&trainer->network, &learner, err);
    return trainer->learner;
}

static bool open_streams(struct trainer *trainer, struct error *err)
{
    const struct trainer_options *options = &trainer->options;
    if (!streams_open(&trainer->streams, &trainer->data.dataset, options->batch, options->seed, trainer->state.epoch,
                      err))
        return false;
    size_t window = trainer->streams.batch * options->window; /* bounded by learner_bytes() */
    trainer->inputs = arena_alloc(&trainer->arena, window, sizeof *trainer->inputs, "a window", err);
    trainer->targets = arena_alloc(&trainer->arena, window, sizeof *trainer->targets, "a window", err);
    trainer->steps_per_epoch = (trainer->streams.length + options->window - 1) / options->window;
    return trainer->inputs && trainer->targets;
}

/* ---------------------------------------------------------------- fine-tuning */

/* The model that the run goes on from decides what the vocabulary and the network are. */
static bool open_init(struct trainer *trainer, struct error *err)
{
    if (!trainer->options.init_from) return true;
    return (model_load(&trainer->init, trainer->options.init_from, err) &&
            trainer_options_adopt(&trainer->options, &trainer->init, err)) ||
           error_add_context(err, "init_from");
}

/* ---------------------------------------------------------------- resuming */

static bool check_identity(const struct trainer *trainer, const struct snapshot *snapshot, struct error *err)
{
    const json_t *saved = snapshot_identity(snapshot), *now = training_data_describe(&trainer->data);
    if (!training_data_same(json_object_get(saved, "corpus"), json_object_get(now, "corpus")))
        return error_set(err, ERROR_INVALID, "%s does not hold the text that the run began with", trainer->data.name);
    if (!training_data_same(json_object_get(saved, "validation"), json_object_get(now, "validation")))
        return error_set(err, ERROR_INVALID, "the validation data is not what it was when the run began");
    const json_t *vocabulary = json_object_get(saved, "vocabulary");
    return !vocabulary || json_equal(vocabulary, json_object_get(now, "vocabulary")) ||
           error_set(err, ERROR_INVALID, "init_from names another model than that which the run began with");
}

static bool restore(struct trainer *trainer, const struct snapshot *snapshot, struct error *err)
{
    if (!snapshot_restore(snapshot, &trainer->network, trainer->learner, err)) return false;
    if (trainer->state.position >= trainer->streams.length || trainer->state.step != snapshot->learner_steps)
        return error_set(err, ERROR_CORRUPT, "%s: the snapshot's position is not one of this corpus", trainer->work);
    trainer->earlier_seconds = trainer->state.seconds;
    trainer_note(trainer, "resumed in epoch %llu after step %llu", (unsigned long long)trainer->state.epoch + 1,
                 (unsigned long long)trainer->state.step);
    return true;
}

static bool open_snapshot(struct trainer *trainer, struct snapshot *snapshot, struct error *err)
{
    if (!snapshot_open(snapshot, trainer->work, err)) return false;
    trainer->state = snapshot->state;
    return true;
}

/* How much of a text is not learned from, and what. `skipped`: with labels. */
static void note_skipped(const struct trainer *trainer, const char *part, const struct dataset *dataset, size_t skipped)
{
    const struct skipped_text *text = &dataset->skipped;
    const char *piece = trainer->options.level == TOKEN_LEVEL_WORD ? "word" : "character";
    const double share = (double)text->characters / (double)(dataset->characters + text->characters);
    char kinds[NOTE_SIZE];
    if (skipped > text->pieces)
        trainer_note(trainer, "%s: %zu label%s that the vocabulary lacks are skipped", part, skipped - text->pieces,
                     skipped - text->pieces == 1 ? "" : "s");
    if (text->pieces == 0) return;
    skipped_text_print(text, kinds, sizeof kinds / 2);
    trainer_note(trainer, "%s: %zu %s%s that the vocabulary lacks %s skipped, %.2g %% of the text: %s", part,
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

/* What is learned and was hardly meant to be. */
static void note_oddities(const struct trainer *trainer)
{
    const struct training_data *data = &trainer->data;
    if (*data->header)
        trainer_note(trainer,
                     "the first row is taken as text: %s; with csv_header yes it is skipped, with no this note",
                     data->header);
    if (!trainer->options.init_from && has_mark(data->vocabulary))
        trainer_note(trainer, "the text holds U+FEFF, the invisible mark at the start of a file, as joined files do; "
                              "sed 's/\\xEF\\xBB\\xBF//g' takes it out");
}

static bool open_run(struct trainer *trainer, const struct snapshot *snapshot, struct error *err)
{
    struct model *init = trainer->options.init_from ? &trainer->init : NULL;
    const struct training_source source = {.name = trainer->callbacks->corpus_name,
                                           .directory = parent_of(trainer->out, &trainer->arena, err),
                                           .stop = trainer->callbacks->stop};
    if (!source.directory || !open_init(trainer, err) ||
        !training_data_open(&trainer->data, &trainer->options, &source, init, err))
        return false;
    fit_batch(trainer);
    if (snapshot && !(trainer_options_may_resume(&snapshot->options, &trainer->options, err) &&
                      check_identity(trainer, snapshot, err)))
        return false;
    note_oddities(trainer);
    note_skipped(trainer, "training", &trainer->data.dataset, trainer->data.skipped_training);
    if (trainer->data.has_validation)
        note_skipped(trainer, "validation", &trainer->data.validation, trainer->data.skipped);
    if (trainer->data.unknown_part)
        trainer_note(trainer, "validation: nothing of the part held out is in the vocabulary: all is trained on");
    if (!trainer->data.has_validation)
        trainer_note(trainer, "no validation data: the training loss decides which model is the best");
    if (!open_learner(trainer, err) || !open_streams(trainer, err)) return false;
    fit_warmup(trainer);
    return !snapshot || restore(trainer, snapshot, err);
}

bool trainer_open(struct trainer *trainer, const struct trainer_options *options, const char *out, bool resume,
                  const struct trainer_callbacks *callbacks, struct error *err)
{
    struct snapshot snapshot = {0};
    *trainer = (struct trainer){.options = *options, .callbacks = callbacks};
    if (trainer->options.threads == 0) trainer->options.threads = 1;
    trainer->schedule = trainer_schedule_options(&trainer->options);
    run_state_init(&trainer->state);
    bool ok = trainer_options_validate(&trainer->options, err) &&
              set_directories(out, &trainer->out, &trainer->work, err) && check_directories(trainer, resume, err) &&
              (!resume || open_snapshot(trainer, &snapshot, err)) && open_run(trainer, resume ? &snapshot : NULL, err);
    snapshot_close(&snapshot);
    trainer->started_ns = callbacks->now_ns(callbacks->context);
    trainer->snapshot_ns = trainer->window.since_ns = trainer->started_ns;
    return ok;
}

void trainer_close(struct trainer *trainer)
{
    streams_close(&trainer->streams);
    learner_free(trainer->learner);
    network_close(&trainer->network);
    network_close(&trainer->best);
    model_close(&trainer->init);
    training_data_close(&trainer->data);
    arena_free(&trainer->arena);
    free(trainer->out);
    free(trainer->work);
}

/* ---------------------------------------------------------------- saved options */

/* Texts of the options point into the snapshot's JSON; copies outlive it. */
static bool copy_texts(struct trainer_options *options, struct arena *arena, struct error *err)
{
    for (size_t i = 0; i < trainer_option_count; i++) {
        const struct trainer_option *row = &trainer_option_table[i];
        const char **text = (const char **)((char *)options + row->offset);
        if (row->kind != TRAINER_TEXT || !*text) continue;
        *text = arena_copy_text(arena, *text, strlen(*text), err);
        if (!*text) return false;
    }
    for (size_t i = 0; i < options->more_count; i++) {
        options->more_data[i] = arena_copy_text(arena, options->more_data[i], strlen(options->more_data[i]), err);
        if (!options->more_data[i]) return false;
    }
    return true;
}

bool trainer_saved_options(const char *out, struct trainer_options *options, struct arena *arena, struct error *err)
{
    struct snapshot snapshot = {0};
    char *model = NULL, *work = NULL;
    bool ok = set_directories(out, &model, &work, err);
    if (ok && !snapshot_exists(work))
        ok = error_set(err, ERROR_NOT_FOUND, "there is nothing to resume: %s holds no snapshot", work);
    ok = ok && snapshot_open(&snapshot, work, err);
    if (ok) {
        *options = snapshot.options;
        ok = copy_texts(options, arena, err);
    }
    snapshot_close(&snapshot);
    free(model);
    free(work);
    return ok;
}
