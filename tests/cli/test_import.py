"""lstmd import: the models that it makes from files of other programs, and the files that it refuses."""

import json
import math
import os
import pathlib
import re
import resource
import string
import struct
import subprocess
import warnings
import zipfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
LSTMD = os.environ.get("LSTMD", str(ROOT / "build/lstmd"))
GOLDEN = ROOT / "tests/golden/data/torch"
SHARED = pathlib.Path(os.environ.get("LSTMD_SHARED", ROOT / "../shared")) / "data/checkpoints"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())


def limit_memory():
    if not os.environ.get("SANITIZE"):  # whose shadow memory is terabytes
        resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))


def run(*arguments, code=0, cwd=None):
    done = subprocess.run([LSTMD, *map(str, arguments)], capture_output=True, text=True, timeout=60, cwd=cwd,
                          preexec_fn=limit_memory)
    assert done.returncode == code, done.stderr
    return done


def read_next(model, prompt):
    return json.loads(run("next", "--model", model, "--prompt", prompt, "--json").stdout)


def assert_close(model, prompt, ids, probabilities):
    told = read_next(model, prompt)
    assert told["ids"] == ids
    assert len(told["probabilities"]) == len(probabilities)
    assert max(abs(a - b) for a, b in zip(told["probabilities"], probabilities)) < 1e-5


def greedy(model, prompt, length):
    done = run("generate", "--model", model, "--prompt", prompt, "--length", length, "--temperature", 0, "--json")
    return json.loads(done.stdout)["completion"]


def refused(file, out, *arguments):
    done = run("import", file, "--out", out, *arguments, code=1)
    assert not out.exists() and done.stdout == ""
    assert done.stderr.startswith("lstmd: ") and done.stderr.count("\n") == 1
    return done.stderr


@pytest.mark.parametrize("name", EXPECTED)
def test_every_variant_gives_the_probabilities_of_its_makers(name, tmp_path):
    case, out = EXPECTED[name], tmp_path / "model"
    arguments = [GOLDEN / a if a == "vocabulary.json" else a for a in case["arguments"]]
    done = run("import", GOLDEN / case["file"], "--out", out, *arguments)
    assert "total" in done.stdout
    assert_close(out, case["prompt"], case["ids"], case["probabilities"])
    assert greedy(out, case["prompt"], len(case["greedy"])) == case["greedy"]


def test_what_was_found_is_printed_and_kept(tmp_path):
    done = run("import", GOLDEN / "lstm_tied.pt", "--out", tmp_path / "m", "--vocabulary", GOLDEN / "vocabulary.json")
    assert "lstm, 1 layer of 6, embedding of 6 tied to the output, 10 tokens (char)" in done.stdout
    origin = json.loads((tmp_path / "m/config.json").read_text())["training"]["imported"]
    assert origin == {"file": "lstm_tied.pt", "format": "PyTorch state_dict", "notes": []}


def test_an_imported_model_without_a_start_token_refuses_an_empty_prompt(tmp_path):
    run("import", GOLDEN / "lstm_legacy.pt", "--out", tmp_path / "m", "--vocabulary", GOLDEN / "vocabulary.json")
    done = run("generate", "--model", tmp_path / "m", "--prompt", "", code=1)
    assert "at least one character" in done.stderr


def test_a_published_module_gives_the_published_probabilities(tmp_path):
    sample = SHARED / "torch-gru-module"
    if not sample.exists():
        pytest.skip(f"NOT TESTED: {sample} is missing")
    expected = json.loads((sample / "expected.json").read_text())
    (tmp_path / "vocabulary.json").write_text(json.dumps(expected["vocab"]))
    run("import", sample / "model.pt", "--out", tmp_path / "m", "--vocabulary", tmp_path / "vocabulary.json")
    for prompt in expected["prompts"]:
        assert_close(tmp_path / "m", prompt["text"], prompt["ids"], prompt["probs"])
    start, text = expected["greedy_carried"]["prompt"], expected["greedy_carried"]["text"]
    assert greedy(tmp_path / "m", start, len(text)) == text


