"""The settings of the section `limits`, tried at their edges. The daemon is healthy afterwards.

Other files test max_score (test_score.py), queue (test_queue.py), max_connections (test_connections.py),
max_connections_per_address (test_listen.py), max_dataset and max_uploads (test_datasets.py), max_import
(test_model_import.py).
"""

import contextlib
import os
import re
import select
import socket
import time

import pytest

from conftest import DEADLINE, read_answer

FIELD = 64  # bytes that a header or cookie takes of limits.max_header beside its text
POST = b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@contextlib.contextmanager
def connected(daemon, *parts):
    with daemon.socket() as connection:
        for part in parts:
            connection.sendall(part)
        yield connection


def ask(daemon, *parts):
    with connected(daemon, *parts) as connection:
        return read_answer(connection)


def end_of(connection):
    """Reads until the other side closes."""
    got = b""
    with contextlib.suppress(ConnectionResetError):
        while data := connection.recv(65536):
            got += data
    return got


def healthy(daemon):
    return daemon.get("/healthz").status == 200


# --- Sizes ---


def test_body_at_its_limit(start):
    daemon = start("tiny", {"limits.max_body": 2000})
    body = b'{"length":1,"prompt":"%s"}'
    fits = body % (b"a" * (2000 - len(body) + 2))
    assert len(fits) == 2000
    assert ask(daemon, POST, b"Content-Length: 2000\r\n\r\n", fits).status == 200
    assert ask(daemon, POST, b"Content-Length: 2001\r\n\r\n", fits + b" ").problem(413)
    chunked = b"Transfer-Encoding: chunked\r\n\r\n7d1\r\n" + fits + b" \r\n0\r\n\r\n"
    assert "limits.max_body, 2000 bytes" in ask(daemon, POST, chunked).problem(413)["detail"]
    assert healthy(daemon)


BIG = 2**18  # size of a body that counts for limits.max_body_memory


def held_back(daemon, stack, body=b" " * BIG):
    """Opens a connection and sends the body except its last byte."""
    connection = stack.enter_context(daemon.socket())
    connection.sendall(POST + b"Content-Length: %d\r\n\r\n" % len(body) + body[:-1])
    return connection


def wait_for_body_memory(daemon, size):
    end = time.monotonic() + DEADLINE
    while (now := int(re.search(r"^lstmd_body_memory_bytes (\d+)", daemon.get("/metrics").body.decode(), re.M)[1])) != size:
        assert time.monotonic() < end, f"{now} bytes of bodies"


@pytest.fixture
def crowded(start):
    """Starts a daemon and takes its memory for large bodies. Returns it and the connections that hold the memory."""
    daemon = start("tiny", {"limits.max_body_memory": 4 * BIG, "limits.max_body": 2 * BIG})
    with contextlib.ExitStack() as stack:
        connections = [held_back(daemon, stack) for _ in range(4)]
        wait_for_body_memory(daemon, 4 * BIG)
        yield daemon, connections


def check_crowded_out(answer):
    assert "limits.max_body_memory together, 1048576 bytes" in answer.problem(503)["detail"]
    assert answer.headers["Retry-After"] == "1" and answer.headers["Connection"] == "close"


def test_large_bodies_have_a_limit_together(crowded):
    daemon, connections = crowded
    check_crowded_out(ask(daemon, POST + b"Content-Length: 70000\r\n\r\n"))
    # The daemon does not know the length before. It throws away the part that has come.
    check_crowded_out(ask(daemon, POST + b"Transfer-Encoding: chunked\r\n\r\n11170\r\n" + b" " * 70_000 + b"\r\n"))
    wait_for_body_memory(daemon, 4 * BIG)
    for connection in connections:  # the requests that have room get answers
        connection.sendall(b" ")
        assert read_answer(connection).problem(400)
    wait_for_body_memory(daemon, 0)
    assert ask(daemon, POST + b"Content-Length: 70002\r\n\r\n{}" + b" " * 70_000).status == 200


