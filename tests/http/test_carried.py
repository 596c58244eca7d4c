"""The client keeps the state: `return_state` and `state`. A text in several requests equals the text of one request."""

import base64
import http.client
import json
import math
import struct
import subprocess

import pytest

from conftest import PROGRAM, read_answer
from make_model import make_model

TEXT = "the cat sat on the mat.\nhello world, again and again.\n"
OFF = 4 + 16 + 2 + 4  # the pending token's offset in a state of one layer
NUMBERS = OFF + 4 + 32


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """cells("gru") makes a model of that cell with two layers, and trains it a little."""
    directory = tmp_path_factory.mktemp("cells")
    (directory / "text.txt").write_text(TEXT * 30)
    made = {}

    def make(cell):
        if cell not in made:
            command = [PROGRAM, "train", "--data", directory / "text.txt", "--out", directory / cell, "--cell", cell,
                       "--layers", "2", "--hidden", "24", "--epochs", "1", "--threads", "1"]
            subprocess.run(command, check=True, capture_output=True, timeout=60)
            made[cell] = directory / cell
        return made[cell]

    return make


class Chain:
    """Writes a text in pieces over one connection."""

    def __init__(self, daemon):
        self.connection = http.client.HTTPConnection(daemon.address, daemon.port, timeout=60)
        self.text, self.state = "", None

    def close(self):
        self.connection.close()

    def ask(self, path, fields):
        if self.state is not None:
            fields = {**fields, "state": self.state}
        self.connection.request("POST", path, json.dumps(fields), {"Content-Type": "application/json"})
        answer = self.connection.getresponse()
        body = answer.read()
        assert answer.status == 200, body
        return body

    def generate(self, **fields):
        answer = json.loads(self.ask("/generate", {**fields, "return_state": True}))
        self.text, self.state = self.text + answer["completion"], answer["state"]
        return answer

    def complete(self, length, **fields):
        body = self.ask("/v1/completions", {**fields, "max_tokens": length, "temperature": 1, "return_state": True})
        choice = json.loads(body)["choices"][0]
        self.text, self.state = self.text + choice["text"], choice["state"]

    def stream(self, length, path="/generate", **fields):
        size = {"length": length} if path == "/generate" else {"max_tokens": length, "temperature": 1}
        body = self.ask(path, {**fields, **size, "stream": True, "return_state": True}).decode()
        events = [json.loads(line[6:]) for line in body.splitlines() if line.startswith("data: {")]
        parts = events if path == "/generate" else [event["choices"][0] for event in events]
        assert all("state" not in part for part in parts[:-1])
        self.text += "".join(part["delta" if path == "/generate" else "text"] for part in parts)
        self.state = parts[-1]["state"]


def test_a_chain_of_a_thousand_requests_is_one_text(daemon):
    chain = Chain(daemon)
    chain.generate(prompt="Once", seed=7, length=5)
    for _ in range(999):
        chain.generate(length=5)
    chain.close()
    assert chain.text == daemon.generate(prompt="Once", seed=7, length=5000)["completion"]


