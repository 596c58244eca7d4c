"""POST and GET /generate: answers and refusals."""

import json
import math
import threading
import time
import urllib.parse

import pytest

from conftest import DEADLINE
from make_model import make_model

MAX_SEED = 2**53 - 1


def test_answer_has_every_part(daemon):
    answer = daemon.post("/generate", {"prompt": "Today ", "length": 20, "temperature": 0.8, "seed": 1})
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    document = answer.json()
    assert list(document) == "id model text completion finish_reason seed usage timings warnings".split()
    assert document["id"] == answer.headers["X-Request-Id"]
    assert document["model"] == "tiny"
    assert document["text"] == "Today " + document["completion"]
    assert len(document["completion"]) == 20
    assert document["finish_reason"] == "length"
    assert document["seed"] == 1
    assert document["usage"] == {"prompt_tokens": 7, "cached_tokens": 0, "completion_tokens": 20}
    assert document["warnings"] == []
    timings = document["timings"]
    assert timings["queue_ms"] >= 0 and timings["prompt_ms"] > 0 and timings["generate_ms"] > 0
    assert timings["tokens_per_second"] == pytest.approx(20 / timings["generate_ms"] * 1000, rel=1e-6)


def test_defaults(daemon):
    document = daemon.generate()
    assert document["text"] == document["completion"]
    assert document["usage"]["completion_tokens"] == 100
    assert 0 <= document["seed"] <= MAX_SEED


def test_query_gives_what_the_body_gives(daemon):
    fields = {"prompt": "Ääh, 5 € + 1 ", "length": 30, "temperature": 1.5, "seed": 9, "unknown": "skip", "model": "tiny"}
    by_query = daemon.query(**fields).json()
    by_body = daemon.generate(**fields)
    for part in ("text", "completion", "seed", "warnings"):
        assert by_query[part] == by_body[part]
    assert by_body["usage"]["cached_tokens"] == by_body["usage"]["prompt_tokens"] - 1


def test_query_plus_is_a_space(daemon):
    assert daemon.get("/generate?prompt=a+b%2B&length=1").json()["text"].startswith("a b+")


def test_same_seed_same_text_and_other_seed_other_text(daemon):
    first = daemon.generate(prompt="a", length=50, seed=5)
    assert daemon.generate(prompt="a", length=50, seed=5)["text"] == first["text"]
    assert daemon.generate(prompt="a", length=50, seed=6)["text"] != first["text"]


def test_random_seed_is_reported_and_repeats_the_text(daemon):
    first = daemon.generate(prompt="a", length=50)
    second = daemon.generate(prompt="a", length=50)
    assert first["seed"] != second["seed"]
    assert daemon.generate(prompt="a", length=50, seed=first["seed"])["text"] == first["text"]


def test_seed_largest(daemon):
    assert daemon.generate(length=1, seed=MAX_SEED)["seed"] == MAX_SEED


def test_temperature_zero_does_not_depend_on_the_seed(daemon):
    texts = {daemon.generate(prompt="a", length=30, temperature=0, seed=seed)["text"] for seed in range(3)}
    assert len(texts) == 1


@pytest.mark.parametrize("temperature", [0.01, 1e-9, 100])
def test_extreme_temperatures(daemon, temperature):
    assert len(daemon.generate(length=50, temperature=temperature)["completion"]) == 50


def test_text_that_ends_by_itself(start):
    document = start("ending").generate(prompt="abc", length=50)
    assert document["finish_reason"] == "eos"
    assert document["completion"] == ""
    assert document["text"] == "abc"
    assert document["usage"]["completion_tokens"] == 0


def test_numbers_that_are_whole_are_integers(daemon):
    answer = daemon.post("/generate", b'{"length": 3.0, "seed": 1e2}')
    assert answer.status == 200
    assert answer.json()["seed"] == 100


def test_as_many_unknown_fields_as_a_body_holds_are_refused_at_once(start):
    """The daemon looks for a similar name only for the fields that the answer lists. For all of them it would take minutes."""
    daemon = start("tiny", {"limits.max_body": "16MiB"})
    fields = ",".join(f'"{i}":1' for i in range(500_000))
    problem = daemon.post("/generate", b"{%s}" % fields.encode()).problem(422)
    assert problem["detail"].startswith("500000 fields are wrong: 0, 1, ") and len(problem["errors"]) == 32


