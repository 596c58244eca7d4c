/* The loss of a model on a dataset, through the same stepping as generation.
 *
 * Documents are independent sequences: each starts from a zero state, and many are stepped together. A one-stream
 * dataset is one sequence whose state is carried over its whole length. Validation during training prefers speed to the
 * last digit: it cuts the stream into `lanes`, and each lane first reads `warmup` tokens before it, which do not count.
 * A dataset that is one sequence is read in pieces (step_piece.h), by OpenBLAS where the stepper has it. Many sequences
 * are stepped together, with our own kernels: a library's sums would depend on the batch.
 * A network with a window (model/generate/window.h) reads N tokens anew for every target, at N times the cost.
 * Every target counts once. Sums have a fixed order, so the result does not depend on threads or batch.
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
    bool library;      /* OpenBLAS has multiplied */
};

bool evaluate(const struct stepper *stepper, const struct dataset *dataset, const struct evaluate_options *options,
              struct evaluation *result, struct error *err);

#endif