def test_small_bodies_have_room_beside_large_ones(crowded):
    daemon, _ = crowded
    for size in (2, 1000, 2**16):
        assert ask(daemon, POST + b"Content-Length: %d\r\n\r\n{}" % size + b" " * (size - 2)).status == 200


def test_clients_that_leave_give_the_memory_of_their_bodies_back(crowded):
    daemon, connections = crowded
    for connection in connections[:2]:
        connection.close()
    wait_for_body_memory(daemon, 2 * BIG)
    assert ask(daemon, POST + b"Content-Length: 70002\r\n\r\n{}" + b" " * 70_000).status == 200


def test_one_body_at_its_limit_always_fits(start):
    daemon = start("tiny", {"limits.max_body": 100_000, "limits.max_body_memory": 1024})
    assert ask(daemon, POST + b"Content-Length: 100000\r\n\r\n{}" + b" " * 99_998).status == 200


def test_a_large_body_does_not_wait_for_all_that_are_larger(start):
    """The daemon parses a megabyte of numbers slowly, and 70 kB of text fast."""
    daemon = start("tiny")
    numbers = b'{"a":[' + b"1," * 520_000 + b"1]}"
    with contextlib.ExitStack() as stack:
        connections = [held_back(daemon, stack, numbers) for _ in range(24)]
        smaller = held_back(daemon, stack, b"{}" + b" " * 70_000)
        wait_for_body_memory(daemon, 24 * 2**20 + 2**17)
        for connection in connections:
            connection.sendall(numbers[-1:])
        smaller.sendall(b" ")
        assert read_answer(smaller).status == 200
        answered, _, _ = select.select(connections, [], [], 0)
        assert len(answered) < 22, "it waited for all of the larger ones"  # two may be under way
        for connection in connections:
            assert read_answer(connection).problem(422)


