#!/usr/bin/python3
"""Writes small files in PyTorch's form, one for each way in which such files differ, and the results that each model must
give: the probabilities after a prompt, and a greedy continuation. A forward pass in numpy computes them. It shares no code
with lstmd or PyTorch.

    tests/golden/make_torch_import.py         writes tests/golden/data/torch/*.pt and expected.json

The weights are the same in every run. Files of the legacy form differ between runs, because addresses name their storages.
"""

import collections
import json
import pathlib
import struct
import sys

import numpy
import torch
from torch import nn

OUT = pathlib.Path(__file__).resolve().parent / "data" / "torch"
CHARACTERS = sorted(set("hello, world\n"))
PROMPT = "low held"
GREEDY = 24


# ---- the forward pass ----


def sigmoid(x):
    return 1 / (1 + numpy.exp(-x))


def step(cell, layer, x, state):
    """One step of one layer. layer is (W_ih, W_hh, b_ih, b_hh), state is (h, c)."""
    w_ih, w_hh, b_ih, b_hh = layer
    h, c = state
    if cell == "gru":
        ri, zi, ni = numpy.split(w_ih @ x + b_ih, 3)
        rh, zh, nh = numpy.split(w_hh @ h + b_hh, 3)
        r, z = sigmoid(ri + rh), sigmoid(zi + zh)
        n = numpy.tanh(ni + r * nh)
        return (1 - z) * n + z * h, c
    sums = w_ih @ x + b_ih + w_hh @ h + b_hh
    if cell == "rnn_tanh":
        return numpy.tanh(sums), c
    if cell == "rnn_relu":
        return numpy.maximum(sums, 0), c
    i, f, g, o = numpy.split(sums, 4)
    c = sigmoid(f) * c + sigmoid(i) * numpy.tanh(g)
    return sigmoid(o) * numpy.tanh(c), c


class Reference:
    def __init__(self, cell, layers, embedding, weight, bias):
        array = lambda t: t.detach().to(torch.float64).numpy()
        self.cell, self.weight = cell, array(weight)
        self.layers = []
        for w_ih, w_hh, b_ih, b_hh in layers:
            zeros = torch.zeros(w_ih.shape[0])
            self.layers.append([array(t) for t in (w_ih, w_hh, zeros if b_ih is None else b_ih,
                                                   zeros if b_hh is None else b_hh)])
        self.embedding = numpy.eye(self.weight.shape[0]) if embedding is None else array(embedding)
        self.bias = 0 if bias is None else array(bias)
        self.states = [(numpy.zeros(layer[1].shape[1]),) * 2 for layer in self.layers]

    def feed(self, token):
        x = self.embedding[token]
        for k, layer in enumerate(self.layers):
            self.states[k] = step(self.cell, layer, x, self.states[k])
            x = self.states[k][0]
        logits = self.weight @ x + self.bias
        e = numpy.exp(logits - logits.max())
        return e / e.sum()


def expect(reference, tokens=CHARACTERS, pad=None):
    ids = [tokens.index(c) for c in PROMPT]
    for token in ids:
        probabilities = reference.feed(token)
    expected = {"ids": ids, "probabilities": probabilities.round(12).tolist()}
    text = ""
    for _ in range(GREEDY):
        ranked = numpy.argsort(-probabilities)
        best = ranked[0] if ranked[0] != pad else ranked[1]
        gap = probabilities[best] - max(p for i, p in enumerate(probabilities) if i not in (best, pad))
        assert gap > 1e-4, f"a tie: choose another seed ({gap})"
        text += tokens[best]
        probabilities = reference.feed(best)
    expected["greedy"] = text
    return expected


# ---- models ----


