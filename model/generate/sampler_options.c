#include "model/generate/sampler_options.h"

#include <stdio.h>

#define MEMBER(name) offsetof(struct sampler_options, name)

#define MAX_COUNT   9007199254740991.0 /* 2^53 - 1: exact in every JSON reader */
#define MAX_PENALTY 100.0

const struct sampler_option sampler_option_rows[] = {
    {"temperature", SAMPLER_REAL, MEMBER(temperature), 0, SAMPLER_MAX_TEMPERATURE, 0, 1, 0,
     "0: always the likeliest token; higher: more surprising text."},
    {"top_k", SAMPLER_COUNT, MEMBER(top_k), 0, MAX_COUNT, SAMPLER_OFF, 0, 0,
     "Draws only from this many likeliest tokens; 0: all."},
    {"top_p", SAMPLER_REAL, MEMBER(top_p), 0, 1, SAMPLER_ABOVE | SAMPLER_OFF, 1, 0,
     "Draws only from the likeliest tokens that together have this probability; 1: all."},
    {"min_p", SAMPLER_REAL, MEMBER(min_p), 0, 1, SAMPLER_BELOW | SAMPLER_OFF, 0, 0,
     "Draws only from tokens with at least this share of the likeliest token's probability; 0: all."},
    {"repetition_penalty", SAMPLER_REAL, MEMBER(repetition_penalty), 0.01, 100, SAMPLER_OFF, 1, 0,
     "Above 1: recent tokens become less likely; 1: off."},
    {"presence_penalty", SAMPLER_REAL, MEMBER(presence_penalty), -MAX_PENALTY, MAX_PENALTY, SAMPLER_OFF, 0, 2,
     "Subtracted from the logit of each recent token."},
    {"frequency_penalty", SAMPLER_REAL, MEMBER(frequency_penalty), -MAX_PENALTY, MAX_PENALTY, SAMPLER_OFF, 0, 2,
     "Subtracted from a token's logit for each recent occurrence."},
    {"repetition_window", SAMPLER_COUNT, MEMBER(repetition_window), 0, MAX_COUNT, 0, 64, 0,
     "How many tokens back count as recent for the three penalties; 0: penalties are off."},
};

const size_t sampler_option_count = sizeof sampler_option_rows / sizeof *sampler_option_rows;

_Static_assert(sizeof sampler_option_rows / sizeof *sampler_option_rows <= SAMPLER_MAX_OPTIONS, "too many options");

struct sampler_options sampler_options_default(void)
{
    struct sampler_options options = {0};
    for (size_t i = 0; i < sampler_option_count; i++) {
        const struct sampler_option *row = &sampler_option_rows[i];
        void *member = (char *)&options + row->offset;
        if (row->type == SAMPLER_REAL)
            *(double *)member = row->fallback;
        else
            *(uint64_t *)member = (uint64_t)row->fallback;
    }
    return options;
}

static bool sampler_option_allows(const struct sampler_option *row, double value)
{
    if (value == 0) return true;
    const bool high = row->flags & SAMPLER_ABOVE ? value > row->minimum : value >= row->minimum;
    const bool low = row->flags & SAMPLER_BELOW ? value < row->maximum : value <= row->maximum;
    return high && low; /* false for NaN */
}

/* "top_p must be above 0 and at most 1 (1: off)" */
static bool sampler_option_refuse(const struct sampler_option *row, struct error *err)
{
    const bool above = row->flags & SAMPLER_ABOVE, below = row->flags & SAMPLER_BELOW;
    char off[32] = "";
    if (row->flags & SAMPLER_OFF) snprintf(off, sizeof off, " (%g: off)", row->fallback);
    return error_set(err, ERROR_INVALID, "%s must be %s %g and %s%g%s", row->name,
                     above   ? "above"
                     : below ? "at least"
                             : "between",
                     row->minimum,
                     above   ? "at most "
                     : below ? "below "
                             : "",
                     row->maximum, off);
}

bool sampler_options_check(const struct sampler_options *options, const char **field, struct error *err)
{
    for (size_t i = 0; i < sampler_option_count; i++) {
        const struct sampler_option *row = &sampler_option_rows[i];
        if (row->type == SAMPLER_COUNT) continue; /* every count is allowed; more than V means V */
        if (sampler_option_allows(row, *(const double *)(const void *)((const char *)options + row->offset))) continue;
        if (field) *field = row->name;
        return sampler_option_refuse(row, err);
    }
    for (size_t i = 0; i < options->bias_count; i++) {
        const double bias = (double)options->bias[i].bias;
        if (bias >= -SAMPLER_MAX_BIAS && bias <= SAMPLER_MAX_BIAS) continue;
        if (field) *field = "logit_bias";
        return error_set(err, ERROR_INVALID, "every logit_bias must be between %g and %g", -SAMPLER_MAX_BIAS,
                         SAMPLER_MAX_BIAS);
    }
    return true;
}