def test_url_at_its_limit(start):
    daemon = start("tiny", {"limits.max_url": 100})

    def get(size):
        path = b"/healthz?" + b"a" * (size - 9)
        return ask(daemon, b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nX-Request-Id: u\r\n\r\n")

    assert get(100).status == 200
    refused = get(101)
    assert "limits.max_url, 100 bytes" in refused.problem(414)["detail"]
    assert refused.headers["X-Request-Id"] == "u"
    assert healthy(daemon)


def test_longest_url_fits_beside_what_a_browser_sends(daemon):
    headers = {
        "User-Agent": "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 "
        "Safari/537.36",
        "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8",
        "Accept-Language": "de-DE,de;q=0.9,en-US;q=0.8,en;q=0.7",
        "Sec-Ch-Ua": '"Google Chrome";v="131", "Chromium";v="131", "Not_A Brand";v="24"',
        "Sec-Ch-Ua-Mobile": "?0",
        "Sec-Ch-Ua-Platform": '"Windows"',
        "Sec-Fetch-Dest": "document",
        "Sec-Fetch-Mode": "navigate",
        "Sec-Fetch-Site": "none",
        "Sec-Fetch-User": "?1",
        "Upgrade-Insecure-Requests": "1",
        "Connection": "keep-alive",
    }
    path = "/generate?length=1&prompt="
    longest = path + "a" * (5 * 1024 - len(path))
    assert daemon.get(longest, headers=headers).status == 200
    assert "limits.max_url, 5120 bytes" in daemon.get(longest + "a", headers=headers).problem(414)["detail"]


def test_head_at_its_limit(start):
    daemon = start("tiny", {"limits.max_header": 2000})

    def get(size):
        head = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Request-Id: h\r\nX-Long: %s\r\n\r\n"
        return ask(daemon, head % (b"a" * (size - 3 * FIELD - len(head) + 2)))

    assert get(2000).status == 200
    refused = get(2001)
    assert "take 2001 bytes" in refused.problem(431)["detail"]
    assert "limits.max_header, 2000 bytes" in refused.problem(431)["detail"]
    assert refused.headers["X-Request-Id"] == "h"
    assert get(10000).status == 431
    assert healthy(daemon)


def test_prompt_at_its_limit(start):
    daemon = start("tiny", {"limits.max_prompt": 1000})
    for fits in ("a" * 1000, "ä" * 500):
        assert daemon.post("/generate", {"prompt": fits, "length": 1}).status == 200
    for large in ("a" * 1001, "ä" * 500 + "a"):
        answer = daemon.post("/generate", {"prompt": large, "length": 0})
        assert set(answer.fields()) == {"prompt", "length"}
        assert answer.fields()["prompt"] == "has 1001 bytes; limits.max_prompt is 1000"
        assert "limits.max_prompt" in daemon.query(prompt=large).fields()["prompt"]
        error = daemon.post("/v1/completions", {"model": "tiny", "prompt": large}).json()["error"]
        assert error["param"] == "prompt" and "limits.max_prompt" in error["message"]
    assert healthy(daemon)


@pytest.mark.parametrize("field, setting", [("length", "limits.max_length"), ("n", "limits.max_n")])
def test_length_and_n_at_their_limits(start, field, setting):
    daemon = start("tiny", {setting: 5})
    for path, name in (("/generate", field), ("/v1/completions", {"length": "max_tokens"}.get(field, field))):
        base = {"model": "tiny", "prompt": "a"}
        answer = daemon.post(path, {**base, name: 5})
        assert answer.status == 200
        answer = daemon.post(path, {**base, name: 6})
        message = answer.fields()[name] if path == "/generate" else answer.json()["error"]["message"]
        assert f"from {int(name != 'max_tokens')} to 5" in message
    assert healthy(daemon)


# Parts that can fill a head: (text before, one part, its bytes of limits.max_header, text after).
HEADS = {
    "url": (b"GET /healthz?", b"a", 1, b" HTTP/1.1\r\nHost: x\r\n"),
    "parameters": (b"GET /healthz?a", b"&b=c", 4, b" HTTP/1.1\r\nHost: x\r\n"),
    "header": (b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: ", b"a", 1, b"\r\n"),
    "headers": (b"GET /healthz HTTP/1.1\r\nHost: x\r\n", b"X-A:b\r\n", 7 + FIELD, b""),
    "cookie": (b"GET /healthz HTTP/1.1\r\nHost: x\r\nCookie: a=", b"b", 2, b"\r\n"),
    "cookies": (b"GET /healthz HTTP/1.1\r\nHost: x\r\nCookie: a", b";b=c", 8 + FIELD, b"\r\n"),
    "header before a body": (POST + b"X-A: ", b"a", 1, b"\r\nContent-Length: 12\r\n"),
}


@pytest.mark.parametrize("name", HEADS)
def test_head_of_every_size_is_answered(start, name):
    """The HTTP library's memory for a connection ends somewhere above the limit. A head of any size gets an answer."""
    daemon = start("tiny", {"limits.max_url": "7KiB"})
    first, one, size, last = HEADS[name]
    last += b"X-Request-Id: %s\r\n\r\n" % (b"i" * 128) + (b'{"length":1}' if first.startswith(POST) else b"")
    step = max(1, 16 // size)
    answers = [ask(daemon, first + one * count + last) for count in range(5400 // size, 9500 // size, step)]
    fits = [answer.status == 200 for answer in answers]
    assert fits[0] and not fits[-1] and fits == sorted(fits, reverse=True)
    detail = answers[fits.index(False)].problem(431)["detail"]
    assert 7168 < int(re.search(r"take (\d+) bytes", detail)[1]) <= 7168 + step * size
    assert all(answer.status in (414, 431) for answer in answers[fits.index(False) :])


def used_once(daemon):
    connection = daemon.socket()
    connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert read_answer(connection).status == 200
    return connection


@pytest.mark.skipif(bool(os.environ.get("SANITIZE")), reason="a sanitizer needs memory of its own")
def test_idle_connection_costs_less_than_10_kb(daemon):
    """Each connection has had an answer. After that, all of the HTTP library's memory for it is resident."""

    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(used_once(daemon))
        before = daemon.resident_bytes()
        for _ in range(500):
            stack.enter_context(used_once(daemon))
        assert daemon.resident_bytes() - before < 500 * 10_000


@pytest.mark.skipif(bool(os.environ.get("SANITIZE")), reason="a sanitizer keeps what is freed")
def test_memory_of_many_connections_goes_back_to_the_system(start):
    daemon = start()
    before = daemon.resident_bytes()
    with contextlib.ExitStack() as stack:
        for _ in range(700):
            stack.enter_context(used_once(daemon))
        most = daemon.resident_bytes()
        assert most - before > 700 * 5000
    end = time.monotonic() + DEADLINE
    while daemon.resident_bytes() - before > (most - before) / 2:
        assert healthy(daemon) and time.monotonic() < end, (before, most, daemon.resident_bytes())


# --- Refusals by libmicrohttpd itself ---

UNREADABLE = {
    "request line": (b"GET / HTTX/1.1\r\n\r\n", 400),
    "version": (b"GET / HTTP/9.9\r\nHost: x\r\n\r\n", 505),
    "header without a colon": (b"GET / HTTP/1.1\r\nHost: x\r\nnonsense\r\n\r\n", 400),
    "content length": (POST + b"Content-Length: 5x\r\n\r\n", 400),
    "endless content length": (POST + b"Content-Length: 99999999999999999999999\r\n\r\n", 413),
    "endless header": (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 1_000_000, 431),
    "endless URL": (b"GET /" + b"a" * 1_000_000, 414),
    "chunk": (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    "endless chunk": (POST + b"Transfer-Encoding: chunked\r\n\r\n99999999999999999999999\r\n", 413),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_unreadable_request_is_answered_closed_and_logged_once(start, name):
    data, status = UNREADABLE[name]
    daemon = start("tiny", {"limits.idle_timeout": 3600})
    with daemon.socket() as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(data)
        got = end_of(connection)
    assert got.startswith(b"HTTP/1.1 %d " % status) or (got == b"" and len(data) > 100_000)  # a reset may overtake the answer
    assert f"status={status} " in daemon.wait_log(r"event=request .*status=").replace("\n", " ") + " "
    assert healthy(daemon)
    daemon.wait_log("route=/healthz")
    assert sum("event=request" in line for line in daemon.lines) == 2


# --- Time ---


def test_slow_head_is_closed_though_bytes_keep_coming(start):
    daemon = start("tiny", {"limits.idle_timeout": 1})
    begun = time.monotonic()
    with daemon.socket() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        connection.settimeout(0.1)
        closed = False
        while not closed and time.monotonic() - begun < DEADLINE:
            try:
                connection.sendall(b"a")
                closed = connection.recv(1) == b""
            except TimeoutError:
                continue
            except OSError:
                closed = True
    assert closed and time.monotonic() - begun > 0.5
    assert healthy(daemon)


def test_slow_body_gets_408_though_bytes_keep_coming(start):
    daemon = start("tiny", {"limits.body_timeout": 1, "limits.idle_timeout": 3600})
    begun = time.monotonic()
    with connected(daemon, POST, b"X-Request-Id: slow\r\nContent-Length: 100000\r\n\r\n") as connection:
        connection.settimeout(0.1)
        got = b""
        while not got and time.monotonic() - begun < DEADLINE:
            connection.sendall(b" ")
            with contextlib.suppress(TimeoutError):
                got = connection.recv(65536)
        with contextlib.suppress(ConnectionResetError):
            got += end_of(connection)
    assert got.startswith(b"HTTP/1.1 408 ") and b"limits.body_timeout" in got and b"X-Request-Id: slow" in got
    assert time.monotonic() - begun > 0.5
    assert "status=408" in daemon.wait_log("id=slow ")
    assert healthy(daemon)


def test_body_that_is_slow_and_steady_enough_is_taken(start):
    """The client must send 64 KiB in time. The whole body may take any time."""
    daemon = start("tiny", {"limits.body_timeout": 2, "limits.max_prompt": "1MiB"})
    body = b'{"length":1,"prompt":"%s"}' % (b"a" * 700_000)
    with connected(daemon, POST, b"Content-Length: %d\r\n\r\n" % len(body)) as connection:
        begun = time.monotonic()
        for at in range(0, len(body), 80_000):  # six times the necessary speed
            connection.sendall(body[at : at + 80_000])
            if at + 80_000 < len(body):
                connection.settimeout(0.3)
                with pytest.raises(TimeoutError):
                    connection.recv(1)
        connection.settimeout(DEADLINE)
        assert read_answer(connection).status == 200
    assert time.monotonic() - begun > 2


def test_idle_connection_is_kept_until_its_time_is_up(start):
    daemon = start("tiny", {"limits.idle_timeout": 1})
    with connected(daemon, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n") as connection:
        assert read_answer(connection).status == 200
        begun = time.monotonic()
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_answer(connection).status == 200
        assert connection.recv(1) == b""
    assert time.monotonic() - begun > 0.5
    assert healthy(daemon)


def test_reply_that_is_not_read_ends(start):
    daemon = start("tiny", {"limits.write_timeout": 1, "limits.idle_timeout": 3600, "limits.max_length": 10_000_000})
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect((daemon.address, daemon.port))
    connection.settimeout(DEADLINE)
    for _ in range(1000):  # more than two sockets' buffers hold
        connection.sendall(b"GET /openapi.yaml HTTP/1.1\r\nHost: x\r\n\r\n")
    daemon.wait_log("status=499")
    connection.close()
    assert healthy(daemon)


def test_generation_that_takes_too_long_is_503(start):
    daemon = start("tiny", {"limits.request_timeout": 1, "limits.max_length": 1_000_000_000 // 100})
    answer = daemon.post("/generate", {"length": 10_000_000, "seed": 1})
    assert "limits.request_timeout" in answer.problem(503)["detail"]
    assert answer.headers["X-Should-Retry"] == "false" and "Retry-After" not in answer.headers
    stream = daemon.post("/generate", {"length": 10_000_000, "seed": 1, "stream": True})
    assert stream.status == 200
    assert b"event: error" in stream.body and b"limits.request_timeout" in stream.body
    assert healthy(daemon)


# --- Clients that left ---


@pytest.mark.parametrize("cut", [5, 30, 70, 140, 100_000])
def test_connection_of_a_client_that_left_is_closed_at_once(start, cut):
    daemon = start("tiny", {"limits.idle_timeout": 3600, "limits.body_timeout": 3600})
    data = POST + b"X-Request-Id: left\r\nContent-Length: 200000\r\n\r\n" + b" " * 100_000

    def sockets():
        inodes = set(re.findall(r"socket:\[(\d+)\]", " ".join(links(daemon))))
        return len(inodes)

    before = sockets()
    for _ in range(50):
        with connected(daemon, data[:cut]):
            pass
    end = time.monotonic() + DEADLINE
    while sockets() > before:
        assert time.monotonic() < end, sockets()
    assert healthy(daemon)


def links(daemon):
    folder = f"/proc/{daemon.process.pid}/fd"
    for name in os.listdir(folder):
        with contextlib.suppress(OSError):
            yield os.readlink(f"{folder}/{name}")


# --- The access log ---


def test_access_line_has_bytes_client_and_trace(daemon):
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    body = b'{"length": 3, "seed": 1}'
    headers = {"Content-Type": "application/json", "X-Request-Id": "line"}
    answer = daemon.request("POST", "/generate", body, {**headers, "traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
    line = daemon.wait_log("id=line ")
    for field in (f"trace={trace}", "client=127.0.0.1", "method=POST", "route=/generate", "status=200"):
        assert f" {field} " in line
    assert f" bytes_in={len(body)} bytes={len(answer.body)} " in line
    for name in ("ms", "queue_ms", "prompt_ms", "generate_ms", "tokens"):
        assert re.search(rf" {name}=\d", line), line


@pytest.mark.parametrize(
    "trace",
    [
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "hello",
    ],
)
def test_traceparent_that_is_not_valid_is_not_logged(daemon, trace):
    identity = f"t{abs(hash(trace))}"
    daemon.get("/healthz", headers={"traceparent": trace, "X-Request-Id": identity})
    assert "trace=" not in daemon.wait_log(f"id={identity} ")
