"""POST /inspect: tests compare its figures with /score and /generate, its states and gates with numpy, and its probes with
corrcoef."""

import json
import math
import re
import select
import sys
import time

import numpy as np
import pytest

from conftest import DEADLINE, ROOT
from make_model import make_model

sys.path.insert(0, str(ROOT / "tests/cli"))

from forward import ACTIVATIONS, GATES, random_tensors, shapes_of, sizes_of, write_model  # noqa: E402

TOKENS = ["<eos>", *'ab1A "(]\n.Z']  # so few that the logprobs of /generate hold the whole distribution
TEXT = 'aA "b1" (Z]\n.ab'
NAMES = {"lstm": "ifgo", "gru": "rzn", "rnn": "h"}


def inspect(daemon, **fields):
    answer = daemon.post("/inspect", fields)
    assert answer.status == 200, answer.body
    return answer.json()


def lines(answer):
    assert answer.headers["Content-Type"] == "application/x-ndjson" and answer.body.endswith(b"}\n")
    return [json.loads(line) for line in answer.body.decode().splitlines()]


def small_model(directory, tensors=None, **config):
    """Makes a model of TOKENS. Returns it and its whole configuration."""
    config = {"cell": "lstm", "layers": 1, "hidden_size": 11, "embedding_size": 0, "vocabulary_size": len(TOKENS),
              "tie_weights": False, **config}
    tensors = tensors or random_tensors(config)
    return write_model(directory, config, TOKENS, tensors, eos=0), tensors


def test_log_probabilities_are_those_of_score(daemon):
    for text in ("Today", "ä€ 1,.", "zyx" * 300):
        scored, inspected = daemon.post("/score", {"text": text}).json(), inspect(daemon, text=text)
        for one, other in zip(scored["tokens"], inspected["tokens"], strict=True):
            assert {key: other[key] for key in one} == one
        assert {**inspected, "tokens": None, "next": None} == {**scored, "tokens": None, "next": None}


@pytest.mark.parametrize("level, text", [("word", "red green blue, red"), ("byte", "caf\u00e9 (1)\n")])
def test_words_and_bytes(start, tmp_path, level, text):
    daemon = start(make_model(tmp_path / "m", level=level))
    scored, inspected = daemon.post("/score", {"text": text}).json(), inspect(daemon, text=text, layers="all")
    assert [token["logprob"] for token in inspected["tokens"]] == [token["logprob"] for token in scored["tokens"]]
    assert [token["token"] for token in inspected["tokens"]] == [token["token"] for token in scored["tokens"]]


def test_label_and_skipped_characters(start):
    daemon = start("labelled")
    fields = {"text": "a漢bc", "label": "World"}
    scored, inspected = daemon.post("/score", fields).json(), inspect(daemon, **fields)
    assert inspected["nats"] == scored["nats"] and inspected["warnings"] == scored["warnings"] != []


def test_figures_follow_from_the_distributions_of_generate(start, tmp_path):
    small_model(tmp_path / "m")
    daemon = start(tmp_path / "m")
    answer = inspect(daemon, text=TEXT, top=20)
    for i, token in enumerate([*answer["tokens"], answer["next"]]):
        told = daemon.generate(prompt=TEXT[:i], length=1, logprobs=len(TOKENS), temperature=0, ignore_eos=True)
        expected = told["logprobs"][0]["top_logprobs"]
        assert [one["id"] for one in token["top"]] == [one["id"] for one in expected]
        assert [one["token"] for one in token["top"]] == [one["token"] for one in expected]
        assert [one["logprob"] for one in token["top"]] == pytest.approx([one["logprob"] for one in expected], abs=1e-5)
        p = np.exp([one["logprob"] for one in token["top"]])
        assert p.sum() == pytest.approx(1, abs=1e-5)
        assert token["entropy"] == pytest.approx(-(p * np.log2(p)).sum(), abs=1e-4)
        if i < len(TEXT):
            assert token["surprise"] == pytest.approx(-token["logprob"] / math.log(2), rel=1e-6)
            assert token["logprob"] == pytest.approx(
                next(one["logprob"] for one in token["top"] if one["id"] == token["id"]), abs=1e-6)


