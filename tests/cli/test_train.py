"""lstmd train as a user meets it: flags, progress, Ctrl-C, resuming, refusals."""

import gzip
import json
import os
import pathlib
import pty
import random
import re
import resource
import select
import signal
import struct
import subprocess
import termios
import fcntl

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
    """The arguments without those of SMALL, and the format, that are said again behind: a flag may be given once."""
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


def options(out):
    return config(out)["training"]["options"]


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


def one_line_failure(done, *parts):
    last = done.stderr.splitlines()[-1]
    assert last.startswith("lstmd: ")
    for part in parts:
        assert part in last


@pytest.mark.parametrize(
    "content, flags, parts",
    [
        (b"", [], ["corpus.txt"]),
        (b"aaaaaaaa\naaa\n", [], ["corpus.txt"]),
        (b"good line\nbad \xff line\n", [], ["corpus.txt:2", "byte"]),
        (b'title\n"open quote\n', ["--format", "csv", "--columns", "title"], ["corpus.txt:2"]),
        (b"title\nx\n", ["--format", "csv", "--columns", "titel"], ["titel", "title"]),
        (b'{"text": "a"}\n{"text": 3}\n', ["--format", "jsonl"], ["corpus.txt:2", "text"]),
    ],
)
def test_train_bad_corpora_get_one_line_with_the_place(tmp_path, content, flags, parts):
    path = tmp_path / "corpus.txt"
    path.write_bytes(content)
    one_line_failure(lines(path, tmp_path / "model", *flags, expect=1), *parts)
    assert not (tmp_path / "model").exists()


def test_directory_that_alone_is_missing_is_made(corpus, tmp_path):
    """docs/train.md writes to models/mine in a directory without models."""
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


def test_train_small_corpus_shrinks_the_batch_and_says_so(tmp_path):
    path = tmp_path / "tiny.txt"
    path.write_text("ab\nba\n")
    done = train("--data", path, "--format", "lines", "--out", tmp_path / "model", "--epochs", 1, "--batch", 64)
    assert "batch reduced from 64 to 1" in done.stderr


def test_train_small_corpus_gets_more_steps_unless_told_otherwise(tmp_path):
    """With the batch and the window of a large corpus, a small one is left with some steps and a model that knows the letters."""
    path = tmp_path / "small.txt"
    path.write_text(sentences(900))
    steps, losses = {}, {}
    for name, flags in {"left": [], "set": ["--batch", 64, "--bptt", 64]}.items():
        out = tmp_path / name
        done = train("--data", path, "--out", out, "--hidden", 32, "--epochs", 3, "--sample-length", 0, *flags)
        training = json.loads((out / "config.json").read_text())["training"]
        told = training["options"]
        assert (told["batch"], told["bptt"]) == ((2, 32) if name == "left" else (64, 64)), training["corpus"]
        assert ("batch is 2 and bptt 32" in done.stderr) == (name == "left")
        steps[name], losses[name] = training["steps"], training["validation_nats_per_character"]
    assert steps["left"] >= 3 * 240 and losses["left"] < losses["set"] - 0.5


@pytest.mark.parametrize("content, part", [
    (sentences(9).encode("utf-16-le"), "iconv -f UTF-16LE"),
    (sentences(9).encode("utf-16-be"), "iconv -f UTF-16BE"),
    (b"a word\0 and another", "a NUL character at byte offset 6"),
    (b"PK\3\4" + bytes(60), ".docx"),
    (b"%PDF-1.7\n%\xe2\xe3", "pdftotext"),
    ("Caf\u00e9 au lait".encode("cp1252"), "iconv -f CP1252"),
])
def test_train_says_how_a_text_becomes_one_that_it_reads(tmp_path, content, part):
    (tmp_path / "text.txt").write_bytes(content)
    one_line_failure(train("--data", tmp_path / "text.txt", "--out", tmp_path / "model", expect=1), "text.txt", part)
    assert not (tmp_path / "model").exists()


