#include "model/train/presets.h"

#include <stddef.h>

#define VALUES (const struct trainer_preset_value[])

const char *const trainer_preset_names[] = {"none", "tiny", "small", "medium", "large", "headlines", NULL};

/* A recipe for a running text of about 1 MB. The arguments depend on the size of the network, the rest does not. */
#define RUNNING_TEXT(units, of_embedding, of_dropout, rate, passes)                                                    \
    VALUES                                                                                                             \
    {                                                                                                                  \
        {"hidden", units}, {"embedding", of_embedding}, {"dropout", of_dropout}, {"lr", rate}, {"epochs", passes},     \
            {"optimizer", "adamw"}, {"weight_decay", "0.01"}, {"schedule", "cosine"}, {"warmup", "200"},               \
            {"clip", "1"}, {"batch", "32"}, {"bptt", "100"},                                                           \
        {                                                                                                              \
            NULL, NULL                                                                                                 \
        }                                                                                                              \
    }

/* tests/bench/LOG.md has the attempts and their figures. */
const struct trainer_preset trainer_presets[PRESET_COUNT] = {
    [PRESET_NONE] = {"the defaults below", VALUES{{NULL, NULL}}},
    [PRESET_TINY] = {"LSTM 1x256, a little over a minute: learns words and lines, for a lesson or a first look",
                     VALUES{{"hidden", "256"},
                            {"embedding", "32"},
                            {"dropout", "0.1"},
                            {"optimizer", "adamw"},
                            {"lr", "0.008"},
                            {"schedule", "cosine"},
                            {"warmup", "50"},
                            {"clip", "1"},
                            {"batch", "16"},
                            {"bptt", "48"},
                            {"epochs", "12"},
                            {"max_minutes", "1.2"},
                            {NULL, NULL}}},
    [PRESET_SMALL] = {"LSTM 1x512, for a first good model of a text of 100 kB to some MB",
                      RUNNING_TEXT("512", "128", "0.3", "0.005", "10")},
    [PRESET_MEDIUM] = {"LSTM 1x768, better than small, takes twice its time",
                       RUNNING_TEXT("768", "192", "0.4", "0.004", "9")},
    [PRESET_LARGE] = {"LSTM 1x1024, a little better than medium, takes four times the time of small",
                      RUNNING_TEXT("1024", "256", "0.5", "0.003", "10")},
    [PRESET_HEADLINES] = {"LSTM 1x300, for many short texts; the recipe of the bundled model",
                          VALUES{{"hidden", "300"},
                                 {"embedding", "64"},
                                 {"dropout", "0.35"},
                                 {"optimizer", "adam"},
                                 {"lr", "0.014"},
                                 {"schedule", "cosine"},
                                 {"warmup", "100"},
                                 {"minimum_rate", "0.01"},
                                 {"clip", "1"},
                                 {"batch", "32"},
                                 {"bptt", "48"},
                                 {"epochs", "18"},
                                 {NULL, NULL}}},
};
