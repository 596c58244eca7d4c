"""lstmd generate --state and --save-state: several runs write one text, and a file carries the state between them."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
LSTMD = os.environ.get("LSTMD", str(ROOT / "build/lstmd"))
sys.path.insert(0, str(ROOT / "tests/http"))

from make_model import make_model  # noqa: E402


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("models") / "tiny")


def generate(model, *arguments, code=0):
    done = subprocess.run([LSTMD, "generate", "--model", model, *map(str, arguments)], capture_output=True, timeout=60)
    assert done.returncode == code, done.stderr.decode()
    return done


def text(done):
    return done.stdout.decode().removesuffix("\n")


def test_a_text_in_pieces_is_the_text_of_one_run(model, tmp_path):
    file = tmp_path / "state"
    whole = text(generate(model, "--prompt", "ab", "--length", 60, "--seed", 5))
    pieces = text(generate(model, "--prompt", "ab", "--length", 3, "--seed", 5, "--save-state", file))
    for length in 1, 20, 36:
        done = generate(model, "--length", length, "--state", file, "--save-state", file)
        assert done.stderr == b"", "no seed is told: none makes the text"
        pieces += text(done)
    assert pieces == whole
    assert file.read_bytes().endswith(b"\n") and file.read_bytes().count(b"\n") == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["state"]


def test_a_seed_and_several_texts_go_on_from_a_state(model, tmp_path):
    file = tmp_path / "state"
    generate(model, "--prompt", "ab", "--length", 3, "--seed", 5, "--save-state", file)
    seeded = text(generate(model, "--length", 20, "--seed", 9, "--state", file))
    assert seeded == text(generate(model, "--length", 20, "--seed", 9, "--state", file))
    several = text(generate(model, "--length", 20, "--n", 3, "--state", file)).split("\n")
    assert len(set(several)) == 3 and several[0] == text(generate(model, "--length", 20, "--state", file)) != seeded
    answer = json.loads(generate(model, "--length", 20, "--n", 3, "--state", file, "--json").stdout)
    assert answer["seed"] is None and [choice["completion"] for choice in answer["choices"]] == several


def test_what_is_wrong_with_a_state_is_told(model, tmp_path):
    file, other = tmp_path / "state", make_model(tmp_path / "other", seed=2)
    generate(model, "--length", 3, "--seed", 5, "--save-state", file)
    conflict = generate(other, "--state", file, code=1).stderr.decode()
    assert 'of model "tiny"' in conflict and 'this is "other"' in conflict and str(file) in conflict
    good = file.read_text()
    for bad, message in (("", "not a state"), ("x y", "base64url"), (good[:-30], "was it cut?"), (good + "\n", "base64url"), ("A" * 2_000_000, "")):
        file.write_text(bad)
        error = generate(model, "--state", file, code=1).stderr.decode()
        assert error.startswith("lstmd: --state: ") and message in error and error.count("\n") == 1
    assert "No such file" in generate(model, "--state", tmp_path / "none", code=1).stderr.decode()
    assert "begun already" in generate(model, "--state", file, "--label", "x", code=2).stderr.decode()
    assert "--n must be 1" in generate(model, "--save-state", file, "--n", 2, code=2).stderr.decode()
    window = make_model(tmp_path / "window", window={"size": 5, "masked": True})
    for flag in "--state", "--save-state":
        assert "keeps no state" in generate(window, "--prompt", "a", flag, file, code=1).stderr.decode()


def test_a_state_that_cannot_be_saved_leaves_the_old_one(model, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "x").write_text("")
    error = generate(model, "--length", 3, "--save-state", folder, code=1).stderr.decode()
    assert str(folder) in error and (folder / "x").exists()
