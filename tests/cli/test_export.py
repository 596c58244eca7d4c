"""lstmd export: tests compare the files with passes in numpy, which follow the definitions of PyTorch and Keras. If PyTorch
is installed, it runs the snippet of docs/import.md."""

import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys
import types

import pytest

np = pytest.importorskip("numpy", reason="NOT TESTED: lstmd export (python3-numpy is missing)")

from forward import predict, random_tensors, read_safetensors, write_model  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
LSTMD = os.environ.get("LSTMD", str(ROOT / "build/lstmd"))
TOKENS = ["<eos>", *"abcdefghij"]
BASE = {"layers": 2, "hidden_size": 20, "embedding_size": 0, "vocabulary_size": len(TOKENS), "tie_weights": False}
PROMPT = "abcdefghijjihg"
IDS = [TOKENS.index(character) for character in PROMPT]

STANDARD = {
    "lstm": {"cell": "lstm"},
    "lstm_embedding": {"cell": "lstm", "embedding_size": 7},
    "lstm_tied": {"cell": "lstm", "embedding_size": 20, "tie_weights": True},
    "gru": {"cell": "gru", "reset_after": True},
    "gru_embedding": {"cell": "gru", "reset_after": True, "embedding_size": 5, "layers": 3},
    "rnn": {"cell": "rnn", "layers": 1},
}
VARIANTS = {
    "lstm_keras2": {"cell": "lstm", "recurrent_activation": "hard_sigmoid_keras2", "activation": "sigmoid"},
    "lstm_keras3": {"cell": "lstm", "recurrent_activation": "hard_sigmoid"},
    "gru_before": {"cell": "gru", "reset_after": False, "embedding_size": 6},
    "sizes": {"cell": "gru", "reset_after": True, "layers": 3, "hidden_sizes": [12, 30, 20]},
    "dense": {"cell": "lstm", "dense": [{"size": 9, "activation": "relu"}, {"size": 4, "activation": "linear"}]},
    "relu": {"cell": "rnn", "activation": "relu", "dense": [{"size": 7, "activation": "hard_sigmoid_keras2"}]},
}


def run(*arguments, fails=False):
    done = subprocess.run([LSTMD, *map(str, arguments)], capture_output=True, text=True)
    assert (done.returncode != 0) == fails, done.stderr
    return done.stderr if fails else done.stdout


def model_of(path, name):
    config = {**BASE, **{**STANDARD, **VARIANTS}[name]}
    tensors = random_tensors(config)
    return write_model(path / name, config, TOKENS, tensors, eos=0), tensors


def program_says(directory):
    answer = json.loads(run("next", "--model", directory, "--prompt", PROMPT, "--json"))
    return np.array(answer["probabilities"])


# --- PyTorch ---


@pytest.mark.parametrize("name", STANDARD)
def test_pytorch_file_has_the_tensors_of_its_modules(name, tmp_path):
    config, tensors = model_of(tmp_path, name)
    out = tmp_path / "out.safetensors"
    run("export", tmp_path / name, "--to", "pytorch", "--out", out)
    written, metadata = read_safetensors(out)
    assert metadata == {"format": "pt"}
    expected = {key: values for key, values in tensors.items() if "bias_l" not in key and "bias_hh" not in key}
    for k in range(config["layers"]):
        expected[f"rnn.bias_ih_l{k}"] = bias = tensors[f"rnn.bias_l{k}"]
        expected[f"rnn.bias_hh_l{k}"] = tensors.get(f"rnn.bias_hh_l{k}", np.zeros_like(bias))
    if config["tie_weights"]:
        expected["output.weight"] = tensors["embedding.weight"]
    assert written.keys() == expected.keys()
    for key in expected:
        assert written[key].shape == expected[key].shape and written[key].tobytes() == expected[key].tobytes(), key
    vocabulary = json.loads((tmp_path / "out.safetensors.vocabulary.json").read_bytes())
    assert vocabulary["tokens"] == TOKENS


