"""Where a request ends (RFC 9112): the tests send raw bytes. If two readers could read a head differently, it gets one answer
and the daemon closes the connection. The daemon does not take the bytes after it for a request."""

import concurrent.futures
import contextlib
import email.utils
import gzip
import json
import os
import re
import select
import socket
import threading
import time

import pytest

from conftest import ADMIN, DEADLINE, read_answer
from test_churn import descriptors, wait_for_descriptors

JSON = b'{"prompt":"a","length":1}'
SECOND = b"GET /readyz HTTP/1.1\r\nHost: x\r\nX-Request-Id: SECOND\r\nConnection: close\r\n\r\n"


def head(*lines, start=b"GET /healthz HTTP/1.1", host=b"Host: x"):
    return b"".join(line + b"\r\n" for line in (start, *filter(None, [host]), *lines, b""))


def post(*lines, body=JSON):
    return head(b"Content-Type: application/json", *lines, start=b"POST /generate HTTP/1.1") + body


def chunked(*lines, body=b"19\r\n" + JSON + b"\r\n0\r\n\r\n"):
    return post(*lines, body=body)


CHUNKED = b"Transfer-Encoding: chunked"
LENGTH = b"Content-Length: 25"
CLOSE_WAIT = 8  # include/net/tcp_states.h

