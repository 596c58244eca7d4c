"""The networks of lstmd in numpy and float64, and model directories with random weights. Tests compare the program with
them. The code follows the equations of model/network/architecture.h."""

import hashlib
import json
import struct

import numpy as np

ACTIVATIONS = {
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "relu": lambda x: np.maximum(x, 0),
    "linear": lambda x: x,
    "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "hard_sigmoid_keras2": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
}
GATES = {"lstm": 4, "gru": 3, "rnn": 1}


def sizes_of(config):
    return config.get("hidden_sizes") or [config["hidden_size"]] * config["layers"]


def shapes_of(config):
    gates, vocabulary, embedding = GATES[config["cell"]], config["vocabulary_size"], config["embedding_size"]
    shapes = {"embedding.weight": (vocabulary, embedding)} if embedding else {}
    inputs = embedding or vocabulary
    for k, hidden in enumerate(sizes_of(config)):
        shapes[f"rnn.weight_ih_l{k}"] = (gates * hidden, inputs)
        shapes[f"rnn.weight_hh_l{k}"] = (gates * hidden, hidden)
        shapes[f"rnn.bias_l{k}"] = (gates * hidden,)
        if config["cell"] == "gru" and config.get("reset_after", True):
            shapes[f"rnn.bias_hh_l{k}"] = (gates * hidden,)
        inputs = hidden
    for d, dense in enumerate(config.get("dense", [])):
        shapes[f"dense.weight_l{d}"] = (dense["size"], inputs)
        shapes[f"dense.bias_l{d}"] = (dense["size"],)
        inputs = dense["size"]
    if not config["tie_weights"]:
        shapes["output.weight"] = (vocabulary, inputs)
    shapes["output.bias"] = (vocabulary,)
    return shapes


def random_tensors(config, seed=1):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0, 0.4, shape).astype("<f4") for name, shape in shapes_of(config).items()}


def write_safetensors(path, tensors):
    header, data = {}, b""
    for name, values in tensors.items():
        raw = values.astype("<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def read_safetensors(path):
    """Returns the tensors and the metadata of a float32 file."""
    raw = path.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    header, data = json.loads(raw[8 : 8 + length]), raw[8 + length :]
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        assert entry["dtype"] == "F32"
        tensors[name] = np.frombuffer(data[begin:end], "<f4").reshape(entry["shape"])
    return tensors, metadata


def write_model(directory, config, tokens, tensors, eos=None, pad=None):
    """Writes a model directory. Adds to config the fields that follow from the others. Returns the whole config."""
    directory.mkdir(parents=True)
    vocabulary = {"level": "char", "tokens": tokens, "eos": eos, "pad": pad, "unknown": None}
    text = json.dumps(vocabulary, ensure_ascii=False).encode()
    whole = {"format": "lstmd/1", "token_level": "char", "vocabulary_sha256": hashlib.sha256(text).hexdigest(), **config}
    (directory / "vocabulary.json").write_bytes(text)
    (directory / "config.json").write_text(json.dumps(whole))
    write_safetensors(directory / "model.safetensors", tensors)
    return whole


def cell_step(config, weights, k, x, h, c):
    """Returns the new h and c of layer k."""
    f = ACTIVATIONS[config.get("activation", "tanh")]
    s = ACTIVATIONS[config.get("recurrent_activation", "sigmoid")]
    w, u, b = (weights[f"rnn.{part}_l{k}"] for part in ("weight_ih", "weight_hh", "bias"))
    if config["cell"] == "rnn":
        return f(w @ x + u @ h + b), c
    if config["cell"] == "lstm":
        i, forget, g, o = np.split(w @ x + u @ h + b, 4)
        c = s(forget) * c + s(i) * f(g)
        return s(o) * f(c), c
    (wr, wz, wn), (ur, uz, un), (br, bz, bn) = np.split(w, 3), np.split(u, 3), np.split(b, 3)
    if config.get("reset_after", True):
        hr, hz, hn = np.split(weights[f"rnn.bias_hh_l{k}"], 3)
        r, z = s(wr @ x + br + ur @ h + hr), s(wz @ x + bz + uz @ h + hz)
        n = f(wn @ x + bn + r * (un @ h + hn))
    else:
        r, z = s(wr @ x + br + ur @ h), s(wz @ x + bz + uz @ h)
        n = f(wn @ x + bn + un @ (r * h))
    return (1 - z) * n + z * h, c


def probabilities(config, tensors, ids):
    """Returns the distribution after the tokens. The first one meets the zero state."""
    weights = {name: values.astype(np.float64) for name, values in tensors.items()}
    state = [(np.zeros(size), np.zeros(size)) for size in sizes_of(config)]
    for token in ids:
        x = weights["embedding.weight"][token] if config["embedding_size"] else np.eye(config["vocabulary_size"])[token]
        for k, (h, c) in enumerate(state):
            state[k] = cell_step(config, weights, k, x, h, c)
            x = state[k][0]
    for d, dense in enumerate(config.get("dense", [])):
        x = ACTIVATIONS[dense["activation"]](weights[f"dense.weight_l{d}"] @ x + weights[f"dense.bias_l{d}"])
    matrix = weights["embedding.weight" if config["tie_weights"] else "output.weight"]
    logits = matrix @ x + weights["output.bias"]
    exponentials = np.exp(logits - logits.max())
    return exponentials / exponentials.sum()


def predict(config, tensors, ids, pad=None):
    """Like probabilities(), but through the window of config, if it has one."""
    window = config.get("window")
    if window:
        ids = ids[-window["size"] :]
        if pad is not None and not window["masked"]:
            ids = [pad] * (window["size"] - len(ids)) + ids
    return probabilities(config, tensors, ids)