@pytest.mark.parametrize("name", VARIANTS)
def test_pytorch_refuses_what_its_modules_cannot_express(name, tmp_path):
    model_of(tmp_path, name)
    message = run("export", tmp_path / name, "--to", "pytorch", "--out", tmp_path / "out", fails=True)
    assert "cannot express the model" in message and "--to keras can" in message
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def run_snippet(package, monkeypatch, directory):
    """Runs the Python code of docs/import.md that imports a package, with our prompt. Returns its variables."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/import.md").read_text(), re.S)
    code = next(block for block in blocks if f"import {package}\n" in block).replace('"Today "', repr(PROMPT)).replace("build/mine.", "mine.")
    assert PROMPT in code
    monkeypatch.chdir(directory)
    scope = {}
    exec(code, scope)
    return scope


@pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="NOT TESTED: docs/import.md's snippet (python3-torch is missing)")
@pytest.mark.parametrize("name", STANDARD)
def test_snippet_of_the_document_loads_it_into_pytorch(name, tmp_path, monkeypatch):
    import torch

    config, tensors = model_of(tmp_path, name)
    run("export", tmp_path / name, "--to", "pytorch", "--out", tmp_path / "mine.safetensors")
    loader = types.ModuleType("safetensors.torch")  # the package is not among Debian's
    loader.load_file = lambda path: {
        key: torch.from_numpy(values.copy()) for key, values in read_safetensors(pathlib.Path(path))[0].items()
    }
    monkeypatch.setitem(sys.modules, "safetensors", types.ModuleType("safetensors"))
    monkeypatch.setitem(sys.modules, "safetensors.torch", loader)
    computed = run_snippet("torch", monkeypatch, tmp_path)["probabilities"].detach().numpy()
    assert np.abs(computed - predict(config, tensors, [0] + IDS)).max() < 1e-5


# --- Keras ---

KERAS_ACTIVATIONS = {
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "relu": lambda x: np.maximum(x, 0),
    "linear": lambda x: x,
    "softmax": lambda x: np.exp(x - x.max()) / np.exp(x - x.max()).sum(),
}


def keras_step(kind, config, weights, f, s, x, h, c):
    """One step, as in the documentation of Keras's layers: rows times kernels, gates i f c o and z r h."""
    kernel, recurrent, bias = weights
    if kind == "SimpleRNN":
        return f(x @ kernel + h @ recurrent + bias), c
    if kind == "LSTM":
        i, forget, candidate, o = np.split(x @ kernel + h @ recurrent + bias, 4)
        c = s(forget) * c + s(i) * f(candidate)
        return s(o) * f(c), c
    if config["reset_after"]:
        xz, xr, xh = np.split(x @ kernel + bias[0], 3)
        hz, hr, hh = np.split(h @ recurrent + bias[1], 3)
        z, r = s(xz + hz), s(xr + hr)
        return z * h + (1 - z) * f(xh + r * hh), c
    xz, xr, xh = np.split(x @ kernel + bias, 3)
    uz, ur, uh = np.split(recurrent, 3, axis=1)
    z, r = s(xz + h @ uz), s(xr + h @ ur)
    return z * h + (1 - z) * f(xh + (r * h) @ uh), c


def keras_predict(path, ids):
    """Computes what Keras computes from the file. Finds the weights by the names of layers and by weight_names."""
    h5py = pytest.importorskip("h5py", reason="NOT TESTED: Keras files (python3-h5py is missing)")
    with h5py.File(path, "r") as file:
        major = int(file.attrs["keras_version"].decode().split(".")[0])
        slope = 0.2 if major < 3 else 1 / 6
        activations = {**KERAS_ACTIVATIONS, "hard_sigmoid": lambda x: np.clip(slope * x + 0.5, 0, 1)}
        model = json.loads(file.attrs["model_config"].decode())
        assert model["class_name"] == "Sequential"
        group = file["model_weights"]
        assert group.attrs["backend"] == b"tensorflow" and group.attrs["keras_version"] == file.attrs["keras_version"]
        named = [name.decode() for name in group.attrs["layer_names"]]
        layers = model["config"]["layers"]
        assert named == [layer["config"]["name"] for layer in layers[1:]]
        shape = layers[0]["config"]["batch_input_shape" if major < 3 else "batch_shape"]
        assert layers[0]["class_name"] == "InputLayer" and shape[:2] == [None, None]
        steps = [np.eye(shape[2])[i] for i in ids] if len(shape) == 3 else ids
        for layer in layers[1:]:
            kind, config = layer["class_name"], layer["config"]
            own = group[config["name"]]
            weights = [own[name.decode()][()].astype(np.float64) for name in own.attrs["weight_names"]]
            if kind == "Embedding":
                assert weights[0].shape == (config["input_dim"], config["output_dim"])
                steps = [weights[0][i] for i in steps]
                continue
            f = activations[config["activation"]]
            if kind == "Dense":
                steps = [f(x @ weights[0] + weights[1]) for x in steps]
                continue
            s = activations[config.get("recurrent_activation", "sigmoid")]
            h = c = np.zeros(config["units"])
            outputs = []
            for x in steps:
                h, c = keras_step(kind, config, weights, f, s, x, h, c)
                outputs.append(h)
            assert config["return_sequences"]
            steps = outputs
    return steps[-1]