# name: (bytes, status). If the status is 200, SECOND, sent after it, gets an answer, too, except after a body in chunks.
# Otherwise it gets none, and the connection closes.
CASES = {
    "plain": (head(), 200),
    "body": (post(LENGTH), 200),
    "expectation of a body": (post(LENGTH, b"Expect: 100-continue"), 200),
    "expectation of no body": (head(b"Expect: 100-continue"), 200),
    "expectation of an empty body": (head(b"Expect: 100-continue", b"Content-Length: 0"), 200),
    "expectation of zeros": (head(b"Expect: 100-Continue", b"Content-Length: 000"), 200),
    "length with zeros before it": (post(b"Content-Length: 0025"), 200),
    "no space behind the colon": (post(b"Content-Length:25"), 200),
    "spaces and tabs around a value": (head(b"X-A: \t b \t"), 200),
    "NUL and LF for CR and LF": (head(b"X-A: b\0\nX-B: c"), 200),  # the library does not show the difference
    "empty value": (head(b"X-A:"), 200),
    "bytes beyond ASCII": (head(b"X-A: \xc3\xa4\xff"), 200),
    "every character of a name": (head(b"!#$%&'*+-.^_`|~09azAZ: x"), 200),
    "cookies": (head(b'Cookie: a=b; c="d"; e'), 200),
    "two headers of one name": (head(b"X-A: b", b"X-A: c"), 200),
    "empty lines before it": (b"\r\n\r\n" + head(), 200),
    "target that is not ASCII": (head(start=b"GET /generate?length=1&prompt=\xc3\xa4 HTTP/1.1"), 200),
    "later version": (head(start=b"GET /healthz HTTP/1.2"), 200),
    "options of everything": (head(start=b"OPTIONS * HTTP/1.1"), 204),
    # Lengths (6.2, 6.3)
    "two lengths, first small": (post(LENGTH, b"Content-Length: 105"), 400),
    "two lengths, first large": (post(b"Content-Length: 105", LENGTH), 400),
    "the same length twice": (post(LENGTH, LENGTH), 400),
    "list of lengths": (post(b"Content-Length: 25, 25"), 400),
    "length with a sign": (post(b"Content-Length: +25"), 400),
    "negative length": (post(b"Content-Length: -5"), 400),
    "hexadecimal length": (post(b"Content-Length: 0x19"), 400),
    "length with a fraction": (post(b"Content-Length: 25.0"), 400),
    "length with a letter": (post(b"Content-Length: 25x"), 400),
    "length of nothing": (post(b"Content-Length:"), 400),
    "length of GET": (head(b"Content-Length: +0"), 400),
    "length with a NUL": (post(b"Content-Length: 25\0009"), 400),
    "length beyond 64 bits": (post(b"Content-Length: 99999999999999999999999"), 413),
    "length of 2^64 - 1": (post(b"Content-Length: 18446744073709551615"), 413),
    # Transfer codings (6.1)
    "chunks beside a length": (chunked(CHUNKED, b"Content-Length: 116"), 400),
    "length beside chunks": (chunked(b"Content-Length: 116", CHUNKED), 400),
    "chunks twice": (chunked(CHUNKED, CHUNKED), 400),
    "chunks in chunks": (chunked(b"Transfer-Encoding: chunked, chunked"), 400),
    "identity": (post(b"Transfer-Encoding: identity"), 400),
    "unknown coding": (post(b"Transfer-Encoding: xchunked"), 400),
    "coding behind chunks": (chunked(b"Transfer-Encoding: chunked, gzip"), 400),
    "coding before chunks": (chunked(b"Transfer-Encoding: gzip, chunked"), 501),
    "coding with a control character": (chunked(b"Transfer-Encoding: \x0bchunked"), 400),
    "coding and a length of HTTP/1.0": (head(CHUNKED, start=b"POST /generate HTTP/1.0"), 400),
    "coding before the colon": (chunked(b"Transfer-Encoding : chunked"), 400),
    # Names and values (5.1, 5.5)
    "space before a colon": (post(b"Content-Length : 25"), 400),
    "tab before a colon": (post(b"Content-Length\t: 25"), 400),
    "space in a name": (head(b"X A: b"), 400),
    "no name": (head(b": b"), 400),
    "name that is not ASCII": (head(b"X-\xc3\xa4: b"), 400),
    "NUL in a value": (head(b"X-A: b\0c"), 400),
    "NUL at the end of a value": (head(b"X-A: b\0"), 400),
    "header behind a NUL": (head(b"X-A: b\0\0X-B\0c"), 400),
    "NUL before a name": (head(b"\0X-A: b"), 400),
    "token and a NUL": (head(b"Authorization: Bearer admin-token-of-the-tests\0junk", start=b"GET /models HTTP/1.1"), 400),
    "control character in a value": (head(b"X-A: b\x01c"), 400),
    "DEL in a value": (head(b"X-A: b\x7fc"), 400),
    "CR in a value": (head(b"X-A: b\rX-B: c"), 400),
    "folded value": (head(b"X-A: b\r\n c"), 400),
    "folded value with a tab": (head(b"X-A: b\r\n\tc"), 400),
    "folded value of blanks": (head(b"X-A: b\r\n  "), 400),
    "fold that makes a length": (post(b"Content-Len: 25\r\n gth"), 400),
    "fold in the middle": (head(b"X-A: b\r\n c", b"X-B: d"), 400),
    "fold behind blanks": (head(b"X-A:      b\r\n c", b"X-B: d"), 400),
    "first line folded": (head(b"X-A: b", host=b" Host: x"), 400),
    "bare LF behind a value": (head(b"X-A: b\nX-B: c"), 400),
    "bare LF behind the request line": (b"GET /healthz HTTP/1.1\nHost: x\r\n\r\n", 400),
    "bare LF at the end": (head()[:-2] + b"\n", 400),
    "bare LF everywhere": (head().replace(b"\r\n", b"\n"), 400),
    "NUL for the last line": (head()[:-2] + b"\0\r\n", 400),
    "two tokens": (head(b"Authorization: Bearer a", b"Authorization: Bearer b"), 400),
    "two types": (post(LENGTH, b"Content-Type: text/plain"), 400),
    "expectation": (post(LENGTH, b"Expect: a-miracle"), 417),
    "malformed chunk": (chunked(CHUNKED, body=b"zz\r\n"), 400),
    "chunk beyond 64 bits": (chunked(CHUNKED, body=b"99999999999999999999999\r\n"), 413),
    "chunk that is longer than it says": (chunked(CHUNKED, body=b"18\r\n" + JSON + b"\r\n0\r\n\r\n"), 400),
    "endless size of a chunk": (chunked(CHUNKED, body=b"0" * 20_000), 400),
    "endless chunk extension": (chunked(CHUNKED, body=b"5;" + b"a" * 20_000), 400),
    "endless extension of a later chunk": (chunked(CHUNKED, body=b"5\r\n" + JSON[:5] + b"\r\n5;" + b"a" * 20_000), 400),
    "endless trailer": (chunked(CHUNKED, body=b"0\r\nX-A: " + b"a" * 20_000), 431),
    "endless head": (head(b"X-A: " + b"a" * 20_000), 431),
    # The request line (3)
    "space in the target": (head(start=b"GET /healthz /readyz HTTP/1.1"), 400),
    "two spaces": (head(start=b"GET  /healthz HTTP/1.1"), 400),
    "tab in the target": (head(start=b"GET /healthz\t HTTP/1.1"), 400),
    "NUL in the target": (head(start=b"GET /healthz\0 HTTP/1.1"), 400),
    "DEL in the target": (head(start=b"GET /healthz?\x7f HTTP/1.1"), 400),
    "method that is no token": (head(start=b"G@T /healthz HTTP/1.1"), 400),
    # Host (3.2)
    "no host": (head(host=None), 400),
    "two hosts": (head(b"Host: y"), 400),
    "the same host twice": (head(b"host: x"), 400),
    # Cookies: nobody reads them, but the library fails on some
    "cookie with a quote": (head(b'Cookie: =;a="'), 400),
    "cookie with a quote and a length with a sign": (post(b'Cookie: =;a="', b"Content-Length: +5"), 400),
    # With this length, the library closes such a connection silently.
    "long head with both": (
        head(b'Cookie: =;a="', b"Content-Length: +5", start=b"GET /healthz?" + b"a" * 4480 + b" HTTP/1.1"),
        400,
    ),
}


