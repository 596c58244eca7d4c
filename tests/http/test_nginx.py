"""docker/nginx.conf in a real nginx before real daemons. Only addresses, certificate paths and the rate differ."""

import contextlib
import gzip
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.parse

import pytest

from conftest import DEADLINE, ROOT, Answer, Daemon

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
pytestmark = pytest.mark.skipif(
    not NGINX or not shutil.which("openssl"), reason="SKIPPED: nginx or openssl is not installed"
)
EVENT = re.compile(rb"data: (.*)\n\n")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Nginx:
    """An nginx in a fresh directory, in front of these daemons."""

    def __init__(self, directory, upstreams, rate="1000000r/s", prefix=False):
        self.directory = directory
        self.port, self.plain = free_port(), free_port()
        run = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
        run += ["-keyout", str(directory / "tls.key"), "-out", str(directory / "tls.crt")]
        subprocess.run(run, check=True, capture_output=True)
        site = (ROOT / "docker/nginx.conf").read_text()
        for pattern, replacement in {
            r"server lstmd:8080 (.*);": "".join(f"server 127.0.0.1:{port} \\1;" for port in upstreams),
            r"listen 80;": f"listen 127.0.0.1:{self.plain};",
            r"listen 443 (.*);": f"listen 127.0.0.1:{self.port} \\1;",
            r"listen \[::\].*;": "",
            r"/etc/nginx/tls": str(directory),
            r"rate=20r/s": f"rate={rate}",
        }.items():
            site, count = re.subn(pattern, replacement, site)
            assert count, pattern
        if prefix:  # the example of the file
            site, count = re.subn(r"^( *)#(.*/lstm.*;.*)$", r"\1\2", site, flags=re.M)
            assert count == 2
        temporary = "".join(
            f"{kind}_temp_path {directory}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (directory / "site.conf").write_text(site)
        user = "user root; " if os.geteuid() == 0 else ""
        (directory / "nginx.conf").write_text(
            f"daemon off; {user}worker_processes 1; pid {directory}/pid; events {{ worker_connections 1024; }}"
            f"http {{ access_log off; {temporary} include {directory}/site.conf; }}"
        )
        self.log = open(directory / "log", "wb")
        command = [NGINX, "-p", str(directory), "-e", "stderr", "-c", str(directory / "nginx.conf")]
        self.process = subprocess.Popen(command, stderr=self.log, stdout=subprocess.DEVNULL)
        end = time.monotonic() + DEADLINE
        while True:
            assert self.process.poll() is None, (directory / "log").read_text()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                break
            assert time.monotonic() < end
        self.tls = ssl.create_default_context(cafile=directory / "tls.crt")
        self.tls.check_hostname = False

    def connection(self):
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=DEADLINE, context=self.tls)

    def request(self, method, path, body=None, headers=None):
        with contextlib.closing(self.connection()) as connection:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())

    def generate(self, connection=None, **fields):
        connection = connection or self.connection()
        connection.request("POST", "/generate", json.dumps(fields), {"Content-Type": "application/json"})
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())

    def close(self):
        self.process.terminate()
        self.process.wait(DEADLINE)
        self.log.close()


@pytest.fixture
def proxied(start, tmp_path):
    running = []

    def start_all(daemons=1, settings=(), **options):
        replicas = [start("tiny", {"limits.max_length": 10_000_000, **dict(settings)}) for _ in range(daemons)]
        directory = tmp_path / f"nginx-{len(running)}"
        directory.mkdir()
        running.append(Nginx(directory, [daemon.port for daemon in replicas], **options))
        return running[-1], replicas

    yield start_all
    for nginx in running:
        nginx.close()


def test_answers_and_keep_alive_through_the_proxy(proxied):
    nginx, (daemon,) = proxied()
    direct = daemon.generate(prompt="a", length=30, seed=1)["text"]
    with contextlib.closing(nginx.connection()) as connection:
        for _ in range(3):  # the client uses one connection
            answer = nginx.generate(connection, prompt="a", length=30, seed=1)
            assert (answer.status, answer.json()["text"]) == (200, direct)
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["X-Request-Id"]), "the proxy's id is the request's"
    plain = http.client.HTTPConnection("127.0.0.1", nginx.plain, timeout=DEADLINE)
    with contextlib.closing(plain):
        plain.request("GET", "/generate?length=1")
        assert plain.getresponse().status == 308


