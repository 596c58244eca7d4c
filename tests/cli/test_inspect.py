"""lstmd inspect: what it prints about a model directory of another program, and what it refuses."""

import hashlib
import json
import os
import pathlib
import struct
import subprocess

import pytest

LSTMD = os.environ.get("LSTMD", str(pathlib.Path(__file__).resolve().parents[2] / "build/lstmd"))

NOTEBOOK = {
    "rnn.weight_ih_l0": [512, 84],
    "rnn.weight_hh_l0": [512, 128],
    "rnn.bias_l0": [512],
    "output.weight": [84, 128],
    "output.bias": [84],
}


def product(shape):
    count = 1
    for n in shape:
        count *= n
    return count


def write_safetensors(path, shapes):
    """Writes zeros. The data lie in the reverse of the header's order."""
    header, end = {"__metadata__": {"writer": "test"}}, sum(4 * product(shape) for shape in shapes.values())
    size = end
    for name, shape in shapes.items():
        begin = end - 4 * product(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
        end = begin
    text = json.dumps(header, indent=1).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(size))


@pytest.fixture
def model(tmp_path):
    """Writes the notebook's network: 84 tokens, one LSTM layer of 128, one-hot input."""
    directory = tmp_path / "notebook"
    directory.mkdir()
    tokens = ["<eos>", *(chr(ord(" ") + i) for i in range(83))]
    vocabulary = json.dumps({"level": "char", "tokens": tokens, "eos": 0, "pad": None, "unknown": None}).encode()
    (directory / "vocabulary.json").write_bytes(vocabulary)
    config = {
        "format": "lstmd/1",
        "cell": "lstm",
        "layers": 1,
        "hidden_size": 128,
        "embedding_size": 0,
        "vocabulary_size": 84,
        "token_level": "char",
        "tie_weights": False,
        "vocabulary_sha256": hashlib.sha256(vocabulary).hexdigest(),
        "training": {"corpus": "titles\u001b[31m", "rate": 0.1},
    }
    (directory / "config.json").write_text(json.dumps(config))
    write_safetensors(directory / "model.safetensors", NOTEBOOK)
    return directory


def inspect(*arguments):
    return subprocess.run([LSTMD, "inspect", *map(str, arguments)], capture_output=True, text=True, timeout=60)


def assert_refused(result, path, fragment):
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"lstmd: {path}")
    assert fragment in result.stderr
    assert result.stderr.count("\n") == 1


def test_table_adds_up_the_notebooks_parameters(model):
    result = inspect(model)
    assert (result.returncode, result.stderr) == (0, "")
    lines = [line.split() for line in result.stdout.splitlines()]
    assert "notebook: lstm, 1 layer of 128, one-hot input, 84 tokens (char)".split() in lines
    assert ["lstm", "0", "rnn.weight_ih_l0", "512", "x", "84", "43,008"] in lines
    assert ["rnn.bias_l0", "512", "512"] in lines
    assert ["output", "output.weight", "84", "x", "128", "10,752"] in lines
    assert "119,892 = 109,056 + 10,836\n" in result.stdout
    assert '"rate": 0.1\n' in result.stdout
    assert "\x1b" not in result.stdout


def test_json_has_the_documented_keys(model):
    result = inspect(model, "--json")
    assert (result.returncode, result.stderr) == (0, "")
    answer = json.loads(result.stdout)
    tensors = answer.pop("tensors")
    assert {tensor["name"]: tensor["shape"] for tensor in tensors} == NOTEBOOK
    assert all(tensor["parameters"] == product(tensor["shape"]) for tensor in tensors)
    assert answer == {
        "name": "notebook",
        "cell": "lstm",
        "layers": 1,
        "hidden_size": 128,
        "embedding_size": 0,
        "vocabulary_size": 84,
        "token_level": "char",
        "tie_weights": False,
        "weights": "f32",
        "parameters": 119892,
        "recurrent_parameters": 109056,
        "embedding_parameters": 0,
        "output_parameters": 10836,
        "training": {"corpus": "titles\u001b[31m", "rate": 0.1},
    }


def test_missing_directory_is_one_line_and_exit_code_1(tmp_path):
    assert_refused(inspect(tmp_path / "none"), tmp_path / "none", "No such file")


def test_truncated_weights_are_refused(model):
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert_refused(inspect(model), path, "go beyond the file")


def test_wrong_shape_names_the_tensor_and_both_shapes(model):
    path = model / "model.safetensors"
    write_safetensors(path, {**NOTEBOOK, "output.weight": [84, 64]})
    assert_refused(inspect(model), path, 'tensor "output.weight": shape is [84, 64], but config.json asks for [84, 128]')


def test_other_vocabulary_is_refused(model):
    path = model / "vocabulary.json"
    path.write_text(path.read_text().replace('"a"', '"\u00e4"'))
    assert_refused(inspect(model), path, "does not belong to these weights")


def test_wrong_usage_is_exit_code_2(model):
    for arguments in ([], [model, model], [model, "--jsn"]):
        result = inspect(*arguments)
        assert result.returncode == 2
        assert result.stdout == ""
        assert result.stderr.startswith("lstmd: ")


def test_help_goes_to_stdout():
    result = inspect("--help")
    assert result.returncode == 0
    assert "Usage: lstmd inspect DIR [--json]" in result.stdout


def test_stdout_that_cannot_be_written_is_exit_code_1(model):
    with open("/dev/full", "w") as full:
        result = subprocess.run([LSTMD, "inspect", str(model)], stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert result.returncode == 1