END = b"0\r\n\r\n"
# Bodies in chunks. A strict reader says that the last ones are wrong, or sees another end.
CHUNKS = {
    "sound": b"19\r\n" + JSON + b"\r\n" + END,
    "two": b"9\r\n" + JSON[:9] + b"\r\n10\r\n" + JSON[9:] + b"\r\n" + END,
    "extension": b"19;a=b\r\n" + JSON + b"\r\n" + END,
    "trailer": b"19\r\n" + JSON + b"\r\n0\r\nX-Last: 1\r\n\r\n",
    "LF behind a size": b"19\n" + JSON + b"\r\n" + END,
    "LF behind a chunk": b"19\r\n" + JSON + b"\n" + END,
    "LF at the end": b"19\r\n" + JSON + b"\r\n0\n\n",
    "CR in an extension": b"19;a=\rb\r\n" + JSON + b"\r\n" + END,
    "NUL in an extension": b"19;a=\0b\r\n" + JSON + b"\r\n" + END,
    "folded trailer": b"19\r\n" + JSON + b"\r\n0\r\nX-A: b\r\n c\r\n\r\n",
    "NUL in a trailer": b"19\r\n" + JSON + b"\r\n0\r\nX-A: b\0c\r\n\r\n",
    "CR in a trailer": b"19\r\n" + JSON + b"\r\n0\r\nX-A: b\rX-B: c\r\n\r\n",
    "LF behind a trailer": b"19\r\n" + JSON + b"\r\n0\r\nX-A: b\nX-B: c\r\n\r\n",
    "coding in a trailer": b"19\r\n" + JSON + b"\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
}
# If a reader takes only CR LF for a line's end, it sees one request here, and the second one is a chunk of it.
HIDDEN = END + SECOND
CHUNKS["request in a chunk"] = b"%x;\n" % len(HIDDEN) + JSON.ljust(len(HIDDEN)) + b"\r\n" + HIDDEN + b"\r\n" + END

# libmicrohttpd answers these itself, in HTML. It does not tell us which request it was.
UNREADABLE = {
    "NUL in a name": (head(b"X-A\0: b"), 400),
    "no colon": (head(b"X-A"), 400),
    "space behind the version": (head(start=b"GET /healthz HTTP/1.1 "), 400),
    "no version": (head(start=b"GET /healthz"), 400),
    "old version": (head(start=b"GET /healthz HTTP/0.9"), 505),
    "new version": (head(start=b"GET /healthz HTTP/2.0"), 505),
    "endless target": (head(start=b"GET /" + b"a" * 20_000), 414),
}


def read_all(connection):
    got = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            got += part
    return got


def tell(daemon, data):
    with daemon.socket() as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(data)
        return read_all(connection)


@pytest.mark.parametrize("name", CASES)
def test_request_is_read_as_the_standard_says(daemon, name):
    data, status = CASES[name]
    got = tell(daemon, data + SECOND)
    heads = re.findall(rb"HTTP/1\.1 (\d+) ", got)
    if status < 300:
        assert [int(one) for one in heads if one != b"100"] == [status, 200] and b"X-Request-Id: SECOND" in got
        return
    top, body = got.split(b"\r\n\r\n", 1)
    assert [int(one) for one in heads] == [status], got
    assert b"SECOND" not in got
    assert b"Connection: close" in top and re.search(rb"\r\nX-Request-Id: [\w.-]+", top)
    assert b"Content-Type: application/problem+json" in top
    date = email.utils.parsedate_to_datetime(re.search(rb"\r\nDate: ([^\r]+ GMT)\r\n", top)[1].decode())
    assert abs(date.timestamp() - time.time()) < DEADLINE
    assert int(re.search(rb"Content-Length: (\d+)", top)[1]) == len(body)
    problem = json.loads(body)
    assert problem["status"] == status and len(problem["detail"]) > 10


