"""Writes tiny model directories with made-up weights. Needs only the standard library."""

import hashlib
import json
import pathlib
import random
import struct

TEXT = " abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,'-äé€"
WORDS = "red green blue one three seven house tree river".split()


def tensors_of(vocabulary_size, hidden, eos_bias, rng):
    def uniform(*shape):
        count = 1
        for n in shape:
            count *= n
        return shape, [rng.uniform(-0.4, 0.4) for _ in range(count)]

    bias_shape, bias = uniform(vocabulary_size)
    bias[0] = eos_bias
    return {
        "rnn.weight_ih_l0": uniform(4 * hidden, vocabulary_size),
        "rnn.weight_hh_l0": uniform(4 * hidden, hidden),
        "rnn.bias_l0": uniform(4 * hidden),
        "output.weight": uniform(vocabulary_size, hidden),
        "output.bias": (bias_shape, bias),
    }


def safetensors(tensors):
    header, data = {}, b""
    for name, (shape, values) in tensors.items():
        raw = struct.pack(f"<{len(values)}f", *values)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def make_model(directory, hidden=16, eos_bias=-1e6, labels=(), seed=1, level="char", window=None, text=TEXT):
    """eos_bias: with a very low one the model never ends a text, with +80 it ends nearly every text at once. window: as in
    config.json. With a window, the vocabulary has a pad token in the place of <eos>."""
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True)
    text = {"char": text, "byte": map(chr, range(256)), "word": WORDS}[level]
    tokens = ["<eos>", *text, *labels]
    vocabulary = {"level": level, "tokens": tokens, "eos": 0, "pad": None, "unknown": None}
    if level == "word":
        vocabulary |= {"filters": ".,", "lower": False}
    if window:
        vocabulary |= {"eos": None, "pad": 0}
    if labels:
        vocabulary["labels"] = list(range(len(tokens) - len(labels), len(tokens)))
    vocabulary_text = json.dumps(vocabulary, ensure_ascii=False).encode()
    config = {
        "format": "lstmd/1",
        "cell": "lstm",
        "layers": 1,
        "hidden_size": hidden,
        "embedding_size": 0,
        "vocabulary_size": len(tokens),
        "token_level": level,
        "tie_weights": False,
        "vocabulary_sha256": hashlib.sha256(vocabulary_text).hexdigest(),
    }
    if window:
        config["window"] = window
    if labels:
        config["labels"] = list(labels)
    (directory / "vocabulary.json").write_bytes(vocabulary_text)
    (directory / "config.json").write_text(json.dumps(config))
    weights = tensors_of(len(tokens), hidden, eos_bias, random.Random(seed))
    (directory / "model.safetensors").write_bytes(safetensors(weights))
    return directory
