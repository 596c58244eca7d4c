#include "model/train/resume.h"

#include <stdlib.h>
#include <string.h>

#include "model/train/directories.h"

bool training_resume_is_possible(const char *work, struct error *err)
{
    return snapshot_exists(work) ||
           error_set(err, ERROR_NOT_FOUND, "there is nothing to resume: %s holds no snapshot", work);
}

static bool check_identity(const struct training_run *run, const struct snapshot *snapshot, struct error *err)
{
    const json_t *saved = snapshot_identity(snapshot), *now = training_data_describe(&run->data);
    if (!training_data_same(json_object_get(saved, "corpus"), json_object_get(now, "corpus")))
        return error_set(err, ERROR_INVALID, "%s does not hold the text that the run began with", run->data.name);
    if (!training_data_same(json_object_get(saved, "validation"), json_object_get(now, "validation")))
        return error_set(err, ERROR_INVALID, "the validation data is not what it was when the run began");
    const json_t *vocabulary = json_object_get(saved, "vocabulary");
    return !vocabulary || json_equal(vocabulary, json_object_get(now, "vocabulary")) ||
           error_set(err, ERROR_INVALID, "init_from names another model than that which the run began with");
}

/* The same bits need the same sums: the same library with kernels for the same core. */
static bool check_products(const struct training_run *run, const struct snapshot *snapshot, struct error *err)
{
    const char *saved = snapshot_products(snapshot), *now = training_run_products(run);
    return strcmp(saved, now) == 0 || run->options.other_products ||
           error_set(err, ERROR_INVALID,
                     "products were %s when the run began and are %s now, which would give other bits: with "
                     "other_products it goes on all the same",
                     saved, now);
}

bool training_resume_check(const struct training_run *run, const struct snapshot *snapshot, struct error *err)
{
    return trainer_options_may_resume(&snapshot->options, &run->options, err) && check_identity(run, snapshot, err) &&
           check_products(run, snapshot, err);
}

bool training_resume_restore(struct training_run *run, const struct snapshot *snapshot, struct error *err)
{
    if (!snapshot_restore(snapshot, &run->network, run->learner, err)) return false;
    if (run->state.position >= run->streams.length || run->state.step != snapshot->learner_steps)
        return error_set(err, ERROR_CORRUPT, "%s: the snapshot's position is not one of this corpus", run->work);
    run->earlier_seconds = run->state.seconds;
    training_run_note(run, "resumed in epoch %llu after step %llu", (unsigned long long)run->state.epoch + 1,
                      (unsigned long long)run->state.step);
    return true;
}

/* ---------------------------------------------------------------- saved options (trainer.h) */

/* Texts of the options point into the snapshot's JSON. Copies outlive it. */
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
    bool ok = training_directories_name(out, &model, &work, err) && training_resume_is_possible(work, err) &&
              snapshot_open(&snapshot, work, err);
    if (ok) {
        *options = snapshot.options;
        ok = copy_texts(options, arena, err);
    }
    snapshot_close(&snapshot);
    free(model);
    free(work);
    return ok;
}
