"""lstmd train as a user sees it: flags, presets, progress, refusals."""

import fcntl
import json
import os
import pathlib
import pty
import random
import re
import struct
import subprocess
import termios

import pytest

from train_runs import LSTMD, SECONDS, SMALL, config, corpus, last_wins, lines, one_line_failure, options, sentences, train


def test_train_prints_one_result_line_and_tells_the_rest_on_stderr(corpus, tmp_path):
    out = tmp_path / "model"
    done = lines(corpus, out)
    assert re.fullmatch(
        re.escape(str(out)) + r" nats_per_char=\d+\.\d{6} bits_per_char=\d+\.\d{6} epoch=\d+ step=\d+\n", done.stdout
    )
    assert len(re.findall(r"^epoch \d+, step \d+: validation .* nats/char, .* bits/char, perplexity", done.stderr, re.M)) == 2
    assert "*best*" in done.stderr
    for temperature in ("0.2", "0.5", "1.0", "1.2"):
        assert f"\n  {temperature}: " in done.stderr
    assert "\r" not in done.stderr and "\033" not in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["corpus.txt", "model"]
    told = float(re.search(r"nats_per_char=(\S+)", done.stdout)[1])
    assert config(out)["training"]["validation_nats_per_character"] == pytest.approx(told, abs=1e-6)


def test_train_same_seed_gives_the_same_weights(corpus, tmp_path):
    weights = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        lines(corpus, tmp_path / name, "--seed", seed, "--threads", 2)
        weights.append((tmp_path / name / "model.safetensors").read_bytes())
    assert weights[0] == weights[1] != weights[2]


def test_train_recipe_of_a_model_is_a_config_file_that_repeats_it(corpus, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    lines(corpus, first, "--dropout", "0.1", "--schedule", "cosine", "--warmup", "5", "--optimizer", "adamw")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps(config(first)["training"]["options"], indent=2))
    train("--data", corpus, "--out", second, "--config", recipe)
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()


def test_train_flags_win_over_the_config_file(corpus, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"data: {corpus}\nformat: lines\nhidden: 24\nepochs: 1\nthreads: 1\ncell: gru\n")
    out = tmp_path / "model"
    train("--config", recipe, "--out", out, "--hidden", "20")
    assert (config(out)["hidden_size"], config(out)["cell"]) == (20, "gru")
    assert config(out)["training"]["epochs"] == 1


def test_train_config_file_with_an_unknown_key_names_the_nearest(corpus, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("hidden: 24\nepoch: 1\n")
    done = train("--config", recipe, "--data", corpus, "--out", tmp_path / "model", expect=1)
    assert f"{recipe}:2" in done.stderr and "epochs" in done.stderr


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--hiden", "3"], "--hidden"),
        (["--hidden", "0"], "1 to 16384"),
        (["--cell", "transformer"], "lstm, gru, rnn"),
        (["--tie-weights", "--embedding", "8"], "tie_weights"),
        (["--columns", "title"], "columns needs format csv"),
        (["--dropout", "nan"], "--dropout"),
        (["--preset", "huge"], "none, tiny, small, medium, large, headlines"),
    ],
)
def test_train_wrong_flags_are_wrong_usage(corpus, tmp_path, flags, message):
    done = lines(corpus, tmp_path / "model", *flags, expect=2)
    assert message in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "model").exists()


def test_train_preset_is_a_set_of_defaults_and_whatever_is_said_wins(corpus, tmp_path):
    data = ["--data", corpus, "--format", "lines", "--threads", 1, "--epochs", 1]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("hidden: 20\npreset: headlines\n")
    orders = {
        "before": ["--hidden", 20, "--preset", "headlines"],
        "after": ["--preset", "headlines", "--hidden", 20],
        "file": ["--config", recipe],
        "flag-over-file": ["--config", recipe, "--preset", "headlines"],
    }
    for name, flags in orders.items():
        train(*data, *flags, "--out", tmp_path / name)
        told = options(tmp_path / name)
        assert (told["preset"], told["hidden"], told["embedding"], told["lr"]) == ("headlines", 20, 64, 0.014), name
        assert told == options(tmp_path / "before")
    train(*data, *SMALL, "--out", tmp_path / "none")
    assert options(tmp_path / "none")["preset"] == "none" and options(tmp_path / "none")["embedding"] == 0


