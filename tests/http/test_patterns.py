"""regex, choices and choice_mode of POST /generate; guided_regex and guided_choice of POST /v1/completions."""

import json
import re
import select

import pytest

from conftest import read_answer
from make_model import make_model

EXPRESSIONS = [
    "[a-f]{2,5}", "(ab|ba){1,3}c", "[0-9]{4}-[0-9]{2}", "(?i)today,? .{3}", "\\w{1,4}( \\w{1,4}){2}\\.", "a?b?c?d", "\u00e4{1,9}\u20ac", "[^a-z]{3}x",
]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_text_matches_as_a_whole(daemon, expression):
    for seed in range(8):
        answer = daemon.generate(prompt="a", regex=expression, length=200, temperature=1.5, seed=seed)
        assert re.fullmatch(expression, answer["completion"]), answer["completion"]
        assert answer["finish_reason"] == "pattern"


def test_stream_and_query_give_the_same_text(daemon):
    fields = {"prompt": "a", "regex": "[a-z]{3,9} [0-9]+,", "length": 60, "seed": 5}
    whole = daemon.generate(**fields)
    answer = daemon.post("/generate", fields | {"stream": True})
    events = [json.loads(line[6:]) for line in answer.body.decode().splitlines() if line.startswith("data: {")]
    assert "".join(event["delta"] for event in events) == whole["completion"]
    assert events[-1]["finish_reason"] == whole["finish_reason"]
    assert daemon.query(**fields).json()["completion"] == whole["completion"]


def test_length_and_stop_end_a_pattern_before_its_end(daemon):
    assert daemon.generate(regex="[ab]+", length=5, temperature=3, seed=1)["finish_reason"] in ("length", "pattern")
    cut = daemon.generate(regex="abc123", stop="c1")
    assert (cut["completion"], cut["finish_reason"]) == ("ab", "stop")
    assert daemon.generate(regex="ab{300}", length=4)["finish_reason"] == "length"
    assert daemon.generate(regex="ab{300}", length=4)["completion"] == "abbb"


def test_choices_are_drawn_as_the_model_would(daemon):
    texts = ["Today", "Then", "a.b", "9"]
    answers = [daemon.generate(prompt="a", choices=texts, temperature=3, seed=seed) for seed in range(60)]
    assert {answer["completion"] for answer in answers} == set(texts)
    assert {answer["finish_reason"] for answer in answers} == {"pattern"}


def test_a_text_ends_where_the_model_would_rather_not_go_on(daemon):
    """"a" is complete. The text goes on to "ab" only if b is the likeliest of all tokens there."""
    def likeliest(prompt):
        return daemon.generate(prompt=prompt, length=1, temperature=0)["completion"]

    follows = next(letter for letter in "abcdefghijklmnopqrstuvwxyz" if likeliest(letter).isalpha())
    longer = follows + likeliest(follows)
    assert daemon.generate(prompt="", choices=[follows, longer], temperature=0)["completion"] == longer
    other = "b" if longer[1] != "b" else "c"
    assert daemon.generate(prompt="", choices=[follows, follows + other], temperature=0)["completion"] == follows


def test_likeliest_choice_is_that_of_the_scores(daemon):
    texts = ["the", "of", "a", "xyz", "end of it", "9,"]
    prompt = "Today "

    def nats(text):
        scored = daemon.post("/score", {"text": prompt + text}).json()
        return -sum(token["logprob"] for token in scored["tokens"][len(prompt) :])

    answer = daemon.generate(prompt=prompt, choices=texts, choice_mode="likeliest", length=1)
    assert answer["completion"] == min(texts, key=nats)
    assert answer["finish_reason"] == "pattern" and "logprobs" not in answer and "choices" not in answer
    shown = daemon.generate(prompt=prompt, choices=texts, choice_mode="likeliest", logprobs=2)
    assert -sum(token["logprob"] for token in shown["logprobs"]) == pytest.approx(nats(shown["completion"]), abs=1e-4)
    assert shown["usage"]["completion_tokens"] == len(shown["completion"])


