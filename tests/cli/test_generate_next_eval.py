"""lstmd generate, next and eval: their output, their refusals, and that they agree with each other.

The tests compare the probabilities with a plain LSTM in Python's floats. It is written here from the equations.
"""

import json
import math
import os
import pathlib
import re
import struct
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
LSTMD = os.environ.get("LSTMD", str(ROOT / "build/lstmd"))
sys.path.insert(0, str(ROOT / "tests/http"))

from make_model import make_model  # noqa: E402


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("models") / "tiny", eos_bias=-8.0)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("models") / "labelled", labels=("News", "Sport"))


def run(*arguments, code=0, **options):
    done = subprocess.run([LSTMD, *map(str, arguments)], capture_output=True, timeout=60, **options)
    assert done.returncode == code, done.stderr.decode()
    return done


def generate(model, *arguments, code=0):
    return run("generate", "--model", model, *arguments, code=code)


class Plain:
    """A model directory as plain lists of floats."""

    def __init__(self, directory):
        raw = (directory / "model.safetensors").read_bytes()
        size = struct.unpack("<Q", raw[:8])[0]
        self.tensors = {}
        for name, entry in json.loads(raw[8 : 8 + size]).items():
            begin, end = (8 + size + offset for offset in entry["data_offsets"])
            self.tensors[name] = struct.unpack(f"<{(end - begin) // 4}f", raw[begin:end])
        self.tokens = json.loads((directory / "vocabulary.json").read_bytes())["tokens"]
        self.hidden = json.loads((directory / "config.json").read_bytes())["hidden_size"]
        self.h, self.c = [0.0] * self.hidden, [0.0] * self.hidden

    def gates(self, token):
        t, size, count = self.tensors, self.hidden, len(self.tokens)
        for row in range(4 * size):
            recurrent = t["rnn.weight_hh_l0"][row * size : (row + 1) * size]
            yield (
                t["rnn.weight_ih_l0"][row * count + token]
                + t["rnn.bias_l0"][row]
                + sum(w * h for w, h in zip(recurrent, self.h))
            )

    def step(self, token):
        """Returns the probabilities of the next token."""
        size, a = self.hidden, list(self.gates(token))
        sigmoid = [1 / (1 + math.exp(-x)) for x in a]
        cell = [math.tanh(x) for x in a[2 * size : 3 * size]]
        self.c = [sigmoid[size + u] * self.c[u] + sigmoid[u] * cell[u] for u in range(size)]
        self.h = [sigmoid[3 * size + u] * math.tanh(self.c[u]) for u in range(size)]
        weights, bias = self.tensors["output.weight"], self.tensors["output.bias"]
        logits = [
            bias[v] + sum(w * h for w, h in zip(weights[v * size : (v + 1) * size], self.h)) for v in range(len(bias))
        ]
        total = sum(math.exp(x) for x in logits)
        return [math.exp(x) / total for x in logits]


def test_regex_of_a_text(model):
    for seed in range(5):
        done = generate(model, "--regex", "[a-c]{3}x", "--seed", seed, "--temperature", 2, "--json")
        answer = json.loads(done.stdout)
        assert re.fullmatch("[a-c]{3}x", answer["completion"]) and answer["finish_reason"] == "pattern"
    refused = generate(model, "--regex", "a(", code=1)
    assert b"--regex: byte 2 of the expression: missing closing parenthesis" in refused.stderr


def test_generate_prints_prompt_and_completion_and_a_newline(model):
    done = generate(model, "--prompt", "Today ", "--length", 50, "--temperature", 0.8, "--seed", 1)
    text = done.stdout.decode()
    assert text.startswith("Today ") and text.endswith("\n")
    assert len(text) == len("Today ") + 50 + 1
    assert done.stderr == b""


def test_generate_same_seed_same_text_and_other_seed_other_text(model):
    first, again, other = (generate(model, "--length", 60, "--seed", seed).stdout for seed in (5, 5, 6))
    assert first == again != other


