/* The options of a sampler: a table with one row each. The flags of `lstmd generate`, the fields of /generate and
 * /v1/completions, the form of the page, and the check below are made from the rows; tests compare openapi.yaml with
 * them. sampler.h says what each option does to the logits.
 *
 * Two fields have no row: each of these users writes `bias` in its own way, and clients cannot choose `counts_written`.
 */
#ifndef LSTMD_MODEL_GENERATE_SAMPLER_OPTIONS_H
#define LSTMD_MODEL_GENERATE_SAMPLER_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define SAMPLER_MAX_TEMPERATURE 100.0
#define SAMPLER_MAX_BIAS        100.0 /* -100 .. 100 */
#define SAMPLER_FORBID          (-100.0f)

struct logit_bias {
    uint32_t id; /* below V; if an id occurs twice, both biases are added */
    float bias;  /* SAMPLER_FORBID: never; 100: practically always */
};

/* All zero: greedy, everything else off. */
struct sampler_options {
    double temperature;            /* 0 .. SAMPLER_MAX_TEMPERATURE */
    uint64_t top_k;                /* 0, or V and more: off */
    double top_p;                  /* (0, 1]; 0 or 1: off */
    double min_p;                  /* [0, 1); 0: off */
    double repetition_penalty;     /* 0 or 1: off; above 1 discourages */
    double presence_penalty;       /* 0: off */
    double frequency_penalty;      /* 0: off */
    uint64_t repetition_window;    /* how many tokens the three penalties look back; 0: they are off */
    bool counts_written;           /* presence and frequency penalty count all written tokens, without a window */
    const struct logit_bias *bias; /* [bias_count], borrowed while sampler_open() runs */
    size_t bias_count;
};

enum sampler_option_type {
    SAMPLER_REAL,  /* double */
    SAMPLER_COUNT, /* uint64_t: tokens */
};

enum {
    SAMPLER_ABOVE = 1, /* the minimum itself is not allowed */
    SAMPLER_BELOW = 2, /* the maximum itself is not allowed */
    SAMPLER_OFF = 4,   /* the fallback switches the option off */
};

struct sampler_option {
    const char *name; /* of the field; the flag has - instead of _ */
    enum sampler_option_type type;
    size_t offset; /* in struct sampler_options */
    double minimum, maximum;
    unsigned flags;      /* SAMPLER_ABOVE, SAMPLER_BELOW, SAMPLER_OFF */
    double fallback;     /* the value if a request or command line does not set it */
    double openai_bound; /* /v1/completions allows -bound .. bound, as OpenAI does; 0: the bounds above hold */
    const char *help;    /* one sentence */
};

#define SAMPLER_MAX_OPTIONS 32 /* at least sampler_option_count */

extern const struct sampler_option sampler_option_rows[];
extern const size_t sampler_option_count;

/* All fallbacks, no bias. */
struct sampler_options sampler_options_default(void);

/* False if an option is out of range: ERROR_INVALID, whose message gives the range, and the option's name in *field
 * (NULL allowed). 0 is always in range and means off. */
bool sampler_options_check(const struct sampler_options *options, const char **field, struct error *err);

#endif
