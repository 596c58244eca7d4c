"""Where the daemon listens, which address it takes for the client's, and how many connections an address may have."""

import http.client
import os
import re
import socket
import stat
import subprocess
import urllib.request

import pytest

from conftest import ADMIN, DEADLINE, PROGRAM, ROOT, Daemon, read_answer

GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Request-Id: %s\r\n%s\r\n"


def at(path, request=GET % (b"u", b"")):
    """Connects to a UNIX socket and sends a request."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(DEADLINE)
    connection.connect(str(path))
    connection.sendall(request)
    return connection


def serve_fails(models, *settings):
    command = [PROGRAM, "serve", "--model", str(models["tiny"]), "--set", "server.port=0"]
    for setting in settings:
        command += ["--set", setting]
    done = subprocess.run(command, stderr=subprocess.PIPE, timeout=DEADLINE, cwd=ROOT)
    assert done.returncode == 1
    return done.stderr.decode()


@pytest.mark.parametrize("listen, host", [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "[::1]"), ("::", "[::1]")])
def test_first_line_has_a_link_to_the_page(models, listen, host):
    family = socket.AF_INET6 if ":" in listen else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.bind((listen, 0))
    except OSError:
        pytest.skip("SKIPPED: this machine has no IPv6")
    daemon = Daemon(models["tiny"], {"server.listen": listen})
    try:
        url = re.search(r" url=\"?(http:[^ \"]+)", daemon.wait_log("event=listening"))[1]
        assert url == f"http://{host}:{daemon.port}/"
        with urllib.request.urlopen(url, timeout=DEADLINE) as page:
            assert page.status == 200 and page.headers["Content-Type"].startswith("text/html")
    finally:
        daemon.close()


# --- UNIX sockets ---


def test_unix_socket(start, tmp_path):
    path = tmp_path / "lstmd.sock"
    daemon = start("tiny", {"server.listen": f"unix:{path}", "server.socket_mode": "600"})
    assert daemon.address == f"unix:{path}" and " url=" not in daemon.wait_log("event=listening")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with at(path) as connection:
        assert read_answer(connection).status == 200
    assert " client=unix " in daemon.wait_log("id=u ")
    body = b'{"length": 3}'
    post = b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
    with at(path, post % (len(body), body)) as connection:
        assert read_answer(connection).status == 200
    daemon.close()
    assert not path.exists()


def test_stale_unix_socket_is_replaced_and_a_living_one_is_not(start, models, tmp_path):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    start("tiny", {"server.listen": f"unix:{path}"})
    assert "somebody listens" in serve_fails(models, f"server.listen=unix:{path}")
    with at(path) as connection:
        assert read_answer(connection).status == 200


def test_path_that_is_no_socket_is_left_alone(models, tmp_path):
    path = tmp_path / "file"
    path.write_text("mine")
    assert "not a socket" in serve_fails(models, f"server.listen=unix:{path}")
    assert path.read_text() == "mine"
    assert "unix:" in serve_fails(models, "server.listen=unix:")
    assert "unix:" in serve_fails(models, "server.listen=unix:" + "a" * 108)
    assert "server.socket_mode" in serve_fails(models, f"server.listen=unix:{tmp_path}/s", "server.socket_mode=888")
    assert "neither" in serve_fails(models, "server.listen=nowhere")


# --- Sockets that systemd hands over ---


def start_activated(models, sockets, names=None, pid="$$"):
    """Starts the daemon as systemd does: with descriptors from 3 on and three variables."""

    def place():
        for i, listener in enumerate(sockets):
            os.dup2(os.dup(listener.fileno()) if listener.fileno() == 3 + i else listener.fileno(), 3 + i)

    shell = f'LISTEN_PID={pid} LISTEN_FDS={len(sockets)} exec "$@"'
    command = ["sh", "-c", shell, "sh", PROGRAM, "serve", "--model", str(models["tiny"]), "--set", "server.port=0"]
    command += ["--set", f"auth.admin_tokens={ADMIN}"]
    environment = {**os.environ, **({"LISTEN_FDNAMES": names} if names else {})}
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, env=environment, preexec_fn=place, close_fds=False, cwd=ROOT
    )


def ask(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    connection.request("GET", path, headers={"Authorization": f"Bearer {ADMIN}"})
    status = connection.getresponse().status
    connection.close()
    return status


def listener():
    made = socket.create_server(("127.0.0.1", 0))
    return made, made.getsockname()[1]


def test_socket_activation(models):
    (main, port), (admin, admin_port) = listener(), listener()
    with main, admin, start_activated(models, [admin, main], "admin:lstmd") as process:
        try:
            # Both sockets already listen, so there is no need to wait for the daemon.
            assert ask(port, "/healthz") == 200 and ask(admin_port, "/healthz") == 200
            assert ask(port, "/datasets") == 404 and ask(admin_port, "/datasets") != 404
        finally:
            process.terminate()
    assert process.returncode == 0


def test_socket_activation_of_another_process_is_not_ours(models):
    made, port = listener()
    with made, start_activated(models, [made], pid="1") as process:
        try:
            line = next(line.decode() for line in process.stderr if b"event=listening" in line)
            assert int(re.search(r" port=(\d+)", line)[1]) != port
        finally:
            process.terminate()


# --- A listener for administration ---


def test_admin_listener_alone_serves_administration(start, tmp_path):
    path = tmp_path / "admin.sock"
    daemon = start("tiny", {"admin.listen": f"unix:{path}"})
    request = b"GET /datasets HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n" % ADMIN.encode()
    with at(path, request) as connection:
        assert read_answer(connection).status != 404
    daemon.get("/datasets", token=ADMIN).problem(404)
    assert "DELETE" not in daemon.request("OPTIONS", "/models/tiny").headers["Allow"]
    assert daemon.get("/healthz").status == 200


def test_admin_listener_at_a_port(start):
    daemon = start("tiny", {"admin.listen": "127.0.0.1", "admin.port": 0})
    line = daemon.wait_log('event="listening for administration"')
    port = int(re.search(r" port=(\d+)", line)[1])
    assert ask(port, "/datasets") != 404 and ask(port, "/healthz") == 200
    assert ask(daemon.port, "/datasets") == 404


# --- Who is the client? ---


@pytest.fixture(scope="module")
def behind_proxy(models):
    running = Daemon(models["tiny"], {"server.trusted_proxies": "127.0.0.0/8", "limits.max_connections_per_address": 2})
    yield running
    running.close()


def logged_client(daemon, identity, **headers):
    daemon.get("/healthz", headers={"X-Request-Id": identity, **headers})
    return re.search(r" client=(\S+)", daemon.wait_log(f"id={identity} "))[1]


def test_forwarded_for_counts_from_trusted_proxies_only(daemon, behind_proxy, start):
    spoofed = {"X-Forwarded-For": "6.6.6.6, 203.0.113.9"}
    assert logged_client(daemon, "f1", **spoofed) == "127.0.0.1"
    assert logged_client(behind_proxy, "f2", **spoofed) == "203.0.113.9"
    assert logged_client(behind_proxy, "f3", Forwarded="for=203.0.113.9") == "127.0.0.1"
    other = start("tiny", {"server.trusted_proxies": "127.0.0.1", "server.forwarded_header": "forwarded"})
    assert logged_client(other, "f4", Forwarded='for="[2001:db9::1]:99"', **spoofed) == '2001:db9::1'


def test_proxy_at_a_unix_socket_is_believed_where_unix_is_trusted(start, tmp_path):
    for trusted, client in (("unix", "203.0.113.9"), ("127.0.0.1", "unix")):
        path = tmp_path / trusted
        daemon = start("tiny", {"server.listen": f"unix:{path}", "server.trusted_proxies": trusted})
        with at(path, GET % (b"u", b"X-Forwarded-For: 203.0.113.9\r\n")) as connection:
            assert read_answer(connection).status == 200
        assert f" client={client} " in daemon.wait_log("id=u ")


def test_last_of_several_headers_is_the_proxys(behind_proxy):
    lines = b"X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 203.0.113.9\r\n"
    with behind_proxy.socket() as connection:
        connection.sendall(GET % (b"two", lines))
        assert read_answer(connection).status == 200
    assert " client=203.0.113.9 " in behind_proxy.wait_log("id=two ")


# --- Connections per address ---


def test_connections_per_address(start):
    daemon = start("tiny", {"limits.max_connections_per_address": 2})
    with daemon.socket() as one, daemon.socket() as two:
        for connection in (one, two):
            connection.sendall(GET % (b"c", b""))
            assert read_answer(connection).status == 200
        with daemon.socket() as third:
            answer = read_answer(third)
        assert "limits.max_connections_per_address" in answer.problem(429)["detail"]
        assert "instance" not in answer.json()  # the daemon has not read the request
        assert int(answer.headers["Retry-After"]) >= 1 and answer.headers["Date"].endswith(" GMT")
        assert "status=429" in daemon.wait_log("connection refused.* id=%s " % answer.headers["X-Request-Id"])
        one.close()
        wait_until_accepted(daemon)


def wait_until_accepted(daemon):
    for _ in range(1000):
        with daemon.socket() as connection:
            connection.sendall(GET % (b"again", b""))
            if read_answer(connection).status == 200:
                return
    raise AssertionError("the place was not given back")


@pytest.mark.parametrize(
    "one, same, other",
    [("198.51.100.1", "198.51.100.1", "198.51.100.2"), ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", "2001:db8:0:2::1")],
)
def test_requests_per_address_behind_a_proxy(behind_proxy, one, same, other):
    head = b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
    head += b"X-Forwarded-For: %s\r\nExpect: 100-continue\r\n\r\n"
    going_on = [behind_proxy.socket() for _ in range(2)]
    for connection in going_on:
        connection.sendall(head % one.encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 100")
    forwarded = {"X-Forwarded-For": same}
    refused = behind_proxy.get("/healthz", headers=forwarded)
    assert "per_address" in refused.problem(429)["detail"] and int(refused.headers["Retry-After"]) >= 1
    assert behind_proxy.get("/healthz", headers={"X-Forwarded-For": other}).status == 200
    for connection in going_on:
        connection.sendall(b"{}")
        assert read_answer(connection).status == 200
    assert behind_proxy.get("/healthz", headers=forwarded).status == 200
    for connection in going_on:
        connection.close()
