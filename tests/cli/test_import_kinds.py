"""lstmd import: less usual files. If lstmd reads a file, its probabilities equal those of numpy and of the file's makers. If
lstmd refuses a file, the message names it and says what to import instead."""

import json
import os
import pathlib
import pickle
import struct
import subprocess
import zipfile

import pytest

np = pytest.importorskip("numpy", reason="NOT TESTED: imported models against numpy (python3-numpy is missing)")

import forward  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
LSTMD = os.environ.get("LSTMD", str(ROOT / "build/lstmd"))
DATA, KERAS = ROOT / "tests/golden/data/import", ROOT / "tests/golden/data/keras"
EXPECTED = json.loads((DATA / "expected.json").read_text())
CHARS = json.loads((DATA / "chars.json").read_text())
PROMPT, IDS = "adh c", [0, 3, 7, 10, 2]
SHIFTED = "word_index - 1"


def run(*arguments, code=0):
    done = subprocess.run([LSTMD, *map(str, arguments)], capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    return done


def refused(file, out, *arguments):
    done = run("import", file, "--out", out, *arguments, code=1)
    assert not out.exists() and done.stdout == "" and done.stderr.count("\n") == 1
    return done.stderr


def tensors_of(model):
    raw = (model / "model.safetensors").read_bytes()
    (n,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + n])
    return {
        name: np.frombuffer(raw[8 + n :][slice(*t["data_offsets"])], "<f4").reshape(t["shape"])
        for name, t in header.items()
        if name != "__metadata__"
    }


def assert_gives(model, probabilities):
    told = json.loads(run("next", "--model", model, "--prompt", PROMPT, "--json").stdout)
    assert told["ids"] == IDS and told["tokens"] == CHARS
    config = json.loads((model / "config.json").read_text())
    ours = forward.probabilities(config, tensors_of(model), IDS)
    for other in (probabilities, ours):
        assert max(abs(a - b) for a, b in zip(told["probabilities"], other, strict=True)) < 1e-5


def tokens_of(model):
    return json.loads((model / "vocabulary.json").read_text())["tokens"]


# ---- models ----


TOKENS = ("--vocabulary", DATA / "chars.json")


@pytest.mark.parametrize("file, flags", [
    ("torch03_module.pt", []), ("two_lstm_sizes.pt", []), ("keras1.h5", []), ("scaled_id_lstm.h5", ["--scaled-ids"]),
    ("tfjs_model.json", ["--weights", DATA / "tfjs_weights.bin"]),
])
def test_what_is_imported_gives_the_probabilities_of_its_makers(file, flags, tmp_path):
    run("import", DATA / file, "--out", tmp_path / "m", *TOKENS, *flags)
    assert_gives(tmp_path / "m", EXPECTED[file])


def keras_lstm(inputs, kernel, recurrent, bias, units):
    """Returns the hidden states of an LSTM over the inputs. The gates are i, f, c, o."""
    h, c, states = np.zeros(units), np.zeros(units), []
    for x in inputs:
        i, f, g, o = np.split(x @ kernel + h @ recurrent + bias, 4)
        c = forward.ACTIVATIONS["sigmoid"](f) * c + forward.ACTIVATIONS["sigmoid"](i) * np.tanh(g)
        h = forward.ACTIVATIONS["sigmoid"](o) * np.tanh(c)
        states.append(h)
    return states


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum()


WEIGHTS, ARCHITECTURE = DATA / "weights_only_keras2.h5", DATA / "weights_only_keras2.architecture.json"


def test_weights_alone_with_their_architecture(tmp_path):
    h5py = pytest.importorskip("h5py", reason="NOT TESTED: save_weights() against numpy (python3-h5py is missing)")
    run("import", WEIGHTS, "--out", tmp_path / "m", *TOKENS, "--architecture", ARCHITECTURE)
    with h5py.File(WEIGHTS) as file:
        cell, dense = file["lstm/lstm/lstm_cell"], file["dense/dense"]
        inputs = file["embedding/embedding/embeddings:0"][:][IDS]
        h = keras_lstm(inputs, cell["kernel:0"][:], cell["recurrent_kernel:0"][:], cell["bias:0"][:], 8)[-1]
        assert_gives(tmp_path / "m", softmax(h @ dense["kernel:0"][:] + dense["bias:0"][:]))