def test_generate_greedy_does_not_depend_on_the_seed(model):
    texts = {generate(model, "--temperature", 0, "--seed", seed, "--length", 40).stdout for seed in range(3)}
    assert len(texts) == 1


def test_generate_tells_a_random_seed_that_repeats_the_text(model):
    done = generate(model, "--length", 60)
    words = done.stderr.decode().split()
    assert words[:2] == ["lstmd:", "seed"]
    assert generate(model, "--length", 60, "--seed", words[2]).stdout == done.stdout


def test_generate_json_is_the_answer_of_the_server(model):
    text = generate(model, "--prompt", "Tod", "--length", 30, "--seed", 3).stdout.decode()[:-1]
    answer = json.loads(generate(model, "--prompt", "Tod", "--length", 30, "--seed", 3, "--json").stdout)
    assert list(answer) == [
        *("id", "model", "text", "completion", "finish_reason", "seed", "usage", "timings", "warnings")
    ]
    assert answer["model"] == "tiny" and answer["seed"] == 3 and answer["warnings"] == []
    assert answer["text"] == text == "Tod" + answer["completion"]
    assert answer["finish_reason"] == "length"
    assert answer["usage"] == {"prompt_tokens": 4, "cached_tokens": 0, "completion_tokens": 30}
    assert set(answer["timings"]) == {"queue_ms", "prompt_ms", "generate_ms", "tokens_per_second"}
    assert answer["timings"]["tokens_per_second"] > 0


def test_generate_ends_at_eos(tmp_path):
    model = make_model(tmp_path / "silent", eos_bias=80.0)
    answer = json.loads(generate(model, "--prompt", "abc", "--seed", 1, "--json").stdout)
    assert answer["finish_reason"] == "eos" and answer["completion"] == ""
    assert answer["usage"]["completion_tokens"] == 0
    answer = json.loads(generate(model, "--prompt", "abc", "--seed", 1, "--min-length", 4, "--json").stdout)
    assert answer["finish_reason"] == "eos" and answer["usage"]["completion_tokens"] == 4
    assert b"--min-length: must not" in generate(model, "--length", 3, "--min-length", 4, code=2).stderr


def test_generate_warns_of_skipped_characters(model):
    done = generate(model, "--prompt", "ab\u0439c", "--length", 5, "--seed", 1)
    assert done.stdout.decode().startswith("ab\u0439c")
    assert "'\u0439' (U+0439) at byte 2" in done.stderr.decode()
    answer = json.loads(generate(model, "--prompt", "ab\u0439c", "--seed", 1, "--json").stdout)
    assert len(answer["warnings"]) == 1 and "U+0439" in answer["warnings"][0]
    same = json.loads(generate(model, "--prompt", "abc", "--seed", 1, "--json").stdout)
    assert same["completion"] == answer["completion"]


def test_generate_makes_n_continuations_with_the_seeds_that_follow(model):
    flags = ("--prompt", "Tod", "--length", 20)
    alone = [generate(model, *flags, "--seed", seed).stdout for seed in (7, 8, 9)]
    assert generate(model, *flags, "--seed", 7, "--n", 3).stdout == b"".join(alone)
    answer = json.loads(generate(model, *flags, "--seed", 7, "--n", 3, "--json").stdout)
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert [choice["seed"] for choice in answer["choices"]] == [7, 8, 9]
    assert [choice["text"].encode() + b"\n" for choice in answer["choices"]] == alone
    assert answer["text"] == answer["choices"][0]["text"]
    assert answer["usage"] == {"prompt_tokens": 4, "cached_tokens": 0, "completion_tokens": 60}