def test_train_notes_what_was_hardly_meant_to_be_learned(tmp_path):
    mark, rows = "\ufeff", sentences(60).splitlines()
    (tmp_path / "joined.txt").write_text("\n".join(rows) + mark + "\n".join(rows))
    (tmp_path / "marked.txt").write_text(mark + "\n".join(rows))
    (tmp_path / "table.csv").write_text("class,title\n" + "".join(f'World,"{row}"\n' for row in rows))
    (tmp_path / "words.csv").write_text("".join(f"{row.split()[0]},{row.split()[1]}\n" for row in rows))
    flags = {"joined.txt": [], "marked.txt": [], "table.csv": ["--columns", 2], "words.csv": ["--columns", 2]}
    said = {name: train("--data", tmp_path / name, *more, "--out", tmp_path / "m", *SMALL).stderr for name, more in flags.items()}
    assert {name for name, text in said.items() if "U+FEFF" in text} == {"joined.txt"}
    assert {name for name, text in said.items() if "first row is taken as text" in text} == {"table.csv"}
    assert '"class", "title"' in said["table.csv"]
    for header in ("yes", "no"):
        done = train("--data", tmp_path / "table.csv", "--columns", 2, "--csv-header", header, "--out", tmp_path / "m", *SMALL)
        assert "first row" not in done.stderr


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


def interrupt(command, *, when=b"epoch 2, step", number=signal.SIGINT):
    """Starts a training run, sends the signal after it said `when`, and returns exit code and what it said."""
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
    assert plain["train_nats_per_token"] == average_config["train_nats_per_token"]  # the training itself is as it was
    assert plain["validation_nats_per_token"] != average_config["validation_nats_per_token"]
    command = [LSTMD, "eval", "--model", average, "--data", held_out, "--format", "lines", "--json"]
    told = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=SECONDS).stdout)
    assert told["nats_per_token"] == pytest.approx(average_config["validation_nats_per_token"], rel=1e-9)


def test_train_resume_without_a_run_is_refused(tmp_path):
    one_line_failure(train("--out", tmp_path / "model", "--resume", expect=1), "nothing to resume")


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
    """Its vocabulary and network are kept, whatever the new text has; its loss is where the training begins."""
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
    assert losses[1] < 2  # a network that begins anew is near 3
    for contradiction, name in [(["--hidden", "17"], "hidden is 17"), (["--cell", "rnn"], "cell"), (["--min-count", "2"], "min_count")]:
        failed = train(*flags, *contradiction, "--out", again, expect=1)
        assert name in failed.stderr and "leave it out" in failed.stderr
    assert "none" in train(*flags[:-1], tmp_path / "none", "--out", again, expect=1).stderr


def kib(process, key):
    """Of RssAnon, memory that is the process's own, or of RssFile: pages of mapped files, which go back to the system when
    others want them."""
    try:
        status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return 0
    return int((re.search(rf"^{key}:\s*(\d+)", status, re.M) or [0, 0])[1])


LARGE_MIB = int(os.environ.get("LARGE_MIB", 40))  # far more than base/scratch.h keeps in memory; make soak: 1024


def write_large(corpus, mebibytes):
    block = sentences(20000)
    with corpus.open("w") as out:
        for _ in range(mebibytes * 2**20 // len(block) + 1):
            out.write(block)


def test_train_interrupted_while_it_reads_its_corpus_ends_then(tmp_path):
    corpus, out = tmp_path / "large.txt", tmp_path / "model"
    write_large(corpus, 80)
    command = [LSTMD, "train", "--data", corpus, "--out", out, *SMALL]
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while kib(process, "RssFile") < 20 * 1024:  # it reads
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=SECONDS)[1].decode()
    assert process.returncode == 1
    assert said == "lstmd: interrupted before the first step; there is nothing to resume\n"
    assert os.listdir(tmp_path) == ["large.txt"]


def test_train_reads_a_large_corpus_from_disk(tmp_path):
    corpus = tmp_path / "large.txt"
    write_large(corpus, LARGE_MIB)
    command = [LSTMD, "train", "--data", corpus, "--out", tmp_path / "model", *SMALL, "--max-minutes", "0.02", "--validation",
               "0.001", "--sample-length", "0"]
    most = 0
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while process.poll() is None:
            most = max(most, kib(process, "RssAnon"))
            select.select([process.stdout], [], [], 0.02)
        assert process.returncode == 0, process.stderr.read()
    print(f"corpus of {LARGE_MIB} MiB: at most {most} KiB of private memory")
    assert 0 < most < 40 * 1024


# ---- what is known before the first step, and what is counted ----


def test_train_validation_part_that_is_all_new_is_trained_on(tmp_path):
    corpus = tmp_path / "tail.txt"
    corpus.write_text("abcabcabc abc\n" * 90 + "xyz" * 47)
    done = train("--data", corpus, "--out", tmp_path / "model", *SMALL, "--sample-length", 0)
    assert "nothing of the part held out is in the vocabulary: all is trained on" in done.stderr
    assert "no validation data" in done.stderr
    told = config(tmp_path / "model")["training"]
    assert told["validation"] is None and told["corpus"]["characters"] == 90 * 14 + 141


