/* The loss of a model on a dataset, through the same stepping as generation.
 *
 * Documents are independent sequences, stepped many at a time, each from a zero state; a one-stream dataset is one
 * sequence with carried state over its whole length, or, where speed matters more than the last digit (validation
 * during training), cut into `lanes` that each first read `warmup` uncounted tokens of what precedes them.
 * A network with a window (model/generate/window.h) is fed it anew for every target, at that many times the cost.
 * Every target is counted once; sums are taken in a fixed order, so the result does not depend on threads or batch.
 */
#ifndef LSTMD_MODEL_GENERATE_EVALUATE_H
#define LSTMD_MODEL_GENERATE_EVALUATE_H

#include <stdatomic.h>
#include <stddef.h>

#include "base/error.h"
#include "model/generate/step.h"
#include "model/text/dataset.h"

struct evaluate_options {
    size_t threads;          /* 0: 1 */
    size_t batch;            /* sequences per thread stepped together; 0: 64 */
    size_t lanes;            /* one-stream datasets: 0 or 1: exact */
    size_t warmup;           /* tokens each further lane reads first */
    const atomic_bool *stop; /* NULL, or ERROR_CANCELLED soon after it becomes true */
};

struct evaluation {
    size_t tokens;     /* targets counted, <eos> included; a document's first token is one where <eos> starts it */
    size_t characters; /* of the text; what nats_per_character divides by */
    double nats;       /* total */
    double nats_per_token;
    double nats_per_character;
    double bits_per_character;
    double perplexity; /* exp(nats_per_token) */
    double accuracy;   /* targets that were the likeliest token */
};

bool evaluate(const struct stepper *stepper, const struct dataset *dataset, const struct evaluate_options *options,
              struct evaluation *result, struct error *err);

#endif
