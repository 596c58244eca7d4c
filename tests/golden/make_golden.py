#!/usr/bin/python3
"""Writes tests/golden/data/*.safetensors for tests/unit/network/test_golden.c: PyTorch's results for tiny networks.

Run with Debian's python3-torch (1.13):  /usr/bin/python3 tests/golden/make_golden.py

PyTorch computes in float64. The files store float32 (ids: int64). A file holds one network (tensor names and shapes of
model/network/network.h), its description in the metadata, and either

  gradient cases: windows of T steps of B streams. The state goes on from window to window and is detached between them.
  The weights do not change. Per window w: "w.inputs", "w.targets" [T, B]; "w.logits" [T, B, V]; "w.loss" [1], the mean
  of -log p(target) in nats; "w.gradient.<tensor>" for every tensor;

  training cases: one optimizer step per window, with a carried state. Per step w: "w.inputs", "w.targets", "w.loss"
  (before the update), "w.norm" [1] (of the gradient before clipping). At the end: "trained.<tensor>".

If the metadata's reset_token is not -1, a stream starts again from a zero state when that token is its input.
PyTorch keeps two biases per gate. For LSTM and RNN the second one is zero here, and the files omit it.
"""
import json
import math
import os
import struct

import torch
from torch import nn
from torch.nn import functional

DIRECTORY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")
CELLS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
WINDOW, WINDOWS, BATCH = 5, 3, 3


def write_safetensors(path, tensors, metadata):
    """8-byte header length, JSON header padded with spaces to 8 bytes, data."""
    header, offset, blobs = {"__metadata__": {key: str(value) for key, value in metadata.items()}}, 0, []
    for name, tensor in tensors.items():
        integer = tensor.dtype == torch.int64
        stored = (tensor if integer else tensor.to(torch.float32)).detach().contiguous().numpy()
        blob = stored.astype("<i8" if integer else "<f4").tobytes()
        header[name] = {"dtype": "I64" if integer else "F32", "shape": list(tensor.shape),
                        "data_offsets": [offset, offset + len(blob)]}
        offset += len(blob)
        blobs.append(blob)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


class Network(nn.Module):
    def __init__(self, cell, layers, hidden, embedding, vocabulary, tied=False):
        super().__init__()
        self.cell, self.layers, self.vocabulary, self.tied = cell, layers, vocabulary, tied
        self.embedding = nn.Embedding(vocabulary, embedding) if embedding else None
        self.rnn = CELLS[cell](embedding or vocabulary, hidden, layers)
        self.output = nn.Linear(hidden, vocabulary)
        for parameter in self.parameters():
            scale = 0.3 if parameter.dim() == 1 else 1.0 / math.sqrt(hidden)
            nn.init.normal_(parameter, 0.0, scale)
        if tied:
            self.output.weight = self.embedding.weight
        if cell != "gru":
            for k in range(layers):
                bias = getattr(self.rnn, f"bias_hh_l{k}")
                bias.requires_grad = False
                bias.zero_()
        # The file stores float32. Compute from exactly those numbers.
        for parameter in self.parameters():
            parameter.copy_(parameter.to(torch.float32).to(torch.float64))

    def named_tensors(self):
        """Returns name -> parameter, with the names and the order of model/network/network.h."""
        tensors = {}
        if self.embedding is not None:
            tensors["embedding.weight"] = self.embedding.weight
        for k in range(self.layers):
            tensors[f"rnn.weight_ih_l{k}"] = getattr(self.rnn, f"weight_ih_l{k}")
            tensors[f"rnn.weight_hh_l{k}"] = getattr(self.rnn, f"weight_hh_l{k}")
            tensors[f"rnn.bias_l{k}"] = getattr(self.rnn, f"bias_ih_l{k}")
            if self.cell == "gru":
                tensors[f"rnn.bias_hh_l{k}"] = getattr(self.rnn, f"bias_hh_l{k}")
        if not self.tied:
            tensors["output.weight"] = self.output.weight
        tensors["output.bias"] = self.output.bias
        return tensors

    def start_state(self):
        zeros = torch.zeros(self.layers, BATCH, self.rnn.hidden_size)
        return (zeros, zeros) if self.cell == "lstm" else (zeros,)

    def forward(self, inputs, state, reset_token):
        """Goes step by step, so that it can reset a state inside a window. Returns logits [T, B, V] and the new state."""
        logits = []
        for ids in inputs:
            keep = (ids != reset_token).to(torch.float64).view(1, BATCH, 1)
            state = tuple(part * keep for part in state)
            x = functional.one_hot(ids, self.vocabulary).to(torch.float64) if self.embedding is None \
                else self.embedding(ids)
            hidden, state = self.rnn(x.unsqueeze(0), state if self.cell == "lstm" else state[0])
            state = state if self.cell == "lstm" else (state,)
            logits.append(self.output(hidden.squeeze(0)))
        return torch.stack(logits), state


def draw_tokens(vocabulary, windows, reset_token):
    """Returns streams [windows * T + 1, B]. Without resets, token 0 is an ordinary token."""
    tokens = torch.randint(0, vocabulary, (windows * WINDOW + 1, BATCH))
    if reset_token >= 0:
        # Resets stand at a window's start, in its middle, at its end and twice in a row, and differ between streams.
        for time, stream in [(0, 0), (0, 1), (0, 2), (2, 1), (4, 2), (5, 0), (7, 1), (8, 1), (11, 2), (14, 0)]:
            tokens[time, stream] = reset_token
    return tokens


