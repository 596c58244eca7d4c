"""Answers of any size. The daemon writes them piece by piece in little memory, and not on the thread that answers probes."""

import contextlib
import http.client
import json
import pathlib
import socket
import threading
import time

import pytest

from conftest import DEADLINE, read_answer
from make_model import make_model

MEGABYTE = 2**20
GREEDY = {"prompt": "a", "length": 10000, "ignore_eos": True, "n": 8, "logprobs": 20, "seed": 1}
PROBE_SECONDS = 20 if DEADLINE > 100 else 2  # a deadline: the test asserts that nobody waits for the answer


def peak_bytes(daemon):
    status = pathlib.Path(f"/proc/{daemon.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


@contextlib.contextmanager
def probing(daemon):
    """Asks /healthz all the time. Each answer must come before the deadline."""
    over, slow, asked = threading.Event(), [], []

    def ask():
        while not over.is_set():
            try:
                asked.append(daemon.get("/healthz", timeout=PROBE_SECONDS).status)
            except OSError as error:
                slow.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    yield asked
    over.set()
    thread.join()
    assert not slow and set(asked) == {200}, slow


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A model with many characters, so there really are twenty alternatives."""
    text = "".join(map(chr, range(32, 127))) + "äöüß€日本"
    return make_model(tmp_path_factory.mktemp("wide") / "wide", text=text)


@pytest.mark.parametrize("path, length", [("/generate", "length"), ("/v1/completions", "max_tokens")])
def test_probes_do_not_wait_for_a_large_answer_and_memory_stays_small(start, wide, path, length):
    daemon = start(wide)
    fields = dict(GREEDY)
    fields[length] = fields.pop("length")
    daemon.post(path, {**fields, length: 100})
    before = daemon.resident_bytes()
    with probing(daemon) as asked:
        answer = daemon.post(path, fields)
    assert answer.status == 200 and len(asked) > 3
    assert answer.headers["Transfer-Encoding"] == "chunked"
    if DEADLINE < 100:  # a sanitizer's memory is not the daemon's
        assert peak_bytes(daemon) - before < 64 * MEGABYTE
        assert daemon.resident_bytes() - before < 8 * MEGABYTE
    document = answer.json()
    assert len(answer.body) > 10 * MEGABYTE
    lists = [choice["logprobs"] for choice in document["choices"]]
    assert [len(one if path == "/generate" else one["tokens"]) for one in lists] == [10000] * 8


def test_large_answer_says_what_small_ones_say(daemon):
    """The text is the same whether or not it fits the buffer. If it fits, the answer has a length."""
    large = daemon.post("/generate", {"length": 3000, "seed": 4, "logprobs": 3})
    small = daemon.post("/generate", {"length": 50, "seed": 4, "logprobs": 3})
    assert "Content-Length" not in large.headers and int(small.headers["Content-Length"]) == len(small.body)
    assert large.json()["logprobs"][:50] == small.json()["logprobs"]
    assert "".join(item["token"] for item in large.json()["logprobs"]) == large.json()["completion"]


def test_client_of_http_1_0_gets_a_large_answer_until_the_connection_closes(daemon):
    body = json.dumps({"length": 5000, "seed": 4, "logprobs": 3}).encode()
    with contextlib.closing(daemon.socket()) as connection:
        connection.sendall(b"POST /generate HTTP/1.0\r\nContent-Type: application/json\r\n"
                           b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        answer = read_answer(connection)
    assert "Transfer-Encoding" not in answer.headers and "Content-Length" not in answer.headers
    assert len(answer.json()["logprobs"]) == 5000


def test_connection_goes_on_after_a_large_answer(daemon):
    connection = http.client.HTTPConnection(daemon.address, daemon.port, timeout=DEADLINE)
    with contextlib.closing(connection):
        for _ in range(3):
            connection.request("POST", "/generate", json.dumps({"length": 4000, "seed": 4, "logprobs": 2}),
                               {"Content-Type": "application/json"})
            assert len(json.loads(connection.getresponse().read())["logprobs"]) == 4000


def test_client_that_does_not_read_costs_a_buffer_and_is_dropped(start):
    daemon = start("tiny", {"limits.write_timeout": 1, "limits.idle_timeout": 3600})
    fields = {"length": 10000, "seed": 1, "n": 8, "logprobs": 20}
    daemon.post("/generate", {**fields, "length": 100})
    before = daemon.resident_bytes()
    body = json.dumps(fields).encode()
    connections = []
    for _ in range(4):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((daemon.address, daemon.port))
        connection.sendall(b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                           b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        connections.append(connection)
    end = time.monotonic() + DEADLINE
    while sum("status=499" in line for line in daemon.lines) < 4:
        assert time.monotonic() < end, daemon.lines
        daemon.get("/healthz", timeout=PROBE_SECONDS)
    # The client got no whole answer: the daemon cut the connection.
    for connection in connections:
        connection.settimeout(DEADLINE)
        with contextlib.closing(connection), pytest.raises((http.client.IncompleteRead, ConnectionError)):
            read_answer(connection)
    if DEADLINE < 100:
        assert peak_bytes(daemon) - before < 4 * 16 * MEGABYTE
        assert daemon.resident_bytes() - before < 8 * MEGABYTE


def test_answer_that_is_being_written_does_not_keep_the_daemon(start):
    """An ending daemon cuts answers that it is still sending."""
    daemon = start("tiny", {"server.drain_seconds": 0})
    body = json.dumps({"length": 10000, "seed": 1, "n": 8, "logprobs": 20}).encode()
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect((daemon.address, daemon.port))
    connection.settimeout(DEADLINE)
    with contextlib.closing(connection):
        connection.sendall(b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                           b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        assert connection.recv(1) == b"H"
        daemon.signal()
        assert daemon.wait() == 0
