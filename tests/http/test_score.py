"""POST /score, /tokenize, /detokenize."""

import json
import math
import re
import select
import socket
import threading
import time

import pytest

from conftest import DEADLINE
from make_model import make_model


def score(daemon, **fields):
    answer = daemon.post("/score", fields)
    assert answer.status == 200, answer.body
    return answer.json()


def test_score_agrees_with_the_logprobs_of_generate(daemon):
    written = daemon.generate(length=30, seed=4, logprobs=1)
    scored = score(daemon, text=written["completion"])
    assert [token["token"] for token in scored["tokens"]] == [token["token"] for token in written["logprobs"]]
    for one, other in zip(scored["tokens"], written["logprobs"]):
        assert one["logprob"] == pytest.approx(other["logprob"], abs=1e-4)


def test_figures_follow_from_the_tokens(daemon):
    scored = score(daemon, text="Today ä€ 1")
    nats = -sum(token["logprob"] for token in scored["tokens"])
    assert scored["token_count"] == scored["characters"] == 10
    assert scored["nats"] == pytest.approx(nats)
    assert scored["nats_per_char"] == pytest.approx(nats / 10)
    assert scored["bits_per_char"] == pytest.approx(nats / 10 / math.log(2))
    assert scored["perplexity"] == pytest.approx(math.exp(nats / 10))
    assert scored["warnings"] == []


def test_probabilities_of_all_first_tokens_sum_to_one(daemon):
    size = daemon.get("/models").json()["models"][0]["vocabulary_size"]
    tokens = [daemon.post("/detokenize", {"ids": [i]}).json()["text"] for i in range(size)]
    total = sum(math.exp(score(daemon, text=token)["tokens"][0]["logprob"]) for token in tokens if token)
    assert total == pytest.approx(1, abs=1e-6)  # <eos> is practically impossible


def test_score_with_a_label(start):
    daemon = start("labelled")
    assert score(daemon, text="abc", label="World")["nats"] != score(daemon, text="abc")["nats"]
    assert score(daemon, text="abc", label="World")["token_count"] == 3
    assert "label" in daemon.post("/score", {"text": "a", "label": "x"}).fields()


@pytest.mark.parametrize(
    "fields, wrong",
    [({}, "text"), ({"text": ""}, "text"), ({"text": "漢"}, "text"), ({"text": 1}, "text"), ({"text": "a", "x": 1}, "x"),
     ({"text": "a漢", "unknown": "error"}, "text"), ({"text": "a", "model": "none"}, "model")],
)
def test_score_refuses(daemon, fields, wrong):
    assert wrong in daemon.post("/score", fields).fields()


def test_score_names_what_it_skips(daemon):
    assert "漢" in score(daemon, text="a漢b")["warnings"][0]


@pytest.mark.parametrize("level, known, mixed", [("char", "Today 1", "To漢day字 1漢"), ("word", None, None)])
def test_what_is_skipped_counts_no_characters(start, tmp_path, level, known, mixed):
    """The loss per character is that of the text without its skipped parts."""
    if level == "word":
        daemon = start(make_model(tmp_path / "words", level="word"))
        word = json.loads((tmp_path / "words/vocabulary.json").read_text())["tokens"][1]
        known, mixed = f"{word} {word}", f"unheard {word} unheard unheard {word} unheard"
    else:
        daemon = start("tiny")
    plain, skipping = score(daemon, text=known), score(daemon, text=mixed)
    assert skipping["warnings"] and not plain["warnings"]
    assert {**skipping, "warnings": []} == plain and plain["characters"] == len(known)


def test_longest_text(start):
    daemon = start("tiny", {"limits.max_score": 50})
    assert score(daemon, text="a" * 50)["token_count"] == 50
    assert "limits.max_score" in daemon.post("/score", {"text": "a" * 51}).fields()["text"]