def step(config, weights, k, x, h, c):
    """Computes h, c and the gates of layer k by the equations of model/network/cells.h."""
    f, s = (ACTIVATIONS[config.get(name, default)] for name, default in
            (("activation", "tanh"), ("recurrent_activation", "sigmoid")))
    w, u, b = (weights[f"rnn.{part}_l{k}"] for part in ("weight_ih", "weight_hh", "bias"))
    gates = GATES[config["cell"]]
    given, own = np.split(w @ x + b, gates), np.split(u @ h, gates)
    if config["cell"] == "rnn":
        h = f(given[0] + own[0])
        return h, None, [h]
    if config["cell"] == "lstm":
        i, forget, o = (s(given[n] + own[n]) for n in (0, 1, 3))
        g = f(given[2] + own[2])
        c = forget * c + i * g
        return o * f(c), c, [i, forget, g, o]
    if config.get("reset_after", True):
        own = [part + bias for part, bias in zip(own, np.split(weights[f"rnn.bias_hh_l{k}"], 3))]
        r, z = (s(given[n] + own[n]) for n in (0, 1))
        n = f(given[2] + r * own[2])
    else:
        r, z = (s(given[n] + own[n]) for n in (0, 1))
        n = f(given[2] + np.split(u, 3)[2] @ (r * h))
    return (1 - z) * n + z * h, None, [r, z, n]


def trace(config, tensors, ids):
    """Returns, for each token, [(h, c, gates) of each layer] after it."""
    weights = {name: values.astype(np.float64) for name, values in tensors.items()}
    state = [(np.zeros(size), np.zeros(size), None) for size in sizes_of(config)]
    for token in ids:
        x = weights["embedding.weight"][token] if config["embedding_size"] else np.eye(len(TOKENS))[token]
        for k, (h, c, _) in enumerate(state):
            state[k] = step(config, weights, k, x, h, c)
            x = state[k][0]
        yield list(state)


CONFIGS = {
    "lstm": {"cell": "lstm"},
    "lstm stacked": {"cell": "lstm", "layers": 3, "hidden_size": 19, "embedding_size": 5},
    "lstm sizes": {"cell": "lstm", "layers": 2, "hidden_sizes": [17, 6], "hidden_size": 6},
    "lstm hard": {"cell": "lstm", "layers": 2, "recurrent_activation": "hard_sigmoid", "embedding_size": 4},
    "gru": {"cell": "gru", "layers": 2},
    "gru embedded": {"cell": "gru", "layers": 2, "embedding_size": 7, "hidden_size": 23},
    "gru before": {"cell": "gru", "reset_after": False, "layers": 2, "hidden_size": 18},
    "rnn": {"cell": "rnn", "layers": 2, "embedding_size": 3},
}
TOLERANCE = {"f32": 3e-6, "bf16": 0.03, "int8": 0.06}


@pytest.mark.parametrize("weights", TOLERANCE)
@pytest.mark.parametrize("name", CONFIGS)
def test_states_and_gates_are_those_of_the_equations(start, tmp_path, name, weights):
    config, tensors = small_model(tmp_path / "m", **CONFIGS[name])
    daemon = start(tmp_path / "m", {"engine.weights": weights})
    cell, tolerance = config["cell"], TOLERANCE[weights]
    answer = inspect(daemon, text=TEXT, layers="all", c=cell == "lstm", gates=cell != "rnn")
    states = list(trace(config, tensors, [0] + [TOKENS.index(token) for token in TEXT]))[1:]
    for token, state in zip(answer["tokens"], states, strict=True):
        assert [layer["layer"] for layer in token["layers"]] == list(range(len(state)))
        for layer, (h, c, gates) in zip(token["layers"], state):
            assert np.abs(np.array(layer["h"]) - h).max() < tolerance
            assert ("c" in layer) == (cell == "lstm") and ("gates" in layer) == (cell != "rnn")
            if cell == "lstm":
                assert np.abs(np.array(layer["c"]) - c).max() < 3 * tolerance
            if cell != "rnn":
                assert list(layer["gates"]) == list(NAMES[cell])
                for gate, expected in zip(layer["gates"].values(), gates):
                    assert np.abs(np.array(gate) - expected).max() < 2 * tolerance


def test_state_is_the_one_that_is_carried(start, tmp_path):
    """h and c equal the numbers of /state."""
    small_model(tmp_path / "m", layers=2)
    daemon = start(tmp_path / "m")
    last = inspect(daemon, text=TEXT, layers="all", c=True)["tokens"][-1]
    state = daemon.post("/state", {"text": TEXT, "as": "numbers"}).json()["state"]
    for layer, carried in zip(last["layers"], state["layers"], strict=True):
        assert np.array_equal(np.float32(layer["h"]), np.float32(carried["h"]))
        assert np.array_equal(np.float32(layer["c"]), np.float32(carried["c"]))