@pytest.mark.parametrize("name", CHUNKS)
def test_nothing_behind_chunks_is_a_request(daemon, name):
    """The library does not show how it read the chunks' lines. So the daemon cannot know where a strict reader sees the end."""
    got = tell(daemon, chunked(CHUNKED, body=CHUNKS[name]) + SECOND)
    assert re.findall(rb"HTTP/1\.1 (\d+) ", got) == [b"200"] and b"SECOND" not in got
    assert b"\r\nConnection: close\r\n" in got and json.loads(got.split(b"\r\n\r\n", 1)[1])


@pytest.mark.parametrize(
    "data",
    [
        chunked(b"TRANSFER-ENCODING: Chunked"),
        chunked(CHUNKED, b"Expect: 100-continue"),
        head(CHUNKED) + END,
        head(CHUNKED, start=b"HEAD /healthz HTTP/1.1") + END,
        head(CHUNKED, start=b"OPTIONS /generate HTTP/1.1") + END,
        head(CHUNKED, start=b"GET /generate?length=2&stream=true HTTP/1.1") + END,
        head(CHUNKED, start=b"GET /nothing HTTP/1.1") + END,
    ],
)
def test_nothing_behind_chunks_is_a_request_whatever_was_asked(daemon, data):
    with daemon.socket() as connection:
        connection.sendall(data + SECOND * 200)  # more than the library reads
        got = read_all(connection)
        assert daemon.get("/healthz").status == 200  # after the end of the connection
        state = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        assert state == CLOSE_WAIT  # the connection ended without a reset: a reset might lose the answer
    finals = [status for status in re.findall(rb"HTTP/1\.1 (\d+) ", got) if status != b"100"]
    assert len(finals) == 1 and b"SECOND" not in got and b"\r\nConnection: close\r\n" in got


@pytest.mark.parametrize("name", ["two lengths, first small", "NUL in a value", "two hosts", "chunks beside a length"])
def test_answers_arrive_though_the_client_sends_on_after_a_refusal(start, name):
    """The first answer does not fit into the client's buffer. A reset of the connection would discard the rest of it."""
    daemon = start()
    assert daemon.get("/healthz").status == 200
    baseline = descriptors(daemon)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(DEADLINE)
        connection.connect((daemon.address, daemon.port))
        connection.sendall(head(start=b"GET /openapi.yaml HTTP/1.1") + CASES[name][0] + SECOND)
        daemon.wait_log("status=400 ")
        assert daemon.get("/healthz").status == 200  # after the end of the connection
        for _ in range(3):
            connection.sendall(SECOND)
        got = read_all(connection)
    assert re.findall(rb"^HTTP/1\.1 (\d+) ", got, re.M) == [b"200", b"400"] and b"SECOND" not in got
    wait_for_descriptors(daemon, baseline)


@pytest.mark.parametrize("name", UNREADABLE)
def test_unreadable_head_gets_one_answer_and_the_end(daemon, name):
    data, status = UNREADABLE[name]
    got = tell(daemon, data + SECOND)
    top, body = got.split(b"\r\n\r\n", 1)
    assert re.findall(rb"HTTP/1\.1 (\d+) ", got) == [b"%d" % status]
    assert b"SECOND" not in got and b"Connection: close" in top
    assert int(re.search(rb"Content-Length: (\d+)", top)[1]) == len(body)


