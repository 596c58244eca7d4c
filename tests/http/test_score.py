"""POST /score, /tokenize, /detokenize."""

import math
import re
import socket

import pytest


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
