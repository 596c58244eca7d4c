#include "model/train/publish.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

#include "base/version.h"
#include "model/files/checkpoint.h"

/* Between two snapshots that validations ask for. */
#define SAVE_SECONDS 3.0

/* ---------------------------------------------------------------- the model directory */

/* JSON has no number for infinity or NaN (nats per character of a text without any). */
static json_t *number_to_json(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static bool add_losses(const struct training_run *run, bool exact, json_t *json)
{
    const struct run_state *state = &run->state;
    const struct evaluation *best = &state->best;
    const double per_character = state->train_loss / training_run_characters_per_token(run);
    if (json_object_set_new(json, "train_nats_per_token", number_to_json(state->train_loss)) != 0 ||
        json_object_set_new(json, "train_nats_per_character", number_to_json(per_character)) != 0)
        return false;
    if (!run->data.has_validation) return true;
    return json_object_set_new(json, "validation_nats_per_token", number_to_json(best->nats_per_token)) == 0 &&
           json_object_set_new(json, "validation_nats_per_character", number_to_json(best->nats_per_character)) == 0 &&
           json_object_set_new(json, "validation_bits_per_character", number_to_json(best->bits_per_character)) == 0 &&
           json_object_set_new(json, "validation_perplexity", number_to_json(best->perplexity)) == 0 &&
           json_object_set_new(json, "validation_accuracy", number_to_json(best->accuracy)) == 0 &&
           json_object_set_new(json, "validation_exact", json_boolean(exact)) == 0;
}

/* config.json's "training": how the model came to be. --config takes its "options" as they are. */
static json_t *describe_training(const struct training_run *run, bool exact, struct error *err)
{
    const struct run_state *state = &run->state;
    const json_t *data = training_data_describe(&run->data), *provenance = run->callbacks->provenance;
    json_t *options = trainer_options_to_json(&run->options, TRAINER_RECIPE, err);
    if (!options) return NULL;
    json_t *json =
        json_pack("{s:s, s:O, s:O, s:o, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:f}", "lstmd_version", version_number,
                  "corpus", json_object_get(data, "corpus"), "validation", json_object_get(data, "validation"),
                  "options", options, "products", training_run_products(run), "seed", (json_int_t)run->options.seed,
                  "threads", (json_int_t)run->options.threads, "epochs", (json_int_t)state->epoch, "steps",
                  (json_int_t)state->step, "best_epoch", (json_int_t)state->best_epoch, "best_step",
                  (json_int_t)state->best_step, "seconds", training_run_seconds(run));
    if (json && add_losses(run, exact, json) && (!provenance || json_object_update(json, (json_t *)provenance) == 0))
        return json;
    json_decref(json);
    error_set_no_memory(err, sizeof *state, "the description of the training");
    return NULL;
}

bool training_publish(const struct training_run *run, const struct network *network, bool exact, struct error *err)
{
    json_t *training = describe_training(run, exact, err);
    if (!training) return false;
    bool ok = checkpoint_save(run->out, network, run->data.vocabulary, training, NULL, err);
    json_decref(training);
    return ok || error_add_context(err, "saving the model");
}

/* ---------------------------------------------------------------- the best model so far */

static bool is_exact(const struct training_run *run)
{
    return run->data.has_validation && !training_run_uses_lanes(run);
}

bool training_publish_held(struct training_run *run, struct error *err)
{
    if (!run->held) return true;
    run->held = !training_publish(run, &run->best, is_exact(run), err);
    return !run->held;
}

/* Keeps the weights for training_publish_held(). False where memory is lacking for that. */
static bool hold_best(struct training_run *run)
{
    const struct network *network = training_run_model(run);
    struct network *best = &run->best;
    if (!best->parameters && !network_open(best, &network->architecture, NULL)) network_close(best);
    if (!best->parameters) return false;
    memcpy(best->parameters, network->parameters, network->parameter_count * sizeof *network->parameters);
    run->held = true;
    return true;
}

bool training_publish_best(struct training_run *run, struct error *err)
{
    if (!training_snapshot_is_due(run) && hold_best(run)) return true;
    run->held = false;
    return training_publish(run, training_run_model(run), is_exact(run), err);
}

/* ---------------------------------------------------------------- snapshots */

bool training_snapshot_is_due(const struct training_run *run)
{
    const uint64_t now = training_run_now(run);
    return !run->has_snapshot || (double)(now - run->snapshot_ns) / 1e9 >= SAVE_SECONDS;
}

bool training_snapshot(struct training_run *run, struct error *err)
{
    if (!training_publish_held(run, err)) return false;
    run->state.seconds = training_run_seconds(run);
    const struct snapshot_content content = {.options = &run->options,
                                             .identity = training_data_describe(&run->data),
                                             .products = training_run_products(run),
                                             .state = &run->state,
                                             .network = &run->network,
                                             .learner = run->learner};
    if (!snapshot_save(run->work, &content, err)) return false;
    run->snapshot_ns = training_run_now(run);
    run->has_snapshot = true;
    run->snapshot_wanted = false;
    if (run->callbacks->snapshot) run->callbacks->snapshot(run->callbacks->context, run->state.step);
    return true;
}