@pytest.mark.parametrize("flag", ["--data", "--validation-data"])
@pytest.mark.parametrize("where", ["directory/name\udcff.txt", "directory\udcff/name.txt"])
def test_train_path_that_is_not_utf8_is_refused_before_the_text_is_read(corpus, tmp_path, flag, where):
    """A snapshot, hours later, could not name it."""
    path = tmp_path / where
    path.parent.mkdir()
    path.write_bytes(b"neither is the text: \xff\n")
    first = [] if flag == "--data" else ["--data", corpus]
    done = train(*first, flag, path, "--out", tmp_path / "m", *SMALL, expect=1)
    assert "this path is not UTF-8" in done.stderr


def test_train_refuses_files_of_which_nothing_is_known(corpus, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("0123456789" * 10)
    failed = train("--data", corpus, "--validation-data", other, "--out", tmp_path / "a", *SMALL, expect=1)
    one_line_failure(failed, f"{other}: none of its characters is in the vocabulary of {corpus}")
    assert not (tmp_path / "a").exists()
    lines(corpus, tmp_path / "a")
    failed = train("--data", other, "--init-from", tmp_path / "a", "--out", tmp_path / "b", expect=1)
    one_line_failure(failed, f"{other}: none of its characters is in the vocabulary of the model")
    failed = train("--data", corpus, "--validation-data", other, "--level", "word", "--out", tmp_path / "c", *SMALL, expect=1)
    one_line_failure(failed, "none of its words")


def evaluate(model, data, *flags):
    command = [LSTMD, "eval", "--model", str(model), "--data", str(data), "--json", *map(str, flags)]
    return json.loads(subprocess.run(command, capture_output=True, check=True, timeout=SECONDS).stdout)


def test_train_and_eval_divide_by_no_characters_of_skipped_words(tmp_path):
    """The right values are those of the text without the words that are not known."""
    corpus, known, mixed = tmp_path / "words.txt", tmp_path / "known.txt", tmp_path / "mixed.txt"
    corpus.write_text("alpha beta gamma\n" * 20)
    known.write_text("alpha beta gamma\n")
    mixed.write_text("alpha beta gamma" + 3 * " supercalifragilistic" + "\n")
    flags = ["--data", corpus, "--format", "lines", "--level", "word", *SMALL, "--sample-length", 0]
    told = []
    for name, held_out in ("known", known), ("mixed", mixed):
        train(*flags, "--out", tmp_path / name, "--validation-data", held_out)
        told.append(config(tmp_path / name)["training"]["validation_nats_per_character"])
    assert told[0] == told[1] > 0
    plain, skipping = (evaluate(tmp_path / "known", path) for path in (known, mixed))
    assert plain == skipping and plain["chars"] == len("alpha beta gamma")
    assert plain["nats_per_char"] == pytest.approx(plain["nats_per_token"] * 4 / 16)


def test_train_from_a_model_without_labels_refuses_them(corpus, tmp_path):
    lines(corpus, tmp_path / "plain")
    table = tmp_path / "table.csv"
    table.write_text("label,title\n" + "".join(f"x,{line}\n" for line in corpus.read_text().splitlines()))
    flags = ["--data", table, "--columns", "title", "--label-column", "label", "--init-from", tmp_path / "plain"]
    one_line_failure(train(*flags, "--out", tmp_path / "b", expect=1), "label_column is set", "knows no labels")
    assert not (tmp_path / "b").exists()


def begin(corpus, out, *flags):
    """A run that was interrupted."""
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
    """Each flag that the help names is taken, and the others are refused."""
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
              "--snapshot-seconds": 5, "--data": corpus}  # fmt: skip
    assert set(values) == told - {"--validation-data", "--init-from"}
    train("--out", out, "--resume", *(part for pair in values.items() for part in pair))


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


# ---- one text in many forms ----