@pytest.mark.parametrize(
    "begin, end",
    [
        (head()[:-2], b"X-A: " + b"a" * 20_000),
        (head()[:-2], b"X-A\r\n\r\n"),
        (b"GET / HTTP", b"/0.9\r\n\r\n"),
        (chunked(CHUNKED, body=b"1"), b"zz\r\n"),
        (chunked(CHUNKED, body=b"0\r\nX-A: "), b"a" * 20_000),
    ],
    ids=["endless head", "no colon", "version", "chunk", "trailer"],
)
def test_refusal_goes_to_nobody_else(daemon, begin, end):
    """The daemon may not know whose head or chunk the library cannot read. All other clients go on, whoever came first."""
    half, rest = head()[:-2], b"\r\n"
    body, more = chunked(CHUNKED, body=b"19\r\n" + JSON[:5]), JSON[5:] + b"\r\n0\r\n\r\n"
    begun = [(half, rest), (body, more), (begin, end), (half, rest), (body, more)]
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(daemon.socket()) for _ in begun]
        for connection, (first, _) in zip(connections, begun):
            connection.sendall(first)
            assert daemon.get("/healthz").status == 200  # the daemon reads it afterwards
        connections[2].sendall(end)
        assert len(re.findall(rb"HTTP/1\.1 [45]", read_all(connections[2]))) == 1
        for index in (0, 1, 3, 4):
            connections[index].sendall(begun[index][1])
            assert read_answer(connections[index]).status == 200


@pytest.mark.parametrize("name", ["two lengths, first small", "length with a sign", "cookie with a quote", "malformed chunk"])
def test_refused_head_is_logged_once_with_its_id(start, name):
    daemon = start()
    data, status = CASES[name]
    got = tell(daemon, data.replace(b"Host: x\r\n", b"Host: x\r\nX-Request-Id: odd\r\n") + SECOND)
    assert b"X-Request-Id: odd\r\n" in got
    assert f"status={status} " in daemon.wait_log("id=odd ")
    assert daemon.get("/readyz").status == 200
    daemon.wait_log("route=/readyz")
    assert sum("event=request" in line for line in daemon.lines) == 2


def test_head_that_comes_byte_by_byte_is_checked_alike(daemon):
    for name in ("folded value", "NUL in a value", "bare LF behind a value", "two lengths, first small"):
        data, status = CASES[name]
        with daemon.socket() as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(ConnectionError):
                for byte in data:
                    connection.sendall(bytes([byte]))
            assert read_all(connection).startswith(b"HTTP/1.1 %d " % status), name


def test_refusal_of_a_length_is_not_followed_by_another_answer(daemon):
    """The daemon reads the body to its end, so that the answer arrives. It does not pass on the library's own answer."""
    data = chunked(CHUNKED, b"Content-Length: 5", body=b"zz\r\n")
    got = tell(daemon, data)
    assert len(re.findall(rb"HTTP/1\.1 ", got)) == 1 and got.startswith(b"HTTP/1.1 400 ")
    large = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    got = tell(daemon, chunked(CHUNKED, body=large + b"10\r\n" + b" " * 16 + b"\r\nzz\r\n"))
    assert re.findall(rb"HTTP/1\.1 (\d+)", got) == [b"413"]


def test_chunk_line_that_fills_the_buffer_ends_with_its_time(daemon, start):
    """The library neither reads on nor refuses the line. The daemon keeps serving, and keeps nothing of the client."""
    line = chunked(CHUNKED, body=b"5;" + b"a" * 8200)
    with daemon.socket() as connection:  # the library refuses one byte more than it has room for
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(line)
        for more in range(2000):
            connection.sendall(b"a")
            if select.select([connection], [], [], 0.005)[0]:
                break
        assert read_all(connection).startswith(b"HTTP/1.1 400 ")
    for before in ([], [post(LENGTH)], [post(LENGTH), head()]):  # after a request that waited, the library does not listen
        with daemon.socket() as connection:
            connection.sendall(b"".join(before) + line + b"a" * 2000)
            got = b""
            while got.count(b"HTTP/1.1 200 ") < len(before):  # a client that leaves earlier gets no answer
                part = connection.recv(65536)
                assert part, got
                got += part
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
            got += read_all(connection)
            assert [int(one) for one in re.findall(rb"HTTP/1\.1 (\d+)", got)] == [200] * len(before) + [400]
    daemon = start("tiny", {"limits.body_timeout": 1})
    idle = descriptors(daemon)
    with contextlib.ExitStack() as stack:
        connections = []
        for count in range(more - 20, more + 1):  # one of them fills the buffer to the last byte
            for leave in (socket.socket.close, lambda connection: connection.shutdown(socket.SHUT_WR), lambda connection: None):
                connection = stack.enter_context(daemon.socket())
                connection.sendall(line + b"a" * count)
                leave(connection)
                connections.append(connection)
        for connection in connections:
            if connection.fileno() >= 0:
                assert read_all(connection)[:12] in (b"", b"HTTP/1.1 408", b"HTTP/1.1 400")
    wait_for_descriptors(daemon, idle)


