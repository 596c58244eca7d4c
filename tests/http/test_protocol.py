"""HTTP: routes, methods, headers, bodies, broken clients."""

import contextlib
import gzip
import json
import os
import pathlib
import re
import signal
import socket
import struct
import time

import pytest

from conftest import DEADLINE, ROOT, Daemon, read_answer

SANE_ID = re.compile(r"^[A-Za-z0-9._-]{1,128}$")


@pytest.mark.parametrize("path", ["/nothing", "/generate/", "//generate", "/models/a/b", "/Generate", "/healthz%00", "/%2e"])
def test_path_that_is_not_there(daemon, path):
    problem = daemon.get(path).problem(404)
    assert problem["instance"] == path


@pytest.mark.parametrize(
    "method, path, allow",
    [
        ("DELETE", "/generate", "GET, HEAD, POST, OPTIONS"),
        ("PUT", "/models", "GET, HEAD, OPTIONS"),
        ("POST", "/healthz", "GET, HEAD, OPTIONS"),
        ("PATCH", "/models/tiny", "GET, HEAD, DELETE, OPTIONS"),
        ("NONSENSE", "/", "GET, HEAD, OPTIONS"),
        ("get", "/", "GET, HEAD, OPTIONS"),
    ],
)
def test_method_that_a_path_does_not_serve(daemon, method, path, allow):
    answer = daemon.request(method, path)
    answer.problem(405)
    assert answer.headers["Allow"] == allow


def test_options_answers_allow(daemon):
    answer = daemon.request("OPTIONS", "/generate")
    assert (answer.status, answer.headers["Allow"], answer.body) == (204, "GET, HEAD, POST, OPTIONS", b"")
    everything = set(daemon.request("OPTIONS", "*").headers["Allow"].split(", "))
    assert everything >= {"GET", "HEAD", "POST", "OPTIONS"}
    daemon.request("OPTIONS", "/nothing").problem(404)


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/models", "/models/tiny", "/", "/openapi.yaml"])
def test_head_is_get_without_the_body(daemon, path):
    head, get = daemon.request("HEAD", path), daemon.get(path)
    assert (head.status, head.body) == (200, b"")
    for name in ("Content-Type", "Content-Length", "Cache-Control"):
        assert head.headers[name] == get.headers[name]


def test_health_and_readiness(daemon):
    assert daemon.get("/healthz").json()["status"] == "ok"
    assert daemon.get("/readyz").json() == {"status": "ready", "model": "tiny"}


@pytest.mark.parametrize("given", ["a", "A-z_0.9", "x" * 128])
def test_request_id_of_the_caller_is_kept(daemon, given):
    for path in ("/healthz", "/nothing", "/generate?length=1", "/generate?length=0"):
        assert daemon.get(path, headers={"X-Request-Id": given}).headers["X-Request-Id"] == given
    daemon.wait_log(f"event=request id={given} ")


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "a\tb", "é", "a=b", '"'])
def test_request_id_that_is_not_sane_is_replaced(daemon, given):
    own = daemon.get("/healthz", headers={"X-Request-Id": given.encode()}).headers["X-Request-Id"]
    assert own != given and SANE_ID.match(own)


def test_request_ids_differ(daemon):
    assert len({daemon.get("/healthz").headers["X-Request-Id"] for _ in range(20)}) == 20


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonx"])
def test_post_wants_json(daemon, content_type):
    headers = {"Content-Type": content_type} if content_type else {}
    problem = daemon.request("POST", "/generate", b"{}", headers).problem(415)
    assert "application/json" in problem["detail"]


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON", "application/json ;x=y"])
def test_post_takes_json_however_it_is_spelt(daemon, content_type):
    assert daemon.request("POST", "/generate", b'{"length":1}', {"Content-Type": content_type}).status == 200


def head(*lines):
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


POST_JSON = ("POST /generate HTTP/1.1", "Host: x", "Content-Type: application/json")


def test_declared_body_too_large_is_refused_before_it_is_sent(daemon):
    with daemon.socket() as connection:
        connection.sendall(head(*POST_JSON, f"Content-Length: {2**20 + 1}"))
        answer = read_answer(connection)
    assert "1048576" in answer.problem(413)["detail"]
    assert SANE_ID.match(answer.headers["X-Request-Id"])


