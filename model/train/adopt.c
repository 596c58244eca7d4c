/* trainer_options_adopt() (options.h): what a run keeps of the model that it goes on from. */
#include <stddef.h>

#include "model/files/checkpoint.h"
#include "model/train/options.h"

static bool is_default_integer(const struct trainer_options *defaults, const struct trainer_options *options, size_t at)
{
    const char *a = (const char *)defaults + at, *b = (const char *)options + at;
    return *(const uint64_t *)(const void *)a == *(const uint64_t *)(const void *)b;
}

static bool adopt_integer(struct trainer_options *options, const struct trainer_options *defaults, const char *key,
                          size_t at, uint64_t value, struct error *err)
{
    uint64_t *field = (uint64_t *)(void *)((char *)options + at);
    if (*field != value && !is_default_integer(defaults, options, at))
        return error_set(err, ERROR_INVALID, "%s is %llu, but that of the model is %llu: leave it out", key,
                         (unsigned long long)*field, (unsigned long long)value);
    *field = value;
    return true;
}

static bool adopt_choice(int *field, int fallback, const char *key, int value, struct error *err)
{
    if (*field != value && *field != fallback)
        return error_set(err, ERROR_INVALID, "%s is not that of the model: leave it out", key);
    *field = value;
    return true;
}

/* The run keeps the vocabulary of the model. Options that build one must be at their defaults. */
static bool check_unset(const struct trainer_options *options, const struct trainer_options *defaults,
                        struct error *err)
{
    const char *key = options->lower                                        ? "lower"
                      : options->filters                                    ? "filters"
                      : options->min_count != defaults->min_count           ? "min_count"
                      : options->max_vocabulary != defaults->max_vocabulary ? "max_vocabulary"
                      : options->unknown                                    ? "unknown"
                                                                            : NULL;
    return !key ||
           error_set(err, ERROR_INVALID, "%s makes a vocabulary, and that of the model is kept: leave it out", key);
}

bool trainer_options_adopt(struct trainer_options *options, const struct model *model, struct error *err)
{
    const struct architecture *a = &model->network.architecture;
    struct trainer_options defaults;
    trainer_options_preset(&defaults, (enum trainer_preset_kind)options->preset);
    if (!architecture_is_standard(a))
        return error_set(err, ERROR_INVALID, "%s computes what lstmd serves but does not train", model->name);
    if (vocabulary_eos(model->vocabulary) == TOKEN_NONE)
        return error_set(err, ERROR_INVALID,
                         "%s has no <eos> among its tokens, which ends every text that lstmd trains on", model->name);
    if (options->label_column && vocabulary_label_count(model->vocabulary) == 0)
        return error_set(err, ERROR_INVALID, "label_column is set, and %s knows no labels: leave it out", model->name);
    if (options->tie_weights && !a->tie_weights)
        return error_set(err, ERROR_INVALID, "tie_weights is not that of the model: leave it out");
    options->tie_weights = a->tie_weights;
#define ADOPT_INTEGER(field, value)                                                                                    \
    adopt_integer(options, &defaults, #field, offsetof(struct trainer_options, field), (value), err)
    return check_unset(options, &defaults, err) &&
           adopt_choice(&options->level, defaults.level, "level", (int)vocabulary_level(model->vocabulary), err) &&
           adopt_choice(&options->cell, defaults.cell, "cell", (int)a->cell, err) && ADOPT_INTEGER(layers, a->layers) &&
           ADOPT_INTEGER(hidden, a->hidden_size) && ADOPT_INTEGER(embedding, a->embedding_size) &&
           trainer_options_validate(options, err);
#undef ADOPT_INTEGER
}