def test_text_goes_on_from_a_state(daemon):
    whole = inspect(daemon, text="Today is", layers="all", c=True, gates=True)
    state = daemon.post("/state", {"text": "Today"}).json()["state"]
    rest = inspect(daemon, text=" is", state=state, layers="all", c=True, gates=True)
    assert rest["tokens"] == whole["tokens"][5:] and rest["next"] == whole["next"]


def test_chosen_layers_and_units(start, tmp_path):
    small_model(tmp_path / "m", layers=3)
    daemon = start(tmp_path / "m")
    whole = inspect(daemon, text=TEXT, layers="all", c=True, gates=True)
    some = inspect(daemon, text=TEXT, layers=[2, 0], units=[10, 0, 3], c=True, gates=True)
    for all_of, few in zip(whole["tokens"], some["tokens"], strict=True):
        assert [layer["layer"] for layer in few["layers"]] == [2, 0]
        for layer in few["layers"]:
            full = all_of["layers"][layer["layer"]]
            for vector, values in [*layer["gates"].items(), ("h", layer["h"]), ("c", layer["c"])]:
                assert values == [{**full, **full["gates"]}[vector][unit] for unit in (10, 0, 3)]
    assert inspect(daemon, text="a", layers=[1], units=[])["tokens"][0]["layers"] == [{"layer": 1, "h": []}]
    assert "layers" not in inspect(daemon, text="a")["tokens"][0]


def test_window_is_read_anew_for_each_token(start, tmp_path):
    daemon = start(make_model(tmp_path / "m", window={"size": 3, "masked": False}))
    answer = inspect(daemon, text="Today", layers=[0], c=True, gates=True, top=1)
    scored = daemon.post("/score", {"text": "Today"}).json()["tokens"]
    first = answer["tokens"][0]
    assert (first["logprob"], first["surprise"], first["entropy"], first["top"]) == (None, None, None, [])
    assert [token["logprob"] for token in answer["tokens"][1:]] == [token["logprob"] for token in scored]
    ends_alike = inspect(daemon, text="Monday", layers=[0], c=True, gates=True)
    assert ends_alike["tokens"][-1]["layers"] == answer["tokens"][-1]["layers"]
    assert "state" in daemon.post("/inspect", {"text": "a", "state": "x"}).fields()


# --- The form of the answer ---


def test_lines_say_what_the_document_says(daemon):
    fields = {"text": "Today " * 300, "layers": "all", "gates": True, "c": True, "top": 3, "probe": {}}
    document = inspect(daemon, **fields)
    by_field = daemon.post("/inspect", {**fields, "stream": True})
    by_header = daemon.request("POST", "/inspect", json.dumps(fields).encode(),
                               {"Content-Type": "application/json", "Accept": "application/x-ndjson"})
    assert by_field.body == by_header.body and len(by_field.body) > 1_000_000
    *tokens, rest = lines(by_field)
    assert tokens == document.pop("tokens") and rest == document


def test_answer_that_fits_has_a_length(daemon):
    assert daemon.post("/inspect", {"text": "a"}).headers["Content-Length"]
    assert daemon.post("/inspect", {"text": "a" * 3000, "top": 9}).headers["Content-Length"] is None


@pytest.mark.parametrize(
    "fields, wrong",
    [({}, {"text"}), ({"text": ""}, {"text"}), ({"text": "漢"}, {"text"}), ({"text": "a漢", "unknown": "error"}, {"text"}),
     ({"text": "a", "layers": 0, "top": 21, "x": 1}, {"layers", "top", "x"}), ({"text": "a", "layers": "some"}, {"layers"}),
     ({"text": "a", "layers": [1]}, {"layers"}), ({"text": "a", "layers": [0.5]}, {"layers"}),
     ({"text": "a", "layers": [0, 0]}, {"layers"}), ({"text": "a", "layers": [-1]}, {"layers"}),
     ({"text": "a", "layers": ["0"]}, {"layers"}), ({"text": "a", "layers": [0], "units": [16]}, {"units"}),
     ({"text": "a", "layers": [0], "units": [1, 1]}, {"units"}), ({"text": "a", "units": [1]}, {"units"}),
     ({"text": "a", "layers": [0], "units": {}}, {"units"}), ({"text": "a", "c": True, "gates": True}, {"c", "gates"}),
     ({"text": "a", "gates": 1, "stream": "yes"}, {"gates", "stream"}), ({"text": "a", "model": "none"}, {"model"}),
     ({"text": "a", "probe": 1}, {"probe"}),
     ({"text": "a", "probe": {"layer": 1, "properties": ["digit", "vowel"], "vector": "i", "units": 101, "y": 1}},
      {"probe.layer", "probe.properties", "probe.vector", "probe.units", "probe.y"})])
