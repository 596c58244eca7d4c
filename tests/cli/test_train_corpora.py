"""The texts that lstmd train and lstmd eval read: formats, several files, small and large files, refusals."""

import gzip
import json
import os
import pathlib
import re
import select
import signal
import subprocess

import pytest

from train_runs import LSTMD, SECONDS, SMALL, config, corpus, lines, one_line_failure, sentences, train


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


def test_train_small_corpus_shrinks_the_batch_and_says_so(tmp_path):
    path = tmp_path / "tiny.txt"
    path.write_text("ab\nba\n")
    done = train("--data", path, "--format", "lines", "--out", tmp_path / "model", "--epochs", 1, "--batch", 64)
    assert "batch reduced from 64 to 1" in done.stderr


def test_train_small_corpus_gets_more_steps_unless_told_otherwise(tmp_path):
    """The batch and the window of a large corpus leave a small corpus a few steps only. The model then knows just the letters."""
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


def kib(process, key):
    """Reads RssAnon or RssFile. RssAnon is the process's own memory. RssFile is pages of mapped files, which the system can
    take back."""
    try:
        status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return 0
    return int((re.search(rf"^{key}:\s*(\d+)", status, re.M) or [0, 0])[1])


LARGE_MIB = int(os.environ.get("LARGE_MIB", 40))  # far more than base/scratch.h keeps in memory; make soak sets 1024


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


# ---- facts known before the first step; counts ----


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
    """A snapshot, hours later, could not name the path."""
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
    """The right values are those of the text without its unknown words."""
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


def test_eval_says_where_nothing_is_known(corpus, tmp_path):
    lines(corpus, tmp_path / "m", "--epochs", 1)
    other = tmp_path / "other.txt"
    other.write_text("0123")
    command = [LSTMD, "eval", "--model", tmp_path / "m", "--data", other]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 1 and f"{other}: nothing of it is in the model's vocabulary" in done.stderr


def test_titles_of_the_bundled_model_s_corpus_lose_what_html_left():
    raw = ["Kills Microsoft Price #39;s Services", "Oil at \\$50 a barrel", "AT amp;T buys", "&lt;b&gt;Update&lt;/b&gt; quot;Yes quot;"]
    script = pathlib.Path(__file__).resolve().parents[2] / "scripts/titles"
    read = subprocess.run([script], input="\n".join(raw) + "\n", capture_output=True, text=True, check=True, timeout=60).stdout
    assert read.splitlines() == ["Kills Microsoft Price's Services", "Oil at $50 a barrel", "AT&T buys", 'Update "Yes"']
