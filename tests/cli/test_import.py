"""lstmd import: what it makes of the files of other programs, and what it refuses."""

import json
import os
import pathlib
import pickle
import struct
import subprocess
import zipfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
LSTMD = os.environ.get("LSTMD", str(ROOT / "build/lstmd"))
GOLDEN = ROOT / "tests/golden/data/torch"
SHARED = pathlib.Path(os.environ.get("LSTMD_SHARED", ROOT / "../shared")) / "data/checkpoints"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())


def run(*arguments, code=0):
    done = subprocess.run([LSTMD, *map(str, arguments)], capture_output=True, text=True, timeout=60)
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