def test_body_too_large_is_refused_before_it_is_asked_for(daemon):
    with daemon.socket() as connection:
        connection.sendall(head(*POST_JSON, f"Content-Length: {2**20 + 1}", "Expect: 100-continue"))
        assert connection.recv(12) == b"HTTP/1.1 413"


def test_refusal_reaches_a_client_that_sends_all_the_same(daemon):
    with daemon.socket() as connection:
        connection.sendall(head(*POST_JSON, f"Content-Length: {4 * 2**20}") + b" " * (4 * 2**20))
        read_answer(connection).problem(413)


def test_chunked_body_is_counted(daemon):
    with daemon.socket() as connection:
        connection.sendall(head(*POST_JSON, "Transfer-Encoding: chunked"))
        for _ in range(17):
            connection.sendall(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
        read_answer(connection).problem(413)  # although the body has no end yet


def test_chunked_body(daemon):
    with daemon.socket() as connection:
        connection.sendall(head(*POST_JSON, "Transfer-Encoding: chunked"))
        for part in (b'{"length"', b": 3, ", b'"prompt": "ab"}'):
            connection.sendall(b"%x\r\n%b\r\n" % (len(part), part))
        connection.sendall(b"0\r\n\r\n")
        assert read_answer(connection).json()["usage"]["completion_tokens"] == 3


def test_body_as_large_as_the_limit_is_read(daemon):
    body = b'{"length": 1}'
    assert daemon.post("/generate", body + b" " * (2**20 - len(body))).status == 200


def test_large_body_to_a_path_that_is_not_there(daemon):
    daemon.request("POST", "/nothing", b" " * 1000).problem(404)
    daemon.request("POST", "/nothing", b" " * (2**20 + 1)).problem(404)


def test_absolute_target(daemon):
    with daemon.socket() as connection:
        connection.sendall(head("GET http://localhost:80/healthz HTTP/1.1", "Host: x"))
        assert read_answer(connection).status == 200


def test_connection_is_kept_and_requests_may_queue_on_it(daemon):
    with daemon.socket() as connection:
        connection.sendall(
            head("GET /generate?length=2 HTTP/1.1", "Host: x", "X-Request-Id: one")
            + head("GET /nothing HTTP/1.1", "Host: x", "X-Request-Id: two")
            + head("GET /healthz HTTP/1.1", "Host: x", "X-Request-Id: three", "Connection: close")
        )
        data = b""
        while part := connection.recv(65536):
            data += part
    found = re.findall(rb"HTTP/1.1 (\d+) |X-Request-Id: (\w+)", data)
    assert [a or b for a, b in found] == [b"200", b"one", b"404", b"two", b"200", b"three"]


GARBAGE = [
    b"\0" * 100,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
    b"POST /generate HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
    b"POST /generate HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\n\r\n",
    b"\r\n" * 1000,
    b"GET /generate?" + b"&" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /\xff\xfe\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
]


@pytest.fixture(scope="module")
def patient(models):
    """This daemon never closes a silent connection by itself. It must close one when the client has closed it."""
    running = Daemon(models["tiny"], {"limits.idle_timeout": 3600, "limits.body_timeout": 3600})
    yield running
    running.close()


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_ends_the_connection_and_nothing_else(patient, garbage):
    with patient.socket() as connection:
        try:
            connection.sendall(garbage)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
        except TimeoutError:
            raise
        except OSError:
            pass  # closed before all bytes were read
    assert patient.generate(length=1)


def test_slow_client_is_closed(start):
    daemon = start("tiny", {"limits.idle_timeout": 1})
    begun = time.monotonic()
    with daemon.socket() as silent, daemon.socket() as half:
        half.sendall(head(*POST_JSON, "Content-Length: 100")[:-2])
        assert silent.recv(1) == b""
        while half.recv(1000):
            pass  # 408 or nothing
    assert time.monotonic() - begun > 0.5  # its time is over
    assert daemon.get("/healthz").status == 200


def test_body_that_comes_byte_by_byte(daemon):
    body = b'{"length": 1, "seed": 1}'
    with daemon.socket() as connection:
        for byte in head(*POST_JSON, f"Content-Length: {len(body)}") + body:
            connection.sendall(bytes([byte]))
        assert read_answer(connection).status == 200


def test_client_that_resets_its_connection(daemon):
    for _ in range(20):
        connection = daemon.send_generate(length=10_000)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    assert daemon.generate(length=1)


def test_ipv6(start):
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    daemon = start("tiny", {"server.listen": "::1"})
    assert daemon.address == "::1"
    assert daemon.get("/healthz").status == 200


def served_files():
    """Returns path -> (file, content type): the files of server/web are the page's modules, whatever their number."""
    kinds = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html", ".ts": "text/plain"}
    places = {"index.html": "/", "client.js": "/client.js", "client.d.ts": "/client.d.ts"}
    found = {"/openapi.yaml": (ROOT / "openapi.yaml", "application/yaml")}
    for file in (ROOT / "server/web").iterdir():
        if file.suffix in kinds:
            kind = kinds[file.suffix]
            found[places.get(file.name, f"/web/{file.name}")] = (file, kind if kind == "image/svg+xml" else f"{kind}; charset=utf-8")
    return found


FILES = served_files()
CHARTS = {"/web/dygraph.min.js": "text/javascript; charset=utf-8", "/web/dygraph.min.css": "text/css; charset=utf-8"}
FILE_HEADERS = ("ETag", "Vary", "Cache-Control", "Content-Security-Policy", "Referrer-Policy")


@pytest.mark.parametrize("path", FILES)
def test_files_are_those_of_the_repository(daemon, path):
    file, content_type = FILES[path]
    answer = daemon.get(path)
    assert answer.body == file.read_bytes()
    assert answer.headers["Content-Type"] == content_type
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy


def test_every_kind_of_file_is_served():
    assert {"/", "/client.js", "/client.d.ts", "/openapi.yaml", "/web/app.js", "/web/style.css", "/web/icon.svg"} <= set(FILES)


@pytest.mark.parametrize("path", CHARTS)
def test_chart_library_is_a_file_like_the_others(daemon, path):
    answer = daemon.get(path)
    assert answer.headers["Content-Type"] == CHARTS[path]
    assert b"dygraph" in answer.body and b"sourceMappingURL" not in answer.body, "a browser would ask for a map that is not served"
    assert b'setAttribute("style"' not in answer.body, "the policy forbids style attributes"


@pytest.mark.parametrize("path", [*FILES, *CHARTS])
def test_files_are_packed_for_those_who_accept_it(daemon, path):
    plain, packed = daemon.get(path), daemon.get(path, headers={"Accept-Encoding": "gzip"})
    assert plain.headers["Content-Encoding"] is None and packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body and len(packed.body) < len(plain.body)
    assert plain.headers["ETag"] != packed.headers["ETag"], "other bytes have another tag"
    for accept, answer in ((None, plain), ("gzip", packed)):
        headers = {"Accept-Encoding": accept} if accept else {}
        assert answer.headers["Vary"] == "Accept-Encoding" and answer.headers["Cache-Control"] == "no-cache"
        assert re.fullmatch(r'"[0-9a-f]{32}"', answer.headers["ETag"])
        head = daemon.request("HEAD", path, headers=headers)
        assert (head.status, head.body, int(head.headers["Content-Length"])) == (200, b"", len(answer.body))
        known = daemon.get(path, headers={**headers, "If-None-Match": answer.headers["ETag"]})
        assert (known.status, known.body) == (304, b"") and known.headers["Content-Type"] is None
        for other in (head, known):
            assert [other.headers[name] for name in FILE_HEADERS] == [answer.headers[name] for name in FILE_HEADERS]
    assert daemon.get(path, headers={"If-None-Match": packed.headers["ETag"]}).body == plain.body, "the tag of the other form"


@pytest.mark.parametrize("accept, packed", [("gzip;q=0", False), ("identity", False), ("*", True), ("br, gzip;q=0.5", True), ("gzip;q=0.5, identity", False), ("*;q=0", False)])
def test_coding_of_a_file_is_the_one_that_the_client_wants(daemon, accept, packed):
    answer = daemon.get("/web/app.js", headers={"Accept-Encoding": accept})
    assert (answer.headers["Content-Encoding"] == "gzip") == packed


def test_file_that_the_client_has_is_not_sent_again(daemon):
    tag = daemon.get("/").headers["ETag"]
    for listed, status in ((f'"x", W/{tag}', 304), ("*", 304), (tag.strip('"'), 200), ('"x"', 200), (f'"x {tag}', 200)):
        assert daemon.get("/", headers={"If-None-Match": listed}).status == status, listed
    assert daemon.request("HEAD", "/", headers={"If-None-Match": tag}).status == 304
    with daemon.socket() as connection:  # no byte follows the head of a 304
        connection.sendall(head("GET / HTTP/1.1", "Host: localhost", f"If-None-Match: {tag}"))
        connection.sendall(head("GET /healthz HTTP/1.1", "Host: localhost", "Connection: close"))
        first, second = b"".join(iter(lambda: connection.recv(65536), b"")).split(b"\r\n\r\n", 1)
    assert first.startswith(b"HTTP/1.1 304 ") and second.startswith(b"HTTP/1.1 200 ")
    daemon.wait_log('route=/ status=304 bytes_in=0 bytes=0')


def test_page_fits_its_limit(daemon):
    """All that the page loads, packed: 150 kB."""
    paths = [path for path in [*FILES, *CHARTS] if path not in ("/client.d.ts", "/openapi.yaml")]
    sizes = {path: int(daemon.request("HEAD", path, headers={"Accept-Encoding": "gzip"}).headers["Content-Length"]) for path in paths}
    assert sum(sizes.values()) < 150_000, sizes


def test_page_needs_nothing_from_elsewhere(daemon):
    page = daemon.get("/").body.decode()
    for url in re.findall(r"(?:src|href)=\"([^\"#]+)\"", page):
        assert not re.match("/|[a-z]+:", url), "an absolute address breaks behind a path"
        assert daemon.get(f"/{url}").status == 200
    assert "<style" not in page and " style=" not in page and not re.search(r"<script(?! src)", page)
    assert not re.search(r"\son\w+=", page)
    wrapped = re.findall(r"<label[^>]*>\s*<(?:textarea|input|select) id=\"([\w-]+)\"", page)
    for control in re.findall(r"<(?:textarea|input|select) id=\"([\w-]+)\"", page):
        assert control in wrapped or f'for="{control}"' in page, control


def test_file_that_is_not_there(daemon):
    daemon.get("/web/other.js").problem(404)
    daemon.get("/web/..%2findex.html").problem(404)


@pytest.mark.parametrize("clients", [127, 128, 129, 256])
def test_requests_that_arrive_in_one_moment(daemon, clients):
    """libmicrohttpd takes 128 events at once. It must serve them before it waits for another one."""
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(contextlib.closing(daemon.socket())) for _ in range(clients)]
        request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        for connection in connections:
            connection.sendall(request)
            assert read_answer(connection).status == 200
        os.kill(daemon.process.pid, signal.SIGSTOP)
        stack.callback(os.kill, daemon.process.pid, signal.SIGCONT)
        end = time.monotonic() + DEADLINE
        while f"{daemon.process.pid} (lstmd) T" not in pathlib.Path(f"/proc/{daemon.process.pid}/stat").read_text():
            assert time.monotonic() < end
        for connection in connections:
            connection.sendall(request)
        os.kill(daemon.process.pid, signal.SIGCONT)
        for connection in connections:
            connection.settimeout(DEADLINE / 4)
            assert read_answer(connection).status == 200


def test_access_log_has_numbers_and_no_text(daemon):
    daemon.get("/generate?prompt=Secretprompt&length=7&seed=1", headers={"X-Request-Id": "logged"})
    line = daemon.wait_log("id=logged ")
    for part in ("event=request", "method=GET", "route=/generate", "status=200", "prompt_tokens=13", "tokens=7"):
        assert part in line
    for part in ("bytes", "ms", "queue_ms", "prompt_ms", "generate_ms"):
        assert re.search(rf" {part}=[0-9.]+( |$)", line)
    daemon.get("/generate?prompt=Secretprompt&length=x", headers={"X-Request-Id": "refused"})
    assert "status=422" in daemon.wait_log("id=refused ")
    assert not any("Secret" in text for text in daemon.lines if text)


def test_log_as_json(start):
    daemon = start("tiny", {"log.format": "json"})
    daemon.get("/healthz", headers={"X-Request-Id": "x1"})
    line = json.loads(daemon.wait_log('"x1"'))
    assert (line["event"], line["route"], line["status"]) == ("request", "/healthz", 200)
