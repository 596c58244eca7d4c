"""Every test talks to a real daemon. It listens on a free port, a thread reads its log, and the test ends it.

LSTMD (or LSTMD_BIN) names the program; the default is build/lstmd. Nothing here sleeps for a fixed time. A wait ends with
its event; only a failure reaches its deadline.
"""

import contextlib
import fcntl
import functools
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.parse
import warnings

import pytest

import browser
from make_model import make_model

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("LSTMD") or os.environ.get("LSTMD_BIN") or str(ROOT / "build/lstmd")
ADMIN = "admin-token-of-the-tests"
DEADLINE = 60 if not os.environ.get("SANITIZE") else 300
# A sanitizer makes long texts ten times as slow, so daemons get as much time as tests do.
SLOW_SETTINGS = {"limits.request_timeout": DEADLINE} if os.environ.get("SANITIZE") else {}


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    def problem(self, status):
        """Returns the problem document of an answer, which must have this status."""
        assert self.status == status, (self.status, self.body)
        assert self.headers["Content-Type"] == "application/problem+json" and self.body.endswith(b"}\n")
        document = self.json()
        assert document["status"] == status
        assert document["title"] and document["detail"]
        return document

    def fields(self):
        """Returns {field: message} of a 422."""
        return {error["field"]: error["message"] for error in self.problem(422)["errors"]}


class UnixConnection(http.client.HTTPConnection):
    """host: "unix:PATH"."""

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.host.removeprefix("unix:"))