def describe(network, embedding, reset_token):
    return {"cell": network.cell, "layers": network.layers, "hidden_size": network.rnn.hidden_size,
            "embedding_size": embedding, "vocabulary_size": network.vocabulary, "tie_weights": int(network.tied),
            "batch": BATCH, "window": WINDOW, "reset_token": reset_token}


def windows_of(tokens):
    for start in range(0, len(tokens) - 1, WINDOW):
        yield tokens[start : start + WINDOW], tokens[start + 1 : start + 1 + WINDOW]


def mean_loss(logits, targets):
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def write_gradient_case(name, seed, cell, layers, hidden, embedding=0, vocabulary=11, tied=False, reset_token=-1):
    torch.manual_seed(seed)
    with torch.no_grad():
        network = Network(cell, layers, hidden, embedding, vocabulary, tied)
    tensors = dict(network.named_tensors())
    state = network.start_state()
    for w, (inputs, targets) in enumerate(windows_of(draw_tokens(vocabulary, WINDOWS, reset_token))):
        state = tuple(part.detach() for part in state)
        network.zero_grad(set_to_none=True)
        logits, state = network(inputs, state, reset_token)
        loss = mean_loss(logits, targets)
        loss.backward()
        tensors.update({f"{w}.inputs": inputs, f"{w}.targets": targets, f"{w}.logits": logits,
                        f"{w}.loss": loss.reshape(1)})
        tensors.update({f"{w}.gradient.{key}": value.grad for key, value in network.named_tensors().items()})
    metadata = {"kind": "gradient", "windows": WINDOWS, **describe(network, embedding, reset_token)}
    write_safetensors(os.path.join(DIRECTORY, name + ".safetensors"), tensors, metadata)


def make_optimizer(kind, named, settings):
    """Only matrices have weight decay (optimizer.h)."""
    matrices = [tensor for tensor in named.values() if tensor.dim() > 1]
    biases = [tensor for tensor in named.values() if tensor.dim() == 1]
    rate, epsilon = settings["rate"], settings.get("epsilon")
    if kind == "sgd":
        return torch.optim.SGD(named.values(), lr=rate, momentum=settings["momentum"])
    if kind == "rmsprop":
        return torch.optim.RMSprop(named.values(), lr=rate, alpha=settings["decay"], eps=epsilon)
    betas = (settings["beta1"], settings["beta2"])
    if kind == "adam":
        return torch.optim.Adam(named.values(), lr=rate, betas=betas, eps=epsilon)
    groups = [{"params": matrices, "weight_decay": settings["weight_decay"]}, {"params": biases, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=betas, eps=epsilon)


def write_training_case(kind, seed, cell, settings, embedding=0, steps=5):
    torch.manual_seed(seed)
    with torch.no_grad():
        network = Network(cell, 1, 9, embedding, 11)
    named = network.named_tensors()
    tensors = {key: value.detach().clone() for key, value in named.items()}
    optimizer = make_optimizer(kind, named, settings)
    state = network.start_state()
    norms = []
    for w, (inputs, targets) in enumerate(windows_of(draw_tokens(11, steps, -1))):
        state = tuple(part.detach() for part in state)
        optimizer.zero_grad(set_to_none=True)
        logits, state = network(inputs, state, -1)
        loss = mean_loss(logits, targets)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(list(named.values()), settings["clip"])
        norms.append(norm.item())
        optimizer.step()
        tensors.update({f"{w}.inputs": inputs, f"{w}.targets": targets, f"{w}.loss": loss.reshape(1),
                        f"{w}.norm": norm.reshape(1)})
    # Clipping must change some steps and not others. Otherwise the case does not test it.
    assert min(norms) < settings["clip"] < max(norms), (kind, norms)
    tensors.update({f"trained.{key}": value for key, value in named.items()})
    metadata = {"kind": "training", "windows": steps, "optimizer": kind, **settings,
                **describe(network, embedding, -1)}
    write_safetensors(os.path.join(DIRECTORY, f"train_{kind}.safetensors"), tensors, metadata)


def main():
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    os.makedirs(DIRECTORY, exist_ok=True)
    # The hidden sizes 9 and 20 do not fill blocks of 16. The size 16 (below) does.
    for index, cell in enumerate(CELLS):
        write_gradient_case(f"{cell}_1_onehot", 10 + index, cell, 1, 20)
        write_gradient_case(f"{cell}_1_embedding", 20 + index, cell, 1, 9, embedding=6)
        write_gradient_case(f"{cell}_2_onehot", 30 + index, cell, 2, 9)
        write_gradient_case(f"{cell}_2_embedding", 40 + index, cell, 2, 20, embedding=6)
        write_gradient_case(f"{cell}_2_resets", 50 + index, cell, 2, 9, reset_token=0)
    write_gradient_case("lstm_1_tied", 60, "lstm", 1, 16, embedding=16, vocabulary=19, tied=True)
    write_gradient_case("gru_2_tied_resets", 61, "gru", 2, 9, embedding=9, tied=True, reset_token=0)
    # Each epsilon is so large that its place in the formula matters.
    write_training_case("rmsprop", 71, "lstm", {"rate": 0.01, "decay": 0.9, "epsilon": 1e-3, "clip": 0.25})
    write_training_case("adam", 72, "gru", {"rate": 0.01, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-3, "clip": 0.45},
                        embedding=6)
    write_training_case("adamw", 73, "lstm", {"rate": 0.01, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-3,
                                              "weight_decay": 0.1, "clip": 0.25}, embedding=6)
    write_training_case("sgd", 74, "rnn", {"rate": 0.1, "momentum": 0.9, "clip": 0.7})


if __name__ == "__main__":
    main()
