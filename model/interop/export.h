/* A network as other programs keep it: the tensors of PyTorch's modules in a safetensors file, and a Keras model in an
 * HDF5 file. What the formats cannot express is refused. Weights are float32 whatever the model directory keeps, and
 * importing a file gives the same bits again; a tied output is a matrix of its own there. The vocabulary and a window
 * have no place in these files.
 *
 * *data is the caller's (free()) where the answer is true. Errors: ERROR_INVALID (the format cannot express the
 * network), ERROR_NO_MEMORY. Pure functions, but for the HDF5 library, which one thread uses at a time
 * (interop/hdf5.h).
 */
#ifndef LSTMD_MODEL_INTEROP_EXPORT_H
#define LSTMD_MODEL_INTEROP_EXPORT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "model/network/network.h"

/* The state_dict of a module with `rnn` (nn.LSTM, nn.GRU or nn.RNN), `output` (nn.Linear) and, unless the input is
 * one-hot, `embedding` (nn.Embedding). LSTM and RNN have two biases there, of which the second is zero. */
bool export_torch(const struct network *network, unsigned char **data, size_t *size, struct error *err);

/* A Sequential model in the HDF5 layout of Keras 2, which Keras 3 reads too: Embedding (or an input of one-hot
 * vectors), recurrent layers that return sequences, dense layers, and a Dense with softmax: the probabilities after
 * every token. With the hard sigmoid of Keras 3 the file is one of Keras 3, since the version says which of the two is
 * meant. *data: the caller's (free()). */
bool export_keras(const struct network *network, unsigned char **data, size_t *size, struct error *err);

#endif