def test_generate_ends_before_a_stop_text(model):
    flags = ("--length", 60, "--seed", 4, "--ignore-eos")
    whole = generate(model, *flags).stdout.decode()[:-1]
    stops = whole[20:23], whole[30:34]
    place = min(whole.find(stop) + len(stop) for stop in stops)
    ended = [stop for stop in stops if whole[:place].endswith(stop)][0]
    done = generate(model, *flags, "--stop", stops[0], "--stop", stops[1])
    assert done.stdout.decode() == whole[: place - len(ended)] + "\n"
    kept = generate(model, *flags, "--stop", stops[0], "--stop", stops[1], "--include-stop")
    assert kept.stdout.decode() == whole[:place] + "\n"
    answer = json.loads(generate(model, *flags, "--stop", stops[0], "--stop", stops[1], "--json").stdout)
    assert answer["finish_reason"] == "stop" and answer["completion"] == whole[: place - len(ended)]
    assert answer["usage"]["completion_tokens"] == place


def test_generate_truncated_to_one_token_is_greedy(model):
    greedy = generate(model, "--temperature", 0, "--length", 50, "--seed", 1).stdout
    for flags in (("--top-k", 1), ("--top-p", 1e-9), ("--min-p", 0.999999)):
        assert generate(model, "--temperature", 5, "--length", 50, "--seed", 1, *flags).stdout == greedy


def test_generate_biases_force_and_forbid(model):
    flags = ("--length", 30, "--seed", 1)
    assert generate(model, *flags, "--logit-bias", "a=100").stdout == b"a" * 30 + b"\n"
    assert b"e" not in generate(model, *flags, "--temperature", 100, "--logit-bias", "e=-100").stdout
    assert generate(model, *flags, "--logit-bias", "<eos>=100").stdout == b"\n"
    assert len(generate(model, *flags, "--logit-bias", "<eos>=100", "--ignore-eos").stdout.decode()) == 31


def test_generate_penalties_keep_a_text_from_repeating_itself(model):
    flags = ("--length", 10, "--temperature", 0, "--ignore-eos")
    for penalty in ("repetition", "presence", "frequency"):
        text = generate(model, *flags, f"--{penalty}-penalty", 100).stdout.decode()[:-1]
        assert len(set(text)) == 10
        off = generate(model, *flags, f"--{penalty}-penalty", 100, "--repetition-window", 0)
        assert off.stdout == generate(model, *flags).stdout


def test_generate_logprobs_are_those_of_the_equations(model):
    flags = ("--prompt", "T", "--length", 5, "--seed", 2, "--temperature", 3, "--ignore-eos", "--json")
    answer = json.loads(generate(model, *flags, "--logprobs", 4).stdout)
    plain = Plain(model)
    for token in (0, plain.tokens.index("T")):
        expected = plain.step(token)
    assert "".join(entry["token"] for entry in answer["logprobs"]) == answer["completion"]
    for entry in answer["logprobs"]:
        assert entry["logprob"] == pytest.approx(math.log(expected[entry["id"]]), abs=1e-4)
        best = sorted(range(len(expected)), key=lambda id: -expected[id])[:4]
        assert [other["id"] for other in entry["top_logprobs"]] == best
        for other in entry["top_logprobs"]:
            assert other["token"] == plain.tokens[other["id"]]
            assert other["logprob"] == pytest.approx(math.log(expected[other["id"]]), abs=1e-4)
        expected = plain.step(entry["id"])


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (("--logit-bias", "a"), 2, "TOKEN=BIAS"),
        (("--logit-bias", "a=x"), 2, "from -100 to 100"),
        (("--logit-bias", "a=101"), 2, "from -100 to 100"),
        (("--logit-bias", "ab=1"), 1, "not one token"),
        (("--logprobs", "3"), 2, "--json"),
        (("--stop", ""), 1, "empty"),
        (("--stop", "x" * 1025), 1, "too long"),
        (("--stop", "x") * 17, 1, "at most 16"),
        (("--min-p", "1"), 1, "below 1"),
        (("--top-p", "0"), 2, "--top-p"),
        (("--n", "0"), 2, "--n"),
    ],
)
def test_generate_says_what_is_wrong_with_an_option(model, arguments, code, part):
    done = generate(model, *arguments, code=code)
    assert part in done.stderr.decode() and done.stdout == b""


