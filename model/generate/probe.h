/* Probing: which units of a layer follow a property of the text, by their correlation. It reads no model: the caller
 * gives each token and the layer's values after the token.
 *
 * What Karpathy, Johnson, Fei-Fei 2015, "Visualizing and Understanding Recurrent Networks" (arXiv:1506.02078, section
 * 4.2) found by hand: cells that count the position in a line, or are on inside quotes and brackets. Here every unit
 * gets Pearson's r with the property, over the tokens of the text:
 *
 *     r = sum (x - mean x) (y - mean y) / sqrt(sum (x - mean x)^2 * sum (y - mean y)^2)
 *
 * Source of the formula: Pearson 1895, "Note on Regression and Inheritance in the Case of Two Parents". The sums are
 * kept as Welford 1962, "Note on a Method for Calculating Corrected Sums of Squares and Products", has them: one pass,
 * without the cancellation of sum x^2 - n mean^2.
 *
 * Both structs belong to one thread at a time.
 */
#ifndef LSTMD_MODEL_GENERATE_PROBE_H
#define LSTMD_MODEL_GENERATE_PROBE_H

#include <locale.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"

/* All of them are 0 or 1 but the position. They say how the text is after the token, as the hidden state does. */
enum probe_property {
    PROBE_POSITION, /* tokens of the line before this one; a line break is the last token of its line */
    PROBE_QUOTES,   /* inside "...", curly double quotes or guillemets */
    PROBE_BRACKETS, /* inside (...), [...] or {...} */
    PROBE_CAPITAL,  /* the token begins with a capital letter */
    PROBE_BORDER,   /* the token is between words: it has no letter and no digit */
    PROBE_DIGIT,    /* the token has a digit */
    PROBE_PROPERTIES,
};

extern const char *const probe_property_names[]; /* [PROBE_PROPERTIES], then NULL */

/* Follows a text token by token. */
struct probe_text {
    locale_t locale; /* C.UTF-8: what is a letter */
    size_t position, curly, guillemets, brackets;
    bool straight;
};

/* Owns nothing. Errors: ERROR_NO_MEMORY, ERROR_IO (the locale C.UTF-8 is missing). */
bool probe_text_open(struct probe_text *text, struct error *err);

/* values[PROBE_PROPERTIES] of the next token, whose own text is token[0..n). Bytes that are no UTF-8 (tokens of bytes)
 * are letters. */
void probe_text_next(struct probe_text *text, const char *token, size_t n, double *values);

/* The sums over a text: x is a unit, y a property. */
struct probe {
    size_t units, tokens;
    double *mean, *squares; /* [units] mean of x; sum of (x - mean)^2 */
    double *products;       /* [PROBE_PROPERTIES][units] sum of (x - mean x) (y - mean y) */
    double property_mean[PROBE_PROPERTIES], property_squares[PROBE_PROPERTIES];
    struct arena arena;
};

struct probe_unit {
    size_t unit;
    double r; /* -1 .. 1 */
};

/* Close with probe_close(), also after a failure. Errors: ERROR_NO_MEMORY. */
bool probe_open(struct probe *probe, size_t units, struct error *err);
void probe_close(struct probe *probe);

/* Adds a token: values[units] of the layer after it, and its properties. Never allocates. */
void probe_add(struct probe *probe, const float *values, const double *properties);

/* best[count]: the units with the largest |r|, the largest first, lowest units first among equals. Returns how many
 * there are: fewer than count where the layer has fewer, none where the property never changes. A unit that never
 * changes is left out. */
size_t probe_rank(const struct probe *probe, enum probe_property property, size_t count, struct probe_unit *best);

#endif
