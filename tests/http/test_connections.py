"""Connections run out: who makes room, who still gets an answer, and how many descriptors that takes.

By default there are a few hundred connections. `make soak` sets CONNECTIONS=10000.
"""

import collections
import contextlib
import os
import resource
import socket
import subprocess
import threading
import time
import warnings

import pytest

from conftest import DEADLINE, PROGRAM, ROOT, Daemon, read_answer

CONNECTIONS = int(os.environ.get("CONNECTIONS", 300))
FOREVER = 5_000_000
GET = b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n"
NEVER_IDLE = {"limits.idle_timeout": 3600, "limits.body_timeout": 3600}
SERVER = '{listener="server"}'
STREAMS = {"engine.threads": 1, "limits.max_length": 10_000_000, "limits.request_timeout": 3600, **NEVER_IDLE}


@pytest.fixture
def stack():
    with contextlib.ExitStack() as opened:
        yield opened


@pytest.fixture
def dial(stack):
    """dial(daemon) opens a connection, which the fixture closes at the end. dial(daemon, b"...") also sends these bytes."""

    def dial_one(daemon, data=b"", port=None):
        connection = socket.create_connection((daemon.address, port or daemon.port), timeout=DEADLINE)
        stack.callback(connection.close)
        connection.sendall(data)
        return connection

    return dial_one


def ask(connection, path=b"/healthz"):
    connection.sendall(GET % path)
    return read_answer(connection)


def is_closed(connection):
    """Tells whether the daemon has already closed a connection that expects no answer."""
    connection.settimeout(0)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    finally:
        connection.settimeout(DEADLINE)


def wait_closed(connection):
    with contextlib.suppress(ConnectionError):
        assert connection.recv(1) == b""


def stream(dial, daemon):
    """Opens a busy connection: an endless stream."""
    connection = dial(daemon, GET % b"/generate?stream=true&length=%d&ignore_eos=true" % FOREVER)
    assert connection.recv(100).startswith(b"HTTP/1.1 200")
    return connection


def ask_until(dial, daemon, status, path=b"/healthz", **options):
    """Asks on new connections until an answer has this status."""
    end = time.monotonic() + DEADLINE
    while True:
        answer = ask(dial(daemon, **options), path)
        if answer.status == status:
            return answer
        assert time.monotonic() < end, (answer.status, answer.body)


def admin_port(daemon):
    return int(daemon.wait_log('event="listening for administration"').split(" port=")[1].split()[0])


# --- Who makes room ---


def test_the_idlest_connection_makes_room(start, dial):
    daemon = start("tiny", {"limits.max_connections": 3, **NEVER_IDLE})
    one, two, three = (dial(daemon) for _ in range(3))
    for connection in (one, two, three, one):  # the second one has been idle longest
        assert ask(connection).status == 200
    four = dial(daemon)
    assert ask(four).status == 200
    wait_closed(two)
    for connection in (three, one, four):
        assert ask(connection).status == 200
    assert ' limit=limits.max_connections of=3 ' in daemon.wait_log("connections are short")


def test_busy_connections_never_make_room(start, dial):
    daemon = start("tiny", {"limits.max_connections": 2, **STREAMS})
    busy, idle = stream(dial, daemon), dial(daemon)
    assert ask(idle).status == 200
    for _ in range(50):
        assert ask(dial(daemon)).status == 200
    wait_closed(idle)
    assert busy.recv(100)  # the daemon still writes it


def test_heads_that_do_not_come_make_room_after_a_grace(start, dial):
    daemon = start("tiny", {"limits.max_connections": 20, **NEVER_IDLE})
    silent = [dial(daemon) for _ in range(10)]
    slow = [dial(daemon, b"GET /openapi.yaml HTTP/1.1\r\nHost") for _ in range(10)]
    for connection in slow:
        assert not is_closed(connection)
    assert ask_until(dial, daemon, 200, b"/openapi.yaml")
    wait_closed(silent[0])


def test_a_thousand_idle_connections_starve_nobody(start, dial):
    """In earlier versions everybody waited for limits.idle_timeout, even clients of the admin listener."""
    daemon = start("tiny", {"admin.listen": "127.0.0.1", "admin.port": 0, **NEVER_IDLE})
    more_descriptors(1024 + 200)
    for _ in range(1024):
        dial(daemon)
    assert ask(dial(daemon)).status == 200
    assert ask(dial(daemon, port=admin_port(daemon))).status == 200
    assert ask_until(dial, daemon, 200, b"/openapi.yaml")