def test_generate_refuses_unknown_characters_where_asked_to(model):
    done = generate(model, "--prompt", "ab\u0439c", "--unknown", "error", code=1)
    assert done.stdout == b"" and "U+0439" in done.stderr.decode()
    assert len(done.stderr.splitlines()) == 1


def test_generate_with_a_label(labelled):
    news, sport = (generate(labelled, "--label", name, "--temperature", 0).stdout for name in ("News", "Sport"))
    assert news != sport
    done = generate(labelled, "--label", "Weather", code=1)
    assert b"it has: News, Sport" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [("--temperature", "-1"), ("--temperature", "nan"), ("--temperature", "101"), ("--length", "0"), ("--seed", "x")],
)
def test_generate_refuses_wrong_values_as_wrong_usage(model, arguments):
    done = generate(model, *arguments, code=2)
    assert arguments[0] in done.stderr.decode() and done.stdout == b""


def test_commands_want_their_model_and_find_it():
    for command in ("generate", "next"):
        assert b"--model" in run(command, code=2).stderr
        assert b"/nowhere" in run(command, "--model", "/nowhere", code=1).stderr
    assert b"--data" in run("eval", "--model", "x", code=2).stderr


@pytest.mark.parametrize("command", ["generate", "next", "eval"])
def test_commands_have_help(command):
    done = run(command, "--help")
    assert b"--model" in done.stdout and done.stderr == b""


