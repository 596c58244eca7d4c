/* How large the streams and windows of a run are, and whether it fits into memory. */
#include "model/train/fit.h"

#include "base/size.h"

/* For a small text, if the user left window and batch at 0. */
#define BPTT_SMALL  32
#define EPOCH_STEPS 240

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

void trainer_options_fit(struct trainer_options *options, uint64_t targets)
{
    const uint64_t streams = options->batch ? options->batch : FIT_BATCH;
    const bool many = targets / streams / FIT_BPTT >= EPOCH_STEPS;
    if (!options->window) options->window = many ? FIT_BPTT : BPTT_SMALL;
    const uint64_t windows = targets / options->window;
    if (!options->batch) {
        options->batch = FIT_BATCH;
        while (options->batch > 1 && windows / options->batch < EPOCH_STEPS) options->batch /= 2;
    }
    options->batch = windows < 1 ? 1 : smaller(windows, options->batch);
}

struct learner_options training_learner_options(const struct trainer_options *options)
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

/* ---------------------------------------------------------------- memory */

/* Bytes of the learner, and of the best weights while they wait to be published. V: the vocabulary's size. */
static bool training_bytes(const struct trainer_options *options, uint32_t V, size_t *bytes)
{
    const struct architecture architecture = trainer_architecture(options, V);
    struct trainer_options fitted = *options;
    trainer_options_fit(&fitted, UINT64_MAX);
    const struct learner_options learner = training_learner_options(&fitted);
    struct network best;
    return learner_bytes(&architecture, &learner, bytes) && network_layout(&best, &architecture, NULL) &&
           size_add(*bytes, best.parameter_count * sizeof(float), bytes);
}

/* Bytes that are needed if the option is at its default instead, or at half of what is less than that. */
static size_t bytes_without(const struct trainer_options *options, uint32_t V, size_t field)
{
    struct trainer_options other = *options, defaults;
    trainer_options_default(&defaults);
    trainer_options_fit(&defaults, UINT64_MAX);
    uint64_t *value = (uint64_t *)(void *)((char *)&other + field);
    const uint64_t usual = *(const uint64_t *)(const void *)((const char *)&defaults + field);
    *value = *value > usual ? usual : (*value + 1) / 2;
    size_t bytes;
    return training_bytes(&other, V, &bytes) ? bytes : SIZE_MAX;
}

/* The option that has the greatest part in what is needed. */
static const char *find_largest(const struct trainer_options *options, uint32_t V, uint64_t *value)
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
        const size_t bytes = bytes_without(options, V, rows[i].field);
        if (bytes < least) {
            least = bytes;
            largest = i;
        }
    }
    *value = *(const uint64_t *)(const void *)((const char *)options + rows[largest].field);
    return rows[largest].key;
}

bool trainer_options_check_memory(const struct trainer_options *options, uint32_t vocabulary_size, size_t limit,
                                  struct error *err)
{
    size_t bytes;
    uint64_t value;
    const bool countable = training_bytes(options, vocabulary_size, &bytes);
    if (countable && (limit == 0 || bytes <= limit)) return true;
    const char *key = find_largest(options, vocabulary_size, &value);
    if (!countable)
        return error_set(err, ERROR_TOO_LARGE, "%s is %llu: a network of this size does not fit into any memory", key,
                         (unsigned long long)value);
    return error_set(err, ERROR_TOO_LARGE,
                     "%s is %llu: training needs about %.1f GB of memory and there are %.1f GB: use a smaller one, or "
                     "fewer units, layers, tokens, streams or steps elsewhere",
                     key, (unsigned long long)value, (double)bytes / 1e9, (double)limit / 1e9);
}