def test_kept_alive_clients_in_turns_all_get_answers(start, dial):
    """There are more clients than connections. The daemon serves each, because a connection whose request is over makes room."""
    daemon = start("tiny", {"limits.max_connections": 4, **NEVER_IDLE})
    for _ in range(3):
        for connection in [dial(daemon, GET % b"/openapi.yaml") for _ in range(4)]:
            assert read_answer(connection).status == 200


# --- The reserve ---


def test_probes_are_answered_where_all_connections_are_busy(start, dial):
    daemon = start("tiny", {"limits.max_connections": 2, **STREAMS})
    busy = [stream(dial, daemon) for _ in range(2)]
    for _ in range(10):
        for path in (b"/healthz", b"/readyz", b"/metrics"):
            answer = ask(dial(daemon), path)
            assert answer.status == 200
            assert answer.headers["Connection"] == "close"
    refused = ask(dial(daemon), b"/models")
    assert "limits.max_connections" in refused.problem(503)["detail"]
    assert int(refused.headers["Retry-After"]) > 0 and refused.headers["Connection"] == "close"
    body = dial(daemon, b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                        b"Content-Length: 2\r\n\r\n{}")
    assert "limits.max_connections" in read_answer(body).problem(503)["detail"]
    metrics = ask(dial(daemon), b"/metrics").body.decode()
    for sample in ("{} 2", "_limit{} 2", "_refused_total{} 2", "_closed_total{} 0"):
        assert f"\nlstmd_connections{sample.format(SERVER)}\n" in metrics
    busy[0].close()
    assert ask_until(dial, daemon, 200, b"/models")


def test_silent_clients_do_not_take_the_reserve(start, dial):
    daemon = start("tiny", {"limits.max_connections": 1, **STREAMS})
    busy = stream(dial, daemon)
    silent = [dial(daemon) for _ in range(100)]
    bodies = [dial(daemon, b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n") for _ in range(100)]
    assert ask_until(dial, daemon, 200)
    wait_closed(silent[0])
    assert "limits.max_connections" in read_answer(bodies[-1]).problem(503)["detail"]
    assert busy.recv(100)


def test_a_flood_of_silent_clients_does_not_keep_probes_out(start, dial):
    """Silent connections arrive as fast as they can. The probe may have to retry, but it gets an answer."""
    daemon = start("tiny", {"limits.max_connections": 1, **STREAMS})
    busy = stream(dial, daemon)
    enough = threading.Event()

    def flood():
        silent = collections.deque(maxlen=100)  # the daemon closes the oldest one when the next one comes
        while not enough.is_set():
            silent.append(daemon.socket())

    flooding = threading.Thread(target=flood)
    flooding.start()
    try:
        answered = 0
        end = time.monotonic() + DEADLINE
        while answered < 20:
            assert time.monotonic() < end, f"{answered} probes were answered"
            with contextlib.suppress(ConnectionError):  # its head came too late
                answered += ask(dial(daemon)).status == 200
    finally:
        enough.set()
        flooding.join()
    assert busy.recv(100)


def test_the_admin_listener_has_connections_of_its_own(start, dial):
    settings = {"limits.max_connections": 1, "admin.listen": "127.0.0.1", "admin.port": 0, "admin.max_connections": 2}
    daemon = start("tiny", {**settings, **STREAMS})
    port = admin_port(daemon)
    stream(dial, daemon)
    one, two = dial(daemon, port=port), dial(daemon, port=port)
    assert ask(one, b"/models").status == ask(two, b"/models").status == 200
    assert ask(dial(daemon), b"/models").status == 503
    assert ask(one, b"/models").status == ask(two, b"/models").status == 200
    assert ask(dial(daemon, port=port), b"/models").status == 200
    wait_closed(one)


# --- Descriptors ---


def descriptors(daemon):
    return len(os.listdir(f"/proc/{daemon.process.pid}/fd"))


def limit_descriptors(daemon, count):
    hard = resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (count, hard))


def more_descriptors(wanted):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        warnings.warn(f"NOT tested: {wanted} descriptors are needed, and RLIMIT_NOFILE allows {hard}")
        pytest.skip(f"RLIMIT_NOFILE allows {hard} descriptors, and {wanted} are needed")
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def test_an_idle_connection_gives_its_descriptor_away(start, dial):
    daemon = start("tiny", NEVER_IDLE)
    idle = [dial(daemon) for _ in range(10)]
    for connection in idle:
        assert ask(connection).status == 200
    limit_descriptors(daemon, descriptors(daemon))
    kept = dial(daemon)
    assert ask(kept).status == 200
    wait_closed(idle[0])
    assert ask(kept).status == 200 and ask(idle[9]).status == 200
    limit_descriptors(daemon, descriptors(daemon))
    metrics = ask(idle[9], b"/metrics").body.decode()
    for name in ("process_open_fds", "process_max_fds"):  # the alert on their ratio must fire now
        assert f"\n{name} {descriptors(daemon)}\n" in metrics


def test_a_client_is_told_that_there_is_no_descriptor(start, dial):
    daemon = start("tiny", STREAMS)
    busy = [stream(dial, daemon) for _ in range(2)]
    limit_descriptors(daemon, descriptors(daemon))
    for _ in range(3):
        assert "descriptor" in read_answer(dial(daemon)).problem(503)["detail"]
    limit_descriptors(daemon, 1000)
    assert ask(dial(daemon)).status == 200
    assert all(connection.recv(100) for connection in busy)


def run_with(models, count, *settings):
    """Starts the daemon with RLIMIT_NOFILE = `count`."""
    return Daemon(models["tiny"], settings, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (count, count)))


