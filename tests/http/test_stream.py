"""Streams: their text equals that of a whole answer, when pieces come, and what happens to clients that do not read."""

import http.client
import json
import re
import socket
import struct
import threading
import time
import urllib.parse

import pytest
from make_model import WORDS, make_model

from api_document import DOCUMENT, check, validate
from conftest import DEADLINE

EVENT = DOCUMENT["components"]["schemas"]["StreamEvent"]
FOREVER = 5_000_000
ONE_SLOT = {"engine.threads": 1, "engine.max_batch": 1, "limits.queue": 0, "limits.max_length": 10_000_000}


def parse(body):
    """Returns the checked events and the comments of a body. The body must end as a stream does."""
    blocks = re.sub(r"\Aid: [^\n]+\n", "", body.decode()).split("\n\n")  # a GET stream starts with an id
    assert blocks.pop() == ""
    comments = [block for block in blocks if block.startswith(":")]
    events = [block for block in blocks if not block.startswith(":")]
    assert events.pop() == "data: [DONE]"
    documents = [json.loads(event.removeprefix("data: ")) for event in events]
    for document in documents:
        validate(document, EVENT)
    return documents, comments


def stream(daemon, **fields):
    answer = daemon.post("/generate", {**fields, "stream": True})
    assert answer.status == 200, answer.body
    assert answer.headers["Content-Type"] == "text/event-stream"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Accel-Buffering"] == "no"
    return parse(answer.body)[0]


def joined(events, index=0):
    return "".join(event["delta"] for event in events if event["index"] == index)


def send(daemon, **fields):
    """Starts a stream and reads nothing."""
    return daemon.send_generate(**fields, stream=True)


def wait_until(condition):
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end