class Daemon:
    """A running `lstmd serve`. settings: --set values. A list gives one --set per item. None removes a setting that all
    daemons have. model: a directory, or None to leave model.path to the settings. Raw requests send the host name "x"."""

    def __init__(self, model, settings=(), environment=None, cwd=ROOT, preexec_fn=None):
        settings = {"server.port": 0, "server.hosts": "x", "engine.kernel": "portable", "auth.admin_tokens": ADMIN, **SLOW_SETTINGS,
                    **dict(settings)}
        command = [PROGRAM, "serve"] + (["--model", str(model)] if model else [])
        for key, value in settings.items():
            for item in value if isinstance(value, list) else [value]:
                if item is not None:
                    command += ["--set", f"{key}={item}"]
        env = {key: value for key, value in os.environ.items() if not key.startswith("LSTMD")}
        env.update(environment or {})
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=env, cwd=cwd,
                                        preexec_fn=preexec_fn)
        self.signalled = False
        self.lines = []
        self.changed = threading.Condition()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        line = self.wait_log(r"event=listening|\"event\":\"listening\"|^lstmd: ")
        port = re.search(r"port\W+(\d+)", line)
        assert port and "listening" in line, line
        self.port = int(port[1])
        self.address = re.search(r"address(?:=|\":)\"?([0-9a-f.:]+|unix:[^ \"]+)", line)[1]

    def _read(self):
        for line in self.process.stderr:
            with self.changed:
                self.lines.append(line.decode(errors="replace").rstrip("\n"))
                self.changed.notify_all()
        with self.changed:
            self.lines.append(None)
            self.changed.notify_all()

    def wait_log(self, pattern, seconds=DEADLINE):
        """Returns the first log line, past or future, that matches the pattern."""
        end = time.monotonic() + seconds
        seen = 0
        with self.changed:
            while True:
                for line in self.lines[seen:]:
                    if line is None:
                        raise AssertionError(f"the daemon ended; its log: {self.lines}")
                    if re.search(pattern, line):
                        return line
                seen = len(self.lines)
                if not self.changed.wait(end - time.monotonic()):
                    raise AssertionError(f"no line like {pattern} in {self.lines}")

    def request(self, method, path, body=None, headers=None, token=None, timeout=DEADLINE):
        headers = dict(headers or {})
        if token:
            headers["Authorization"] = f"Bearer {token}"
        unix = self.address.startswith("unix:")
        connection = (UnixConnection if unix else http.client.HTTPConnection)(self.address, self.port, timeout=timeout)
        with contextlib.closing(connection):
            connection.request(method, path, body, {**({"Host": "x"} if unix else {}), **headers})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())

    def admin(self, method, path, document=None, **options):
        """Sends a request of scope admin."""
        body = None if document is None else json.dumps(document).encode()
        headers = {"Content-Type": "application/json"} if body else {}
        return self.request(method, path, body, headers, token=ADMIN, **options)

    def get(self, path, **options):
        return self.request("GET", path, **options)

    def post(self, path, document, **options):
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        return self.request("POST", path, body, {"Content-Type": "application/json"}, **options)

    def generate(self, **fields):
        answer = self.post("/generate", fields)
        assert answer.status == 200, answer.body
        return answer.json()

    def query(self, **fields):
        return self.get("/generate?" + urllib.parse.urlencode(fields))

    def socket(self):
        connection = socket.create_connection((self.address, self.port), timeout=DEADLINE)
        return connection

    def send_generate(self, **fields):
        """Sends a generation on a new connection. Does not wait for the answer."""
        body = json.dumps(fields).encode()
        connection = self.socket()
        connection.sendall(
            b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-Request-Id: sent\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        return connection

    def occupy(self, length):
        """Fills a daemon with one thread, engine.max_batch=1 and limits.queue=0. Returns when the request has the slot."""
        connection = self.send_generate(prompt="", length=length, seed=1)
        end = time.monotonic() + DEADLINE
        while self.query(length=1).status != 503:
            assert time.monotonic() < end, "the request never got the slot"
        return connection

    def tokens_for(self, seconds):
        """Estimates how many tokens the engine writes in this time if it does nothing else."""
        self.generate(length=100)
        rate = self.generate(length=1000)["timings"]["tokens_per_second"]
        return max(1000, int(rate * seconds))

    def resident_bytes(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) * 1024

    def signal(self, number=signal.SIGTERM):
        self.signalled = True
        self.process.send_signal(number)

    def wait(self, seconds=DEADLINE):
        code = self.process.wait(seconds)
        self.reader.join(seconds)
        return code

    def close(self):
        """Ends the daemon. If it still runs, it must exit with 0."""
        if self.process.poll() is None:
            if not self.signalled:
                self.signal()
            try:
                code = self.wait()
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise
            assert code == 0, (code, self.lines[-20:])
        self.process.stderr.close()


def read_answer(connection):
    """Reads one answer from a raw socket."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    return Answer(response.status, response.headers, response.read())


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """tiny never ends a text, ending always ends it, labelled has labels."""
    directory = tmp_path_factory.mktemp("models")
    return {
        "tiny": make_model(directory / "tiny"),
        "ending": make_model(directory / "ending", eos_bias=80.0),
        "labelled": make_model(directory / "labelled", labels=("World", "Sports", "Business")),
    }


@pytest.fixture(scope="module")
def daemon(models):
    """The tests of a module share this daemon."""
    running = Daemon(models["tiny"])
    yield running
    running.close()


@pytest.fixture
def start(models):
    """start("tiny", {"limits.queue": 0}) starts a daemon for one test."""
    running = []

    def start_one(model="tiny", settings=(), environment=None):
        running.append(Daemon(models.get(model, model), settings, environment))
        return running[-1]

    yield start_one
    for one in running:
        one.close()


@pytest.fixture(scope="session")
def pages():
    """Serves pages from an origin that is not a daemon's."""
    running = browser.Pages()
    yield running
    running.close()


@pytest.fixture(scope="session")
def chromium(request, tmp_path_factory):
    """A browser (browser.py). No other test shows that the page and pages of other origins work, so a skip is loud."""
    if reason := browser.missing():
        warnings.warn(f"pages are NOT tested: {reason}")
        pytest.skip(reason)
    running = browser.Browser(tmp_path_factory.mktemp("chromium"), DEADLINE)
    running.axe_source = functools.cache(
        lambda: (request.getfixturevalue("npm") / "node_modules/axe-core/axe.min.js").read_text())
    yield running
    running.close()


def install_npm(directory):
    """Installs the packages of tests/http/npm/package.json. Returns why that failed, or an empty text."""
    shutil.copytree(pathlib.Path(__file__).parent / "npm", directory, ignore=shutil.ignore_patterns("node_modules"))
    install = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    try:
        result = subprocess.run(install, cwd=directory, capture_output=True, text=True, timeout=180)
    except subprocess.TimeoutExpired:
        return "npm ci did not end within 180 s"
    return f"npm ci failed: {result.stderr[-500:]}" if result.returncode != 0 else ""


@pytest.fixture(scope="session")
def npm(tmp_path_factory):
    """A directory with the packages of tests/http/npm/package.json: clients, linters and frameworks by others. The workers of
    one run share it: the first one installs it."""
    reason = "node and npm are not installed"
    if shutil.which("node") and shutil.which("npm"):
        base = tmp_path_factory.getbasetemp()
        shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
        with open(shared / "npm.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            told = shared / "npm.told"
            if not told.exists():
                told.write_text(install_npm(shared / "npm"))
            reason = told.read_text()
    if reason:
        warnings.warn(f"the page's accessibility and the npm clients are NOT tested: {reason}")
        pytest.skip(reason)
    return shared / "npm"
