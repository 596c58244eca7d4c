/* A network as other programs keep it: PyTorch's tensors in a safetensors file, or a Keras model in an HDF5 file.
 * Exporting refuses what a format cannot express. Weights are float32, whatever the model directory keeps; importing
 * the file gives the same bits again. A tied output becomes a matrix of its own. These files have no place for the
 * vocabulary and a window.
 *
 * *data is the caller's (free()) on success. Errors: ERROR_INVALID (the format cannot express the network),
 * ERROR_NO_MEMORY. Pure functions, except that only one thread at a time uses the HDF5 library (hdf5.h).
 */
#ifndef LSTMD_MODEL_INTEROP_EXPORT_H
#define LSTMD_MODEL_INTEROP_EXPORT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "model/network/network.h"

/* The state_dict of a module with `rnn` (nn.LSTM, nn.GRU or nn.RNN), `output` (nn.Linear) and, unless the input is
 * one-hot, `embedding` (nn.Embedding). LSTM and RNN have two biases there; the second one is zero. */
bool export_torch(const struct network *network, unsigned char **data, size_t *size, struct error *err);

/* A Sequential model in the HDF5 layout of Keras 2, which Keras 3 reads, too: Embedding (or an input of one-hot
 * vectors), recurrent layers that return sequences, dense layers, and a Dense with softmax, which gives the
 * probabilities after every token. A model with the hard sigmoid of Keras 3 becomes a file of Keras 3, since the
 * version says which of the two hard sigmoids is meant. */
bool export_keras(const struct network *network, unsigned char **data, size_t *size, struct error *err);

#endif