@pytest.mark.parametrize("weights", ["f32", "bf16", "int8"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_a_chain_is_one_text_across_restarts_replicas_routes_and_threads(start, cells, cell, weights):
    model = str(cells(cell))
    settings = {"engine.weights": weights, "engine.kernel": "auto"}
    one, other = [start(model, {**settings, "engine.threads": n}) for n in (1, 3)]
    fields = {"temperature": 0.9, "top_k": 20}
    whole = one.generate(prompt="the ", seed=3, length=60, ignore_eos=True, **fields)["completion"]
    text, state = "", None
    for daemon in one, other:
        chain = Chain(daemon)
        chain.text, chain.state = text, state
        for k in range(2):
            begin = {"prompt": "the ", "seed": 3} if chain.state is None else {"prompt": ""}
            chain.generate(length=1 + k, ignore_eos=True, **begin, **fields)
            chain.stream(9, ignore_eos=True, **fields)
            chain.generate(length=1, ignore_eos=True, **fields)
        text, state = chain.text, chain.state
        chain.close()
    one.close()
    again = start(model, {**settings, "engine.threads": 2})
    chain = Chain(again)
    chain.text, chain.state = text, state
    chain.generate(length=60 - len(text), ignore_eos=True, **fields)
    chain.close()
    assert chain.text == whole


def test_openais_dialect_goes_on_too(daemon):
    chain = Chain(daemon)
    chain.complete(3, prompt="ab", seed=2)
    chain.complete(4, prompt="")
    chain.stream(5, "/v1/completions", prompt="")
    chain.generate(length=6)
    chain.complete(2, prompt=None)
    chain.close()
    assert chain.text == daemon.generate(prompt="ab", seed=2, length=20)["completion"]


def test_a_query_carries_a_state(daemon):
    first = daemon.query(prompt="ab", seed=2, length=3, return_state="true").json()
    rest = daemon.query(state=first["state"], length=4).json()
    assert first["completion"] + rest["completion"] == daemon.generate(prompt="ab", seed=2, length=7)["completion"]
    assert "state" not in rest
    numbers = json.dumps({"layers": [{"h": [0] * 16, "c": [0] * 16}]})
    assert daemon.query(state=numbers, prompt="a", length=4, seed=1).json()["completion"]
    assert "JSON" in daemon.query(state="{", length=4).fields()["state"]


def test_each_of_several_texts_has_its_state(daemon):
    answer = daemon.generate(prompt="ab", seed=5, n=3, length=6, return_state=True)
    assert "state" not in answer
    for i, choice in enumerate(answer["choices"]):
        whole = daemon.generate(prompt="ab", seed=5 + i, length=15)["completion"]
        several = daemon.generate(state=choice["state"], length=9, n=3)
        assert choice["completion"] + several["completion"] == whole
        assert len({one["completion"] for one in several["choices"]}) == 3
        assert several == {**daemon.generate(state=choice["state"], length=9, n=3), **{k: several[k] for k in ("id", "timings")}}
        assert several["seed"] is None


def test_a_seed_starts_its_own_draws(daemon):
    state = daemon.generate(prompt="ab", seed=5, length=6, return_state=True)["state"]
    seeded = daemon.generate(state=state, seed=9, n=2, length=20)
    assert seeded["seed"] == 9 and seeded["choices"][1]["seed"] == 10
    assert daemon.generate(state=state, seed=10, length=20)["completion"] == seeded["choices"][1]["completion"]
    assert daemon.generate(state=state, length=20)["completion"] != seeded["completion"]


def test_a_new_prompt_goes_on_as_in_a_session(daemon):
    fields = {"length": 12, "temperature": 0.8}
    daemon.generate(prompt="one ", seed=1, session="s", **fields)
    expected = daemon.generate(prompt=" two", seed=2, session="s", **fields)["completion"]
    state = daemon.generate(prompt="one ", seed=1, return_state=True, **fields)["state"]
    answer = daemon.generate(prompt=" two", seed=2, state=state, **fields)
    assert answer["completion"] == expected and answer["text"] == " two" + expected
    assert answer["usage"]["cached_tokens"] == 0


def test_the_state_of_a_session_goes_to_the_client(daemon):
    state = daemon.generate(prompt="one ", seed=1, session="both", length=9, return_state=True)["state"]
    assert daemon.generate(state=state, seed=4, length=9)["completion"] == daemon.generate(session="both", seed=4, length=9)["completion"]


def test_state_of_a_session_that_a_swap_of_its_model_drops(start):
    """The session's memory is freed when its text ends: the answer is written after that."""
    daemon = start("tiny", {"limits.max_length": 10_000_000})
    fields = {"prompt": "ab", "seed": 1, "length": daemon.tokens_for(0.5), "return_state": True}
    connection = daemon.send_generate(session="dropped", **fields)
    assert daemon.get("/healthz").status == 200
    assert daemon.admin("POST", "/models/tiny/load").status == 200
    answer = read_answer(connection)
    assert answer.status == 200
    assert answer.json()["state"] == daemon.generate(**fields)["state"]
    connection.close()



def test_the_prefix_cache_does_not_change_a_state(daemon):
    first, again, without = [
        daemon.generate(prompt="a prompt that is cached", seed=1, length=5, return_state=True, cache_prompt=cache) for cache in (True, True, False)
    ]
    assert again["usage"]["cached_tokens"] > 0 and first["state"] == again["state"] == without["state"]


def test_a_text_that_ended_by_itself_leaves_a_state(start):
    daemon = start("ending")
    answer = daemon.generate(prompt="ab", length=5, return_state=True)
    assert answer["finish_reason"] == "eos"
    assert daemon.generate(state=answer["state"], prompt="ab", length=5)["finish_reason"] == "eos"


def test_the_likeliest_choice_leaves_its_own_state(daemon):
    answer = daemon.generate(prompt="ab", choices=["cd", "xyz", "q"], choice_mode="likeliest", return_state=True)
    state = daemon.generate(prompt="ab", choices=[answer["completion"]], return_state=True, temperature=0)["state"]
    fields = {"prompt": "e", "length": 9, "seed": 1}
    assert daemon.generate(state=answer["state"], **fields)["completion"] == daemon.generate(state=state, **fields)["completion"]


# ---- numbers ----


def layers(value, size=16):
    return {"layers": [{"h": [value] * size, "c": [value] * size}]}


def test_numbers_are_a_state(daemon):
    """Every text starts from zeros. Other numbers give another text."""
    zeros = daemon.generate(state=layers(0), prompt="", seed=1, length=30)["completion"]
    assert zeros == daemon.generate(prompt="", seed=1, length=30)["completion"]
    assert daemon.generate(state=layers(0.7), prompt="", seed=1, length=30)["completion"] != zeros
    answer = daemon.generate(state=layers(0), prompt="ab", seed=1, length=3)
    assert answer["seed"] == 1 and answer["usage"]["prompt_tokens"] == 2, "the prompt alone is fed"
    assert isinstance(daemon.generate(state=layers(0), prompt="ab", length=3)["seed"], int)


WRONG_NUMBERS = [
    ({}, 'the array "layers"'),
    ({"layers": 3}, 'the array "layers"'),
    ({"layers": [], "x": 1}, 'the array "layers"'),
    ({"layers": []}, "has 0 layers; the model has 1"),
    ({"layers": [1]}, 'layers[0] must be an object with "h" and "c"'),
    ({"layers": [{}]}, "layers[0].h is missing: an array of 16 numbers"),
    ({"layers": [{"h": 1}]}, "layers[0].h must be an array of 16 numbers"),
    ({"layers": [{"h": [0] * 15}]}, "layers[0].h has 15 numbers; the layer has 16"),
    ({"layers": [{"h": [0] * 16}]}, "layers[0].c is missing"),
    ({"layers": [{"h": [0] * 16, "c": [0] * 17}]}, "layers[0].c has 17 numbers; the layer has 16"),
    ({"layers": [{"h": [0] * 16, "c": [0] * 15 + [None]}]}, "layers[0].c[15] is not a number"),
    ({"layers": [{"h": [0] * 3 + ["NaN"] + [0] * 12, "c": [0] * 16}]}, "layers[0].h[3] is not a number"),
    ({"layers": [{"h": [1e300] * 16, "c": [0] * 16}]}, "layers[0].h[0] is 1e+300"),
    ({"layers": [{"h": [0] * 16, "c": [0] * 16, "d": []}]}, "layers[0].d: a layer of this model has h and c"),
]


@pytest.mark.parametrize("value, message", WRONG_NUMBERS)
def test_numbers_that_are_no_state_are_named(daemon, value, message):
    assert message in daemon.post("/generate", {"state": value}).fields()["state"]


def test_cells_without_c_take_h_alone(start, cells):
    daemon = start(str(cells("gru")))
    both = {"h": [0] * 24, "c": [0] * 24}
    assert "has h alone" in daemon.post("/generate", {"state": {"layers": [both, both]}}).fields()["state"]
    one = {"h": [0.5] * 24}
    assert "layers[1].h has 23" in daemon.post("/generate", {"state": {"layers": [one, {"h": [0] * 23}]}}).fields()["state"]
    assert daemon.generate(state={"layers": [one, one]}, prompt="a", length=3)["completion"]


def test_not_a_number_is_no_json(daemon):
    assert daemon.request("POST", "/generate", b'{"state": {"layers": [{"h": [NaN]}]}}', {"Content-Type": "application/json"}).status == 400


# ---- refusals ----


def altered(state, at, data):
    raw = bytearray(base64.urlsafe_b64decode(state + "=" * (-len(state) % 4)))
    raw[at : at + len(data)] = data
    return base64.urlsafe_b64encode(bytes(raw)).decode().rstrip("=")


@pytest.fixture(scope="module")
def state(daemon):
    return daemon.generate(prompt="ab", seed=1, length=5, return_state=True)["state"]


def test_a_state_is_about_as_large_as_its_bytes(state):
    assert 1.3 < len(state) / (2 * 16 * 4) < 2.2, "32 numbers, and a head of 100 bytes"


HOSTILE = [
    (lambda s: "", "not a state"),
    (lambda s: "no state!", "base64url"),
    (lambda s: s[:-40], "length is wrong"),
    (lambda s: s[:20], "not a state"),
    (lambda s: s + "AAAA", "length is wrong"),
    (lambda s: s + "A" * 200_000, "length is wrong"),
    (lambda s: s + "=", "base64url"),
    (lambda s: altered(s, 0, b"xx"), "not a state"),
    (lambda s: altered(s, 2, b"\x09"), "version 9"),
    (lambda s: altered(s, 20, b"\x07"), "cell, layers or sizes"),
    (lambda s: altered(s, 22, b"\xff\xff\xff\xff"), "cell, layers or sizes"),
    (lambda s: altered(s, OFF, struct.pack("<I", 70000)), "last token is 70000"),
    (lambda s: altered(s, OFF + 4, bytes(32)), "random generator is all zero"),
    (lambda s: altered(s, NUMBERS, struct.pack("<f", math.nan)), "h[0] of layer 0 is not finite"),
    (lambda s: altered(s, NUMBERS + 4 * 31, struct.pack("<f", -math.inf)), "c[15] of layer 0 is not finite"),
    (lambda s: altered(s, NUMBERS, struct.pack("<f", 3e38)), "h[0] of layer 0 is beyond 1e9"),
]


@pytest.mark.parametrize("spoil, message", HOSTILE)
def test_a_hostile_state_is_refused_with_its_reason(daemon, state, spoil, message):
    assert message in daemon.post("/generate", {"state": spoil(state)}).fields()["state"]
    answer = daemon.post("/v1/completions", {"prompt": "a", "state": spoil(state)})
    assert answer.status == 400 and answer.json()["error"]["param"] == "state"


def test_a_state_beyond_the_limit_of_bodies_is_413(daemon, state):
    daemon.post("/generate", {"state": state + "A" * 2_000_000}).problem(413)


def test_the_largest_numbers_do_no_harm(start, models):
    for weights in "f32", "bf16", "int8":
        daemon = start("tiny", {"engine.weights": weights})
        for value in 1e9, -1e9:
            answer = daemon.generate(state=layers(value), prompt="a", seed=1, length=50, return_state=True)
            assert len(answer["completion"]) == 50
            assert daemon.generate(state=answer["state"], length=5)["completion"]


def test_the_state_of_another_model_is_a_conflict_that_names_both(daemon, start, state, tmp_path):
    other = start(str(make_model(tmp_path / "other", seed=2)))
    detail = other.post("/generate", {"state": state}).problem(409)["detail"]
    assert '"tiny" with weights' in detail and '"other" with weights' in detail
    same_name = start(str(make_model(tmp_path / "tiny", seed=3)))
    assert same_name.post("/generate", {"state": state}).status == 409
    assert other.post("/v1/completions", {"prompt": "a", "state": state}).status == 409
    renamed = start(str(make_model(tmp_path / "renamed")))
    assert renamed.generate(state=state, length=5)["completion"] == daemon.generate(state=state, length=5)["completion"]


def test_what_cannot_stand_beside_a_state(daemon, start, state):
    assert "cannot be joined with state" in daemon.post("/generate", {"state": state, "session": "s"}).fields()["session"]
    labelled = start("labelled")
    own = labelled.generate(label="World", length=3, return_state=True)["state"]
    assert "has begun already" in labelled.post("/generate", {"state": own, "label": "World"}).fields()["label"]
    for wrong in 3, True, ["x"], None:
        assert "must be a string or an object" in daemon.post("/generate", {"state": wrong}).fields()["state"]
    assert daemon.generate(session="s", length=1), "the session is not busy"


def test_every_field_that_is_wrong_is_named(daemon):
    wrong = daemon.post("/generate", {"state": "x", "length": 0, "label": "x", "return_state": 1}).fields()
    assert set(wrong) == {"state", "length", "label", "return_state"}
    state = daemon.generate(length=1, return_state=True)["state"]
    (one,) = daemon.post("/generate", {"state": state, "label": "x"}).problem(422)["errors"]
    assert one["field"] == "label" and "no labels" in one["message"]


def test_a_model_with_a_window_has_no_state(start, tmp_path):
    daemon = start(str(make_model(tmp_path / "window", window={"size": 5, "masked": True})))
    for field, value in ("state", "x"), ("state", layers(0)), ("return_state", True):
        assert "keeps no state: it sees the last 5 tokens" in daemon.post("/generate", {"prompt": "a", field: value}).fields()[field]


# ---- /score ----


def score(daemon, **fields):
    answer = daemon.post("/score", fields)
    assert answer.status == 200, answer.body
    return answer.json()


def test_a_text_is_scored_in_pieces(daemon):
    whole = score(daemon, text="abcdefghij")
    one = score(daemon, text="abc", return_state=True)
    other = score(daemon, text="defghij", state=one["state"], return_state=True)
    assert one["tokens"] + other["tokens"] == whole["tokens"]
    assert one["characters"] + other["characters"] == whole["characters"]
    assert "state" not in whole
    last = score(daemon, text="abcdefghij", return_state=True)
    assert last["state"] == other["state"]
    fields = {"prompt": "", "seed": 1, "length": 20}
    assert daemon.generate(state=last["state"], **fields)["completion"] == daemon.generate(prompt="abcdefghij", seed=1, length=20)["completion"]


def test_a_score_carries_the_generator_on(daemon):
    first = daemon.generate(prompt="ab", seed=3, length=4, return_state=True)
    scored = score(daemon, text="zz", state=first["state"], return_state=True)
    assert daemon.generate(state=scored["state"], length=9)["seed"] is None
    direct = daemon.generate(state=first["state"], prompt="zz", length=9)
    assert daemon.generate(state=scored["state"], length=9)["completion"] == direct["completion"]


def test_a_score_from_numbers_has_no_probability_for_the_first_token(daemon):
    answer = score(daemon, text="abc", state=layers(0))
    assert [token["token"] for token in answer["tokens"]] == ["b", "c"]
    assert "no token" in daemon.post("/score", {"text": "a", "state": layers(0)}).fields()["text"]


def test_what_is_wrong_with_a_scored_state_is_named(daemon, start, models, state, tmp_path):
    assert set(daemon.post("/score", {"text": "", "state": "x", "label": "y", "return_state": 1}).fields()) == {"text", "state", "label", "return_state"}
    for spoil, message in HOSTILE:
        assert message in daemon.post("/score", {"text": "a", "state": spoil(state)}).fields()["state"]
        assert message in daemon.post("/state", {"state": spoil(state)}).fields()["state"]
    other = start(str(make_model(tmp_path / "other", seed=2)))
    for path in "/score", "/state":
        assert '"other"' in other.post(path, {"text": "a", "state": state}).problem(409)["detail"]


# ---- /state ----


def after(daemon, **fields):
    answer = daemon.post("/state", fields)
    assert answer.status == 200, answer.body
    return answer.json()


def test_the_state_after_a_text_goes_on_as_the_text_does(daemon):
    for text in "", "a", "abcdef":
        state = after(daemon, text=text)["state"]
        assert daemon.generate(state=state, seed=1, length=20)["completion"] == daemon.generate(prompt=text, seed=1, length=20)["completion"]
        pieces = after(daemon, text="xyz", state=state)["state"]
        assert pieces == after(daemon, text=text + "xyz")["state"]
        assert daemon.generate(state=state, prompt="xyz", seed=1, length=20)["completion"] == daemon.generate(prompt=text + "xyz", seed=1, length=20)["completion"]


def test_numbers_are_the_state_behind_the_last_token(daemon):
    numbers = after(daemon, text="abcdef", **{"as": "numbers"})
    assert numbers["token_count"] == 7 and len(numbers["state"]["layers"][0]["h"]) == 16
    fields = {"seed": 1, "length": 20}
    expected = daemon.generate(prompt="abcdefxy", **fields)["completion"]
    assert daemon.generate(state=numbers["state"], prompt="xy", **fields)["completion"] == expected, "15 digits are exact"
    opaque = after(daemon, state=numbers["state"])
    assert opaque["token_count"] == 0
    assert daemon.generate(state=opaque["state"], prompt="xy", **fields)["completion"] == expected
    text = after(daemon, text="abcdef")
    assert text["token_count"] == 7
    assert after(daemon, state=text["state"], **{"as": "numbers"})["state"] == numbers["state"]
    assert after(daemon, state=text["state"])["state"] == text["state"]


def test_the_state_of_a_label_begins_a_text_for_it(start):
    daemon = start("labelled")
    for label in "World", "Sports":
        state = after(daemon, label=label)["state"]
        assert daemon.generate(state=state, seed=1, length=20)["completion"] == daemon.generate(label=label, seed=1, length=20)["completion"]
    numbers = after(daemon, label="World", text="ab", **{"as": "numbers"})
    assert numbers["token_count"] == 4
    assert "World, Sports" in daemon.post("/state", {"label": "x"}).fields()["label"]


def test_a_text_may_come_as_ids(daemon):
    ids = daemon.post("/tokenize", {"text": "abcdef"}).json()["ids"]
    assert after(daemon, ids=ids) == after(daemon, text="abcdef") == after(daemon, ids=[0, *ids])
    first = after(daemon, ids=ids[:2])["state"]
    assert after(daemon, ids=ids[2:], state=first)["state"] == after(daemon, text="abcdef")["state"]
    assert after(daemon, ids=[])["state"] == after(daemon)["state"]
    for wrong, message in (
        ([1, 70000], "[1] is 70000"), ([-1], "[0] must be a token id"), ([1.5], "[0] must be"), (["a"], "[0] must be"), ([1, 0], "special token"),
        ([1e300], "[0] must be"), ([4294967295], "[0] must be"),
    ):
        assert message in daemon.post("/state", {"ids": wrong}).fields()["ids"]
    assert "joined with text" in daemon.post("/state", {"ids": [1], "text": "a"}).fields()["ids"]


@pytest.mark.parametrize("cell", ["gru", "rnn"])
def test_layers_of_a_state_are_those_of_the_model(start, cells, cell):
    daemon = start(str(cells(cell)))
    got = after(daemon, text="the cat", **{"as": "numbers"})["state"]["layers"]
    assert [list(layer) for layer in got] == [["h"], ["h"]] and [len(layer["h"]) for layer in got] == [24, 24]
    whole = daemon.generate(prompt="the cat sat", seed=1, length=10)["completion"]
    assert daemon.generate(state={"layers": got}, prompt=" sat", seed=1, length=10)["completion"] == whole


def test_what_is_wrong_with_a_request_for_a_state_is_named(daemon, start, tmp_path):
    assert set(daemon.post("/state", {"text": 3, "as": "x", "unknown": "x", "model": "none", "x": 1}).fields()) == {"text", "as", "unknown", "model", "x"}
    limited = start("tiny", {"limits.max_score": 10})
    assert after(limited, text="a" * 10)
    assert "limits.max_score is 10" in limited.post("/state", {"text": "a" * 11}).fields()["text"]
    assert "limits.max_score is 10" in limited.post("/state", {"ids": [1] * 11}).fields()["ids"]
    window = start(str(make_model(tmp_path / "window", window={"size": 5, "masked": True})))
    assert "keeps no state" in window.post("/state", {"text": "a"}).fields()["model"]
    assert "keeps no state" in window.post("/score", {"text": "abc", "return_state": True}).fields()["return_state"]