@pytest.mark.parametrize("name", ["k392_two_lstm_dense.keras", "k213_two_lstm.keras"])
def test_weights_alone_of_an_archive_are_those_of_the_archive(name, tmp_path):
    with zipfile.ZipFile(KERAS / name) as archive:
        archive.extract("model.weights.h5", tmp_path)
        config = json.loads(archive.read("config.json")) | {"keras_version": json.loads(archive.read("metadata.json"))["keras_version"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "v.json").write_text(json.dumps(list("abcdef")))
    tokens = ("--vocabulary", tmp_path / "v.json")
    run("import", KERAS / name, "--out", tmp_path / "whole", *tokens)
    run("import", tmp_path / "model.weights.h5", "--out", tmp_path / "alone", *tokens, "--architecture", tmp_path / "config.json")
    assert (tmp_path / "whole/model.safetensors").read_bytes() == (tmp_path / "alone/model.safetensors").read_bytes()


@pytest.mark.parametrize("file, flags, part", [
    (WEIGHTS, [], "--architecture FILE"),
    (WEIGHTS, ["--architecture", DATA / "chars.json"], "chars.json: the model is of class that it does not name"),
    (WEIGHTS, ["--architecture", DATA / "model.onnx"], "model.onnx: the model's configuration is not valid JSON"),
    (WEIGHTS, ["--architecture", DATA / "none"], "No such file"),
    (DATA / "logits.h5", ["--architecture", ARCHITECTURE], "holds the model's own configuration"),
    (DATA / "two_lstm_sizes.pt", ["--architecture", ARCHITECTURE], "belongs to the weights of Keras"),
    (DATA / "tfjs_model.json", ["--architecture", ARCHITECTURE], "not to a model.json"),
    (DATA / "logits.h5", ["--weights", DATA / "tfjs_weights.bin"], "TensorFlow.js alone"),
    (DATA / "tfjs_model.json", ["--weights", DATA / "none"], "No such file"),
    (DATA / "scaled_id_lstm.h5", [], "--scaled-ids"),
    (DATA / "torch03_module.pt", ["--scaled-ids"], "cannot be read"),
], ids=range(11))
def test_flags_that_do_not_fit_to_a_file(file, flags, part, tmp_path):
    assert part in refused(file, tmp_path / "m", *TOKENS, *flags)


def test_scaled_ids_exclude_an_embedding(tmp_path):
    done = refused(WEIGHTS, tmp_path / "m", *TOKENS, "--architecture", ARCHITECTURE, "--scaled-ids")
    assert "has an Embedding" in done


def test_scaled_ids_of_pytorch(tmp_path):
    rng = np.random.default_rng(3)
    shapes = {"lstm.weight_ih_l0": (32, 1), "lstm.weight_hh_l0": (32, 8), "lstm.bias_ih_l0": (32,),
              "lstm.bias_hh_l0": (32,), "linear.weight": (12, 8), "linear.bias": (12,)}
    made = {name: rng.normal(0, 0.5, shape).astype("<f4") for name, shape in shapes.items()}
    forward.write_safetensors(tmp_path / "a.safetensors", made)
    assert "--scaled-ids" in refused(tmp_path / "a.safetensors", tmp_path / "m", *TOKENS)
    run("import", tmp_path / "a.safetensors", "--out", tmp_path / "m", *TOKENS, "--scaled-ids")
    h = keras_lstm([np.array([i / 12]) for i in IDS], made["lstm.weight_ih_l0"].T, made["lstm.weight_hh_l0"].T,
                   made["lstm.bias_ih_l0"] + made["lstm.bias_hh_l0"], 8)[-1]
    assert_gives(tmp_path / "m", softmax(made["linear.weight"] @ h + made["linear.bias"]))


# ---- TensorFlow.js ----


def tfjs(tmp_path, change):
    """Writes a changed model.json. Returns its name and the flags."""
    model = json.loads((DATA / "tfjs_model.json").read_text())
    change(model, model["weightsManifest"][0]["weights"])
    (tmp_path / "model.json").write_text(json.dumps(model))
    return tmp_path / "model.json", *TOKENS, "--weights", DATA / "tfjs_weights.bin"


def test_a_converted_model_of_tensorflow_js_in_several_groups(tmp_path):
    def change(model, weights):
        model["modelTopology"] = {"model_config": model["modelTopology"], "keras_version": "2.11.0"}
        model["weightsManifest"] = [{"weights": weights[:2]}, {"weights": weights[2:]}]

    file, *flags = tfjs(tmp_path, change)
    run("import", file, "--out", tmp_path / "m", *flags)
    assert_gives(tmp_path / "m", EXPECTED["tfjs_model.json"])


@pytest.mark.parametrize("change, part", [
    (lambda model, _: model.update(format="graph-model"), "of format graph-model; layers-model is imported"),
    (lambda model, _: model.update(modelTopology=[]), "layers-model is imported"),
    (lambda model, _: model.update(modelTopology={}), "the model is of class that it does not name"),
    (lambda _, weights: weights.pop(), "it has 3120 bytes, but the manifest"),
    (lambda _, weights: weights[0].update(shape=[13, 32]), "end within tensor"),
    (lambda _, weights: weights[0].update(shape=[1 << 62, 1 << 62]), "no shape that is read"),
    (lambda _, weights: weights[0].update(shape=[1 << 40, 1]), "end within tensor"),
    (lambda _, weights: weights[0].update(shape=[-12, 32]), "no shape that is read"),
    (lambda _, weights: weights[0].update(shape=[]), "no shape that is read"),
    (lambda _, weights: weights[0].update(shape=[1] * 5), "no shape that is read"),
    (lambda _, weights: weights[0].update(dtype="int32"), "is int32; float32 without quantization"),
    (lambda _, weights: weights[0].update(quantization={"dtype": "uint8"}), "float32, quantized; float32 without"),
    (lambda _, weights: weights[0].update(name="kernel"), "a name is not LAYER/TENSOR"),
    (lambda _, weights: weights[0].update(name="l" * 300 + "/k"), "a name is not LAYER/TENSOR"),
    (lambda _, weights: weights[0].pop("name"), "has no name or dtype"),
    (lambda _, weights: weights[1].update(name=weights[0]["name"]), "two tensors have one name"),
    (lambda _, weights: weights[0].update(name="./."), "model.json"),
    (lambda _, weights: weights[0].update(name="../kernel"), "the file has 2 tensors for it"),
    (lambda _, weights: weights.insert(0, weights.pop(3)), "tensors are not together"),
    (lambda model, weights: weights.extend([{"name": f"x/{i}", "dtype": "float32", "shape": [1]} for i in range(20)]), "end within tensor"),
    (lambda model, weights: model["weightsManifest"][0].update(weights=[{"name": f"x/{i}", "dtype": "float32", "shape": [1]} for i in range(20)]),
     "too many tensors"),
], ids=range(21))
def test_models_of_tensorflow_js_that_lie(change, part, tmp_path):
    file, *flags = tfjs(tmp_path, change)
    assert part in refused(file, tmp_path / "m", *flags)


# ---- Keras 1 ----


def keras1_file(h5py, path, layers, arrays, version="1.2.2"):
    """layers: name, class and fields. arrays: for each name, the tensors in order."""
    listed = [{"class_name": kind, "config": {"name": name, **fields}} for name, kind, fields in layers]
    with h5py.File(path, "w") as file:
        if version:
            file.attrs["keras_version"] = version
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": listed})
        for name, tensors in arrays.items():
            group = file.create_group(f"model_weights/{name}")
            group.attrs["weight_names"] = np.array([f"w{i}".encode() for i in range(len(tensors))])
            for i, tensor in enumerate(tensors):
                group.create_dataset(f"w{i}", data=tensor.astype("<f4"))


def keras1_gru(x, h, w):
    sigmoid = forward.ACTIVATIONS["hard_sigmoid_keras2"]
    z, r = (sigmoid(x @ w[g][0] + h @ w[g][1] + w[g][2]) for g in "zr")
    return z * h + (1 - z) * np.tanh(x @ w["h"][0] + (r * h) @ w["h"][1] + w["h"][2])


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("version", ["1.1.0", None])
def test_a_gru_of_keras_1(together, version, tmp_path):
    h5py = pytest.importorskip("h5py", reason="NOT TESTED: Keras 1 against numpy (python3-h5py is missing)")
    rng = np.random.default_rng(5)
    w = {g: [rng.normal(0, 0.5, shape) for shape in ((4, 7), (7, 7), (7,))] for g in "zrh"}
    table, out, bias = (rng.normal(0, 0.5, shape) for shape in ((12, 4), (7, 12), (12,)))
    apart = [tensor for g in "zrh" for tensor in w[g]]
    joined = [np.concatenate([w[g][i] for g in "zrh"], -1) for i in range(3)]
    layers = [("e", "Embedding", {"input_dim": 12, "output_dim": 4}),
              ("g", "GRU", {"output_dim": 7, "activation": "tanh", "inner_activation": "hard_sigmoid", "return_sequences": True}),
              ("d", "TimeDistributedDense", {"output_dim": 12, "activation": "softmax"})]
    keras1_file(h5py, tmp_path / "m.h5", layers, {"e": [table], "g": joined if together else apart, "d": [out, bias]}, version)
    run("import", tmp_path / "m.h5", "--out", tmp_path / "m", *TOKENS)
    h = np.zeros(7)
    for token in IDS:
        h = keras1_gru(table[token], h, w)
    assert_gives(tmp_path / "m", softmax(h @ out + bias))


def test_gates_of_keras_1_that_do_not_fit(tmp_path):
    h5py = pytest.importorskip("h5py", reason="NOT TESTED: Keras 1 against numpy (python3-h5py is missing)")
    shapes = [(12, 5), (5, 5), (5,)] * 4
    layers = [("l", "LSTM", {"output_dim": 5, "activation": "tanh", "inner_activation": "sigmoid"}),
              ("d", "Dense", {"output_dim": 12, "activation": "softmax"})]
    for change, part in (((7, (5, 4)), "tensor 7 is [5, 4], where its configuration asks for [5, 5]"),
                         ((11, (6,)), "tensor 11 is [6], where its configuration asks for [5]"),
                         ((0, (3, 5)), "it reads 3 numbers per step")):
        changed = [change[1] if i == change[0] else shape for i, shape in enumerate(shapes)]
        keras1_file(h5py, tmp_path / "m.h5", layers, {"l": map_zeros(changed), "d": map_zeros([(5, 12), (12,)])})
        assert part in refused(tmp_path / "m.h5", tmp_path / "m", *TOKENS)
    keras1_file(h5py, tmp_path / "m.h5", layers, {"l": map_zeros(shapes[:6]), "d": map_zeros([(5, 12), (12,)])})
    assert "the file has 6 tensors for it" in refused(tmp_path / "m.h5", tmp_path / "m", *TOKENS)


def map_zeros(shapes):
    return [np.zeros(shape) for shape in shapes]


# ---- refusals ----


@pytest.mark.parametrize("file, parts", [
    ("bidirectional.h5", ['"bidirectional" (Bidirectional)']), ("batchnorm.pt", ["not supported", "running_mean"]),
    ("layernorm.pt", ["not supported"]),
])
def test_networks_that_are_not_computed_are_refused_by_name(file, parts, tmp_path):
    told = refused(DATA / file, tmp_path / "m", "--vocabulary", DATA / "chars.json")
    assert all(part in told for part in parts), told


def message(tag, content):
    return bytes([tag, len(content)]) + content


SAVED_MODEL = b"\x08\x01" + message(0x12, message(0x0A, b"\x2a\x05serve"))
GRAPH = message(0x0A, message(0x0A, b"input") + message(0x12, b"Placeholder"))


@pytest.mark.parametrize("content, parts", [
    ((DATA / "lfs_pointer.h5").read_bytes(), ["a Git LFS pointer", "git lfs pull"]),
    ((DATA / "model.onnx").read_bytes(), ["an ONNX model", "torch.save(model.state_dict()"]),
    (SAVED_MODEL, ["a TensorFlow SavedModel", 'model.save("model.keras")']),
    (GRAPH, ["a frozen TensorFlow graph", 'model.save("model.keras")']),
    (b"\x1c\0\0\0TFL3" + bytes(20), ["a TensorFlow Lite model", 'model.save("model.keras")']),
    (b"GGUF\x03\0\0\0" + bytes(20), ["a GGUF file"]),
    (b"\x93NUMPY\x01\0" + bytes(20), ["a NumPy array"]),
    (b"\x1f\x8b\x08" + bytes(20), ["packed with gzip", "unpack it"]),
    (bytes(257) + b"ustar\x0000" + bytes(300), ["a tar archive", "unpack it"]),
    (b"\n<!DOCTYPE html>\n<html>", ["a web page"]),
    (b'{"modelTopology": {}, "weightsManifest": []}', ["TensorFlow.js", "--weights FILE"]),
    (b'{"class_name": "Sequential", "config": {"layers": []}}', ["configuration of a Keras model", "--architecture"]),
    (b'{"embedding": {"filename": "embedding", "shape": [12, 8]}}', ["deeplearn.js", "TensorFlow.js"]),
    (b'{"a": 0}', ["JSON, which holds no weights"]),
    (pickle.dumps({"w": [1.0]}), ["not of torch.save()", "torch.save(model.state_dict()"]),
    (pickle.dumps({"w": [1.0]}, 0), ["a pickle", "torch.save(model.state_dict()"]),
    (b"\x80\x04\x95\x10\0\0\0\0\0\0\0\xff\xff", ["byte 11", "joblib"]),
    (b"nothing of the kind", ["not a model file that is read"]),
], ids=range(18))
def test_other_files_are_named_with_what_to_import_instead(content, parts, tmp_path):
    (tmp_path / "file").write_bytes(content)
    told = refused(tmp_path / "file", tmp_path / "m", "--vocabulary", DATA / "chars.json")
    assert all(part in told for part in parts), told


def test_a_vocabulary_that_is_a_pointer_is_named(tmp_path):
    told = refused(DATA / "logits.h5", tmp_path / "m", "--vocabulary", DATA / "lfs_pointer.h5")
    assert "git lfs pull" in told


# ---- vocabularies ----

WORDS = ["<pad>", *"the cat sat on a mat and dog ran off home".split()]


def vocabulary_of(file, tmp_path):
    """Returns the tokens and the notes."""
    done = run("import", DATA / "logits.h5", "--out", tmp_path / "m", "--vocabulary", file)
    return tokens_of(tmp_path / "m"), done.stderr


@pytest.mark.parametrize("file, tokens, shifted", [
    ("char_to_idx.pkl", CHARS, False),
    ("tokenizer_chars_minus1.json", CHARS, True),
    ("tokenizer_chars_minus1.pickle", CHARS, True),
    ("tokenizer_words.json", WORDS, False),
    ("tokenizer_words_protocol2.pickle", WORDS, False),
    ("wordIndex_nested.json", WORDS, False),
])
def test_a_vocabulary_has_the_ids_of_its_makers(file, tokens, shifted, tmp_path):
    found, notes = vocabulary_of(DATA / file, tmp_path)
    assert found == tokens and (SHIFTED in notes) == shifted


def numpy_map(protocol):
    return pickle.dumps({c: np.int64(i) for i, c in enumerate(CHARS)}, protocol)


@pytest.mark.parametrize("content", [
    *(pickle.dumps({c: i for i, c in enumerate(CHARS)}, protocol) for protocol in range(6)),
    pickle.dumps(dict(enumerate(CHARS))),
    pickle.dumps(CHARS, 0),
    pickle.dumps(tuple(CHARS)),
    pickle.dumps("".join(CHARS)),
    pickle.dumps(({c: i for i, c in enumerate(CHARS)}, dict(enumerate(CHARS)), 12)),
    pickle.dumps({"char_to_idx": {c: i for i, c in enumerate(CHARS)}, "seq_length": 20}),
    numpy_map(3), numpy_map(5),
    json.dumps({"anything": {c: i for i, c in enumerate(CHARS)}, "maxlen": 40}).encode(),
    json.dumps({c: i + 1 for i, c in enumerate(CHARS)}).encode(),
], ids=range(16))
def test_a_vocabulary_is_found_in_what_a_program_dumps(content, tmp_path):
    (tmp_path / "v").write_bytes(content)
    assert vocabulary_of(tmp_path / "v", tmp_path)[0] == CHARS


def test_a_pickled_vocabulary_is_not_executed(tmp_path):
    class Harm:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/executed",)

    (tmp_path / "v").write_bytes(pickle.dumps({"char_to_idx": {c: i for i, c in enumerate(CHARS)}, "harm": Harm()}))
    assert vocabulary_of(tmp_path / "v", tmp_path)[0] == CHARS
    assert not (tmp_path / "executed").exists()


def nested(depth):
    value = ["a"]
    for _ in range(depth):
        value = [value, value]  # each level holds one object twice: 2^depth objects when written out
    return value


@pytest.mark.parametrize("content, part", [
    (pickle.dumps(set(CHARS)), "a pickled set, which has no order"),
    (pickle.dumps(17), "neither a list of tokens"),
    (pickle.dumps({("a", "b"): 1}), "a key that is neither text nor an integer"),
    (pickle.dumps(nested(5)), "item 0 of the list"),
    (pickle.dumps(nested(60)), "too deep or too many"),
    (pickle.dumps([nested(6)] * 70000), "too deep or too many"),
    (b"\x80\x02(X\x01\0\0\0\xffe.", "byte"),
    (b"\x80\x02]X\x01\0\0\0\xffa.", "not UTF-8"),
    (pickle.dumps(CHARS)[:-9] + b".", "pickle"),
], ids=range(9))
def test_pickles_that_are_no_vocabulary(content, part, tmp_path):
    (tmp_path / "v").write_bytes(content)
    assert part in refused(DATA / "logits.h5", tmp_path / "m", "--vocabulary", tmp_path / "v")


def test_ids_are_not_shifted_where_tokens_are_cut_or_padding_is_masked(tmp_path):
    config = json.loads((DATA / "tokenizer_chars_minus1.json").read_text())
    index = json.loads(config["config"]["word_index"])
    config["config"] |= {"num_words": 13, "word_index": json.dumps(index | {"z": 13})}
    (tmp_path / "v").write_text(json.dumps(config))
    assert "13 tokens, but the network has 12" in refused(DATA / "logits.h5", tmp_path / "m", "--vocabulary", tmp_path / "v")