def test_streams_are_not_buffered(proxied):
    nginx, (daemon,) = proxied()
    length = daemon.tokens_for(3.0)
    with contextlib.closing(nginx.connection()) as connection:
        body = json.dumps({"prompt": "a", "length": length, "seed": 1, "stream": True})
        connection.request("POST", "/generate", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        assert response.headers["Content-Type"].startswith("text/event-stream")
        first = response.read1(65536)
        assert first.startswith(b"data: ") and b"[DONE]" not in first
        # The first piece is here and the generation is far from its end, so nginx did not buffer.
        assert daemon.get("/readyz").status == 200
        rest = response.read()
    events = EVENT.findall(first + rest)
    assert events[-1] == b"[DONE]"
    told = sum(json.loads(event).get("token_count", 0) for event in events[:-1])
    assert told == length


def test_client_that_leaves_is_noticed_behind_the_proxy(proxied):
    nginx, (daemon,) = proxied(settings={"engine.threads": 1, "engine.max_batch": 1, "limits.queue": 0})
    connection = nginx.connection()
    body = json.dumps({"prompt": "a", "length": 10_000_000, "stream": True})
    connection.request("POST", "/generate", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    assert response.read1(10)
    assert daemon.query(length=1).status == 503, "the only slot is taken"
    response.close()
    connection.close()
    end = time.monotonic() + DEADLINE
    while daemon.query(length=1).status == 503:
        assert time.monotonic() < end, "the slot was not given back"


def test_client_behind_the_proxy_is_named_where_the_proxy_is_trusted(proxied):
    for settings, client in (({"server.trusted_proxies": "127.0.0.1"}, "203.0.113.7"), ({}, "127.0.0.1")):
        nginx, (daemon,) = proxied(settings=settings)
        answer = nginx.request("GET", "/generate?length=1", headers={"X-Forwarded-For": "203.0.113.7"})
        line = daemon.wait_log(f"id={answer.headers['X-Request-Id']}")
        assert f"client={client} " in line + " "


def test_too_large_bodies_are_refused_by_the_proxy(proxied):
    nginx, _ = proxied()
    answer = nginx.request("POST", "/generate", b"x" * (2 << 20), {"Content-Type": "application/json"})
    assert "client_max_body_size" in answer.problem(413)["detail"] and answer.headers["X-Request-Id"]
    answer = nginx.request("PUT", "/datasets/x", b"", {"Content-Length": str((4 << 30) + 1)})
    assert "client_max_body_size" in answer.problem(413)["detail"]


def test_uploads_as_large_as_the_daemon_allows_pass_the_proxy(proxied):
    """The daemon refuses the upload, because it wants a token. The proxy does not refuse it. Neither reads the body before."""
    nginx, _ = proxied()
    answer = nginx.request("PUT", "/datasets/x", b"", {"Content-Length": str(4 << 30), "Content-Type": "text/plain"})
    assert answer.status == 401, answer.body


def test_replicas_that_are_gone_are_told_as_a_problem(proxied):
    nginx, (daemon,) = proxied()
    assert nginx.request("GET", "/healthz").status == 200
    daemon.close()
    answer = nginx.request("GET", "/healthz")
    assert "replica" in answer.problem(502)["detail"] and answer.headers["X-Request-Id"]


def test_json_and_text_are_compressed_and_streams_are_not(proxied):
    nginx, (daemon,) = proxied()
    accept = {"Accept-Encoding": "gzip"}
    for path, kind in (("/openapi.yaml", "application/yaml"), ("/generate?length=2000&seed=1", "application/json")):
        plain, packed = nginx.request("GET", path), nginx.request("GET", path, headers=accept)
        assert packed.headers["Content-Encoding"] == "gzip" and packed.headers["Content-Type"].startswith(kind)
        assert plain.headers["Content-Encoding"] is None and len(packed.body) < len(plain.body)
        assert gzip.decompress(packed.body).startswith(plain.body[:6])
    stream = nginx.request("GET", "/generate?length=2000&seed=1&stream=true", headers=accept)
    assert stream.headers["Content-Encoding"] is None and stream.body.endswith(b"data: [DONE]\n\n")


# What a browser loads next: from a page, a module, a style.
LINKS = {
    "page": r"""(?:href|src)=["']([^"':#]+)["']""",
    ".js": r"""(?:^(?:import|export)\b[^;"']*|\bimport\()["']([./][^"']+)["']""",
    ".css": r"""(?:@import\s+["']|url\(["']?)([^"':)]+)["')]""",
}


def test_page_works_behind_a_path(proxied):
    """Follows every link of the page and every import of its modules from /lstm/, as a browser does."""
    nginx, (daemon,) = proxied(prefix=True)
    moved = nginx.request("GET", "/lstm")
    assert moved.status == 308 and moved.headers["Location"].endswith(f":{nginx.port}/lstm/")
    seen, waiting = {}, ["/lstm/", "/lstm/client.js", "/lstm/web/sampler.json"]
    while waiting:
        path = waiting.pop()
        answer = nginx.request("GET", path)
        assert answer.status == 200 and path.startswith("/lstm/"), path
        assert answer.body == daemon.get(path.removeprefix("/lstm")).body
        seen[path] = answer.body.decode()
        kind = path[path.rfind(".") :] if "." in path else "page"
        links = re.findall(LINKS[kind], seen[path], re.M) if kind in LINKS else []
        found = {urllib.parse.urljoin(path, link) for link in links}
        waiting += found - set(seen) - set(waiting)
    assert {"/lstm/web/app.js", "/lstm/web/style.css", "/lstm/web/icon.svg"} <= set(seen)
    text = nginx.request("POST", "/lstm/generate", b'{"seed": 1, "length": 20}', {"Content-Type": "application/json"}).json()["text"]
    assert text == daemon.generate(seed=1, length=20)["text"]
    assert nginx.request("GET", "/lstm/generate?seed=1&length=20").json()["text"] == text
    assert nginx.request("GET", "/lstm/metrics").status == 403, "the other rules hold behind the path"
    assert nginx.request("PUT", "/lstm/datasets/x", b"", {"Content-Length": str(4 << 30), "Content-Type": "text/plain"}).status == 401


def test_figures_of_the_replicas_are_not_shown_outside(proxied):
    nginx, (daemon,) = proxied()
    assert "proxy" in nginx.request("GET", "/metrics").problem(403)["detail"]
    assert daemon.get("/metrics").status == 200


def test_requests_beyond_the_rate_are_refused(proxied):
    nginx, _ = proxied(rate="20r/s")
    answers = [nginx.request("GET", "/generate?length=1") for _ in range(120)]
    statuses = [answer.status for answer in answers]
    for answer in answers:
        if answer.status == 429:
            assert "limit_req" in answer.problem(429)["detail"] and answer.headers["Retry-After"] == "1"
    assert statuses.count(200) >= 40 and set(statuses) <= {200, 429}
    assert 429 in statuses or len(statuses) / 20 < 120, statuses


def test_requests_of_a_session_go_to_one_replica(proxied):
    nginx, replicas = proxied(2)
    turns = [{"prompt": "a", "length": 5, "seed": seed, "logprobs": 1} for seed in range(4)]

    def told(answer):
        return {key: answer[key] for key in ("completion", "logprobs")}

    direct = [told(replicas[0].generate(session="direct", **turn)) for turn in turns]
    fresh = [told(replicas[0].generate(**turn)) for turn in turns]
    assert all(a != b for a, b in zip(direct[1:], fresh[1:])), "what came before must show"
    for name in ("one", "two", "three", "four"):
        headers = {"Content-Type": "application/json", "X-Session": name}
        for turn, expected in zip(turns, direct):
            answer = nginx.request("POST", "/generate", json.dumps({**turn, "session": name}), headers)
            assert answer.status == 200
            assert told(answer.json()) == expected, "the session did not go on where it ended"


def restart_one_after_the_other(replicas, models, served, fresh):
    """served() returns when the running daemons have answered some more requests. The new daemons go to fresh."""
    served()
    for replica in replicas:
        replica.signal()
        assert replica.wait() == 0
        served()  # now the other one serves alone
        fresh.append(Daemon(models["tiny"], {"server.port": replica.port}))
        served()


def test_rolling_restart_of_two_replicas_fails_no_request(proxied, models):
    nginx, replicas = proxied(2)
    expected = replicas[0].generate(prompt="a", length=50, seed=7)["text"]
    wrong, counts, stop = [], [0] * 4, threading.Event()

    def client(number):
        while not stop.is_set():
            try:
                answer = nginx.generate(prompt="a", length=50, seed=7)
                if answer.status != 200 or answer.json()["text"] != expected:
                    wrong.append((answer.status, answer.body[:200]))
            except Exception as error:  # a failed request fails the test
                wrong.append(repr(error))
            counts[number] += 1

    def served():
        goal, end = [count + 20 for count in counts], time.monotonic() + DEADLINE
        while any(count < wanted for count, wanted in zip(counts, goal)):
            assert time.monotonic() < end
            stop.wait(0.01)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(len(counts))]
    for thread in threads:
        thread.start()
    fresh = []
    try:
        restart_one_after_the_other(replicas, models, served, fresh)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        for daemon in fresh:
            daemon.close()
    assert not wrong, wrong[:5]


@pytest.mark.skipif(not shutil.which("wrk"), reason="SKIPPED: wrk is not installed")
def test_rolling_restart_under_the_load_of_wrk_fails_no_request(proxied, models):
    nginx, replicas = proxied(2)
    url = f"https://127.0.0.1:{nginx.port}/generate"
    command = ["wrk", "-t", "1", "-c", "32", "-d", "600s", "--timeout", f"{DEADLINE}s", "-s", ROOT / "tests/bench/generate.lua", url]
    wrk = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "BENCH_LENGTH": "50"})

    def answered():
        """Returns how many requests each running daemon has answered."""
        counts = {}
        for port in {replica.port for replica in replicas}:
            with contextlib.suppress(OSError):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
                connection.request("GET", "/metrics")
                text = connection.getresponse().read().decode()
                counts[port] = int(re.search(r'^lstmd_http_requests_total\{route="/generate",code="200"\} (\d+)|\Z', text, re.M)[1] or 0)
        return counts

    def served():
        before, end = answered(), time.monotonic() + DEADLINE
        while any(count < before.get(port, 0) + 200 for port, count in answered().items()):
            assert time.monotonic() < end and wrk.poll() is None

    fresh = []
    try:
        restart_one_after_the_other(replicas, models, served, fresh)
    finally:
        wrk.send_signal(signal.SIGINT)
        output = wrk.communicate(timeout=DEADLINE)[0]
        for daemon in fresh:
            daemon.close()
    result = json.loads(output.splitlines()[-1])
    assert result["requests"] > 1000 and result["errors"] == 0, output
