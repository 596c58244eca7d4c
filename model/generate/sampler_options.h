/* The options of a sampler, one row of a table each. From the rows come the flags of `lstmd generate`, the fields of
 * /generate and /v1/completions, the form of the page, and the check below; tests compare openapi.yaml with them.
 * sampler.h says what each option does to the logits.
 *
 * Not rows: `bias`, which each of them writes in its own way, and `counts_written`, which is no choice of a client.
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
    uint32_t id; /* below V; one that comes twice counts twice */
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
    uint64_t repetition_window;    /* tokens that the three penalties look back; 0: none, so they are off */
    bool counts_written;           /* presence and frequency count the tokens that were written, without a window */
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
    const char *name; /* of the field; the flag has - for _ */
    enum sampler_option_type type;
    size_t offset; /* in struct sampler_options */
    double minimum, maximum;
    unsigned flags;      /* SAMPLER_ABOVE, SAMPLER_BELOW, SAMPLER_OFF */
    double fallback;     /* for requests and command lines that say nothing */
    double openai_bound; /* /v1/completions allows -bound .. bound, as OpenAI does; 0: it has the bounds above */
    const char *help;    /* one sentence */
};

#define SAMPLER_MAX_OPTIONS 32 /* at least sampler_option_count */

extern const struct sampler_option sampler_option_rows[];
extern const size_t sampler_option_count;

/* All fallbacks, no bias. */
struct sampler_options sampler_options_default(void);

/* False for the first option that is out of range, with ERROR_INVALID that says what would be right and its name in
 * *field (NULL allowed). 0 is always in range: it is off. */
bool sampler_options_check(const struct sampler_options *options, const char **field, struct error *err);

#endif
