"""Tests interrupt, kill and resume lstmd train."""

import json
import os
import re
import resource
import select
import signal
import subprocess

import pytest

from train_runs import LSTMD, SECONDS, SMALL, config, corpus, last_wins, lines, one_line_failure, options, sentences, train


def test_train_full_disk_on_the_way_says_how_to_go_on(corpus, tmp_path):
    flags = ["--data", corpus, "--format", "lines", "--hidden", 16, "--batch", 8, "--bptt", 16, "--threads", 1, "--epochs", 200]
    flags += ["--sample-length", 0]
    train(*flags, "--out", tmp_path / "whole")
    out = tmp_path / "model"
    command = [LSTMD, "train", *map(str, flags), "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    assert any(line.startswith(b"epoch 2, step") for line in iter(process.stderr.readline, b""))
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1000, 1000))
    said = process.communicate()[1].decode()
    assert process.returncode == 1
    *_, why, way_out = said.splitlines()
    assert why.startswith("lstmd: ") and way_out.startswith(f"lstmd: the run is saved in {out}.train; make room on the disk, then ")
    arguments = way_out.partition("go on with: lstmd ")[2].split()
    subprocess.run([LSTMD, *arguments], check=True, capture_output=True)
    assert (out / "model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()


def interrupt(command, *, when=b"epoch 2, step", number=signal.SIGINT):
    """Starts a training run and sends the signal when the run has printed `when`. Returns the exit code and the output."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    said = b""
    while when not in said:
        ready = select.select([process.stderr], [], [], SECONDS)[0]
        assert ready, "no progress"
        piece = os.read(process.stderr.fileno(), 65536)
        assert piece, said.decode()
        said += piece
    process.send_signal(number)
    said += process.communicate(timeout=SECONDS)[1]
    return process.returncode, said.decode()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_train_interrupted_run_is_saved_and_resumes_bit_for_bit(corpus, tmp_path, number):
    flags = ["--data", corpus, "--format", "lines", *SMALL, "--epochs", "30", "--dropout", "0.2", "--threads", "2"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(*flags, "--out", whole)
    code, said = interrupt([LSTMD, "train", *last_wins(flags), "--out", str(parts)], number=number)
    assert code == 1
    assert said.splitlines()[-1] == (
        f"lstmd: interrupted; the run is saved in {parts}.train, go on with: lstmd train --out {parts} --resume"
    )
    one_line_failure(train(*flags, "--out", parts, expect=1), "unfinished run")
    one_line_failure(train("--out", parts, "--resume", "--hidden", "17", expect=1), "hidden was 16")
    done = train("--out", parts, "--resume")
    assert "resumed in epoch" in done.stderr
    assert (whole / "model.safetensors").read_bytes() == (parts / "model.safetensors").read_bytes()
    assert not (tmp_path / "parts.train").exists()


def test_train_resumed_run_keeps_its_preset(corpus, tmp_path):
    out = tmp_path / "model"
    flags = ["--data", corpus, "--format", "lines", "--preset", "headlines", "--hidden", "20", "--epochs", "30", "--threads", "1"]
    code, _ = interrupt([LSTMD, "train", *last_wins(flags), "--out", str(out)])
    assert code == 1
    failed = train("--out", out, "--resume", "--preset", "small", expect=1)
    one_line_failure(failed, "preset was", "headlines", "small")
    train("--out", out, "--resume", "--preset", "headlines", "--epochs", 4)
    told = options(out)
    assert (told["preset"], told["hidden"], told["embedding"], told["epochs"]) == ("headlines", 20, 64, 4)


def test_train_killed_run_goes_on_from_its_last_snapshot(corpus, tmp_path):
    flags = ["--data", corpus, "--format", "lines", *SMALL, "--epochs", "30", "--snapshot-seconds", "0.05"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(*flags, "--out", whole)
    code, _ = interrupt([LSTMD, "train", *last_wins(flags), "--out", str(parts)], number=signal.SIGKILL)
    assert code == -signal.SIGKILL
    train("--out", parts, "--resume")
    assert (whole / "model.safetensors").read_bytes() == (parts / "model.safetensors").read_bytes()


def test_train_average_is_validated_and_published(corpus, tmp_path):
    held_out = tmp_path / "held-out.txt"
    held_out.write_text(sentences(60, seed=2))
    plain, average = tmp_path / "plain", tmp_path / "average"
    flags = ["--validation-data", held_out, "--epochs", 6]
    lines(corpus, plain, *flags)
    lines(corpus, average, *flags, "--average", 0.95)
    assert (plain / "model.safetensors").read_bytes() != (average / "model.safetensors").read_bytes()
    plain, average_config = config(plain)["training"], config(average)["training"]
    assert plain["train_nats_per_token"] == average_config["train_nats_per_token"]  # the training itself is unchanged
    assert plain["validation_nats_per_token"] != average_config["validation_nats_per_token"]
    command = [LSTMD, "eval", "--model", average, "--data", held_out, "--format", "lines", "--json"]
    told = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=SECONDS).stdout)
    assert told["nats_per_token"] == pytest.approx(average_config["validation_nats_per_token"], rel=1e-9)


def test_train_resume_without_a_run_is_refused(tmp_path):
    one_line_failure(train("--out", tmp_path / "model", "--resume", expect=1), "nothing to resume")


def begin(corpus, out, *flags):
    """Makes an interrupted run."""
    command = ["--data", corpus, "--format", "lines", "--out", out, *SMALL, "--epochs", "30", *flags]
    assert interrupt([LSTMD, "train", *last_wins(command)])[0] == 1


def test_train_resume_takes_a_corpus_that_was_renamed_and_no_other(corpus, tmp_path):
    out, moved = tmp_path / "model", tmp_path / "moved.txt"
    begin(corpus, out)
    text = corpus.read_text()
    corpus.rename(moved)
    changed = tmp_path / "changed.txt"
    changed.write_text(text.replace("oil", "gas", 1))
    failed = train("--out", out, "--resume", "--data", changed, expect=1)
    one_line_failure(failed, f"{changed} does not hold the text that the run began with")
    assert "resumed in epoch" in train("--out", out, "--resume", "--data", moved, "--epochs", 3).stderr


def test_train_help_says_what_a_resume_may_change(corpus, tmp_path):
    """A resume takes each flag that the help names and refuses the others."""
    out = tmp_path / "model"
    begin(corpus, out)
    help_ = train("--help").stdout
    told = set(re.search(r"Beside --resume these flags may be given anew.*?:\n(.*?)\nFiles", help_, re.S)[1].split())
    others = {"--hidden": 17, "--batch": 4, "--seed": 9, "--dropout": 0.1, "--bptt": 8, "--validation": 0.2, "--layers": 2,
              "--schedule": "cosine", "--cell": "gru", "--level": "word", "--threads": 2, "--optimizer": "sgd"}  # fmt: skip
    assert not told & set(others)
    for flag, value in others.items():
        key = flag[2:].replace("-", "_")
        one_line_failure(train("--out", out, "--resume", flag, value, expect=1), f"{key} was ")
    values = {"--lr": 0.02, "--clip": 1, "--epochs": 4, "--max-minutes": 1, "--patience": 9, "--sample-length": 3,
              "--snapshot-seconds": 5, "--data": corpus, "--products": "own"}  # fmt: skip
    assert set(values) == told - {"--validation-data", "--init-from", "--other-products"}
    train("--out", out, "--resume", "--other-products", *(part for pair in values.items() for part in pair))


def test_train_resume_refuses_another_model_to_go_on_from(corpus, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text(corpus.read_text().swapcase() + corpus.read_text())
    for name, data in ("a", corpus), ("b", other):
        lines(data, tmp_path / name)
    flags = ["--init-from", str(tmp_path / "a"), "--data", str(corpus), "--format", "lines", "--epochs", "30", "--threads", "1"]
    assert interrupt([LSTMD, "train", *last_wins(flags), "--out", str(tmp_path / "c")])[0] == 1
    failed = train("--out", tmp_path / "c", "--resume", "--init-from", tmp_path / "b", expect=1)
    one_line_failure(failed, "init_from names another model")
    assert "resumed" in train("--out", tmp_path / "c", "--resume", "--epochs", 3).stderr


def test_train_resume_keeps_all_files(corpus, tmp_path):
    other, out = tmp_path / "other.txt", tmp_path / "model"
    other.write_text(sentences(50, seed=7))
    begin(corpus, out, "--data", other)
    one_line_failure(train("--out", out, "--resume", "--data", other, expect=1), "does not hold the text")
    one_line_failure(train("--out", out, "--resume", "--data", other, "--data", corpus, expect=1), "does not hold the text")
    moved = other.rename(tmp_path / "moved.txt")
    assert "resumed" in train("--out", out, "--resume", "--data", corpus, "--data", moved, "--epochs", 3).stderr