FORMS = {
    "plain.csv": (lambda rows: table(rows, ","), ["--columns", "title"]),
    "tabs.tsv": (lambda rows: table(rows, "\t"), ["--columns", "title"]),
    "tabs.csv": (lambda rows: table(rows, "\t"), ["--columns", "title"]),
    "excel.csv": (lambda rows: b"\xff\xfe" + table(rows, "\t").decode().replace("\n", "\r\n").encode("utf-16-le"), ["--columns", "title"]),
    "big.csv": (lambda rows: b"\xfe\xff" + table(rows, ",").decode().encode("utf-16-be"), ["--columns", "title"]),
    "mac.csv": (lambda rows: table(rows, ",").replace(b"\n", b"\r"), ["--columns", "title"]),
    "packed.csv.gz": (lambda rows: gzip.compress(table(rows, ",")), ["--columns", "title"]),
    "packed.txt.gz": (lambda rows: gzip.compress("\n".join(rows).encode()), ["--format", "lines"]),
    "two.txt.gz": (lambda rows: gzip.compress("\n".join(rows[:9]).encode() + b"\n") + gzip.compress("\n".join(rows[9:]).encode()), ["--format", "lines"]),
    "array.json": (lambda rows: json.dumps([{"text": row} for row in rows], indent=1).encode(), []),
    "strings.json": (lambda rows: json.dumps(rows).encode(), []),
    "array": (lambda rows: json.dumps(rows).encode(), []),
    "lines": (lambda rows: "\n".join(json.dumps({"text": row}) for row in rows).encode(), []),
    "fields.jsonl": (lambda rows: "\n".join(json.dumps({"text": row, "x": 1}) for row in rows).encode(), ["--field", "text"]),
}  # fmt: skip


def table(rows, separator):
    return ("id" + separator + "title\n" + "".join(f"{i}{separator}{row}\n" for i, row in enumerate(rows))).encode()


@pytest.mark.parametrize("name", FORMS)
def test_train_reads_a_text_whatever_it_is_packed_in(tmp_path, name):
    rows = sentences(60).splitlines()
    plain = tmp_path / "plain.txt"
    plain.write_text("\n".join(rows))
    flags = [*SMALL, "--epochs", 1, "--sample-length", 0]
    train("--data", plain, "--format", "lines", *flags, "--out", tmp_path / "expected")
    make, how = FORMS[name]
    (tmp_path / name).write_bytes(make(rows))
    train("--data", tmp_path / name, *how, *flags, "--out", tmp_path / "model")
    assert (tmp_path / "model/model.safetensors").read_bytes() == (tmp_path / "expected/model.safetensors").read_bytes()
    told = evaluate(tmp_path / "model", tmp_path / name)
    assert told == evaluate(tmp_path / "expected", plain)


def test_train_joins_several_fields(tmp_path):
    corpus = tmp_path / "pairs.jsonl"
    corpus.write_text('{"prompt": "ask this", "completion": "say that"}\n' * 30)
    flags = [*SMALL, "--epochs", 1, "--sample-length", 0]
    one_line_failure(train("--data", corpus, "--out", tmp_path / "m", *flags, expect=1), 'the fields are "prompt", "completion"')
    train("--data", corpus, "--field", "prompt,completion", "--out", tmp_path / "m", *flags)
    assert config(tmp_path / "m")["training"]["corpus"]["characters"] == 27 * 17


@pytest.mark.parametrize(
    "name, flags, part",
    [
        ("a.txt", ["--columns", "1"], "columns needs format csv or tsv, not text"),
        ("a", ["--columns", "1"], "columns needs format csv or tsv: say which"),
        ("a.csv", ["--field", "x"], "field needs format jsonl, not csv"),
        ("a.txt", ["--label-column", "x"], "label_column needs format csv, tsv or jsonl, not text"),
        ("a.md", ["--csv-header", "yes"], "csv_header needs format csv or tsv, not text"),
    ],
)
def test_train_and_eval_refuse_flags_that_a_file_cannot_use(corpus, tmp_path, name, flags, part):
    path = tmp_path / name
    path.write_text(corpus.read_text())
    one_line_failure(train("--data", path, *flags, "--out", tmp_path / "m", expect=2), part)
    assert not (tmp_path / "m").exists()
    lines(corpus, tmp_path / "m", "--epochs", 1)
    command = [LSTMD, "eval", "--model", tmp_path / "m", "--data", path, "--format", "auto", *flags]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 2 and part.split(":")[0].split(",")[0] in done.stderr