@pytest.mark.parametrize("to, ending", [("pytorch", "safetensors"), ("keras", "h5")])
def test_what_was_exported_comes_back_with_the_same_bits(tmp_path, to, ending):
    original, file = ROOT / "model/pretrained/headlines", tmp_path / f"file.{ending}"
    run("export", original, "--to", to, "--out", file)
    run("import", file, "--out", tmp_path / "m", "--vocabulary", f"{file}.vocabulary.json")
    for name in ("model.safetensors", "vocabulary.json"):
        assert (tmp_path / "m" / name).read_bytes() == (original / name).read_bytes()


# ---- refusals; they cost nothing ----


def text(value):
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def integer(value):
    return b"\x8a\x08" + struct.pack("<q", value)


def row(*items):
    return b"(" + b"".join(items) + b"t"


def call(name, *arguments):
    module, _, function = name.rpartition(".")
    return f"c{module}\n{function}\n".encode() + row(*arguments) + b"R"


def mapping(items):
    return b"}(" + b"".join(text(key) + value for key, value in items) + b"u"


def tensor(key, shape, count=None, strides=None, offset=0):
    strides = strides or [math.prod(shape[i + 1:]) for i in range(len(shape))]
    storage = row(text("storage"), b"ctorch\nFloatStorage\n", text(key), text("cpu"),
                  integer(math.prod(shape) if count is None else count)) + b"Q"
    return call("torch._utils._rebuild_tensor_v2", storage, integer(offset), row(*map(integer, shape)),
                row(*map(integer, strides)), b"\x89", call("collections.OrderedDict"))


RNN = {"rnn.weight_ih_l0": [2, 3], "rnn.weight_hh_l0": [2, 2], "fc.weight": [3, 2], "fc.bias": [3]}


def state(shapes=RNN, **changed):
    return [(name, changed.get(name.replace(".", "_")) or tensor(str(i), shape))
            for i, (name, shape) in enumerate(shapes.items())]