def test_the_likeliest_choice_has_the_seed_of_its_prompt(daemon):
    texts = ["xyz", "9,", "a"]
    asked = dict(choices=texts, choice_mode="likeliest", seed=7)
    alone = daemon.generate(prompt="Today ", **asked, return_state=True)
    assert texts.index(alone["completion"]) > 0 and alone["seed"] == 7
    both = daemon.generate(prompt=["Today ", "Today "], **asked, return_state=True)["choices"]
    assert [choice["seed"] for choice in both] == [7, 8]
    assert both[0]["state"] == alone["state"] != both[1]["state"]


def test_forbidden_tokens_are_no_way_through_a_pattern(daemon):
    for seed in range(10):
        text = daemon.generate(regex="a[bc]|b[cd]", logit_bias={"a": -100, "c": -100}, temperature=2, seed=seed)["completion"]
        assert text == "bd"
    wrong = daemon.post("/generate", {"regex": "a[bc]", "logit_bias": {"a": -100}}).fields()
    assert "that logit_bias allows" in wrong["regex"]


def test_a_session_goes_on_behind_a_pattern(daemon):
    first = daemon.generate(prompt="a", regex="[a-e]{4}", session="pattern", seed=3)
    second = daemon.generate(prompt="", length=5, session="pattern", seed=4)
    alone = daemon.generate(prompt="a" + first["completion"], length=5, seed=4)
    assert second["completion"] == alone["completion"]


@pytest.mark.parametrize(
    "fields, wrong, words",
    [
        ({"regex": "a("}, "regex", "byte 2 of the expression: missing closing parenthesis"),
        ({"regex": "a(?=b)"}, "regex", "look-around at byte 1"),
        ({"regex": "漢"}, "regex", "make no text that matches"),
        ({"regex": ""}, "regex", "nothing but the empty text"),
        ({"regex": "a" * 5000}, "regex", "has 5000 bytes; limits.max_pattern is 4096"),
        ({"regex": "[ab]{1,3000}"}, "regex", "more than 2000 states (limits.max_pattern_states)"),
        ({"regex": "(a|b)*a(a|b){14}"}, "regex", "more than"),
        ({"regex": 5}, "regex", "must be"),
        ({"regex": "a", "choices": ["b"]}, "choices", "cannot be joined with regex"),
        ({"choices": []}, "choices", "1 to 512"),
        ({"choices": ["a", ""]}, "choices", "[1] must be"),
        ({"choices": ["a", 5]}, "choices", "[1] must be"),
        ({"choices": ["a", "漢"]}, "choices", "choice 1"),
        ({"choices": ["a", "漢"], "choice_mode": "likeliest"}, "choices", "choice 1: the tokens"),
        ({"prompt": ["a"] * 2, "choices": ["a"] * 40, "choice_mode": "likeliest"}, "prompt", "2 prompts and 40 choices"),
        ({"choices": ["a" * 5000]}, "choices", "limits.max_pattern"),
        ({"choices": ["a"] * 129, "choice_mode": "likeliest"}, "choices", "1 to 128"),
        ({"choice_mode": "likeliest"}, "choice_mode", "there are none"),
        ({"choices": ["a"], "choice_mode": "likeliest", "n": 2}, "n", "must be 1"),
        ({"choices": ["a"], "choice_mode": "likeliest", "stream": True}, "stream", "must be false"),
        ({"choices": ["a"], "choice_mode": "likeliest", "session": "s"}, "session", "cannot be joined"),
        ({"grammar": "root ::= a"}, "grammar", 'did you mean "regex"?'),
    ],
)
def test_what_is_wrong_is_said(daemon, fields, wrong, words):
    answer = daemon.post("/generate", fields)
    (error,) = answer.problem(422)["errors"]
    assert error["field"] == wrong and words in error["message"]