def test_unknown_characters_are_skipped_with_a_warning(daemon):
    document = daemon.generate(prompt="a漢b", length=1)
    assert document["usage"]["prompt_tokens"] == 3
    assert len(document["warnings"]) == 1
    assert "漢" in document["warnings"][0] and "1" in document["warnings"][0]
    assert document["text"].startswith("a漢b")


def test_unknown_characters_are_refused_on_request(daemon):
    errors = daemon.post("/generate", {"prompt": "a漢b", "unknown": "error"}).fields()
    assert list(errors) == ["prompt"]
    assert "漢" in errors["prompt"]


@pytest.mark.parametrize("prompt", ["a\0b", "\0", '"\\\n\t', "\u2028</script>", "😀" * 50])
def test_odd_prompts_come_back_whole(daemon, prompt):
    assert daemon.generate(prompt=prompt, length=1)["text"].startswith(prompt)
    assert daemon.query(prompt=prompt, length=1).json()["text"].startswith(prompt)


def test_labels(start):
    daemon = start("labelled")
    texts = {label: daemon.generate(label=label, length=40, seed=1)["text"] for label in ("World", "Sports")}
    assert texts["World"] != texts["Sports"]
    assert daemon.generate(label="World", length=1)["usage"]["prompt_tokens"] == 2
    errors = daemon.post("/generate", {"label": "world"}).fields()
    for label in ("World", "Sports", "Business"):
        assert label in errors["label"]


def test_prompt_larger_than_the_http_thread_takes(daemon):
    small = daemon.generate(prompt="ab" * 10, length=20, seed=3)
    assert small["text"].startswith("ab" * 10)
    large = daemon.generate(prompt="ab" * 100_000, length=20, seed=3)
    assert large["usage"]["prompt_tokens"] == 200_001
    assert large["text"].startswith("ab" * 100_000)
    errors = daemon.post("/generate", {"prompt": "ab" * 100_000, "length": 0}).fields()
    assert list(errors) == ["length"]


def test_text_that_ends_while_its_large_body_is_handled(daemon):
    """A worker handles the body. The text may be sent before that handler returns; a sanitizer sees what it touches then."""
    body = json.dumps({"prompt": "a", "length": 1}).encode() + b" " * 70_000
    for _ in range(20):
        assert daemon.post("/generate", body).status == 200


WRONG = [
    ("length", 0, "1 to 10000"),
    ("length", 10001, "1 to 10000"),
    ("length", -1, "1 to 10000"),
    ("length", 1.5, "integer"),
    ("length", "5", "string"),
    ("length", None, "null"),
    ("length", True, "not true"),
    ("length", [1], "array"),
    ("length", 10**30, "1 to 10000"),
    ("temperature", -0.1, "0 to 100"),
    ("temperature", 100.5, "0 to 100"),
    ("temperature", "hot", "string"),
    ("seed", -1, "0 to 9007199254740991"),
    ("seed", 2**53, "9007199254740991"),
    ("seed", 2**64 + 1, "9007199254740991"),
    ("seed", 0.5, "integer"),
    ("prompt", 5, "string"),
    ("prompt", {"a": 1}, "object"),
    ("unknown", "maybe", '"skip" or "error"'),
    ("unknown", 1, '"skip" or "error"'),
    ("model", "other", "tiny"),
    ("model", 1, "string"),
    ("label", "x", "no labels"),
    ("lenght", 5, '"length"'),
    ("Prompt", "x", '"prompt"'),
    ("stream", 1, "true or false"),
    ("top_k", -1, "0 to"),
    ("top_p", 0, "above 0 to 1"),
    ("top_p", 1.0001, "above 0 to 1"),
    ("min_p", 1, "0 to below 1"),
    ("min_p", -0.001, "0 to below 1"),
    ("repetition_penalty", 0.009, "0.01 to 100"),
    ("repetition_penalty", 100.1, "0.01 to 100"),
    ("presence_penalty", 100.1, "-100 to 100"),
    ("frequency_penalty", -100.1, "-100 to 100"),
    ("repetition_window", 1.5, "integer"),
    ("n", 0, "1 to 8"),
    ("n", 9, "1 to 8"),
    ("logprobs", 21, "0 to 20"),
    ("logprobs", -1, "0 to 20"),
    ("logit_bias", {"漢": 1}, "漢"),
    ("logit_bias", {"ab": 1}, "one token"),
    ("logit_bias", {"a": 100.5}, "-100 to 100"),
    ("logit_bias", {"a": "1"}, "-100 to 100"),
    ("logit_bias", ["a"], "array"),
    ("stop", "", "1 to 1024 bytes"),
    ("stop", "x" * 1025, "1 to 1024 bytes"),
    ("stop", ["x"] * 17, "at most 16"),
    ("stop", ["a", 5], "not 5"),
    ("stop", {"a": 1}, "object"),
    ("ignore_eos", "true", "true or false"),
    ("cache_prompt", None, "true or false"),
    ("session", "", "session"),
    ("session", "x" * 129, "128"),
    ("session", "a b", "letters"),
    ("", 1, "unknown field"),
]