@pytest.mark.parametrize("name", {**STANDARD, **VARIANTS})
def test_keras_file_gives_the_same_probabilities(name, tmp_path):
    model_of(tmp_path, name)
    out = tmp_path / "out.h5"
    run("export", tmp_path / name, "--to", "keras", "--out", out)
    computed = keras_predict(out, [0] + IDS)
    assert np.abs(computed - program_says(tmp_path / name)).max() < 1e-6
    assert json.loads((tmp_path / "out.h5.vocabulary.json").read_bytes())["tokens"] == TOKENS


@pytest.mark.parametrize("name", ["lstm", "gru_embedding"])
def test_snippet_of_the_readme_feeds_keras(name, tmp_path, monkeypatch):
    """The pass above stands for Keras."""
    config, tensors = model_of(tmp_path, name)
    run("export", tmp_path / name, "--to", "keras", "--out", tmp_path / "mine.h5")

    class Loaded:
        def __init__(self, path, compile):
            self.path = path
            self.layers = [types.SimpleNamespace(name="embedding" if config["embedding_size"] else "lstm")]

        def predict(self, x):
            ids = x[0] if config["embedding_size"] else x[0].argmax(axis=-1)
            return np.array([[keras_predict(self.path, list(ids[: i + 1])) for i in range(len(ids))]])

    keras = types.ModuleType("keras")
    keras.models = types.SimpleNamespace(load_model=Loaded)
    monkeypatch.setitem(sys.modules, "keras", keras)
    computed = run_snippet("keras", monkeypatch, tmp_path)["probabilities"]
    assert np.abs(computed - predict(config, tensors, [0] + IDS)).max() < 1e-6


def test_keras_refuses_both_hard_sigmoids_at_once(tmp_path):
    config = {**BASE, "cell": "lstm", "activation": "hard_sigmoid", "recurrent_activation": "hard_sigmoid_keras2"}
    write_model(tmp_path / "both", config, TOKENS, random_tensors(config), eos=0)
    message = run("export", tmp_path / "both", "--to", "keras", "--out", tmp_path / "out.h5", fails=True)
    assert "no version of Keras has both" in message


# --- Both ---


ROUND_TRIPS = [("pytorch", name) for name in STANDARD] + [("keras", name) for name in {**STANDARD, **VARIANTS}]


@pytest.mark.parametrize("to, name", ROUND_TRIPS)
def test_import_of_an_export_is_the_model(to, name, tmp_path):
    config, tensors = model_of(tmp_path, name)
    out, back = tmp_path / "out", tmp_path / "back"
    run("export", tmp_path / name, "--to", to, "--out", out)
    run("import", out, "--vocabulary", tmp_path / "out.vocabulary.json", "--out", back)
    assert (program_says(back) == program_says(tmp_path / name)).all()
    written, _ = read_safetensors(back / "model.safetensors")
    if config["tie_weights"]:
        assert written.pop("output.weight").tobytes() == tensors["embedding.weight"].tobytes()
    assert {key: values.tobytes() for key, values in written.items()} == {
        key: values.tobytes() for key, values in tensors.items()
    }
    imported = json.loads((back / "config.json").read_bytes())
    for key in config.keys() - {"vocabulary_sha256", "tie_weights"}:
        assert imported[key] == config[key], key


def test_weights_in_fewer_bits_are_exported_as_float32(tmp_path):
    model_of(tmp_path, "lstm")
    run("quantize", tmp_path / "lstm", "--to", "int8", "--out", tmp_path / "int8")
    run("export", tmp_path / "int8", "--out", tmp_path / "out.safetensors")
    written, _ = read_safetensors(tmp_path / "out.safetensors")
    assert written["rnn.weight_hh_l0"].dtype == np.float32


def test_a_window_is_told_of(tmp_path):
    config = {**BASE, "cell": "lstm", "window": {"size": 9, "masked": True}}
    write_model(tmp_path / "window", config, TOKENS, random_tensors(config), eos=0)
    arguments = [LSTMD, "export", tmp_path / "window", "--to", "pytorch", "--out", tmp_path / "out"]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == 0 and "windows of 9 tokens" in done.stderr