def test_every_wrong_field_is_named(daemon, fields, wrong):
    assert set(daemon.post("/inspect", fields).fields()) == wrong


def test_too_many_layers_are_counted(daemon):
    wrong = daemon.post("/inspect", {"text": "a", "layers": [0, 0]}).fields()
    assert wrong["layers"] == "has 2 numbers, more than the model's layers (1)"


@pytest.mark.parametrize("cell, wrong", [("gru", {"c", "probe.vector"}), ("rnn", {"c", "gates", "probe.vector"})])
def test_cells_without_c_or_gates(start, tmp_path, cell, wrong):
    small_model(tmp_path / "m", cell=cell)
    fields = {"text": "a", "layers": "all", "c": True, "gates": True, "probe": {"vector": "c"}}
    assert set(start(tmp_path / "m").post("/inspect", fields).fields()) == wrong


def test_limits(start):
    daemon = start("tiny", {"limits.max_score": 50, "limits.max_inspect": 4 * 50 * (3 + 16)})
    assert len(inspect(daemon, text="a" * 50, layers=[0])["tokens"]) == 50
    assert "limits.max_score" in daemon.post("/inspect", {"text": "a" * 51}).fields()["text"]
    for more in ({"c": True}, {"top": 1}, {"gates": True}):
        assert "limits.max_inspect" in daemon.post("/inspect", {"text": "a" * 50, "layers": [0], **more}).fields()["text"]


# --- Beside other requests ---