RIGHT = [
    ("top_k", 0), ("top_k", 2**53 - 1), ("top_p", 1e-9), ("top_p", 1), ("min_p", 0), ("min_p", 0.999),
    ("repetition_penalty", 0.01), ("repetition_penalty", 100), ("presence_penalty", -100), ("presence_penalty", 100),
    ("frequency_penalty", -100), ("frequency_penalty", 100), ("repetition_window", 0), ("repetition_window", 2**53 - 1),
    ("n", 1), ("n", 8), ("logprobs", 0), ("logprobs", 20), ("logit_bias", {}), ("logit_bias", {"a": 100, "b": -100}),
    ("logit_bias", {"<eos>": -1}), ("stop", []), ("stop", ["x" * 1024] * 16), ("stop", "a"), ("ignore_eos", True),
    ("cache_prompt", False), ("session", "x" * 128), ("stream", False), ("length", 10000), ("temperature", 100),
]  # fmt: skip


@pytest.mark.parametrize("field, value", RIGHT)
def test_bounds_themselves_are_right(daemon, field, value):
    daemon.generate(**{"length": 3, field: value})


def test_lists_and_objects_in_a_query(daemon):
    fields = {"length": 200, "seed": 1, "stop": ["q", "z"], "logit_bias": {"a": 3}, "ignore_eos": True}
    query = [("length", 200), ("seed", 1), ("stop", "q"), ("stop", "z"), ("logit_bias", '{"a": 3}'), ("ignore_eos", "true")]
    by_query = daemon.get("/generate?" + urllib.parse.urlencode(query)).json()
    assert by_query["text"] == daemon.generate(**fields)["text"]
    assert by_query["finish_reason"] == "stop"
    assert "JSON" in daemon.query(logit_bias="{").fields()["logit_bias"]
    assert "true or false" in daemon.query(stream="1").fields()["stream"]


def test_several_continuations(daemon):
    document = daemon.generate(prompt="a", length=30, seed=2**53 - 2, n=3)
    assert [choice["seed"] for choice in document["choices"]] == [2**53 - 2, 2**53 - 1, 0]
    for choice in document["choices"]:
        alone = daemon.generate(prompt="a", length=30, seed=choice["seed"])
        assert "choices" not in alone
        assert alone["completion"] == choice["completion"]


def test_logprobs_of_all_tokens_sum_to_one(start):
    """Twenty alternatives, and the model has only two likely tokens."""
    document = start("ending").generate(length=5, logprobs=20, ignore_eos=True)
    for token in document["logprobs"]:
        values = [math.exp(one["logprob"]) for one in token["top_logprobs"]]
        assert values == sorted(values, reverse=True)
        assert sum(values) == pytest.approx(1, abs=1e-5)


def test_session_goes_on(daemon):
    whole = daemon.generate(prompt="abc", length=60, temperature=0)["completion"]
    parts = [daemon.generate(prompt="abc", length=20, temperature=0, session="s1")["completion"]]
    parts += [daemon.generate(length=20, temperature=0, session="s1")["completion"] for _ in range(2)]
    assert "".join(parts) == whole
    assert daemon.generate(prompt="abc", length=20, temperature=0, session="s2")["completion"] == parts[0]
    assert "n must be 1" in daemon.post("/generate", {"session": "s1", "n": 2}).fields()["session"]


def test_sessions_beyond_their_number_make_room(start):
    daemon = start("tiny", {"sessions.max_count": 1})
    fields = {"prompt": "abc", "length": 20, "seed": 1}
    first = daemon.generate(**fields, session="a")["completion"]
    assert daemon.generate(**fields, session="a")["completion"] != first
    daemon.generate(length=1, session="b")
    assert daemon.generate(**fields, session="a")["completion"] == first


def test_session_that_is_not_used_expires(start):
    daemon = start("tiny", {"sessions.ttl": 1})
    fields = {"prompt": "abc", "length": 20, "seed": 1}
    first = daemon.generate(**fields, session="a")["completion"]
    used = time.monotonic()
    while time.monotonic() < used + 1:
        daemon.generate(length=100, session="b")
    assert daemon.generate(**fields, session="a")["completion"] == first


