"""Shared by the tests of lstmd train: a corpus, quick options, and a function that runs the command."""

import json
import os
import pathlib
import random
import subprocess

import pytest

LSTMD = os.environ.get("LSTMD", str(pathlib.Path(__file__).resolve().parents[2] / "build/lstmd"))
SECONDS = 120
WORDS = "oil prices rise fall again on the market quietly while stocks rest".split()
SMALL = ["--hidden", "16", "--batch", "8", "--bptt", "16", "--epochs", "2", "--threads", "1", "--lr", "0.01"]


def sentences(count, seed=1):
    rng = random.Random(seed)
    return "".join(" ".join(rng.choices(WORDS, k=rng.randint(2, 6))) + "\n" for _ in range(count))


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text(sentences(150))
    return path


def last_wins(arguments):
    """Keeps the last value of each flag of SMALL and of --format: lstmd takes a flag only once."""
    arguments, kept = [str(argument) for argument in arguments], []
    overridable = {*SMALL[::2], "--format"}
    for at, argument in enumerate(arguments):
        if argument in overridable and argument in arguments[at + 1 :]:
            continue
        if at > 0 and arguments[at - 1] in overridable and arguments[at - 1] in arguments[at:]:
            continue
        kept.append(argument)
    return kept


def train(*arguments, expect=0):
    command = [LSTMD, "train", *last_wins(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, stdin=subprocess.DEVNULL)
    assert done.returncode == expect, done.stderr
    return done


def lines(corpus, out, *arguments, expect=0):
    return train("--data", corpus, "--format", "lines", "--out", out, *SMALL, *arguments, expect=expect)


def config(out):
    return json.loads((out / "config.json").read_text())


def options(out):
    return config(out)["training"]["options"]


def one_line_failure(done, *parts):
    last = done.stderr.splitlines()[-1]
    assert last.startswith("lstmd: ")
    for part in parts:
        assert part in last
