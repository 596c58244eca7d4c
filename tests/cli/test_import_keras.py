"""lstmd import of Keras models: the samples that strangers published, the notebook's own model, and files that lie. That every
layout of Keras gives its probabilities is tests/unit/test_interop_keras.c."""

import json
import os
import pathlib
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
    """Masking, LSTM 128 and Dense softmax over 84, and a Tokenizer of characters in which id 0 is padding."""
    characters = ["<eos>", *"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,:;-'!?$%&()/\"+#*@="][:83]
    layers = [make_keras.plain("Masking", mask_value=0.0), make_keras.recurrent("LSTM", 128, sequences=True),
              make_keras.dense(84, "softmax")]
    make_keras.write(tmp_path / "model.h5", "2.2.4", layers, make_keras.build("2.2.4", layers, {}, 84), {})
    index = {character: i for i, character in enumerate(characters, 1)}
    tokenizer = {"class_name": "Tokenizer", "config": {
        "num_words": None, "filters": "", "lower": False, "split": " ", "char_level": True, "oov_token": None,
        "document_count": 1, "word_counts": json.dumps({c: 1 for c in characters}), "word_docs": "{}", "index_docs": "{}",
        "index_word": json.dumps({i: c for c, i in index.items()}), "word_index": json.dumps(index)}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    done = run("import", tmp_path / "model.h5", "--out", tmp_path / "m", "--vocabulary", tmp_path / "tokenizer.json")
    assert "119,892" in done.stdout and "Masking layer is left out" in done.stderr
    assert "119,892" in run("inspect", tmp_path / "m").stdout
    completion = greedy(tmp_path / "m", "Oil ", 30)
    assert 0 < len(completion) <= 30 and set(completion) <= set(characters)


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
    assert "256MiB" in run("import", tmp_path / "large.h5", "--out", tmp_path / "m", "--max-memory", 1, code=2).stderr
    assert not (tmp_path / "m").exists()