def send_inspect(daemon, **fields):
    body = json.dumps(fields).encode()
    connection = daemon.socket()
    connection.sendall(b"POST /inspect HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-Request-Id: sent\r\n"
                       b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
    return connection


def open_requests(daemon):
    return int(re.search(r"^lstmd_open_requests (\d+)", daemon.get("/metrics").body.decode(), re.M)[1])


def wait_open_requests(daemon, count):
    end = time.monotonic() + DEADLINE
    while open_requests(daemon) != count:
        assert time.monotonic() < end


LONG = {"limits.max_score": 10_000_000, "limits.max_inspect": "1GiB"}


@pytest.fixture
def slow(start, tmp_path):
    """This daemon's model takes, for each token, as many steps as its window has tokens."""
    def start_slow(window=200, **settings):
        model = make_model(tmp_path / f"window{window}", window={"size": window, "masked": False})
        return start(model, {**LONG, **settings})
    return start_slow


def test_others_do_not_wait(slow):
    daemon = slow()
    long = [send_inspect(daemon, text="ab" * 25_000, stream=n > 1, top=n) for n in range(4)]
    wait_open_requests(daemon, 5)
    assert len(inspect(daemon, text="Today")["tokens"]) == 5
    assert daemon.post("/score", {"text": "Today"}).status == daemon.get("/healthz").status == 200
    ended = [connection for connection in select.select(long, [], [], 0)[0] if b"\r\n0\r\n\r\n" in connection.recv(10**7)]
    assert not ended, "a long text was read first"
    for connection in long:
        connection.close()
    wait_open_requests(daemon, 1)


def test_client_that_leaves_ends_the_reading(slow):
    daemon = slow()
    for stream in (False, True):
        begun = send_inspect(daemon, text="ab" * 25_000, top=20, stream=stream)
        assert begun.recv(100).startswith(b"HTTP/1.1 200")
        begun.close()
        wait_open_requests(daemon, 1)
    waiting = send_inspect(daemon, text="ab" * 25_000)
    wait_open_requests(daemon, 2)
    waiting.close()
    wait_open_requests(daemon, 1)


def test_slow_client_makes_its_own_answer_wait(daemon):
    fields = {"text": "ab" * 3000, "layers": "all", "c": True, "gates": True}
    expected = daemon.post("/inspect", fields).body
    connection = send_inspect(daemon, **fields)
    first = connection.recv(1000)
    assert inspect(daemon, text="a")["token_count"] == 1
    rest = connection.makefile("rb").read(len(expected) // 2)
    assert first.startswith(b"HTTP/1.1 200") and len(rest) == len(expected) // 2
    connection.close()


def test_reading_that_takes_too_long_before_it_answers(slow):
    daemon = slow(window=4096, **{"limits.request_timeout": 1})
    assert "limits.request_timeout" in daemon.post("/inspect", {"text": "ab" * 1000}).problem(503)["detail"]


def test_reading_that_takes_too_long_while_it_answers(slow):
    daemon = slow(**{"limits.request_timeout": 1})
    text = "ab" * 25_000
    *tokens, last = lines(daemon.post("/inspect", {"text": text, "top": 20, "stream": True}))
    assert last["status"] == 503 and "limits.request_timeout" in last["detail"]
    assert tokens and all("logprob" in token for token in tokens)
    connection = send_inspect(daemon, text=text, top=20)
    document = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert document.startswith(b"HTTP/1.1 200") and not document.endswith(b"\r\n0\r\n\r\n")


# --- Probes ---


def properties_of(text):
    """Computes the properties by Python's rules, not the program's: {name: [value of each character]}."""
    values = {name: [] for name in ("position", "quotes", "brackets", "capital", "border", "digit")}
    for i, character in enumerate(text):
        until = text[: i + 1]
        values["position"].append(i - (text.rfind("\n", 0, i) + 1))
        values["quotes"].append(until.count('"') % 2)
        values["brackets"].append(until.count("(") > until.count(")"))
        values["capital"].append(character.isupper())
        values["border"].append(not character.isalnum())
        values["digit"].append(character.isdigit())
    return {name: np.array(row, float) for name, row in values.items()}


PROBED = 'Aa 1b.\n"aZ" (b1)\nab "Z1" 1.\n(a "b")\nZ\nab1 A\n' * 4
PROBE_TOKENS = ["<eos>", *'ab1A "()\n.Z']


def probe_model(directory, tensors=None, cell="lstm"):
    config = {"cell": cell, "layers": 1, "hidden_size": 11, "embedding_size": 0, "vocabulary_size": len(PROBE_TOKENS),
              "tie_weights": False}
    write_model(directory, config, PROBE_TOKENS, tensors(config) if tensors else random_tensors(config), eos=0)
    return directory


@pytest.mark.parametrize("vector", ["h", "c"])
def test_correlations_are_those_of_numpy(start, tmp_path, vector):
    daemon = start(probe_model(tmp_path / "m"))
    answer = inspect(daemon, text=PROBED, layers=[0], c=True, probe={"vector": vector, "units": 100})
    values = np.array([token["layers"][0][vector] for token in answer["tokens"]])
    expected = properties_of(PROBED)
    assert answer["probe"]["layer"] == 0 and answer["probe"]["vector"] == vector
    assert [row["property"] for row in answer["probe"]["properties"]] == list(expected)
    for row in answer["probe"]["properties"]:
        assert row["mean"] == pytest.approx(expected[row["property"]].mean())
        found = {unit["unit"]: unit["r"] for unit in row["units"]}
        assert sorted(found) == list(range(11))
        for unit, r in found.items():
            assert r == pytest.approx(np.corrcoef(values[:, unit], expected[row["property"]])[0, 1], abs=1e-6)
        strengths = [abs(unit["r"]) for unit in row["units"]]
        assert strengths == sorted(strengths, reverse=True)


def planted(config):
    """An RNN: unit 4 is on at digits, unit 7 is off at capitals, and the other units mean nothing."""
    tensors = {name: np.random.default_rng(3).normal(0, 0.3, shape).astype("<f4") for name, shape in shapes_of(config).items()}
    for unit, signs in ((4, "1"), (7, "AZ")):
        tensors["rnn.weight_hh_l0"][unit] = 0
        tensors["rnn.bias_l0"][unit] = 0
        tensors["rnn.weight_ih_l0"][unit] = [(1 if unit == 4 else -1) * (2 if token in signs else -2) for token in PROBE_TOKENS]
    return tensors


def test_planted_units_are_found(start, tmp_path):
    daemon = start(probe_model(tmp_path / "m", planted, "rnn"))
    probe = inspect(daemon, text=PROBED, probe={"properties": ["capital", "digit"], "units": 1})["probe"]
    capital, digit = probe["properties"]
    assert (capital["property"], capital["units"][0]["unit"]) == ("capital", 7)
    assert (digit["property"], digit["units"][0]["unit"]) == ("digit", 4)
    assert capital["units"][0]["r"] == pytest.approx(-1) and digit["units"][0]["r"] == pytest.approx(1)


def test_property_that_never_changes_has_no_units(daemon):
    probe = inspect(daemon, text="abc", probe={"properties": "digit"})["probe"]
    assert probe["properties"] == [{"property": "digit", "mean": 0.0, "units": []}]