def test_generate_reports_a_full_disk(model):
    with open("/dev/full", "wb") as full:
        done = subprocess.run([LSTMD, "generate", "--model", model, "--seed", "1"], stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1 and b"standard output" in done.stderr


def test_generate_stops_when_its_reader_goes(model):
    with subprocess.Popen(
        [LSTMD, "generate", "--model", model, "--seed", "1", "--length", "1000000000", "--temperature", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.read(10)
        process.stdout.close()
        assert process.wait(timeout=30) == 1


def test_next_matches_the_equations(model):
    answer = json.loads(run("next", "--model", model, "--prompt", "Tod", "--json").stdout)
    plain = Plain(model)
    assert list(answer) == ["prompt", "ids", "tokens", "probabilities"]
    assert answer["prompt"] == "Tod" and answer["tokens"] == plain.tokens
    assert answer["ids"] == [0, *(plain.tokens.index(c) for c in "Tod")]
    for token in answer["ids"]:
        expected = plain.step(token)
    assert answer["probabilities"] == pytest.approx(expected, rel=1e-5)
    assert sum(answer["probabilities"]) == pytest.approx(1, abs=1e-12)


def test_next_temperature_sharpens(model):
    hot, plain, cold = (
        json.loads(run("next", "--model", model, "--temperature", t, "--json").stdout)["probabilities"]
        for t in (100, 1, 0.01)
    )
    assert max(hot) < max(plain) < max(cold)
    powers = [p**0.01 for p in plain]
    assert hot == pytest.approx([p / sum(powers) for p in powers], rel=1e-9)


def test_next_table_is_the_likeliest_first(model):
    lines = run("next", "--model", model, "--prompt", "Tod").stdout.decode().splitlines()
    answer = json.loads(run("next", "--model", model, "--prompt", "Tod", "--json").stdout)
    assert len(lines) == 1 + 20
    order = sorted(range(len(answer["tokens"])), key=lambda v: -answer["probabilities"][v])[:20]
    assert [int(line.split()[0]) for line in lines[1:]] == order
    assert json.loads(lines[1].split(None, 2)[2]) == answer["tokens"][order[0]]


def expected_loss(model, documents):
    nats, tokens, right = 0.0, 0, 0
    for text in documents:
        plain, ids = Plain(model), None
        ids = [0, *(plain.tokens.index(c) for c in text), 0]
        for token, target in zip(ids, ids[1:]):
            probabilities = plain.step(token)
            nats -= math.log(probabilities[target])
            right += max(range(len(probabilities)), key=probabilities.__getitem__) == target
            tokens += 1
    return nats, tokens, right


@pytest.mark.parametrize("threads", [1, 3])
def test_eval_matches_the_equations(model, tmp_path, threads):
    documents = ["Fears for pension", "a", "Oil prices rise 5-fold, again", "\u00e9\u20ac"]
    (tmp_path / "lines.txt").write_text("\n".join(documents) + "\n\n", encoding="utf-8")
    done = run(
        *("eval", "--model", model, "--data", tmp_path / "lines.txt", "--format", "lines", "--threads", threads),
        "--json",
    )
    answer = json.loads(done.stdout)
    nats, tokens, right = expected_loss(model, documents)
    characters = sum(map(len, documents))
    assert list(answer) == [
        *("tokens", "chars", "nats_per_token", "nats_per_char", "bits_per_char", "perplexity", "accuracy", "products")
    ]
    assert (answer["tokens"], answer["chars"]) == (tokens, characters)
    assert answer["nats_per_token"] == pytest.approx(nats / tokens, rel=1e-5)
    assert answer["nats_per_char"] == pytest.approx(nats / characters, rel=1e-5)
    assert answer["bits_per_char"] == pytest.approx(nats / characters / math.log(2), rel=1e-5)
    assert answer["perplexity"] == pytest.approx(math.exp(nats / tokens), rel=1e-5)
    assert answer["accuracy"] == pytest.approx(right / tokens)


def test_eval_reads_the_format_that_the_ending_names(model, tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "Oil"}\n{"text": "prices"}\n')
    (tmp_path / "a.csv").write_text('1,"Oil"\n2,"prices"\n')
    (tmp_path / "a.txt").write_text("Oil\nprices\n")
    results = [
        run("eval", "--model", model, "--data", tmp_path / name, *more).stdout
        for name, more in (("a.jsonl", ()), ("a.csv", ("--columns", "2")), ("a.txt", ("--format", "lines")))
    ]
    assert results[0] == results[1] == results[2]
    assert results[0].split()[:4] == [b"tokens", b"11", b"chars", b"9"]


def test_eval_reads_a_running_text_with_the_library_that_is_named(model, tmp_path):
    (tmp_path / "a.txt").write_text("Fears for pension, again. " * 40)

    def evaluate(*flags):
        done = run("eval", "--model", model, "--data", tmp_path / "a.txt", "--json", *flags)
        return json.loads(done.stdout), done.stderr.decode()

    (own, _), (named, warning) = evaluate("--products", "own"), evaluate("--products", "openblas")
    assert own["products"] == "own" and re.fullmatch(r"openblas [0-9.]+\S* \w+", named["products"]) and not warning
    assert named["nats_per_char"] == pytest.approx(own["nats_per_char"], rel=1e-6)
    assert (named["tokens"], named["accuracy"]) == (own["tokens"], own["accuracy"])
    assert evaluate("--products", "openblas", "--threads", "2")[0] == named
    for flags in (["--format", "lines"], ["--weights", "bf16"]):
        (tmp_path / "a.txt").write_text("Fears for pension\nagain\n")
        told, warning = evaluate("--products", "openblas", *flags)
        assert told["products"] == "own" and "read with lstmd's own kernels" in warning


def test_eval_tells_what_it_skipped(model, tmp_path):
    (tmp_path / "a.txt").write_text("ab\u0439c")
    done = run("eval", "--model", model, "--data", tmp_path / "a.txt", "--json")
    assert json.loads(done.stdout)["chars"] == 3
    assert b"1 character or word of" in done.stderr


def test_eval_refuses_what_is_no_text(model, tmp_path):
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "bad.txt").write_bytes(b"abc\nd\xff\n")
    (tmp_path / "foreign.txt").write_text("\u0439\u0439")
    for name in ("empty.txt", "bad.txt", "foreign.txt", "missing.txt"):
        done = run("eval", "--model", model, "--data", tmp_path / name, code=1)
        assert done.stdout == b""
        assert done.stderr.decode().splitlines()[-1].startswith("lstmd: ")
    assert b"bad.txt:2" in run("eval", "--model", model, "--data", tmp_path / "bad.txt", code=1).stderr
