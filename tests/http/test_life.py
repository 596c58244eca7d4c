"""Starts, refused starts, drains, ends; the health check."""

import contextlib
import ctypes
import json
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import time

import pytest

import training
from conftest import DEADLINE, PROGRAM, ROOT, read_answer

DRAINING = {"engine.threads": 1, "engine.threads": 1, "engine.max_batch": 1, "limits.queue": 0, "limits.max_length": 10_000_000, "server.drain_seconds": 600}
FOREVER = 10_000_000


def run(*arguments, **environment):
    env = {key: value for key, value in os.environ.items() if not key.startswith("LSTMD")}
    env.update(environment)
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=DEADLINE, cwd=ROOT, env=env)


def refused(model, *settings, **environment):
    """Starts a daemon that must refuse: exit code 1 and one line. Returns the line."""
    arguments = ["serve", "--model", str(model)]
    for setting in settings if any(one.startswith("server.port=") for one in settings) else ("server.port=0", *settings):
        arguments += ["--set", setting]
    result = run(*arguments, **environment)
    assert result.returncode == 1, result
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("lstmd: "), lines
    return lines[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_an_idle_daemon(start, number):
    daemon = start()
    daemon.generate(length=1)
    idle = daemon.socket()
    daemon.signal(number)
    assert daemon.wait() == 0
    assert any("event=stopped" in line for line in daemon.lines if line)
    assert idle.recv(1) == b""
    idle.close()


@pytest.mark.parametrize("abstract", [False, True])
def test_service_manager_is_told_when_the_daemon_is_ready_and_when_it_stops(start, tmp_path, abstract):
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.settimeout(DEADLINE)
    path = f"@lstmd-{os.getpid()}-{time.monotonic_ns()}" if abstract else str(tmp_path / "notify")
    manager.bind("\0" + path[1:] if abstract else path)
    daemon = start("tiny", {}, {"NOTIFY_SOCKET": path})
    assert manager.recv(4096) == b"READY=1"
    assert daemon.get("/readyz").status == 200
    daemon.signal()
    assert manager.recv(4096) == b"STOPPING=1"
    assert daemon.wait() == 0
    manager.close()


def test_service_manager_that_is_not_there_is_only_a_warning(start, tmp_path):
    daemon = start("tiny", {}, {"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    assert "NOTIFY_SOCKET=" in daemon.wait_log("event=not_notified")
    assert daemon.get("/readyz").status == 200


def test_state_directory_of_another_daemon_is_refused(start, models, tmp_path):
    start("tiny", {"server.state_dir": tmp_path / "state"})
    line = refused(models["tiny"], f"server.state_dir={tmp_path / 'state'}")
    assert "another daemon uses this state directory (process " in line


def test_drain_finishes_what_runs_and_refuses_what_comes(start):
    daemon = start("tiny", DRAINING)
    length = daemon.tokens_for(1.0)
    connection = daemon.occupy(length)
    daemon.signal()
    daemon.wait_log("event=draining")
    ready = daemon.get("/readyz")
    if ready.status == 200:  # the daemon has just written the line, but this machine may be slow
        ready = daemon.get("/readyz")
    ready.problem(503)
    assert int(ready.headers["Retry-After"]) >= 1
    assert ready.headers["Connection"] == "close"
    for answer in (daemon.query(length=1), daemon.post("/generate", {"length": 1})):
        assert "shutting down" in answer.problem(503)["detail"]
        assert int(answer.headers["Retry-After"]) >= 1
    assert daemon.get("/healthz").status == 200
    answer = read_answer(connection)
    assert answer.status == 200
    assert answer.json()["usage"]["completion_tokens"] == length
    assert daemon.wait() == 0
    connection.close()


def test_drain_ends_when_its_time_is_over(start):
    daemon = start("tiny", {**DRAINING, "server.drain_seconds": 0.3})
    connection = daemon.occupy(FOREVER)
    daemon.signal()
    read_answer(connection).problem(503)
    assert daemon.wait() == 0
    connection.close()


@pytest.mark.parametrize("first, second", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGTERM)])
def test_second_signal_ends_at_once(start, first, second):
    daemon = start("tiny", DRAINING)
    connection = daemon.occupy(FOREVER)
    daemon.signal(first)
    daemon.wait_log("event=draining")
    daemon.signal(second)
    assert daemon.wait() == 1
    read_answer(connection).problem(503)
    connection.close()


def threads_for(daemon, number):
    """Returns the threads that do not block the signal."""
    for thread in sorted(map(int, os.listdir(f"/proc/{daemon.process.pid}/task"))):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has already ended
            status = pathlib.Path(f"/proc/{daemon.process.pid}/task/{thread}/status").read_text()
            if not int(status.split("SigBlk:")[1].split()[0], 16) >> (number - 1) & 1:
                yield thread


@pytest.mark.parametrize("busy", ["idle", "generating", "training", "reloading"])
def test_one_signal_ends_the_daemon_whichever_thread_gets_it(start, tmp_path, busy):
    """The handler counts the signal. The main thread reads the count later."""
    library, at, more = ctypes.CDLL(None), 0, True
    while more:
        daemon = start("tiny", {"engine.threads": 2, "server.state_dir": tmp_path / "state", "server.drain_seconds": 0})
        connection = daemon.send_generate(prompt="a", length=10_000) if busy == "generating" else None
        if busy == "training" and at == 0:  # the next daemon uses it further
            training.submit(daemon, **training.ENDLESS)
        if busy == "reloading":
            daemon.process.send_signal(signal.SIGHUP)
        threads = list(threads_for(daemon, signal.SIGTERM))
        if library.tgkill(daemon.process.pid, threads[at % len(threads)], signal.SIGTERM) != 0:
            daemon.signal()  # that thread has ended
        assert daemon.wait() == 0
        at, more = at + 1, at + 1 < len(threads)
        if connection:
            connection.close()


def test_reloads_in_a_row(start):
    """A worker loads models anew. A sanitizer sees what the main thread writes meanwhile."""
    daemon = start("tiny")
    for k in range(5):
        daemon.process.send_signal(signal.SIGHUP)
        with daemon.changed:
            assert daemon.changed.wait_for(lambda: sum("event=reloaded" in str(line) for line in daemon.lines) > k, DEADLINE)


def test_client_that_does_not_read_does_not_keep_the_daemon(start):
    daemon = start("tiny", {"server.drain_seconds": 0.5})
    with daemon.socket() as connection:
        connection.sendall(b"GET /web/app.js HTTP/1.1\r\nHost: x\r\n\r\n" * 200)
        daemon.signal()
        assert daemon.wait() == 0


def test_port_in_use(models):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused(models["tiny"], f"server.port={port}")
    assert f"port {port}" in line and "in use" in line


@pytest.mark.parametrize("address", ["localhost", "1.2.3", "::g", "127.0.0.1:80"])
def test_address_that_is_none(models, address):
    assert address in refused(models["tiny"], f"server.listen={address}")


def test_address_of_another_machine(models):
    assert "192.0.2.1" in refused(models["tiny"], "server.listen=192.0.2.1")


@pytest.mark.parametrize("kernel", ["ref", "portable"])
def test_kernel_can_be_forced(start, kernel):
    assert f"kernel={kernel} " in start("tiny", {"engine.kernel": kernel}).wait_log("event=listening ")


def test_kernel_that_this_machine_lacks(models):
    other = "neon" if os.uname().machine == "x86_64" else "avx2"
    assert other in refused(models["tiny"], f"engine.kernel={other}")


def test_wrong_configuration(models, tmp_path):
    assert "server.port" in refused(models["tiny"], "server.prot=1")
    assert "LSTMD_SERVER_PORT" in refused(models["tiny"], LSTMD_SERVER_PORT="many")
    file = tmp_path / "lstmd.yaml"
    file.write_text("server:\n  port: 0\nlimits:\n  quue: 5\n")
    line = run("serve", "--config", str(file)).stderr
    assert "lstmd.yaml:4" in line and "limits.queue" in line


def test_configuration_file_and_environment_reach_the_daemon(start, tmp_path):
    file = tmp_path / "lstmd.yaml"
    file.write_text("limits:\n  max_length: 7\nlog:\n  format: json\n")
    daemon = start("tiny", {}, {"LSTMD_CONFIG": str(file), "LSTMD_LIMITS_MAX_LENGTH": "9"})
    assert "1 to 9" in daemon.query(length=10).fields()["length"]
    assert daemon.generate()["usage"]["completion_tokens"] == 9
    json.loads(daemon.lines[0])


def test_usage_errors():
    assert run("serve", "--nonsense").returncode == 2
    assert run("serve", "--help").returncode == 0
    assert run("healthcheck", "--help").returncode == 0


def test_model_that_is_not_there(tmp_path):
    assert "nothing" in refused(tmp_path / "nothing")


def broken(models, tmp_path, file, change):
    directory = tmp_path / "broken"
    shutil.copytree(models["tiny"], directory)
    data = (directory / file).read_bytes()
    (directory / file).write_bytes(change(data))
    return refused(directory)


def with_float(data, value):
    """Replaces the first weight."""
    start = 8 + struct.unpack("<Q", data[:8])[0]
    return data[:start] + struct.pack("<f", value) + data[start + 4 :]


@pytest.mark.parametrize(
    "file, change, names",
    [
        ("model.safetensors", lambda data: data[:-1], "model.safetensors"),
        ("model.safetensors", lambda data: data[: len(data) // 2], "model.safetensors"),
        ("model.safetensors", lambda data: b"", "model.safetensors"),
        ("model.safetensors", lambda data: with_float(data, float("nan")), "rnn.weight_ih_l0"),
        ("model.safetensors", lambda data: with_float(data, float("inf")), "rnn.weight_ih_l0"),
        ("vocabulary.json", lambda data: data.replace(b'"a"', b'"\xc3\xb1"'), "SHA-256"),
        ("config.json", lambda data: data.replace(b'"hidden_size": 16', b'"hidden_size": 17'), "rnn.weight_ih_l0"),
        ("config.json", lambda data: data.replace(b"lstmd/1", b"lstmd/9"), "format"),
        ("config.json", lambda data: data[:-5], "config.json"),
    ],
)
def test_broken_model(models, tmp_path, file, change, names):
    assert names in broken(models, tmp_path, file, change)


def test_healthcheck(start):
    daemon = start("tiny", DRAINING)
    settings = ["--set", f"server.port={daemon.port}"]
    assert run("healthcheck", *settings).returncode == 0
    connection = daemon.occupy(FOREVER)
    assert run("healthcheck", *settings).returncode == 0  # a busy daemon is ready
    daemon.signal()
    daemon.wait_log("event=draining")
    result = run("healthcheck", *settings)
    assert (result.returncode, result.stdout) == (1, "")
    assert "503" in result.stderr
    connection.close()
    assert daemon.wait() == 0
    result = run("healthcheck", *settings)
    assert result.returncode == 1
    assert result.stderr.startswith("lstmd: cannot connect")


@pytest.mark.parametrize("listen", ["unix:{}/lstmd.sock", "::"])
def test_healthcheck_finds_the_daemon_wherever_it_listens(start, tmp_path, listen):
    if listen == "::" and not os.path.exists("/proc/net/if_inet6"):
        pytest.skip("this machine has no IPv6")
    listen = listen.format(tmp_path)
    daemon = start("tiny", {"server.listen": listen})
    settings = ["--set", f"server.port={daemon.port}", "--set", f"server.listen={listen}"]
    assert run("healthcheck", *settings).returncode == 0
    daemon.close()
    result = run("healthcheck", *settings)
    where = listen.removeprefix("unix:").replace("::", "::1 port ")
    assert result.returncode == 1 and result.stderr.startswith(f"lstmd: cannot connect to {where}")


@pytest.mark.parametrize("listen", ["unix:", "unix:/" + "a" * 108, "nowhere"])
def test_healthcheck_of_an_address_that_is_none(listen):
    result = run("healthcheck", "--set", f"server.listen={listen}")
    assert result.returncode == 1 and result.stderr.startswith("lstmd: server.listen: ") and "unix:" in result.stderr


def test_healthcheck_of_something_that_is_silent():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        result = run("healthcheck", "--timeout", "0.2", "--set", f"server.port={silent.getsockname()[1]}")
        assert result.returncode == 1 and "no answer" in result.stderr
