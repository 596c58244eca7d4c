"""Networks of imported models: tests compare lstmd next, generate, eval, inspect and quantize with a forward pass in numpy."""

import json
import math
import os
import pathlib
import subprocess

import pytest

np = pytest.importorskip("numpy", reason="NOT TESTED: variants against numpy (python3-numpy is missing)")

from forward import predict, random_tensors, write_model  # noqa: E402

LSTMD = os.environ.get("LSTMD", str(pathlib.Path(__file__).resolve().parents[2] / "build/lstmd"))
TOKENS = ["\0", *"abcdefghij"]
BASE = {"layers": 1, "hidden_size": 20, "embedding_size": 0, "vocabulary_size": len(TOKENS), "tie_weights": False}

VARIANTS = {
    "lstm": {"cell": "lstm"},
    "lstm_sigmoid": {"cell": "lstm", "activation": "sigmoid"},
    "lstm_keras2": {"cell": "lstm", "layers": 2, "recurrent_activation": "hard_sigmoid_keras2"},
    "lstm_keras3": {"cell": "lstm", "recurrent_activation": "hard_sigmoid", "embedding_size": 7},
    "lstm_relu": {"cell": "lstm", "activation": "relu"},
    "lstm_linear": {"cell": "lstm", "activation": "linear", "recurrent_activation": "hard_sigmoid"},
    "lstm_sizes": {"cell": "lstm", "layers": 3, "hidden_sizes": [40, 9, 20]},
    "lstm_dense": {"cell": "lstm", "dense": [{"size": 33, "activation": "relu"}, {"size": 5, "activation": "tanh"}]},
    "lstm_tied": {"cell": "lstm", "embedding_size": 6, "tie_weights": True, "dense": [{"size": 6, "activation": "linear"}]},
    "gru": {"cell": "gru", "layers": 2},
    "gru_before": {"cell": "gru", "layers": 2, "reset_after": False},
    "gru_before_keras2": {
        "cell": "gru",
        "layers": 2,
        "hidden_sizes": [12, 20],
        "embedding_size": 9,
        "reset_after": False,
        "recurrent_activation": "hard_sigmoid_keras2",
    },
    "gru_relu": {"cell": "gru", "activation": "relu"},
    "rnn_relu": {"cell": "rnn", "activation": "relu", "layers": 2},
    "rnn_hard": {"cell": "rnn", "activation": "hard_sigmoid", "dense": [{"size": 8, "activation": "sigmoid"}]},
    "window_masked": {"cell": "lstm", "window": {"size": 6, "masked": True}},
    "window_padded": {"cell": "gru", "reset_after": False, "window": {"size": 6, "masked": False}},
    "window_long": {"cell": "rnn", "embedding_size": 5, "window": {"size": 50, "masked": False}},
}
UNBOUNDED = {"lstm_relu", "lstm_linear", "lstm_dense", "lstm_tied", "gru_relu", "rnn_relu"}


@pytest.fixture(params=VARIANTS)
def variant(request, tmp_path):
    """(name, directory, config, tensors)"""
    config = {**BASE, **VARIANTS[request.param]}
    tensors = random_tensors(config)
    directory = tmp_path / request.param
    return request.param, directory, write_model(directory, config, TOKENS, tensors, pad=0), tensors


def run(*arguments, fails=False):
    done = subprocess.run([LSTMD, *map(str, arguments)], capture_output=True, text=True)
    assert (done.returncode != 0) == fails, done.stderr
    return done.stderr if fails else done.stdout


def ids_of(text):
    return [TOKENS.index(character) for character in text]


@pytest.mark.parametrize("prompt", ["a", "bcd", "abcdefghijjihgfedcba"])
def test_next_gives_the_probabilities_of_numpy(variant, prompt):
    _, directory, config, tensors = variant
    answer = json.loads(run("next", "--model", directory, "--prompt", prompt, "--json"))
    expected = predict(config, tensors, ids_of(prompt), pad=0)
    assert np.abs(np.array(answer["probabilities"]) - expected).max() < 1e-6


def test_greedy_text_is_that_of_numpy(variant):
    _, directory, config, tensors = variant
    text = run("generate", "--model", directory, "--prompt", "cab", "--length", 25, "--temperature", 0).rstrip("\n")
    expected = "cab"
    for _ in range(25):
        distribution = predict(config, tensors, ids_of(expected), pad=0)
        distribution[0] = 0  # the pad token
        expected += TOKENS[int(distribution.argmax())]
    assert text == expected


def test_eval_gives_the_loss_of_numpy(variant, tmp_path):
    _, directory, config, tensors = variant
    lines = ["abcdefghij", "b", "jjihgfaab", "aa"]
    (tmp_path / "lines.txt").write_text("\n".join(lines) + "\n")
    data = ("--data", tmp_path / "lines.txt", "--format", "lines")
    answer = json.loads(run("eval", "--model", directory, *data, "--json"))
    nats = 0
    for line in lines:
        ids = ids_of(line)
        nats -= sum(math.log(predict(config, tensors, ids[:i], pad=0)[ids[i]]) for i in range(1, len(ids)))
    targets = sum(len(line) - 1 for line in lines)
    assert answer["tokens"] == targets
    assert answer["nats_per_token"] == pytest.approx(nats / targets, abs=1e-5)


def test_quantized_variants_keep_their_meaning_or_are_refused(variant, tmp_path):
    name, directory, config, tensors = variant
    if name in UNBOUNDED:
        refusal = run("quantize", directory, "--to", "int8", "--out", tmp_path / "int8", fails=True)
        assert "int8 weights need values between -1 and 1" in refusal
        assert not (tmp_path / "int8").exists()
    else:
        run("quantize", directory, "--to", "int8", "--out", tmp_path / "int8")
    run("quantize", directory, "--to", "bf16", "--out", tmp_path / "bf16")
    for written in tmp_path.glob("*"):
        answer = json.loads(run("next", "--model", written, "--prompt", "abc", "--json"))
        expected = predict(config, tensors, ids_of("abc"), pad=0)
        assert np.abs(np.array(answer["probabilities"]) - expected).max() < 0.02


def test_inspect_names_what_is_not_standard(variant):
    name, directory, config, tensors = variant
    text, first = run("inspect", directory), {}
    first = text.splitlines()[0]
    total = sum(values.size for values in tensors.values())
    assert f"{total:,}" in text
    for tensor in tensors:
        assert tensor in text
    for key, words in {
        "activation": f"activation {config.get('activation')}",
        "recurrent_activation": f"recurrent activation {config.get('recurrent_activation')}",
        "window": "window of ",
        "dense": "dense layer of ",
    }.items():
        assert (words in first) == (key in config)
    if name == "lstm_sizes":
        assert "3 layers of 40, 9 and 20" in first
    described = json.loads(run("inspect", directory, "--json"))
    for key in ("hidden_sizes", "activation", "recurrent_activation", "reset_after", "dense", "window"):
        assert described.get(key) == config.get(key, True if key == "reset_after" and config["cell"] == "gru" else None)
