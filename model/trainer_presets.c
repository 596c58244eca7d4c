#include "model/trainer_presets.h"

#include <stddef.h>

#define VALUES (const struct trainer_preset_value[])

const char *const trainer_preset_names[] = {"none", "small", "medium", "large", "headlines", NULL};

/* What was found with running texts of 1 MB, whatever the size of the network. */
#define RUNNING_TEXT                                                                                                   \
    {"optimizer", "adamw"}, {"weight_decay", "0.01"}, {"schedule", "cosine"}, {"warmup", "200"}, {"clip", "1"},        \
        {"batch", "32"},                                                                                               \
    {                                                                                                                  \
        "bptt", "100"                                                                                                  \
    }

/* What was tried, and how it did: tests/bench/LOG.md. */
const struct trainer_preset trainer_presets[PRESET_COUNT] = {
    [PRESET_NONE] = {"the defaults below", VALUES{{NULL, NULL}}},
    [PRESET_SMALL] = {"LSTM 1x512, for a first good model of a text of 100 kB to some MB", VALUES{{"hidden", "512"},
                                                                                                  {"embedding", "128"},
                                                                                                  {"dropout", "0.3"},
                                                                                                  {"lr", "0.005"},
                                                                                                  {"epochs", "10"},
                                                                                                  RUNNING_TEXT,
                                                                                                  {NULL, NULL}}},
    [PRESET_MEDIUM] = {"LSTM 1x768, better than small in twice its time", VALUES{{"hidden", "768"},
                                                                                 {"embedding", "192"},
                                                                                 {"dropout", "0.4"},
                                                                                 {"lr", "0.004"},
                                                                                 {"epochs", "9"},
                                                                                 RUNNING_TEXT,
                                                                                 {NULL, NULL}}},
    [PRESET_LARGE] = {"LSTM 1x1024, a little better still in four times the time of small", VALUES{{"hidden", "1024"},
                                                                                                   {"embedding", "256"},
                                                                                                   {"dropout", "0.5"},
                                                                                                   {"lr", "0.003"},
                                                                                                   {"epochs", "10"},
                                                                                                   RUNNING_TEXT,
                                                                                                   {NULL, NULL}}},
    [PRESET_HEADLINES] = {"LSTM 1x300, for many short texts: the bundled model's recipe",
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
