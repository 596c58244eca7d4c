/* Finds out which network of PyTorch a list of tensors is, by names and shapes alone.
 *
 * It recognises nn.LSTM, nn.GRU, nn.RNN of any depth under any name, cells (nn.LSTMCell ...) whose names differ in a
 * number, an Embedding or one-hot input, and one Linear head, tied or not. Every tensor of the model must have its
 * place in the network. A tensor without one is refused by name, and so is a model that could be read in two ways.
 */
#ifndef LSTMD_MODEL_INTEROP_RECURRENT_H
#define LSTMD_MODEL_INTEROP_RECURRENT_H

#include <stdbool.h>

#include "base/error.h"
#include "model/interop/foreign.h"
#include "model/interop/tensors.h"

/* Whether some tensor has a name like those of a recurrent layer. */
bool recurrent_is_in(const struct foreign_tensors *tensors);

/* Opens foreign->network with the tensors' values. Errors: ERROR_INVALID with the tensors' names and shapes where they
 * are not such a network, ERROR_TOO_LARGE, ERROR_NO_MEMORY, those of the storages. */
bool recurrent_read(struct foreign_tensors *tensors, struct foreign *foreign, struct error *err);

#endif