def test_chunk_line_that_fills_the_buffer_ends_nobody_else(start, tmp_path):
    """Clients send sound chunks in small pieces while the library is stuck in another client's line."""
    daemon = start("tiny", {"server.state_dir": tmp_path / "state"})
    line = chunked(CHUNKED, body=b"5;" + b"a" * 9000)
    over, refused = threading.Event(), []

    def attack():
        while not over.is_set():
            refused.append(tell(daemon, line)[:12])

    def upload(number):
        admin = b"Authorization: Bearer " + ADMIN.encode()
        with daemon.socket() as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(ConnectionError):
                connection.sendall(head(CHUNKED, admin, start=b"PUT /datasets/%d HTTP/1.1" % number))
                for count in range(600):
                    connection.sendall(b"a\r\nabc defgh\n\r\n")
                    if count % 3 == 0:
                        select.select([connection], [], [], 0.0004)  # makes the daemon wait
                connection.sendall(b"0\r\n\r\n")
            return read_answer(connection).status

    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        attacker = pool.submit(attack)
        try:
            assert list(pool.map(upload, range(40))) == [201] * 40
        finally:
            over.set()
        attacker.result()
    assert refused and set(refused) == {b"HTTP/1.1 400"}


def test_client_that_asked_to_go_on_is_refused_at_once(daemon):
    with daemon.socket() as connection:
        connection.sendall(post(LENGTH, CHUNKED, b"Expect: 100-continue", body=b""))
        assert read_answer(connection).status == 400
        assert connection.recv(1) == b""


@pytest.mark.skipif(bool(os.environ.get("SANITIZE")), reason="a sanitizer keeps what is freed")
@pytest.mark.parametrize("name", ["long head with both", "cookie with a quote", "length with a sign", "two hosts"])
def test_refused_heads_leave_nothing_behind(start, name):
    daemon = start()
    data = CASES[name][0].replace(b"GET /healthz ", b"GET /healthz?" + b"a" * 2000 + b" ")

    def send(count):
        for _ in range(count):
            assert tell(daemon, data).startswith(b"HTTP/1.1 400 ")

    send(500)
    before = daemon.resident_bytes()
    send(3000)
    assert daemon.resident_bytes() - before < 3000 * 1000


def test_refused_heads_are_not_open_requests(start):
    """A stopping daemon waits for open requests only."""
    daemon = start("tiny", {"server.drain_seconds": 3600})
    for name in ("long head with both", "two lengths, first small", "length with a sign"):
        assert tell(daemon, CASES[name][0]).startswith(b"HTTP/1.1 400 ")
    daemon.signal()
    assert daemon.wait() == 0


# --- The body's encoding ---


@pytest.mark.parametrize("lines", [[b"Content-Encoding: gzip"], [b"Content-Encoding: identity", b"content-encoding: br"]])
def test_encoded_json_is_refused_by_the_encoding_s_name(daemon, lines):
    got = tell(daemon, post(LENGTH, *lines, body=gzip.compress(JSON)[:25]) + SECOND)
    assert re.findall(rb"HTTP/1\.1 (\d+) ", got) == [b"415", b"200"]
    assert b"Content-Encoding " + lines[-1].split()[-1] in got and b"\r\nAccept-Encoding: identity\r\n" in got


def test_identity_is_no_encoding(daemon):
    assert tell(daemon, post(LENGTH, b"Content-Encoding: Identity") + SECOND).startswith(b"HTTP/1.1 200 ")


# --- HEAD ---


@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0\r\nConnection: keep-alive"])
@pytest.mark.parametrize("path", [b"/generate?prompt=a&length=2&stream=true", b"/generate?length=1", b"/", b"/nothing"])
def test_head_has_no_body_and_keeps_the_connection(daemon, path, version):
    with daemon.socket() as connection:
        connection.sendall(b"HEAD %s %s\r\nHost: x\r\n\r\n" % (path, version))
        got = b""
        while not got.endswith(b"\r\n\r\n"):
            got += connection.recv(65536)
        connection.sendall(SECOND)
        rest = read_all(connection)
    assert got.count(b"\r\n\r\n") == 1 and b"chunked" not in got
    assert rest.startswith(b"HTTP/1.1 200 ") and b"SECOND" in rest