def test_long_prompt_leaves_states_on_its_way(start):
    daemon = start("tiny", {"cache.interval": 50})
    daemon.generate(prompt="ab" * 100, length=1)
    usage = daemon.generate(prompt="ab" * 60 + "x", length=1)["usage"]
    assert usage["cached_tokens"] == 100  # a multiple of 50 in the common beginning


def test_session_that_is_busy_is_a_conflict(start):
    daemon = start("tiny", {"limits.max_length": 10_000_000})
    with daemon.send_generate(length=5_000_000, session="s", stream=True) as connection:
        assert connection.recv(100)
        assert "session" in daemon.post("/generate", {"session": "s"}).problem(409)["detail"]
        assert daemon.generate(session="other", length=1)
    daemon.wait_log("id=sent ")
    end = time.monotonic() + DEADLINE
    while daemon.post("/generate", {"session": "s", "length": 1}).status == 409:
        assert time.monotonic() < end


@pytest.mark.parametrize("field, value, message", WRONG)
def test_wrong_field_in_the_body(daemon, field, value, message):
    errors = daemon.post("/generate", {"length": 1, field: value}).fields()
    assert list(errors) == [field]
    assert message in errors[field]


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("length", "", "integer"),
        ("length", "5x", "integer"),
        ("length", " 5", "integer"),
        ("length", "0x10", "integer"),
        ("length", "+5", "integer"),
        ("length", "nan", "integer"),
        ("length", "1.5", "integer"),
        ("length", "0", "1 to 10000"),
        ("length", "1e999", "1 to 10000"),
        ("temperature", "inf", "number"),
        ("temperature", "-1", "0 to 100"),
        ("seed", "9007199254740992", "9007199254740991"),
        ("unknown", "Skip", '"skip" or "error"'),
        ("model", "other", "tiny"),
        ("promt", "x", '"prompt"'),
    ],
)
def test_wrong_field_in_the_query(daemon, field, value, message):
    errors = daemon.query(**{field: value}).fields()
    assert list(errors) == [field]
    assert message in errors[field]


def test_every_wrong_field_is_named_at_once(daemon):
    wrong = {
        "prompt": "漢",
        "unknown": "error",
        "length": 0,
        "temperature": "x",
        "seed": -1,
        "label": "x",
        "lenght": 1,
    }
    answer = daemon.post("/generate", wrong)
    assert set(answer.fields()) == set(wrong) - {"unknown"}
    assert "6 fields" in answer.json()["detail"]
    assert answer.json()["instance"] == "/generate"


def test_many_unknown_fields_are_counted(daemon):
    problem = daemon.post("/generate", {f"field{i}": i for i in range(1000)}).problem(422)
    assert len(problem["errors"]) == 32
    assert "1000 fields" in problem["detail"]


def test_long_unknown_name_is_cut(daemon):
    problem = daemon.post("/generate", {"é" * 50_000: 1}).problem(422)
    assert len(json.dumps(problem)) < 2000


def test_duplicate_key(daemon):
    errors = daemon.post("/generate", b'{"length": 5, "seed": 1, "length": 0, "x": 1}').fields()
    assert set(errors) == {"length", "x"}


def test_duplicate_key_alone_is_refused(daemon):
    errors = daemon.post("/generate", b'{"length": 5, "length": 5}').fields()
    assert "twice" in errors["length"]


def test_duplicate_parameter(daemon):
    errors = daemon.get("/generate?seed=1&length=3&seed=1").fields()
    assert errors == {"seed": "given twice"}


@pytest.mark.parametrize(
    "body, place",
    [
        (b"{", "byte 1"),
        (b'{"length": 5,}', "byte 14"),
        (b"{'length': 5}", "byte 2"),
        (b'{"length": NaN}', "at byte 12: "),
        (b'{"length": 5, "echo": treu}', "at byte 23"),
        ('{"length": 5}'.encode("utf-16"), "UTF-16"),
        ('{"length": 5}'.encode("utf-16-le"), "UTF-16"),
        ('{"length": 5}'.encode("utf-16-be"), "UTF-16"),
        (b'{"length": 5} x', "byte 15"),
        (b'{"prompt": "a\xff"}', "UTF-8 at byte 13"),
        (b'{"prompt": "\xed\xa0\x80"}', "UTF-8 at byte 12"),
        (b'{"prompt": "\\ud800"}', "byte"),
        (b"\0", "byte"),
        (b"[" * 100_000, "byte"),
    ],
)
def test_body_that_is_not_json(daemon, body, place):
    problem = daemon.post("/generate", body).problem(400)
    assert ("not JSON" in problem["detail"] or place == "UTF-16") and place in problem["detail"]
    assert "errors" not in problem


