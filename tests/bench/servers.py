"""Starts and stops the servers that are measured over HTTP: lstmd, a bare libmicrohttpd, and FastAPI with PyTorch."""

import contextlib
import http.client
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BENCH = ROOT / "tests" / "bench"
BUILD = ROOT / os.environ.get("BUILD", "build")
PYTHON = os.environ.get("PYTHON", "/usr/bin/python3")
LSTMD = BUILD / "lstmd"
DEADLINE = 60
ADMIN = "admin-token-of-the-benchmarks"

sys.path.insert(0, str(ROOT / "tests" / "http"))
from make_model import make_model  # noqa: E402

# With <eos> these are the 84 tokens of the measurements of steps.
TEXT = "\n abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,'-:;!?()[]\"&%$/+="


def compiled(name, *flags, program=None):
    """Compiles tests/bench/NAME.c or .cpp to build/tests/bench/PROGRAM (NAME). Returns None if it does not compile."""
    source = next(path for path in (BENCH / f"{name}.c", BENCH / f"{name}.cpp") if path.exists())
    program = BUILD / "tests" / "bench" / (program or name)
    compiler = os.environ.get("CC", "cc") if source.suffix == ".c" else os.environ.get("CXX", "g++")
    newest = max(path.stat().st_mtime for path in (source, *BENCH.glob("*.h")))
    if program.exists() and program.stat().st_mtime >= newest:
        return program
    program.parent.mkdir(parents=True, exist_ok=True)
    command = [compiler, f"-I{ROOT}", str(source), *flags, "-o", str(program)]
    if not shutil.which(compiler) or subprocess.run(command, stderr=subprocess.DEVNULL).returncode:
        return None
    return program


class Server:
    """A running program. port: where it listens. started: seconds from its start to its first answer."""

    def __init__(self, command, port=None, path="/", **options):
        begun = time.monotonic()
        self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.PIPE, cwd=ROOT, **options)
        self.port = port or self.find_port()
        while not self.answers(path):
            if self.process.poll() is not None or time.monotonic() - begun > DEADLINE:
                raise RuntimeError(f"{command[0]} does not serve")
        self.started = time.monotonic() - begun

    def find_port(self):
        return int(self.process.stdout.readline())

    def answers(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        with contextlib.closing(connection), contextlib.suppress(OSError):
            connection.request("GET", path)
            return connection.getresponse().status < 500
        return False

    def memory(self):
        """Returns the resident bytes of the program and its children."""
        pids = [self.process.pid]
        with open(f"/proc/{pids[0]}/task/{pids[0]}/children", encoding="ascii") as children:
            pids += children.read().split()
        total = 0
        for pid in pids:
            status = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii")
            total += int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024
        return total

    def close(self):
        self.process.terminate()
        self.process.wait(DEADLINE)
        self.process.stdin.close()


class Lstmd(Server):
    def __init__(self, model=None, **settings):
        self.log = tempfile.TemporaryFile("w+", encoding="utf-8")
        command = [LSTMD, "serve", "--set", "server.port=0", *(["--model", model] if model else [])]
        for key, value in settings.items():
            command += ["--set", f"{key.replace('__', '.')}={value}"]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("LSTMD")}
        super().__init__(command, path="/healthz", stderr=self.log, env=environment)

    def find_port(self):
        while self.process.poll() is None:
            self.log.seek(0)
            found = re.search(r"event=listening .*port=(\d+)", self.log.read())
            if found:
                return int(found[1])
        self.log.seek(0)
        raise RuntimeError(f"lstmd ended: {self.log.read()}")

    def close(self):
        super().close()
        self.log.close()


def hello():
    program = compiled("hello", "-O2", "-lmicrohttpd")
    return program and Server([program], stdout=subprocess.PIPE)


def fastapi(workers):
    """Starts FastAPI. Returns None if the packages are not installed."""
    check = "import fastapi, uvicorn, torch"
    if not shutil.which(PYTHON) or subprocess.run([PYTHON, "-c", check], capture_output=True).returncode:
        return None
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [PYTHON, "-m", "uvicorn", "--app-dir", BENCH, "--port", port, "--workers", workers, "--log-level", "error",
               "peer_fastapi:app"]
    return Server(command, port, path="/docs")


def model(directory, hidden):
    """Makes a network of one layer with made-up weights. It never ends a text by itself."""
    path = pathlib.Path(directory) / f"1x{hidden}"
    return path if path.exists() else make_model(path, hidden=hidden, text=TEXT)
