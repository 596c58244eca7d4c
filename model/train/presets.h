/* Presets: complete recipes by name, for who gives only a corpus. A preset is a set of defaults of the trainer's
 * options (model/train/options.h) and nothing else: whatever a file, a flag or a request says wins over it. */
#ifndef LSTMD_MODEL_TRAIN_PRESETS_H
#define LSTMD_MODEL_TRAIN_PRESETS_H

enum trainer_preset_kind {
    PRESET_NONE,
    PRESET_TINY,
    PRESET_SMALL,
    PRESET_MEDIUM,
    PRESET_LARGE,
    PRESET_HEADLINES,
    PRESET_COUNT
};

struct trainer_preset_value {
    const char *key, *text; /* an option of the trainer, and a value that its row allows */
};

struct trainer_preset {
    const char *help;                          /* one line */
    const struct trainer_preset_value *values; /* ended by a NULL key */
};

extern const char *const trainer_preset_names[]; /* in the order of the enumeration, ended by NULL */
extern const struct trainer_preset trainer_presets[PRESET_COUNT];

#endif
