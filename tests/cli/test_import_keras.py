"""lstmd import of Keras models: published samples, the notebook's own model, and hostile files. tests/unit/interop/test_keras.c
compares the probabilities of every Keras layout."""

import json
import math
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
LSTMD = os.environ.get("LSTMD", str(ROOT / "build/lstmd"))
SHARED = pathlib.Path(os.environ.get("LSTMD_SHARED", ROOT / "../shared")) / "data/checkpoints"
sys.path.insert(0, str(ROOT / "tests/golden"))

import make_keras  # noqa: E402


def run(*arguments, code=0):
    done = subprocess.run([LSTMD, *map(str, arguments)], capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    return done


def greedy(model, prompt, length):
    done = run("generate", "--model", model, "--prompt", prompt, "--length", length, "--temperature", 0, "--json")
    return json.loads(done.stdout)["completion"]


@pytest.mark.parametrize("sample, file", [("keras-lstm", "text_generator.keras"), ("keras-simplernn", "char_rnn.h5")])
def test_what_strangers_published_gives_its_probabilities(sample, file, tmp_path):
    if not (SHARED / sample).is_dir():
        pytest.skip(f"NOT TESTED: {SHARED / sample} is not here")
    expected = json.loads((SHARED / sample / "expected.json").read_text())
    (tmp_path / "tokens.json").write_text(json.dumps(expected["vocab"]))
    run("import", SHARED / sample / file, "--out", tmp_path / "m", "--vocabulary", tmp_path / "tokens.json")
    for prompt in expected["prompts"]:
        told = json.loads(run("next", "--model", tmp_path / "m", "--prompt", prompt["text"], "--json").stdout)
        assert told["ids"] == prompt["ids"]
        assert max(abs(a - b) for a, b in zip(told["probabilities"], prompt["probs"], strict=True)) < 1e-5
    carried = expected["greedy_carried"]
    assert greedy(tmp_path / "m", carried["prompt"], len(carried["text"])) == carried["text"]


def test_the_notebooks_own_model(tmp_path):
    layers, model = make_keras.write_notebook(tmp_path), tmp_path / "m"
    done = run("import", tmp_path / "model.h5", "--out", model, "--vocabulary", tmp_path / "tokenizer.json")
    assert "119,892" in done.stdout and "Masking layer is left out" in done.stderr
    assert json.loads(run("inspect", model, "--json").stdout)["parameters"] == 119892
    assert re.search(r"total +119,892", run("inspect", model).stdout)
    for prompt in ("O", "Oil prices", "$1,000.00: (a) \"quote\" & 50% off?"):
        told = json.loads(run("next", "--model", model, "--prompt", prompt, "--json").stdout)
        assert told["ids"] == [make_keras.NOTEBOOK_TOKENS.index(c) + 1 for c in prompt]  # the prompt is not padded in front
        expected = make_keras.predict(layers, told["ids"], 2, 84)
        assert expected[0] == max(expected)
        assert max(abs(a - b) for a, b in zip(told["probabilities"], expected, strict=True)) < 1e-5
    assert "at least one character" in run("generate", "--model", model, "--prompt", "", code=1).stderr


def test_the_notebooks_greedy_text_is_that_of_numpy(tmp_path):
    """Padding is the likeliest token of this model everywhere, but lstmd never chooses it."""
    layers = make_keras.write_notebook(tmp_path)
    run("import", tmp_path / "model.h5", "--out", tmp_path / "m", "--vocabulary", tmp_path / "tokenizer.json")
    ids, text = [make_keras.NOTEBOOK_TOKENS.index(c) + 1 for c in "Oil "], ""
    while len(text) < 40:
        expected = make_keras.predict(layers, ids, 2, 84)
        ids.append(1 + max(range(83), key=lambda i: expected[i + 1]))
        if ids[-1] == 1:
            break
        text += make_keras.NOTEBOOK_TOKENS[ids[-1] - 1]
    assert text and greedy(tmp_path / "m", "Oil ", 40) == text


def import_notebook(directory):
    """Imports the notebook's model. Returns its layers and the model directory."""
    layers = make_keras.write_notebook(directory)
    run("import", directory / "model.h5", "--out", directory / "m", "--vocabulary", directory / "tokenizer.json")
    return layers, directory / "m"


def write_lines(directory, lines):
    (directory / "lines.txt").write_text("".join(line + "\n" for line in lines))
    return "--data", directory / "lines.txt", "--format", "lines"


def test_eval_feeds_no_eos_to_a_model_that_only_ends_texts_with_it(tmp_path):
    layers, model = import_notebook(tmp_path)
    lines = ["Oil prices rise", "a", "Stocks fall, again"]
    told = json.loads(run("eval", "--model", model, *write_lines(tmp_path, lines), "--json").stdout)
    nats, tokens = 0, 0
    for line in lines:
        ids = [make_keras.NOTEBOOK_TOKENS.index(c) + 1 for c in line] + [1]
        nats -= sum(math.log(make_keras.predict(layers, ids[:i], 2, 84)[ids[i]]) for i in range(1, len(ids)))
        tokens += len(ids) - 1
    assert told["tokens"] == tokens
    assert told["nats_per_token"] == pytest.approx(nats / tokens, abs=1e-5)


SMALL = ["--epochs", 1, "--batch", 4, "--bptt", 16, "--threads", 1]


def test_training_goes_on_and_teaches_eos_to_start_texts(tmp_path):
    _, model = import_notebook(tmp_path)
    assert json.loads((model / "vocabulary.json").read_text())["eos_starts"] is False
    data = write_lines(tmp_path, ["Oil prices rise", "Stocks fall, again", "Oil falls"] * 10)
    run("train", *data, "--init-from", model, "--out", tmp_path / "tuned", *SMALL)
    vocabulary = json.loads((tmp_path / "tuned/vocabulary.json").read_text())
    assert vocabulary["eos"] == 1 and "eos_starts" not in vocabulary
    assert vocabulary["tokens"] == json.loads((model / "vocabulary.json").read_text())["tokens"]
    started = json.loads(run("next", "--model", tmp_path / "tuned", "--prompt", "", "--json").stdout)
    assert started["ids"] == [1]


def test_training_does_not_go_on_without_eos(tmp_path):
    (tmp_path / "tokens.json").write_text(json.dumps(list("abcdef")))
    run("import", ROOT / "tests/golden/data/keras/k224_functional.h5", "--out", tmp_path / "m", "--vocabulary",
        tmp_path / "tokens.json")
    data = write_lines(tmp_path, ["abc", "fed"] * 10)
    done = run("train", *data, "--init-from", tmp_path / "m", "--out", tmp_path / "tuned", *SMALL, code=1)
    assert "init_from: m has no <eos> among its tokens" in done.stderr
    told = json.loads(run("eval", "--model", tmp_path / "m", *data, "--json").stdout)
    assert told["tokens"] == 2 * 20  # no token predicts a text's first token, and none ends the text


@pytest.mark.parametrize("name, masked", [("k250_functional.h5", False), ("k240_embedding_two_sizes.h5", True)])
@pytest.mark.parametrize("window", [0, 5])
def test_windows_are_fed_as_in_training_where_asked_for(name, masked, window, tmp_path):
    """The Embedding masks padding or does not. The Tokenizer's ids start at 1."""
    version, layers, configuration, _ = make_keras.VARIANTS[name]
    make_keras.write_variant(tmp_path / name, name)
    words = ["oil", "prices", "rise", "and", "fall"]
    (tmp_path / "words.json").write_text(json.dumps({word: i for i, word in enumerate(words, 1)}))
    done = run("import", tmp_path / name, "--out", tmp_path / "m", "--vocabulary", tmp_path / "words.json", "--token-level",
               "word", "--window", window)
    config = json.loads((tmp_path / "m/config.json").read_text())
    assert config.get("window") == ({"size": 5, "masked": masked} if window else None)
    assert ("--window 5 shows it 5 tokens at a time" in done.stderr) == (not window)
    for ids in ([3], [2, 5, 1], [1, 2, 3, 4, 5], [4, 4, 1, 5, 2, 3, 1, 2]):
        shown = ids[-window:]
        if window and not masked:
            shown = [0] * (window - len(shown)) + shown
        told = json.loads(run("next", "--model", tmp_path / "m", "--prompt", " ".join(words[i - 1] for i in ids), "--json").stdout)
        expected = make_keras.predict(layers, shown, int(version[0]))
        assert max(abs(a - b) for a, b in zip(told["probabilities"], expected, strict=True)) < 1e-5
    written = json.loads(run("generate", "--model", tmp_path / "m", "--prompt", "oil", "--length", 30, "--seed", 1, "--json").stdout)
    assert set(written["completion"].split()) <= set(words) and len(written["completion"].split()) == 30


def test_files_that_lie_are_refused_with_the_reason(tmp_path):
    files = tmp_path / "files"
    files.mkdir()
    for name, says in make_keras.write_hostile(files).items():
        done = run("import", files / name, "--out", tmp_path / "m", "--vocabulary", tmp_path / "none.json",
                   "--max-memory", "1GiB", "--max-seconds", 20, code=1)
        assert says in done.stderr and done.stderr.startswith("lstmd: ") and done.stderr.count("\n") == 1, (name, done.stderr)
        assert not (tmp_path / "m").exists()


@pytest.mark.skipif("SANITIZE" in os.environ and os.environ["SANITIZE"] != "", reason="sanitizers take all address space")
def test_limits_are_the_systems(tmp_path):
    (tmp_path / "large.h5").write_bytes((ROOT / "tests/golden/data/keras/k208_lstm_list.h5").read_bytes())
    os.truncate(tmp_path / "large.h5", 2 << 30)
    done = run("import", tmp_path / "large.h5", "--out", tmp_path / "m", "--max-memory", "1GiB", code=1)
    assert "Cannot allocate memory" in done.stderr
    assert "64MiB" in run("import", tmp_path / "large.h5", "--out", tmp_path / "m", "--max-memory", 1, code=2).stderr
    assert not (tmp_path / "m").exists()