def test_train_help_has_a_line_for_each_preset():
    said = train("--help").stdout
    (names,) = re.findall(r"one of (none, [^;]*); default none", said)
    for name in names.split(", "):
        assert re.search(rf"^  {name} +\S", said, re.M), name


def test_train_recipe_of_the_bundled_model_is_a_preset(corpus, tmp_path):
    directory = pathlib.Path(__file__).resolve().parents[2] / "model/pretrained"
    train("--config", directory / "headlines.yaml", "--data", corpus, "--epochs", 1, "--out", tmp_path / "model")
    bundled, ours = options(directory / "headlines"), options(tmp_path / "model")
    assert ours["preset"] == "headlines"
    assert {key: ours[key] for key in bundled} == {**bundled, "epochs": 1, "batch": ours["batch"]}
    small = ["--hidden", 16, "--sample-length", 0]  # its epochs, not its size
    done = train("--preset", "headlines", "--data", corpus, "--format", "lines", *small, "--out", tmp_path / "whole")
    assert f"after {bundled['epochs']} epochs" in done.stderr


def test_train_preset_on_a_tiny_corpus_says_what_it_changes(tmp_path):
    path = tmp_path / "tiny.txt"
    path.write_text(sentences(60))
    assert path.stat().st_size < 2000
    done = train("--data", path, "--out", tmp_path / "model", "--preset", "large", "--hidden", 16, "--epochs", 3)
    assert re.search(r"batch reduced from 32 to \d+", done.stderr)
    assert re.search(r"the run has only \d+ steps: warm-up reduced from \d+ to [0-9]\b", done.stderr)


def test_train_preset_goes_on_from_a_model_with_its_network(corpus, tmp_path):
    base = tmp_path / "base"
    lines(corpus, base)
    flags = ["--data", corpus, "--format", "lines", "--init-from", base, "--preset", "headlines", "--epochs", 1]
    train(*flags, "--out", tmp_path / "tuned")
    told = options(tmp_path / "tuned")
    assert (told["preset"], told["hidden"], told["embedding"], told["lr"]) == ("headlines", 16, 0, 0.014)
    assert "hidden is 20" in train(*flags, "--hidden", 20, "--out", tmp_path / "other", expect=1).stderr


def test_train_needs_data_and_out(corpus, tmp_path):
    assert "--out" in train("--data", corpus, expect=2).stderr
    assert "--data" in train("--out", tmp_path / "model", expect=2).stderr
    help_text = train("--help").stdout
    for flag in ("--data", "--max-minutes", "--tie-weights", "--resume", "--snapshot-seconds"):
        assert flag in help_text


def test_directory_that_alone_is_missing_is_made(corpus, tmp_path):
    """docs/train.md writes to models/mine in a directory that has no models folder."""
    lines(corpus, tmp_path / "trained/model/", "--epochs", 1)

    def run(*arguments):
        done = subprocess.run([LSTMD, *map(str, arguments)], capture_output=True, text=True, timeout=SECONDS)
        assert done.returncode == 0, done.stderr

    run("quantize", tmp_path / "trained/model", "--to", "int8", "--out", tmp_path / "quantized/model")
    run("export", tmp_path / "trained/model", "--to", "keras", "--out", tmp_path / "exported/model.h5")
    vocabulary = tmp_path / "exported/model.h5.vocabulary.json"
    run("import", tmp_path / "exported/model.h5", "--out", tmp_path / "imported/model", "--vocabulary", vocabulary)
    assert config(tmp_path / "imported/model")["cell"] == config(tmp_path / "quantized/model")["cell"] == "lstm"