@pytest.mark.parametrize("count", [16, 100])
def test_too_few_descriptors_are_refused_at_the_start(models, count):
    command = [PROGRAM, "serve", "--model", str(models["tiny"]), "--set", "server.port=0"]
    done = subprocess.run(command, stderr=subprocess.PIPE, timeout=DEADLINE, cwd=ROOT, text=True,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (count, count)))
    assert done.returncode == 1
    assert f"RLIMIT_NOFILE allows {count} descriptors" in done.stderr
    assert "limits.max_connections, 1024" in done.stderr


def test_fewer_connections_where_descriptors_are_few(models, dial):
    daemon = run_with(models, 300, *NEVER_IDLE.items())
    line = daemon.wait_log("fewer connections than limits.max_connections")
    assert " wanted=1024 descriptors=300 " in line
    connections = int(line.split(" connections=")[1].split()[0])
    for _ in range(connections + 50):
        assert ask(dial(daemon)).status == 200
    assert descriptors(daemon) < 300
    assert not any("no descriptor" in line for line in daemon.lines)
    daemon.close()


def test_the_limit_of_descriptors_is_raised_as_needed(models, start):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2500:
        pytest.skip(f"RLIMIT_NOFILE allows {hard} descriptors")
    daemon = Daemon(models["tiny"], {"limits.max_connections": 2000},
                    preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard)))
    assert resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE)[0] > 2000
    assert not any("fewer connections" in line for line in daemon.lines)
    daemon.close()


# --- Many at once ---


def test_many_connections_at_once_are_all_served_and_may_all_leave_at_once(start, stack):
    """Each client asks twice, and all stay open in between. Then all close their sending half at once."""
    more_descriptors(CONNECTIONS + 200)
    daemon = start("tiny", {"limits.max_connections": CONNECTIONS + 100, **NEVER_IDLE})
    before = descriptors(daemon)
    connections = [stack.enter_context(contextlib.closing(daemon.socket())) for _ in range(CONNECTIONS)]
    for _ in range(2):
        for connection in connections:
            connection.sendall(GET % b"/healthz")
        for connection in connections:
            assert read_answer(connection).status == 200
    assert descriptors(daemon) >= before + CONNECTIONS
    for connection in connections:
        connection.shutdown(socket.SHUT_WR)
    begun = time.monotonic()
    assert daemon.get("/healthz").status == 200
    print(f"{CONNECTIONS} connections; an answer after {time.monotonic() - begun:.3f} s, {daemon.resident_bytes() / 1e6:.1f} MB")
    for connection in connections:
        assert connection.recv(1) == b""
    end = time.monotonic() + DEADLINE
    while descriptors(daemon) > before:
        assert daemon.get("/healthz").status == 200
        assert time.monotonic() < end