def test_body_that_is_empty(daemon):
    assert daemon.post("/generate", b"").problem(400)["detail"] == "the body is empty, and must be a JSON object"


@pytest.mark.parametrize("body, kind", [(b"[]", "array"), (b'"x"', "string"), (b"5", "number"), (b"null", "null")])
def test_body_that_is_not_an_object(daemon, body, kind):
    assert kind in daemon.post("/generate", body).problem(422)["detail"]


def test_query_that_is_not_utf8_names_field_and_byte(daemon):
    errors = daemon.get("/generate?prompt=ab%ffc&length=5").fields()
    assert list(errors) == ["prompt"]
    assert "byte 2" in errors["prompt"]


@pytest.mark.parametrize("query", ["prompt=100%", "prompt=%4", "prompt=%zz", "pro%mpt=1"])
def test_query_with_a_wrong_escape(daemon, query):
    problem = daemon.get(f"/generate?{query}").problem(400)
    assert f"byte {query.index('%')}" in problem["detail"]


def test_post_takes_no_query(daemon):
    assert "query" in daemon.post("/generate?length=5", {}).problem(422)["detail"]


@pytest.mark.parametrize("query", ["", "?", "?&", "?&&length=3&"])
def test_empty_parts_of_a_query_are_nothing(daemon, query):
    assert daemon.get("/generate" + query).status == 200


def test_requests_side_by_side_write_what_they_write_alone(daemon):
    fields = [
        {"prompt": "abc"[: i % 4] * (i + 1), "length": 200 + 40 * i, "seed": i, "temperature": 0.5 + i / 10}
        for i in range(16)
    ]
    alone = [daemon.generate(**one)["text"] for one in fields]
    together = [None] * len(fields)
    gate = threading.Barrier(len(fields))

    def run(i):
        gate.wait()
        together[i] = daemon.generate(**fields[i])["text"]

    for _ in range(3):
        threads = [threading.Thread(target=run, args=(i,)) for i in range(len(fields))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert together == alone


def test_models(daemon):
    models = daemon.get("/models").json()["models"]
    assert [model["name"] for model in models] == ["tiny"]
    assert models[0]["default"] is True
    assert models[0]["cell"] == "lstm" and models[0]["hidden_size"] == 16


def test_model_by_name(daemon):
    model = daemon.get("/models/tiny").json()
    assert model["name"] == "tiny"
    assert {tensor["name"] for tensor in model["tensors"]} >= {"rnn.weight_ih_l0", "output.bias"}
    assert daemon.get("/models/t%69ny").status == 200


@pytest.mark.parametrize("name", ["other", "tiny2", "tin", "tiny%00", "%2e%2e", "%ff"])
def test_model_that_is_not_there(daemon, name):
    daemon.get(f"/models/{name}").problem(404)


@pytest.mark.parametrize("path, length, key", [("/generate", "length", "completion"), ("/v1/completions", "max_tokens", "text")])
def test_stop_texts_of_bytes_that_are_no_character_are_found_as_they_are_shown(start, tmp_path, path, length, key):
    daemon = start(make_model(tmp_path / "bytes", level="byte"))

    def ask(**fields):
        answer = daemon.post(path, {"prompt": "a", length: 200, "temperature": 1.2, **fields})
        assert answer.status == 200, answer.body
        document = answer.json()
        return document["choices"][0] if "choices" in document else document

    for seed in range(12):
        whole = ask(seed=seed)[key]
        odd = [i for i, letter in enumerate(whole) if letter == "\ufffd"]
        assert odd
        for stop in ("\ufffd", whole[odd[3] - 1 : odd[3] + 1], whole[odd[-1] - 2 :][:3], whole[odd[5] : odd[5] + 4]):
            told = ask(seed=seed, stop=[stop])
            assert (told[key], told["finish_reason"]) == (whole[: whole.index(stop)], "stop")
            stream = daemon.post(path, {"prompt": "a", length: 200, "temperature": 1.2, "seed": seed, "stop": [stop], "stream": True})
            events = [json.loads(line[6:]) for line in stream.body.decode().splitlines() if line.startswith("data: {")]
            parts = [event["delta"] if path == "/generate" else event["choices"][0]["text"] for event in events]
            assert "".join(parts) == told[key]