@pytest.mark.parametrize("fields", [
    {}, {"temperature": 2}, {"stop": ["a", "€", "zq"]}, {"logprobs": 3}, {"logit_bias": {"€": 5, "é": 5}}, {"length": 3000},
])
def test_stream_is_the_text(daemon, fields):
    for seed in range(12):
        asked = {"prompt": "Today ", "length": 150, "seed": seed, **fields}
        events, whole = stream(daemon, **asked), daemon.generate(**asked)
        assert joined(events) == whole["completion"]
        assert sum(event["token_count"] for event in events) == whole["usage"]["completion_tokens"]
        assert events[-1]["finish_reason"] == whole["finish_reason"]
        assert events[-1]["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]
        assert events[-1]["seed"] == seed and events[-1]["model"] == "tiny"
        assert [event for event in events if "finish_reason" in event] == events[-1:]
        logprobs = [token for event in events for token in event.get("logprobs", [])]
        assert logprobs == whole.get("logprobs", [])


@pytest.mark.parametrize("stop", ["q", "ab", "aaab", "€", "é€"])
def test_nothing_of_a_stop_text_leaks(daemon, stop):
    bias = {character: 6 for character in set("ab" + stop)}
    for seed in range(20):
        events = stream(daemon, length=300, seed=seed, stop=stop, logit_bias=bias)
        text = joined(events)
        assert stop not in text
        free = daemon.generate(length=300, seed=seed, logit_bias=bias)["completion"]
        assert text == free.split(stop)[0]
        assert events[-1]["finish_reason"] == ("stop" if stop in free else "length")


def test_bytes_that_are_no_characters(start, tmp_path):
    daemon = start(make_model(tmp_path / "bytes", level="byte"))
    for seed in range(20):
        events = stream(daemon, length=200, seed=seed)
        whole = daemon.generate(length=200, seed=seed)
        assert joined(events) == whole["completion"]
        assert "\ufffd" in whole["completion"]


def test_words_are_joined_and_stopped_across(start, tmp_path):
    daemon = start(make_model(tmp_path / "words", level="word"))
    fields = {"prompt": "red", "length": 200, "seed": 1}
    whole = daemon.generate(**fields)
    assert len(whole["completion"].split()) == 200 and set(whole["completion"].split()) <= set(WORDS)
    assert whole["text"] == "red" + whole["completion"] and whole["completion"].startswith(" ")
    assert joined(stream(daemon, **fields)) == whole["completion"]
    stop = whole["completion"][300:306]  # starts and ends anywhere in words
    assert " " in stop
    events = stream(daemon, **fields, stop=stop)
    assert joined(events) == whole["completion"].split(stop)[0] and events[-1]["finish_reason"] == "stop"


def test_several_continuations(daemon):
    events = stream(daemon, prompt="a", length=80, seed=7, n=3)
    whole = daemon.generate(prompt="a", length=80, seed=7, n=3)
    assert [choice["seed"] for choice in whole["choices"]] == [7, 8, 9]
    assert whole["completion"] == whole["choices"][0]["completion"]
    assert whole["usage"]["completion_tokens"] == 240
    for index, choice in enumerate(whole["choices"]):
        assert joined(events, index) == choice["completion"]
        assert choice["completion"] == daemon.generate(prompt="a", length=80, seed=7 + index)["completion"]
        ends = [event for event in events if event["index"] == index and "finish_reason" in event]
        assert [end["seed"] for end in ends] == [7 + index]


def test_text_that_ends_at_once(start):
    events = stream(start("ending"), prompt="abc")
    assert len(events) == 1 and events[0]["delta"] == "" and events[0]["finish_reason"] == "eos"


def test_stream_by_query_and_head(daemon):
    query = "/generate?" + urllib.parse.urlencode({"length": 20, "seed": 1, "stream": "true"})
    answer = daemon.get(query)
    assert answer.body.decode().startswith("id: " + answer.headers["X-Request-Id"] + "\ndata: ")
    events, _ = parse(answer.body)
    assert joined(events) == daemon.generate(length=20, seed=1)["completion"]
    head = daemon.request("HEAD", query)
    assert (head.status, head.headers["Content-Type"], head.body) == (200, "text/event-stream", b"")


def test_http_1_0_client(daemon):
    with daemon.socket() as connection:
        connection.sendall(b"GET /generate?stream=true&length=20&seed=1 HTTP/1.0\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"chunked" not in head.lower()
    assert joined(parse(body)[0]) == daemon.generate(length=20, seed=1)["completion"]


def test_event_source_that_comes_back_gets_no_other_text(daemon):
    """After every end of a stream, an EventSource asks again with the id of the last event, until it gets 204."""
    def begun():
        return re.search(r"^lstmd_completion_tokens_total (.*)", daemon.get("/metrics").body.decode(), re.M)[1]

    query = "/generate?" + urllib.parse.urlencode({"length": 20, "stream": "true"})
    id = re.search(rb"^id: (.*)\n", daemon.get(query).body)[1].decode()
    before = begun()
    answer = daemon.get(query, headers={"Last-Event-ID": id})
    assert (answer.status, answer.body) == (204, b"")
    check(DOCUMENT["paths"]["/generate"]["get"], answer)
    assert begun() == before
    assert daemon.get("/generate?length=1", headers={"Last-Event-ID": id}).status == 200
    assert b"id:" not in daemon.post("/generate", {"length": 20, "stream": True}).body.splitlines()[0][:3]


def test_connection_is_kept_behind_a_stream(daemon):
    connection = http.client.HTTPConnection(daemon.address, daemon.port, timeout=DEADLINE)
    for _ in range(3):
        connection.request("GET", "/generate?stream=true&length=50&seed=1")
        assert len(joined(parse(connection.getresponse().read())[0])) == 50
    connection.close()


def test_prompt_larger_than_the_http_thread_takes(daemon):
    events = stream(daemon, prompt="ab" * 100_000, length=20, seed=3)
    assert joined(events) == daemon.generate(prompt="ab" * 100_000, length=20, seed=3)["completion"]


def test_refusals_come_before_the_stream(start):
    daemon = start("tiny", ONE_SLOT)
    assert "length" in daemon.post("/generate", {"stream": True, "length": 0}).fields()
    with daemon.occupy(FOREVER):
        answer = daemon.post("/generate", {"stream": True})
        assert "try again" in answer.problem(503)["detail"]


def test_first_text_comes_long_before_the_last(start):
    daemon = start("tiny", {"limits.max_length": 10_000_000})
    with send(daemon, length=FOREVER) as connection:
        got = b""
        while got.count(b'"delta"') < 3:
            got += connection.recv(4096)
    line = daemon.wait_log("id=sent ")
    assert "status=499" in line and int(re.search(r" tokens=(\d+)", line)[1]) < FOREVER


@pytest.mark.parametrize("how", ["close", "reset", "half"])
@pytest.mark.parametrize("reads", [True, False])
def test_client_that_leaves_a_stream_frees_its_slot(start, how, reads):
    daemon = start("tiny", ONE_SLOT)
    connection = send(daemon, length=FOREVER)
    if reads:
        assert connection.recv(100)
    else:
        wait_until(lambda: daemon.query(length=1).status == 503)
    if how == "half":
        connection.shutdown(socket.SHUT_WR)
    else:
        if how == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    wait_until(lambda: daemon.query(length=1).status == 200)
    line = daemon.wait_log("id=sent ")
    assert "status=499" in line and int(re.search(r" tokens=(\d+)", line)[1]) < FOREVER
    connection.close()


# This stream is silent for seconds: it shares the slot, and the network reads its prompt.
SILENT = {**ONE_SLOT, "limits.queue": 1, "server.ping_seconds": 0.2, "limits.max_body": 2**26, "limits.max_prompt": 2**26}
LONG_PROMPT = "ab" * 2**20


@pytest.mark.parametrize("how", ["close", "reset"])
def test_client_that_leaves_a_stream_that_waits_frees_its_place(start, how):
    daemon = start("tiny", SILENT)
    busy = send(daemon, length=FOREVER)
    assert busy.recv(100)
    waiting = send(daemon, prompt=LONG_PROMPT, length=5)
    while b": ping" not in waiting.recv(4096):
        pass
    daemon.query(length=1).problem(503)
    if how == "reset":
        waiting.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    waiting.close()
    line = daemon.wait_log("id=sent ")
    assert "status=499" in line and " tokens=0" in line
    with send(daemon, length=FOREVER) as next_one:  # has the place and gets its turns
        while b"data: " not in next_one.recv(4096):
            pass
    busy.close()


def test_client_that_does_not_read_is_cut_off(start):
    daemon = start("tiny", {**ONE_SLOT, "limits.write_timeout": 1})
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(DEADLINE)
    connection.connect((daemon.address, daemon.port))
    connection.sendall(b"GET /generate?stream=true&length=%d HTTP/1.1\r\nHost: x\r\nX-Request-Id: slow\r\n\r\n" % FOREVER)
    line = daemon.wait_log("id=slow ")
    assert "status=499" in line
    wait_until(lambda: daemon.query(length=1).status == 200)
    connection.close()


def test_slow_reader_gets_all_of_it_in_fewer_events(daemon):
    with daemon.socket() as connection:
        connection.sendall(b"GET /generate?stream=true&length=10000&seed=1 HTTP/1.0\r\nX-Request-Id: late\r\n\r\n")
        daemon.query(length=10000)
        answer = b"".join(iter(lambda: connection.recv(100), b""))
    events, _ = parse(answer.partition(b"\r\n\r\n")[2])
    assert joined(events) == daemon.generate(length=10000, seed=1)["completion"]
    assert len(events) < 10000


def test_silent_stream_pings(start):
    daemon = start("tiny", SILENT)
    busy = send(daemon, length=FOREVER)
    assert busy.recv(100)
    with send(daemon, prompt=LONG_PROMPT, length=5) as connection:
        got = b""
        while got.count(b": ping\n\n") < 3:
            got += connection.recv(4096)
        busy.close()
        while b"[DONE]" not in got:
            got += connection.recv(4096)
    assert b"event-stream" in got


def test_shutdown_is_said_in_the_stream(start):
    daemon = start("tiny", {"limits.max_length": 10_000_000, "server.drain_seconds": 0})
    connection = send(daemon, length=FOREVER)
    assert connection.recv(100)
    daemon.signal()
    got = b"".join(iter(lambda: connection.recv(65536), b""))
    assert b"event: error\ndata: " in got and b"[DONE]" not in got
    problem = json.loads(re.search(rb"event: error\ndata: (.*)\n", got)[1])
    assert problem["status"] == 503 and "shut down" in problem["detail"]
    connection.close()


def test_streams_side_by_side(daemon):
    alone = [daemon.generate(length=400, seed=seed)["completion"] for seed in range(12)]
    together = [None] * len(alone)

    def run(seed):
        together[seed] = joined(stream(daemon, length=400, seed=seed))

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(len(alone))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone


def test_streams_that_break_off_at_random_leave_nothing(start):
    daemon = start("tiny", {"limits.max_length": 10_000_000, "engine.threads": 2})

    def come_and_go(reads):
        for _ in range(10):
            with send(daemon, length=FOREVER) as connection:
                connection.recv(reads)

    threads = [threading.Thread(target=come_and_go, args=(1 + 500 * i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: sum("status=499" in line for line in daemon.lines) == 80)
    assert daemon.generate(length=50)["timings"]["queue_ms"] < 1000 * DEADLINE