def test_everything_wrong_is_named_at_once(daemon):
    assert daemon.post("/generate", {"regex": "a(", "label": "x", "session": "no good"}).fields().keys() == {"regex", "label"}


def test_words_and_bytes(start, tmp_path):
    words = start(make_model(tmp_path / "words", level="word"))
    known = [words.post("/detokenize", {"ids": [i]}).json()["text"] for i in range(1, 4)]
    for seed in range(5):
        text = words.generate(choices=[" ".join(known), known[1]], seed=seed)["completion"]
        assert text in (" ".join(known), known[1])
    raw = start(make_model(tmp_path / "bytes", level="byte"))
    for seed in range(5):
        assert re.fullmatch("\u00e9[0-9]{2}", raw.generate(regex="\u00e9[0-9]{2}", seed=seed, temperature=2)["completion"])


def test_openai_names(daemon):
    def complete(**fields):
        answer = daemon.post("/v1/completions", {"model": "tiny", "prompt": "a", **fields})
        return answer

    choice = complete(guided_regex="[0-9]{3}", max_tokens=9).json()["choices"][0]
    assert re.fullmatch("[0-9]{3}", choice["text"]) and choice["finish_reason"] == "stop"
    likeliest = complete(guided_choice=["b", "cd", "e"], choice_mode="likeliest").json()
    same = daemon.generate(prompt="a", choices=["b", "cd", "e"], choice_mode="likeliest")
    assert [choice["text"] for choice in likeliest["choices"]] == [same["completion"]]
    assert likeliest["usage"]["completion_tokens"] == same["usage"]["completion_tokens"]
    assert complete(guided_regex="a(", guided_choice=None).json()["error"]["param"] == "guided_regex"
    assert complete(guided_choice=[1]).json()["error"]["param"] == "guided_choice"


SLOW = "(a|ab|abc|abcd|b|bc){1,300}"  # about a second for 2,000 states; then it is refused


def test_no_pattern_is_made_for_a_client_that_has_left(start):
    daemon = start("tiny")
    busy = daemon.send_generate(regex=SLOW)
    daemon.send_generate(regex="abc").close()
    line = daemon.wait_log("status=499")
    assert "tokens=" not in line  # no generation was begun
    read_answer(busy).problem(422)
    busy.close()


def test_only_patterns_wait_for_a_slow_pattern(start):
    daemon = start("tiny")
    slow = [daemon.send_generate(regex=SLOW) for _ in range(5)]
    assert daemon.get("/healthz").status == 200  # the daemon has read what came before
    assert daemon.post("/score", {"text": "abc"}).status == 200
    assert not select.select([slow[-1]], [], [], 0)[0]
    for connection in slow:
        connection.close()


def test_request_that_waits_too_long_for_its_pattern_is_over(start):
    daemon = start("tiny", {"limits.request_timeout": 1, "limits.max_pattern_states": 6000})
    busy, waiting = [daemon.send_generate(regex=regex) for regex in (SLOW, "abc")]
    read_answer(busy).problem(422)
    assert "limits.request_timeout" in read_answer(waiting).problem(503)["detail"]
    busy.close(), waiting.close()


def test_end_of_the_daemon_waits_for_one_pattern_at_most(start):
    daemon = start("tiny", {"server.drain_seconds": 0})
    connections = [daemon.send_generate(regex=SLOW) for _ in range(5)]
    assert daemon.get("/healthz").status == 200  # the daemon has read what came before
    daemon.signal()
    answers = [read_answer(connection) for connection in connections]
    assert [answer.status for answer in answers[1:]] == [503] * 4
    assert daemon.wait() == 0
    for connection in connections:
        connection.close()


def test_metrics_count_them(daemon):
    def count():
        return int(re.search(r'lstmd_generations_total\{end="pattern"\} (\d+)', daemon.get("/metrics").body.decode()).group(1))

    before = count()
    daemon.generate(regex="abc", n=3)
    assert count() == before + 3