def archive(path, pickle, shapes=RNN, names=(), compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as out, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two entries with one name
        out.writestr("m/data.pkl", b"\x80\x02" + pickle + b".")
        for i, shape in enumerate(shapes.values()):
            out.writestr(f"m/data/{i}", bytes(4 * math.prod(shape)))
        for name in names:
            out.writestr(name, b"x")
    return path


def letters(tmp_path, count=3):
    path = tmp_path / "letters.json"
    path.write_text(json.dumps([chr(97 + i) for i in range(count)]))
    return "--vocabulary", path


def test_the_archives_of_these_tests_are_good_ones(tmp_path):
    run("import", archive(tmp_path / "a.pt", mapping(state())), "--out", tmp_path / "m", *letters(tmp_path))


SYSTEM = call("posix.system", text("touch executed"))


def test_nothing_in_a_pickle_is_executed(tmp_path):
    file = archive(tmp_path / "a.pt", SYSTEM)
    done = run("import", file, "--out", "m", *letters(tmp_path), code=1, cwd=tmp_path)
    assert "there is no model in it" in done.stderr
    beside = archive(tmp_path / "b.pt", mapping([("run", SYSTEM), ("state_dict", mapping(state()))]))
    run("import", beside, "--out", "m", *letters(tmp_path), cwd=tmp_path)
    instead = archive(tmp_path / "c.pt", mapping(state(fc_weight=SYSTEM)))
    assert "cannot be read" in run("import", instead, "--out", "n", *letters(tmp_path), code=1, cwd=tmp_path).stderr
    assert not (tmp_path / "executed").exists() and not (tmp_path / "n").exists()


def test_values_that_contain_themselves(tmp_path):
    loop = b"}q\x01(" + text("state_dict") + b"h\x01" + text("model") + b"]q\x02h\x02ah\x01au"
    assert "no model" in refused(archive(tmp_path / "a.pt", loop), tmp_path / "m", *letters(tmp_path))
    module = (b"cm\nNet\n)\x81q\x01}(" + text("_parameters") + b"}" + text("_modules") + b"}" + text("self") +
              b"h\x01su" + b"b")
    assert "no recurrent layer" in refused(archive(tmp_path / "b.pt", module), tmp_path / "m", *letters(tmp_path))
    levels = b"".join(b"}(" + text("a") + b"h" + bytes([k]) + text("b") + b"h" + bytes([k]) + b"uq" + bytes([k + 1])
                      for k in range(1, 60))  # 2^60 paths to the bottom
    doubled = b"}q\x01" + levels
    assert "no model" in refused(archive(tmp_path / "c.pt", doubled), tmp_path / "m", *letters(tmp_path))


HUGE = 1 << 40


@pytest.mark.parametrize("change, part", [
    (tensor("2", [3, 2], count=HUGE * 2), "is 24 bytes, but its storage has 8796093022208"),
    (tensor("2", [HUGE, 2], count=6), "not inside of its storage of 24 bytes"),
    (tensor("2", [HUGE, HUGE], count=6), "not inside of its storage"),
    (tensor("2", [3, 2], count=1 << 62), "too many elements"),
    (tensor("2", [3, 2], count=6, offset=1), "not inside of its storage"),
    (tensor("2", [3, 2], count=6, strides=[2, 1 << 62]), "not inside of its storage"),
    (tensor("2", [3, 2], count=2, strides=[0, 1]), "not inside of its storage"),
    (tensor("2", [3, 2], count=6, offset=-1), "not described by a storage, sizes and strides"),
    (tensor("2", [3, 2], strides=[2]), "not described"),
    (tensor("../../../etc/passwd", [3, 2]), 'no entry "m/data/../../../etc/passwd"'),
    (tensor("0", [3, 2], count=7), "has two types or two sizes"),
], ids=range(11))
def test_tensors_that_cannot_be(tmp_path, change, part):
    file = archive(tmp_path / "a.pt", mapping(state(fc_weight=change)))
    assert part in refused(file, tmp_path / "m", *letters(tmp_path, 3))


def test_a_vocabulary_of_a_million_millions(tmp_path):
    huge = {"rnn.weight_ih_l0": [2, HUGE], "rnn.weight_hh_l0": [2, 2], "fc.weight": [HUGE, 2]}
    file = archive(tmp_path / "a.pt", mapping(state(huge)), {})
    assert "which is too large" in refused(file, tmp_path / "m", *letters(tmp_path))
    large = {"rnn.weight_ih_l0": [2, 900000], "rnn.weight_hh_l0": [2, 2], "fc.weight": [900000, 2]}
    file = archive(tmp_path / "b.pt", mapping(state(large)), {"short": [1]})
    assert "is 4 bytes, but its storage has 7200000" in refused(file, tmp_path / "m", *letters(tmp_path))


def test_tensors_of_one_name(tmp_path):
    file = archive(tmp_path / "a.pt", mapping(state() + [("fc.bias", tensor("3", [3]))]))
    assert 'two tensors are named "fc.bias"' in refused(file, tmp_path / "m", *letters(tmp_path))


@pytest.mark.parametrize("name, part", [
    ("../../../tmp/x", "leads out of the archive"), ("/etc/passwd", "leads out of the archive"),
    ("m/data/0", "two entries are named"), ("n/data.pkl", "two entries are called data.pkl"),
    ("m/code/x.py", "TorchScript"), ("m/constants.pkl", "TorchScript"), ("m/byteorder", "not little-endian"),
])
def test_archives_that_are_refused(tmp_path, name, part):
    file = archive(tmp_path / "a.pt", mapping(state()), names=[name])
    assert part in refused(file, tmp_path / "m", *letters(tmp_path))


def test_zip_bombs(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("m/data.pkl", b"N" * (65 << 20))
    assert "but at most" in refused(tmp_path / "a.pt", tmp_path / "m", *letters(tmp_path))
    shapes = {"rnn.weight_ih_l0": [2048, 4096], "rnn.weight_hh_l0": [2048, 2048], "fc.weight": [4096, 2048]}
    file = archive(tmp_path / "b.pt", mapping(state(shapes)), shapes, compression=zipfile.ZIP_DEFLATED)
    assert "but at most" in refused(file, tmp_path / "m", *letters(tmp_path))


def safetensors(path, shapes):
    header, at = {}, 0
    for name, shape in shapes.items():
        size = 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    encoded = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + bytes(at))
    return path


@pytest.mark.parametrize("change, part", [
    ({"rnn.weight_ih_l0_reverse": [2, 3]}, "bidirectional"),
    ({"rnn.weight_hr_l0": [2, 3]}, "proj_size"),
    ({"norm.weight": [2], "norm.bias": [2]}, "not supported: norm.weight [2], norm.bias [2]"),
    ({"hidden.weight": [2, 2]}, "cannot be read"),
    ({"other.weight_ih_l0": [2, 3], "other.weight_hh_l0": [2, 2]}, '"rnn." and "other." among them'),
    ({"other.weight_ih_l0": [2, 2], "other.weight_hh_l0": [2, 2], "z.weight_ih_l0": [2, 2], "z.weight_hh_l0": [2, 2]},
     "nor sizes that fit in one order alone"),
    ({"rnn.weight_hh_l0": [2, 3]}, "not that of a recurrent layer"),
    ({"rnn.weight_hh_l0": [4, 2]}, "LSTM has 4 rows per hidden unit"),
    ({"rnn.weight_ih_l1": [2, 5], "rnn.weight_hh_l1": [2, 2]}, "does not fit"),
    ({"rnn.weight_ih_l2": [2, 2], "rnn.weight_hh_l2": [2, 2]}, "layer 1 has no weight_ih"),
    ({"rnn.weight_ih_l8": [2, 2]}, "at most 8 layers"),
    ({"rnn.bias_ih_l0": [3]}, "not one number per row"),
    ({"fc.bias": [2]}, "not one number per row"),
    ({"fc.weight": [5, 2]}, "cannot be read"),
    ({"first.weight": [4, 3], "second.weight": [4, 3], "fc.weight": [4, 2]}, "cannot be read"),
])
def test_networks_that_would_compute_something_else(tmp_path, change, part):
    file = safetensors(tmp_path / "a.safetensors", {**RNN, **change})
    assert part in refused(file, tmp_path / "m", *letters(tmp_path))


@pytest.mark.parametrize("prefix", ["", "rnn.", "lstm.", "gru.", "encoder.layers.rnn."])
@pytest.mark.parametrize("gates, cell", [(4, "lstm"), (3, "gru"), (1, "rnn")])
def test_any_prefix(tmp_path, prefix, gates, cell):
    shapes = {f"{prefix}weight_ih_l0": [2 * gates, 3], f"{prefix}weight_hh_l0": [2 * gates, 2], "head.weight": [3, 2]}
    file = safetensors(tmp_path / "a.safetensors", shapes)
    assert f"{cell}, 1 layer of 2, one-hot" in run("import", file, "--out", tmp_path / "m", *letters(tmp_path)).stdout


def test_two_ways_to_read_a_network_are_told_apart_by_names_alone(tmp_path):
    square = {"rnn.weight_ih_l0": [2, 2], "rnn.weight_hh_l0": [2, 2]}
    file = safetensors(tmp_path / "a.safetensors", {**square, "one.weight": [3, 2], "two.weight": [3, 2]})
    assert "in two ways" in refused(file, tmp_path / "m", *letters(tmp_path))
    file = safetensors(tmp_path / "b.safetensors", {**square, "out.weight": [3, 2], "embed.weight": [3, 2]})
    assert "embedding of 2" in run("import", file, "--out", tmp_path / "m", *letters(tmp_path)).stdout


def test_two_models_in_a_file(tmp_path):
    file = archive(tmp_path / "a.pt", mapping([("model", mapping(state())), ("ema", mapping(state()))]))
    assert '"model" and "ema"' in refused(file, tmp_path / "m", *letters(tmp_path))


def test_vocabularies_that_do_not_fit(tmp_path):
    file = archive(tmp_path / "a.pt", mapping(state()))
    assert "the file holds no vocabulary of its 3 tokens" in refused(file, tmp_path / "m")
    assert "2 tokens, but the network has 3: usually" in refused(file, tmp_path / "m", *letters(tmp_path, 2))
    done = run("import", file, "--out", tmp_path / "m", *letters(tmp_path), "--vocabulary-from-text", "x", code=2)
    assert "exclude each other" in done.stderr
    assert "belong to" in run("import", file, "--out", tmp_path / "m", *letters(tmp_path), "--lower", code=2).stderr


def test_the_vocabulary_of_a_text(tmp_path):
    file, corpus = archive(tmp_path / "a.pt", mapping(state())), tmp_path / "corpus.txt"
    corpus.write_text("cAb")
    run("import", file, "--out", tmp_path / "m", "--vocabulary-from-text", corpus)
    assert json.loads((tmp_path / "m/vocabulary.json").read_text())["tokens"] == ["A", "b", "c"]
    corpus.write_text("ccB")
    run("import", file, "--out", tmp_path / "m", "--vocabulary-from-text", corpus, "--lower", "--vocabulary-order",
        "frequency")
    assert json.loads((tmp_path / "m/vocabulary.json").read_text())["tokens"] == ["<pad>", "c", "b"]


def test_a_model_over_all_printable_characters_is_imported_as_the_document_says(tmp_path):
    command = re.search(r"`(python3 -c '[^`]*string.printable[^`]*' >(\S+))`, then `(--vocabulary \S+)`", (ROOT / "docs/import.md").read_text().replace("\n ", ""))
    subprocess.run(["sh", "-euc", command[1]], cwd=tmp_path, check=True)
    shapes = {"encoder.weight": [100, 8], "rnn.weight_ih_l0": [24, 8], "rnn.weight_hh_l0": [24, 8], "decoder.weight": [100, 8]}
    file = safetensors(tmp_path / "char-rnn.safetensors", shapes)
    run("import", file, "--out", tmp_path / "m", *command[3].split(), cwd=tmp_path)
    assert json.loads((tmp_path / "m/vocabulary.json").read_text())["tokens"] == list(string.printable)
    assert len(read_next(tmp_path / "m", "a")["probabilities"]) == 100


def test_a_model_that_is_replaced_is_spoken_of(tmp_path):
    notes = []
    for _ in range(2):
        command = [LSTMD, "import", archive(tmp_path / "a.pt", mapping(state())), "--out", tmp_path / "m", *letters(tmp_path)]
        notes.append("is replaced" in subprocess.run(command, capture_output=True, text=True, check=True).stderr)
    assert notes == [False, True]


def test_a_window_is_kept(tmp_path):
    run("import", archive(tmp_path / "a.pt", mapping(state())), "--out", tmp_path / "m", *letters(tmp_path), "--window", 5)
    assert json.loads((tmp_path / "m/config.json").read_text())["window"] == {"size": 5, "masked": False}


def test_an_activation_that_the_network_does_not_have(tmp_path):
    file = GOLDEN / "lstm_legacy.pt"
    assert "nn.RNN alone" in refused(file, tmp_path / "m", "--vocabulary", GOLDEN / "vocabulary.json", "--activation",
                                     "relu")


@pytest.mark.parametrize("content, part", [
    (b"", "the file is empty"), (b"some text\n", "not a model file"), (b"PK\x03\x04", "not a readable zip archive"),
    (b"\x80\x02N.", "not begin with PyTorch's magic number"), (b"\x80\x02K", "byte 3"),
])
def test_files_of_other_kinds(tmp_path, content, part):
    (tmp_path / "a").write_bytes(content)
    assert part in refused(tmp_path / "a", tmp_path / "m", *letters(tmp_path))
    assert "No such file" in refused(tmp_path / "none", tmp_path / "m", *letters(tmp_path))