def test_train_missing_files_and_directories_are_found_at_the_start(corpus, tmp_path):
    one_line_failure(lines(tmp_path / "none.txt", tmp_path / "model", expect=1), "none.txt")
    one_line_failure(lines(corpus, tmp_path / "none" / "none" / "model", expect=1), "none")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("x")
    one_line_failure(lines(corpus, tmp_path / "home", expect=1), "thesis.tex", "no part of a model")


def test_train_absurd_sizes_are_refused_with_the_estimate(corpus, tmp_path):
    done = lines(corpus, tmp_path / "model", "--hidden", 16384, "--layers", 8, "--batch", 100, expect=1)
    one_line_failure(done, "GB")


def test_train_unwritable_directory_is_found_at_the_start(corpus, tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    one_line_failure(lines(corpus, locked / "model", expect=1), "locked")


def test_train_full_disk_leaves_the_older_model(corpus, tmp_path):
    out = tmp_path / "model"
    lines(corpus, out)
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    command = f"ulimit -f 4; exec '{LSTMD}' train --data '{corpus}' --format lines --out '{out}' --epochs 2 --threads 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 1
    one_line_failure(done, "saving the model")
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["corpus.txt", "model"]


def test_train_divergence_stops_with_a_message_and_keeps_the_model(corpus, tmp_path):
    out = tmp_path / "model"
    lines(corpus, out)
    before = (out / "model.safetensors").read_bytes()
    done = lines(corpus, out, "--optimizer", "sgd", "--lr", "1000", "--clip", "0", "--epochs", "50", expect=1)
    one_line_failure(done, "diverged", "smaller lr")
    assert (out / "model.safetensors").read_bytes() == before


def test_train_labels_make_a_conditional_model(tmp_path):
    path = tmp_path / "news.csv"
    rng = random.Random(5)
    rows = (f'{rng.choice(["World", "Sport"])},"{text}"' for text in sentences(60).splitlines())
    path.write_text("class,title\n" + "\n".join(rows) + "\n")
    out = tmp_path / "model"
    train("--data", path, "--columns", "title", "--label-column", "class", "--out", out, *SMALL)
    assert config(out)["labels"] == ["World", "Sport"] or set(config(out)["labels"]) == {"World", "Sport"}


@pytest.mark.parametrize(
    "flags",
    [
        ["--level", "word", "--lower", "--max-vocabulary", "8"],
        ["--level", "byte"],
        ["--bytes"],
        ["--format", "text"],
        ["--cell", "rnn", "--layers", "2", "--embedding", "16", "--tie-weights", "--dropout", "0.2"],
        ["--validation", "0"],
        ["--patience", "1", "--epochs", "40", "--lr", "0.2"],
        ["--schedule", "plateau", "--validate-every", "3", "--warmup", "4"],
        ["--sample-length", "0"],
    ],
)
def test_train_ways_to_train(corpus, tmp_path, flags):
    done = lines(corpus, tmp_path / "model", *flags)
    assert "nats_per_char=" in done.stdout
    assert (tmp_path / "model" / "model.safetensors").exists()


def test_train_time_limit_is_kept_and_gives_a_model(corpus, tmp_path):
    done = lines(corpus, tmp_path / "model", "--epochs", "1000000", "--max-minutes", "0.03", "--schedule", "cosine")
    assert "time over" in done.stderr
    assert 0 < config(tmp_path / "model")["training"]["epochs"] < 1000000


def test_train_time_that_ends_in_the_first_epoch_says_so_with_samples(tmp_path):
    path = tmp_path / "large.txt"
    path.write_text(sentences(400000))
    done = lines(path, tmp_path / "model", "--epochs", 10, "--max-minutes", 0.02, "--validation", 0.001, "--sample-length", 20)
    (epoch,) = re.findall(r"^epoch (\d+), step \d+: validation", done.stderr, re.M)
    assert epoch == "1" and re.search(r"^time over in epoch 1, \d+ steps", done.stderr, re.M), done.stderr
    assert "samples of epoch 1" in done.stderr and " epoch=1 " in done.stdout


def test_train_validation_within_an_epoch_names_the_one_under_way(corpus, tmp_path):
    done = lines(corpus, tmp_path / "model", "--epochs", 1, "--validate-every", 3, "--sample-length", 0)
    epochs = re.findall(r"^epoch (\d+), step \d+: validation", done.stderr, re.M)
    assert len(epochs) > 2 and set(epochs) == {"1"}
    assert re.search(r"^done after 1 epoch, \d+ steps", done.stderr, re.M)


def test_train_on_a_terminal_redraws_one_line_that_fits(corpus, tmp_path):
    columns = 72
    main, worker = pty.openpty()
    fcntl.ioctl(worker, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    command = [LSTMD, "train", "--data", corpus, "--format", "lines", "--out", tmp_path / "model"]
    flags = last_wins([*SMALL, "--epochs", "6", "--hidden", "384"])
    process = subprocess.Popen([*map(str, command), *flags], stdout=subprocess.PIPE, stderr=worker)
    os.close(worker)
    said = b""
    while True:
        try:
            piece = os.read(main, 65536)
        except OSError:
            break
        if not piece:
            break
        said += piece
    os.close(main)
    process.stdout.close()
    assert process.wait(timeout=SECONDS) == 0
    bars = re.findall(r"\r(epoch \d+/6[^\r\n]*)\033\[K", said.decode())
    assert len(bars) >= 2
    assert all(len(bar) < columns for bar in bars)
    assert re.search(r"epoch \d+/6 +\d+% \[#*\.*\] \d+\.\d+ nats/char ETA \d+:\d\d", bars[-1])


def test_train_goes_on_from_a_model(corpus, tmp_path):
    """The run keeps the model's vocabulary and network, whatever the new text holds. Training begins at the model's loss."""
    base, tuned, again = tmp_path / "base", tmp_path / "tuned", tmp_path / "again"
    train("--data", corpus, "--format", "lines", "--out", base, *SMALL, "--cell", "gru", "--epochs", "12")
    other = tmp_path / "other.txt"
    other.write_text(sentences(150, seed=2) + "Žluťoučký kůň\n")
    flags = ["--data", other, "--format", "lines", "--batch", "8", "--bptt", "16", "--threads", "1", "--init-from", base]
    done = train(*flags, "--out", tuned, "--epochs", "1", "--lr", "1e-9")
    assert re.search(r"training: \d+ characters? that the vocabulary lacks (is|are) skipped, [\d.]+ % of the text: ", done.stderr)
    assert (tuned / "vocabulary.json").read_bytes() == (base / "vocabulary.json").read_bytes()
    config = json.loads((tuned / "config.json").read_text())
    assert config["cell"] == "gru" and config["hidden_size"] == 16
    losses = [json.loads((model / "config.json").read_text())["training"]["validation_nats_per_character"] for model in (base, tuned)]
    assert abs(losses[0] - losses[1]) < 0.3
    assert losses[1] < 2  # a new network is near 3
    for contradiction, name in [(["--hidden", "17"], "hidden is 17"), (["--cell", "rnn"], "cell"), (["--min-count", "2"], "min_count")]:
        failed = train(*flags, *contradiction, "--out", again, expect=1)
        assert name in failed.stderr and "leave it out" in failed.stderr
    assert "none" in train(*flags[:-1], tmp_path / "none", "--out", again, expect=1).stderr


def test_train_from_a_model_without_labels_refuses_them(corpus, tmp_path):
    lines(corpus, tmp_path / "plain")
    table = tmp_path / "table.csv"
    table.write_text("label,title\n" + "".join(f"x,{line}\n" for line in corpus.read_text().splitlines()))
    flags = ["--data", table, "--columns", "title", "--label-column", "label", "--init-from", tmp_path / "plain"]
    one_line_failure(train(*flags, "--out", tmp_path / "b", expect=1), "label_column is set", "knows no labels")
    assert not (tmp_path / "b").exists()