def test_train_refuses_a_packed_file_that_is_damaged(tmp_path):
    packed = gzip.compress(sentences(60).encode())
    for name, content, part in [("cut.gz", packed[:-9], "ends too early"), ("bad.gz", packed[:30] + b"??" + packed[32:], "damaged"),
                                ("odd.txt", b"\xff\xfea\x00b", "ends within a character")]:  # fmt: skip
        (tmp_path / name).write_bytes(content)
        failed = train("--data", tmp_path / name, "--out", tmp_path / "m", *SMALL, expect=1)
        one_line_failure(failed, name, part)


# ---- several files ----


def test_train_and_eval_read_all_files_in_order(tmp_path):
    rows = sentences(90).splitlines()
    whole = tmp_path / "whole.txt"
    whole.write_text("\n".join(rows))
    a, b, c = tmp_path / "a.txt", tmp_path / "b.json", tmp_path / "c.txt.gz"
    a.write_text("\n".join(rows[:40]))
    b.write_text(json.dumps(rows[40:60]))
    c.write_bytes(gzip.compress("\n".join(rows[60:]).encode()))
    flags = [*SMALL, "--sample-length", 0, "--validation", 0]
    train("--data", whole, "--format", "lines", *flags, "--out", tmp_path / "expected")
    train("--data", a, "--data", c, "--format", "lines", *flags, "--out", tmp_path / "model")
    told = config(tmp_path / "model")["training"]["corpus"]
    assert told["name"] == "a.txt and 1 more" and told["documents"] == 70
    assert [file["name"] for file in told["files"]] == ["a.txt", "c.txt.gz"]
    assert [file["bytes"] for file in told["files"]] == [path.stat().st_size for path in (a, c)]
    assert told["bytes"] == sum(path.stat().st_size for path in (a, c))
    rest = tmp_path / "rest.txt"
    rest.write_text("\n".join(rows[40:60]))
    train("--data", a, "--data", rest, "--data", c, "--format", "lines", *flags, "--out", tmp_path / "all")
    assert (tmp_path / "all/model.safetensors").read_bytes() == (tmp_path / "expected/model.safetensors").read_bytes()

    command = [LSTMD, "eval", "--model", tmp_path / "all", "--json", "--data", a, "--data", b, "--data", c]
    together = json.loads(subprocess.run(list(map(str, command)), capture_output=True, check=True, timeout=SECONDS).stdout)
    assert together == evaluate(tmp_path / "expected", whole)


def test_train_holds_out_a_part_of_each_file(tmp_path):
    for name, letter in ("a.txt", "a"), ("b.txt", "b"):
        (tmp_path / name).write_text((letter + " ") * 500)
    train("--data", tmp_path / "a.txt", "--data", tmp_path / "b.txt", "--out", tmp_path / "m", *SMALL, "--sample-length", 0)
    told = config(tmp_path / "m")["training"]
    assert (told["corpus"]["documents"], told["corpus"]["characters"]) == (2, 1800)
    assert (told["validation"]["documents"], told["validation"]["characters"]) == (2, 200)


def test_train_flags_stand_for_all_files_of_the_configuration(corpus, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text(sentences(50, seed=7))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps({"data": [str(corpus), str(other)], "format": "lines"}))
    flags = [*SMALL, "--epochs", 1, "--sample-length", 0, "--config", recipe]
    train("--out", tmp_path / "two", *flags)
    assert len(config(tmp_path / "two")["training"]["corpus"]["files"]) == 2
    train("--out", tmp_path / "one", *flags, "--data", other)
    assert config(tmp_path / "one")["training"]["corpus"]["name"] == "other.txt"
    one_line_failure(train("--out", tmp_path / "none", expect=2), "--data is missing")


def test_train_resume_keeps_all_files(corpus, tmp_path):
    other, out = tmp_path / "other.txt", tmp_path / "model"
    other.write_text(sentences(50, seed=7))
    begin(corpus, out, "--data", other)
    one_line_failure(train("--out", out, "--resume", "--data", other, expect=1), "does not hold the text")
    one_line_failure(train("--out", out, "--resume", "--data", other, "--data", corpus, expect=1), "does not hold the text")
    moved = other.rename(tmp_path / "moved.txt")
    assert "resumed" in train("--out", out, "--resume", "--data", corpus, "--data", moved, "--epochs", 3).stderr


def test_eval_says_where_nothing_is_known(corpus, tmp_path):
    lines(corpus, tmp_path / "m", "--epochs", 1)
    other = tmp_path / "other.txt"
    other.write_text("0123")
    command = [LSTMD, "eval", "--model", tmp_path / "m", "--data", other]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 1 and f"{other}: nothing of it is in the model's vocabulary" in done.stderr
