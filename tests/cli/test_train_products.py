"""lstmd train --products: who multiplies, and what a run does when that changes."""

import json
import os
import re
import signal
import subprocess

from train_runs import LSTMD, SECONDS, SMALL, corpus, last_wins, lines, train


def products_of(out):
    training = json.loads((out / "config.json").read_text())["training"]
    return training["products"], training["options"]["products"]


def test_train_with_openblas_names_it_and_repeats_its_bits(corpus, tmp_path):
    told = [lines(corpus, tmp_path / name, "--products", "openblas", "--threads", "2").stderr for name in ("a", "b")]
    name, option = products_of(tmp_path / "a")
    assert re.fullmatch(r"openblas [0-9.]+\S* \w+", name) and option == "openblas"
    assert all(f"products: {name}" in lines_ for lines_ in told)
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()
    assert name in subprocess.run([LSTMD, "--version"], capture_output=True, text=True, timeout=SECONDS).stdout
    lines(corpus, tmp_path / "own")
    assert products_of(tmp_path / "own") in [("own", "own"), (name, "openblas")]  # by this processor


def test_train_without_the_library_says_what_to_install(corpus, tmp_path):
    empty = tmp_path / "lib"
    empty.mkdir()
    (empty / "libopenblas.so.0").write_bytes(b"")
    command = [LSTMD, "train", "--data", corpus, "--out", tmp_path / "m", *SMALL]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(empty)}

    def run(*flags):
        return subprocess.run([*command, *flags], capture_output=True, text=True, timeout=SECONDS, env=environment)

    refused = run("--products", "openblas")
    assert refused.returncode == 1 and "install libopenblas0-pthread" in refused.stderr and not (tmp_path / "m").exists()
    assert run("--products", "auto").returncode == 0
    version = subprocess.run([LSTMD, "--version"], capture_output=True, text=True, timeout=SECONDS, env=environment).stdout
    assert "products own, no OpenBLAS here" in version


def test_train_resume_with_other_products_needs_a_word(corpus, tmp_path):
    out = tmp_path / "m"
    command = [LSTMD, "train", "--data", corpus, "--out", out, "--products", "own", *last_wins([*SMALL, "--epochs", "100000"])]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if "validation" in line or "epoch" in line:
            break
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=SECONDS)
    refused = train("--out", out, "--resume", "--epochs", "1", "--products", "openblas", expect=1)
    assert "products were own when the run began and are openblas" in refused.stderr and "other_products" in refused.stderr
    train("--out", out, "--resume", "--epochs", "1", "--products", "openblas", "--other-products")
    assert products_of(out)[1] == "openblas"