class CharRNN(nn.Module):
    def __init__(self, mode="LSTM", size=len(CHARACTERS), hidden=6, layers=1, embedding=0, tied=False, bias=True,
                 head_bias=True, nonlinearity="tanh"):
        super().__init__()
        options = {"nonlinearity": nonlinearity} if mode == "RNN" else {}
        if embedding:
            self.encoder = nn.Embedding(size, embedding)
        self.rnn = getattr(nn, mode)(embedding or size, hidden, layers, bias=bias, batch_first=True, **options)
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(hidden, size, bias=head_bias)
        for parameter in self.parameters():  # so wide that greedy choices are clear
            nn.init.normal_(parameter, std=0.8)
        if tied:
            self.fc.weight = self.encoder.weight

    def reference(self, state=None):
        state = state or self.state_dict()
        kind = {"LSTM": "lstm", "GRU": "gru", "RNN_TANH": "rnn_tanh", "RNN_RELU": "rnn_relu"}[self.rnn.mode]
        names = ("weight_ih_l", "weight_hh_l", "bias_ih_l", "bias_hh_l")
        layers = [[state.get(f"rnn.{n}{k}") for n in names] for k in range(self.rnn.num_layers)]
        return Reference(kind, layers, state.get("encoder.weight"), state["fc.weight"], state.get("fc.bias"))


