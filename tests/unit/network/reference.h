/* A plain, slow network in double precision, from the equations of model/network/cells.h. Tests compare steps and
 * evaluations with it. It asserts that memory suffices, so only tests may use it. */
#ifndef LSTMD_TESTS_UNIT_NETWORK_REFERENCE_H
#define LSTMD_TESTS_UNIT_NETWORK_REFERENCE_H

#include "model/network/network.h"

struct reference {
    const struct network *network;
    double *h, *c;  /* [layers][NETWORK_MAX_HIDDEN] */
    double *logits; /* [V] */
};

/* A network whose parameters, biases included, are normal numbers of standard deviation `scale`. */
void reference_random_network(struct network *network, const struct architecture *architecture, uint64_t seed,
                              double scale);

void reference_open(struct reference *reference, const struct network *network);
void reference_close(struct reference *reference);
void reference_reset(struct reference *reference); /* to the zero state */

/* Feeds a token; reference->logits holds the answer. */
void reference_step(struct reference *reference, uint32_t token);

/* -log softmax(logits)[target] */
double reference_loss(const struct reference *reference, uint32_t target);

#endif
