/* Presets: complete recipes by name, for a user who gives nothing but a corpus. A preset is a set of defaults of the
 * trainer's options (options.h) and nothing else: a file, a flag or a request wins over it. */
#ifndef LSTMD_MODEL_TRAIN_PRESETS_H
#define LSTMD_MODEL_TRAIN_PRESETS_H

/* What each is for: presets.c. */
enum trainer_preset_kind {
    PRESET_NONE,      /* the defaults of the table */
    PRESET_TINY,      /* LSTM 1x256, about a minute */
    PRESET_SMALL,     /* LSTM 1x512 */
    PRESET_MEDIUM,    /* LSTM 1x768 */
    PRESET_LARGE,     /* LSTM 1x1024 */
    PRESET_HEADLINES, /* LSTM 1x300, many short texts */
    PRESET_COUNT      /* no preset */
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
