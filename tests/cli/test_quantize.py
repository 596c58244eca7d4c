"""lstmd quantize: the directory that it writes, and its refusals. The other commands take such a directory like any other."""

import json
import os
import pathlib
import struct
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
LSTMD = os.environ.get("LSTMD", str(ROOT / "build/lstmd"))
sys.path.insert(0, str(ROOT / "tests/http"))

from make_model import make_model  # noqa: E402

BUNDLED = ROOT / "model/pretrained/headlines"
TEXT = "the quick brown fox jumps over the lazy dog\n" * 20
HEADLINES = """Oil prices fall on signs of slower demand
Google shares rise after first earnings report
Red Sox beat Yankees to reach the World Series
NASA delays launch of space shuttle until May
Microsoft to release security patch for Windows
Blast in Baghdad kills at least ten, police say
Dollar near record low against the euro
IBM unveils faster supercomputer
""" * 20
MOST = {"int8": 0.005, "bf16": 0.0005}  # as a share of the bits per character


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("models") / "tiny", eos_bias=-8.0)


def run(*arguments, code=0):
    done = subprocess.run([LSTMD, *map(str, arguments)], capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    return done


def header_of(directory):
    raw = (directory / "model.safetensors").read_bytes()
    return json.loads(raw[8 : 8 + struct.unpack("<Q", raw[:8])[0]])


def bits(model, tmp_path, *arguments, text=TEXT):
    file = tmp_path / "text.txt"
    file.write_text(text)
    return json.loads(run("eval", "--model", model, "--data", file, "--json", *arguments).stdout)["bits_per_char"]


@pytest.mark.parametrize("format, dtype", [("int8", "I8"), ("bf16", "BF16")])
def test_quantized_directory_says_its_format_and_evaluates_like_the_flag(model, tmp_path, format, dtype):
    out = tmp_path / format
    done = run("quantize", model, "--to", format, "--out", out)
    assert done.stdout == ""
    assert json.loads((out / "config.json").read_text())["weights"] == format
    assert json.loads((out / "vocabulary.json").read_text()) == json.loads((model / "vocabulary.json").read_text())
    header = header_of(out)
    assert header["rnn.weight_hh_l0"]["dtype"] == dtype and header["rnn.bias_l0"]["dtype"] == "F32"
    assert ("rnn.weight_hh_l0.scale" in header) == (format == "int8")
    assert (out / "model.safetensors").stat().st_size < (model / "model.safetensors").stat().st_size
    exact, quantized = bits(model, tmp_path), bits(out, tmp_path)
    assert quantized == bits(model, tmp_path, "--weights", format)
    assert quantized != exact and abs(quantized / exact - 1) < MOST[format]
    assert json.loads(run("inspect", out, "--json").stdout)["weights"] == format
    assert f"weights {format}" in run("inspect", out).stdout
    flags = ("--prompt", "a", "--length", "20", "--seed", "1", "--json")
    assert json.loads(run("generate", "--model", out, *flags).stdout)["text"]


@pytest.mark.parametrize("format", MOST)
def test_a_trained_model_loses_next_to_nothing(tmp_path, format):
    exact, quantized = (bits(BUNDLED, tmp_path, "--weights", weights, text=HEADLINES) for weights in ("f32", format))
    assert exact < 3  # the model has learned something
    assert quantized != exact and abs(quantized / exact - 1) < MOST[format]


def test_quantized_directory_is_not_quantized_again(model, tmp_path):
    run("quantize", model, "--out", tmp_path / "once")
    done = run("quantize", tmp_path / "once", "--to", "bf16", "--out", tmp_path / "twice", code=1)
    assert done.stderr.startswith(f"lstmd: {tmp_path / 'once'}: its weights are int8 already")
    assert not (tmp_path / "twice").exists()


def test_config_must_say_what_the_weights_are(model, tmp_path):
    out = tmp_path / "out"
    run("quantize", model, "--out", out)
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({**config, "weights": "int4"}))
    assert 'weights is "int4", but must be f32, bf16 or int8' in run("inspect", out, code=1).stderr
    del config["weights"]
    (out / "config.json").write_text(json.dumps(config))
    assert "does not belong to this network" in run("inspect", out, code=1).stderr


def test_usage(model, tmp_path):
    assert "--out" in run("quantize", model, code=2).stderr
    assert "int8" in run("quantize", model, "--to", "int4", "--out", tmp_path / "x", code=2).stderr
    assert "lstmd quantize DIR" in run("quantize", "--help").stdout