def test_client_that_leaves_ends_the_score(start):
    daemon = start("tiny", {"limits.max_score": 10_000_000, "limits.max_body": 2**26})
    body = b'{"text": "%b"}' % (b"a" * 9_000_000)
    connection = daemon.socket()
    connection.sendall(b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-Request-Id: left\r\n"
                       b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
    connection.shutdown(socket.SHUT_WR)
    assert "status=499" in daemon.wait_log("id=left ")
    assert score(daemon, text="a")["token_count"] == 1
    connection.close()


@pytest.mark.parametrize("text", ["", "Today", "ä€ 1,.", "a" * 100_000])
def test_tokens_there_and_back(daemon, text):
    tokenized = daemon.post("/tokenize", {"text": text}).json()
    assert "".join(tokenized["tokens"]) == text and tokenized["skipped"] == 0
    assert daemon.post("/detokenize", {"ids": tokenized["ids"]}).json()["text"] == text


def test_tokenize_counts_what_it_skips(daemon):
    assert daemon.post("/tokenize", {"text": "a漢b"}).json()["skipped"] == 1


@pytest.mark.parametrize("ids", [[-1], [10**6], [0, 1.5], ["a"], [None], 5, "x", None])
def test_detokenize_refuses(daemon, ids):
    assert "ids" in daemon.post("/detokenize", {"ids": ids}).fields()


@pytest.mark.parametrize("path", ["/tokenize", "/detokenize", "/score"])
def test_refusals(daemon, path):
    daemon.post(path, b"{").problem(400)
    assert daemon.post(path, {}).fields()
    assert "model" in daemon.post(path, {"text": "a", "ids": [], "model": "none"}).fields()


def send_score(daemon, text):
    body = json.dumps({"text": text}).encode()
    connection = daemon.socket()
    connection.sendall(b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                       b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
    return connection


LONG = {"limits.max_score": 10_000_000, "limits.max_body": 2**26, "limits.max_body_memory": 2**29}


def test_short_text_does_not_wait_for_long_ones(start, tmp_path):
    # The network reads each token of the long texts 200 times. The bodies are small, so all requests wait once they are open.
    model = make_model(tmp_path / "window", window={"size": 200, "masked": False})
    daemon = start(model, {"limits.max_score": 10_000_000})
    long = [send_score(daemon, "ab" * 25_000) for _ in range(4)]
    end = time.monotonic() + DEADLINE
    while int(re.search(r"^lstmd_open_requests (\d+)", daemon.get("/metrics").body.decode(), re.M)[1]) < 5:
        assert time.monotonic() < end
    assert len(score(daemon, text="Today")["tokens"]) == 4  # there is no start token that predicts the first one
    assert not select.select(long, [], [], 0)[0], "a long text was read first"
    for connection in long:
        connection.close()


def test_texts_that_take_turns_have_the_scores_that_they_have_alone(daemon):
    texts = ["ab" * 2000, "Today " * 500, "zyx" * 900]
    alone = [score(daemon, text=text) for text in texts]
    beside = [None] * len(texts)

    def ask(i):
        beside[i] = score(daemon, text=texts[i])

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(texts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert beside == alone
    assert [one["token_count"] for one in alone] == [4000, 3000, 2700]


def test_score_that_takes_too_long_is_503(start):
    daemon = start("tiny", {**LONG, "limits.request_timeout": 1})
    answer = daemon.post("/score", {"text": "ab" * 5_000_000})
    assert "limits.request_timeout" in answer.problem(503)["detail"]
    assert answer.headers["X-Should-Retry"] == "false" and "Retry-After" not in answer.headers
    assert score(daemon, text="a")["token_count"] == 1


@pytest.mark.parametrize("level", ["char", "byte", "word"])
def test_tokens_of_a_large_text_are_its_text(start, tmp_path, level):
    """An answer larger than the buffer is whole, at every level."""
    daemon = start(make_model(tmp_path / "model", level=level), {"limits.max_body": 2**24})
    text = "red green house " * 20_000
    tokens = daemon.post("/tokenize", {"text": text}).json()
    assert len(tokens["ids"]) == len(tokens["tokens"]) and tokens["skipped"] == 0
    answer = daemon.post("/detokenize", {"ids": tokens["ids"]})
    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert answer.json()["text"] == (text.strip() if level == "word" else text)
    scored = score(daemon, text=text[:16_000])
    assert len(scored["tokens"]) == scored["token_count"]


def test_tokenizing_that_takes_too_long_is_503(start):
    """Large texts wait for each other, so the last one waits for all others."""
    daemon = start("tiny", {**LONG, "limits.request_timeout": 1})
    body = b'{"text": "%b"}' % ("漢".encode() * 10_000_000)
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(daemon.post("/tokenize", body))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    late = [answer for answer in answers if answer.status != 200]
    assert late and all("limits.request_timeout" in answer.problem(503)["detail"] for answer in late)
    assert all(answer.json()["skipped"] == 10_000_000 for answer in answers if answer.status == 200)
    assert daemon.post("/tokenize", {"text": "a"}).json()["tokens"] == ["a"]