class Cells(nn.Module):
    """Two cells of different sizes. Their numbers are their names."""

    def __init__(self):
        super().__init__()
        self.cells = nn.ModuleList([nn.LSTMCell(len(CHARACTERS), 7), nn.LSTMCell(7, 5)])
        self.out = nn.Linear(5, len(CHARACTERS))
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.8)

    def reference(self):
        layers = [[getattr(cell, n) for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")] for cell in self.cells]
        return Reference("lstm", layers, None, self.out.weight, self.out.bias)


# ---- files ----

expected = {}


def save(name, thing, reference, arguments=(), vocabulary="vocabulary.json", **options):
    file = name + ".pt"
    torch.save(thing, OUT / file, **options)
    note(name, file, reference, arguments, vocabulary)


def note(name, file, reference, arguments=(), vocabulary="vocabulary.json", **options):
    arguments = list(arguments) + (["--vocabulary", vocabulary] if vocabulary else [])
    expected[name] = {"file": file, "arguments": arguments, "prompt": PROMPT, **expect(reference, **options)}


def model(seed, **options):
    torch.manual_seed(seed)
    return CharRNN(**options)


def state_dicts():
    for protocol in (2, 3, 4, 5):
        m = model(protocol, layers=2)
        save(f"lstm_protocol_{protocol}", m.state_dict(), m.reference(), pickle_protocol=protocol)
    m = model(6)
    save("lstm_legacy", m.state_dict(), m.reference(), _use_new_zipfile_serialization=False)
    m = model(7, layers=2, embedding=4)
    save("lstm_embedding_stacked", m.state_dict(), m.reference())
    m = model(8, embedding=6, tied=True)
    save("lstm_tied", m.state_dict(), m.reference())
    save("lstm_tied_legacy", m.state_dict(), m.reference(), _use_new_zipfile_serialization=False)
    m = model(9, mode="GRU", bias=False, head_bias=False)
    save("gru_without_biases", m.state_dict(), m.reference())
    m = model(10, mode="RNN")
    save("rnn_tanh", m.state_dict(), m.reference())
    m = model(11, mode="RNN", nonlinearity="relu")
    save("rnn_relu", m.state_dict(), m.reference(), ["--activation", "relu"])
    m = model(12, mode="GRU", embedding=5)
    parallel = collections.OrderedDict(("module." + k, v) for k, v in m.state_dict().items())
    save("gru_data_parallel", parallel, m.reference())
    torch.manual_seed(13)
    cells = Cells()
    save("lstm_cells", cells.state_dict(), cells.reference())


def types():
    for name, dtype in (("half", torch.float16), ("bfloat16", torch.bfloat16), ("double", torch.float64)):
        m = model(20 + len(name)).to(dtype)
        for form, new in (("", True), ("_legacy", False)):
            save(f"lstm_{name}{form}", m.state_dict(), m.reference(), _use_new_zipfile_serialization=new)


def views():
    """Makes transposed, strided and offset views of shared storages."""
    m = model(30, layers=2)
    state = m.state_dict()
    pool = torch.zeros(4096)
    at = 3
    for i, (name, tensor) in enumerate(state.items()):
        if i % 3 == 0 and tensor.dim() == 2:
            state[name] = tensor.t().contiguous().t()
        elif i % 3 == 1:
            view = pool[at:at + 2 * tensor.numel():2].view(tensor.shape) if tensor.dim() == 1 else \
                pool[at:at + 2 * tensor.numel()].view(tensor.shape[0], -1)[:, :tensor.shape[1]]
            view.copy_(tensor)
            state[name] = view
            at += 2 * tensor.numel()
    assert any(not t.is_contiguous() for t in state.values()) and any(t.storage_offset() for t in state.values())
    save("lstm_views", state, m.reference())
    save("lstm_views_legacy", state, m.reference(), _use_new_zipfile_serialization=False)


def checkpoints():
    m = model(40, mode="GRU", layers=2)
    optimizer = torch.optim.Adam(m.parameters())
    sum(p.sum() for p in m.parameters()).backward()
    optimizer.step()  # now the optimizer has moments
    save("checkpoint_tokens", {"n_hidden": 6, "n_layers": 2, "state_dict": m.state_dict(), "epoch": 3,
                               "loss": torch.tensor(1.5), "optimizer": optimizer.state_dict(),
                               "tokens": tuple(CHARACTERS)}, m.reference(), vocabulary=None)
    m = model(41, embedding=4)
    numbers = {c: i for i, c in enumerate(CHARACTERS)}
    save("checkpoint_char2int", {"model_state_dict": m.state_dict(), "args": {"char2int": numbers, "lr": 0.1}},
         m.reference(), vocabulary=None, _use_new_zipfile_serialization=False)
    m = model(42)
    save("checkpoint_text", [m.state_dict(), {"chars": "".join(CHARACTERS)}], m.reference(), vocabulary=None)


def modules():
    for form, new in (("", True), ("_legacy", False)):
        m = model(50, mode="GRU", embedding=5, layers=2)
        m.int2char = dict(enumerate(CHARACTERS))
        save("module_gru" + form, m, m.reference(), vocabulary=None, _use_new_zipfile_serialization=new)
        m = model(51, mode="RNN", nonlinearity="relu")
        save("module_rnn_relu" + form, {"model": m}, m.reference(), _use_new_zipfile_serialization=new)
    m = model(52, embedding=6, tied=True)
    save("module_tied", m, m.reference(), pickle_protocol=4)


def padded():
    """Puts a padding word in front. Ids start at 1, and id 0 is never the answer."""
    tokens = ["<pad>"] + CHARACTERS
    m = model(60, size=len(tokens), embedding=4)
    file = "padded.pt"
    torch.save({"model": m.state_dict(), "stoi": {c: i + 1 for i, c in enumerate(CHARACTERS)}}, OUT / file)
    note("padded", file, m.reference(), vocabulary=None, tokens=tokens, pad=0)


def safetensors(name, tensors, reference):
    header, data = {}, b""
    for key, tensor in tensors.items():
        raw = tensor.detach().contiguous().numpy().astype("<f4").tobytes()
        header[key] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (OUT / f"{name}.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    note(name, f"{name}.safetensors", reference)


def safetensors_files():
    m = model(70, embedding=4)
    safetensors("safetensors_lstm", m.state_dict(), m.reference())
    m = model(71, mode="GRU", embedding=6, tied=True)
    state = m.state_dict()
    reference = m.reference()
    del state["encoder.weight"]  # if two tensors share memory, save_model() keeps one
    safetensors("safetensors_tied", state, reference)


def main():
    # The legacy form stores the source of every class. It need not be the real source.
    torch.serialization.get_source_lines_and_file = lambda thing: (["class Source: pass\n"], 0, "source.py")
    OUT.mkdir(exist_ok=True)
    for old in OUT.iterdir():
        old.unlink()
    (OUT / "vocabulary.json").write_text(json.dumps(CHARACTERS) + "\n")
    state_dicts()
    types()
    views()
    checkpoints()
    modules()
    padded()
    safetensors_files()
    (OUT / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
    print(f"{len(expected)} files, {sum(f.stat().st_size for f in OUT.iterdir())} bytes")


if __name__ == "__main__":
    sys.exit(main())
