#!/usr/bin/python3
"""Fuzzes a running daemon at its socket: every route of openapi.yaml, sound and broken requests, clients that leave.

    tests/fuzz/socket_fuzzer.py [--seconds 60 | --cases N] [--seed N] [--threads 6] [--set key=value]...
    tests/fuzz/socket_fuzzer.py --seed N --case N [--before 100]     sends the same bytes again, one case after the other
    tests/fuzz/socket_fuzzer.py --set server.listen=unix:PATH        at a UNIX socket
    tests/fuzz/socket_fuzzer.py --set auth.generate_tokens=generate-token-of-the-tests      texts need a token

LSTMD names the program (build/lstmd). A program with sanitizers finds more. The daemon must survive, answer in well-formed
HTTP as openapi.yaml says, never answer 500, keep answering /healthz, close every descriptor, and end with 0 on SIGTERM. If a
sanitizer reports a leak, the exit code differs. The fuzzer writes a failing case to --out and prints its number.
"""

import argparse
import contextlib
import dataclasses
import os
import pathlib
import select
import socket
import struct
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/fuzz"), str(ROOT / "tests/http")]

import http_cases  # noqa: E402
from conftest import DEADLINE, Daemon  # noqa: E402
from http_answers import Reader, Wrong, judge, require  # noqa: E402
from http_cases import KINDS, make_case  # noqa: E402
from make_model import make_model  # noqa: E402

HEALTH_EVERY, TIDY_EVERY = 100, 2000  # cases
PATIENCE = 0.03  # a client with a broken request leaves after this many seconds of silence
KEPT_LINES = 3000  # lines of the log: a sanitizer's report must fit
SETTINGS = {
    "engine.threads": 2,
    "limits.max_length": 2000,
    "limits.request_timeout": 30,
    "limits.max_dataset": "1MiB",
    "limits.max_import": "4MiB",
    "limits.body_timeout": 20,
    "server.cors_origins": "https://app.example.org",
    "train.threads": 1,
}
SANITIZERS = {
    "ASAN_OPTIONS": "strict_string_checks=1:abort_on_error=1:detect_leaks=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "LSAN_OPTIONS": f"print_suppressions=0:suppressions={ROOT / 'tests/sanitizers/lsan.supp'}",
    "TSAN_OPTIONS": f"halt_on_error=1:suppressions={ROOT / 'tests/sanitizers/tsan.supp'}",
}


# --- One connection ---


def connect_to(daemon, source):
    if daemon.address.startswith("unix:"):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(DEADLINE)
        connection.connect(daemon.address.removeprefix("unix:"))
        return connection
    connection = socket.socket(socket.AF_INET)
    connection.bind((source, 0))
    connection.settimeout(DEADLINE)
    connection.connect((daemon.address, daemon.port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


class Visit:
    """Plays a case. It sends and reads at the same time. Otherwise both sides could wait for each other."""

    def __init__(self, daemon, case):
        self.case = case
        self.reader = Reader([request.method for request in case.requests])
        self.got = bytearray()
        self.gone = self.reset = False
        self.connection = connect_to(daemon, case.source)
        self.connection.setblocking(False)

    def receive(self):
        try:
            data = self.connection.recv(1 << 18)
        except ConnectionError:
            data, self.reset = b"", True
        except BlockingIOError:
            return
        self.gone = not data
        self.got += data
        self.reader.feed(data)

    def send(self, data):
        end = time.monotonic() + DEADLINE
        while data and not self.gone:
            readable, writable, _ = select.select([self.connection], [self.connection], [], DEADLINE)
            require((readable or writable) and time.monotonic() < end, "the daemon neither reads nor writes")
            if readable:
                self.receive()
            elif writable:
                try:
                    data = data[self.connection.send(data[:1 << 16]):]
                except ConnectionError:
                    self.drain()

    def drain(self):
        """The daemon has closed. Reads what it sent before."""
        while not self.gone:
            self.receive()

    def wait(self, seconds, done=lambda: False):
        """Reads until done(). Returns False if the daemon closes, or if nothing comes for this long."""
        while not self.gone and not done():
            if not select.select([self.connection], [], [], seconds)[0]:
                return False
            self.receive()
        return True

    def answered(self):
        answers = self.reader.answers
        return len(answers) == len(self.case.requests) or bool(answers) and answers[-1].last

    def play(self):
        for step, what in self.case.steps:
            if step == "send":
                self.send(what)
            elif not self.gone:
                time.sleep(what)
        self.leave()
        self.reader.end(cut=not self.case.sound or self.case.end != "read")
        for number, answer in enumerate(self.reader.answers):
            judge(answer, self.case.requests[number] if number < len(self.case.requests) else None, self.case.sound)

    def leave(self):
        end = self.case.end
        if end == "read":
            require(self.wait(DEADLINE, self.answered), "no answer within", DEADLINE, "s")
            require(self.answered() or self.ends_by_closing(), "closed before an answer came, reset:", self.reset)
            return
        self.wait(PATIENCE)
        if end == "half" and not self.gone:
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_WR)
            require(self.wait(DEADLINE), "the connection stays open within", DEADLINE, "s after its half was closed")
        elif end == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def ends_by_closing(self):
        """A stream for HTTP/1.0 ends with its connection. Reader.end() checks whether the end came."""
        last = self.case.requests[-1]
        return b"HTTP/1.0" in last.head[0] and len(self.reader.answers) == len(self.case.requests) - 1

    def close(self):
        self.connection.close()


# --- The daemon ---


def descriptors(daemon):
    """Returns {number: target} of the open descriptors."""
    folder, found = pathlib.Path(f"/proc/{daemon.process.pid}/fd"), {}
    for entry in folder.iterdir():
        with contextlib.suppress(OSError):
            found[int(entry.name)] = os.readlink(entry)
    return found


def tidy(daemon):
    """Ends and deletes everything that the cases started, and restores the default model."""
    daemon.admin("PUT", "/models/default", {"name": "tiny"})
    for job in daemon.admin("GET", "/train?limit=200").json()["jobs"]:
        daemon.admin("POST", f"/train/{job['id']}/cancel")
        daemon.admin("DELETE", f"/train/{job['id']}")
    for model in daemon.admin("GET", "/models").json()["models"]:
        if model["name"] != "tiny":
            daemon.admin("DELETE", f"/models/{model['name']}")
    for dataset in daemon.admin("GET", "/datasets").json()["datasets"]:
        daemon.admin("DELETE", f"/datasets/{dataset['name']}")


def settled(daemon, baseline):
    """Tells whether nothing of the cases is left: no jobs, models, connections, descriptors."""
    end = time.monotonic() + DEADLINE
    while True:
        tidy(daemon)
        left = daemon.admin("GET", "/train").json()["jobs"]
        open_now = descriptors(daemon)
        if not left and len(open_now) <= len(baseline):
            return
        require(time.monotonic() < end, "left behind: jobs", left, "descriptors", set(open_now.items()) - set(baseline.items()))


@dataclasses.dataclass
class Failure:
    number: int
    reason: str


class Fuzzer:
    def __init__(self, daemon, seed, out):
        self.daemon, self.seed, self.out = daemon, seed, pathlib.Path(out)
        self.lock = threading.Lock()
        self.next, self.done, self.answers = 0, 0, 0
        self.statuses, self.kinds, self.running = {}, dict.fromkeys(KINDS, 0), {}
        self.failures = []
        self.stop = False

    def take(self, last, end):
        with self.lock:
            if self.stop or self.next >= last or time.monotonic() > end:
                return None
            self.next += 1
            return self.next - 1

    def fail(self, number, reason):
        """Keeps the case and those that ran beside it, because one of them may be the cause."""
        with self.lock:
            self.failures.append(Failure(number, reason))
            beside = sorted(set(self.running.values()) | {number})
        self.out.mkdir(parents=True, exist_ok=True)
        for one in beside:
            (self.out / f"case-{self.seed}-{one}.bin").write_bytes(make_case(self.seed, one).data())
        print(f"seed {self.seed} case {number} ({make_case(self.seed, number).kind}): {reason}\n  beside it: {beside}", flush=True)
        if self.daemon.process.poll() is not None or len(self.failures) >= 20:
            self.stop = True

    def count(self, visit):
        with self.lock:
            self.done += 1
            self.kinds[visit.case.kind] += 1
            for answer in visit.reader.answers:
                self.answers += 1
                self.statuses[answer.status] = self.statuses.get(answer.status, 0) + 1

    def play(self, number):
        case = make_case(self.seed, number)
        visit = None
        try:
            visit = Visit(self.daemon, case)
            visit.play()
            self.count(visit)
        except (Wrong, UnicodeDecodeError, KeyError) as error:
            self.fail(number, f"{type(error).__name__}: {error}")
        except OSError as error:
            self.fail(number, f"the daemon is not reached: {error!r}")
        finally:
            if visit:
                visit.close()

    def look_after(self, number):
        try:
            if number % HEALTH_EVERY == 0:
                require(self.daemon.get("/healthz").status == 200, "/healthz")
            if number % TIDY_EVERY == TIDY_EVERY - 1:
                tidy(self.daemon)
                with self.daemon.changed:
                    del self.daemon.lines[:-KEPT_LINES]
        except (Wrong, OSError, KeyError) as error:
            self.fail(number, f"looking after the daemon: {error!r}")

    def work(self, thread, last, end):
        while (number := self.take(last, end)) is not None:
            self.running[thread] = number
            self.play(number)
            self.look_after(number)
        self.running.pop(thread, None)

    def run(self, threads, first=0, last=2**62, seconds=2**31):
        self.next = first
        end = time.monotonic() + seconds
        workers = [threading.Thread(target=self.work, args=(i, last, end)) for i in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()


def start(directory, settings=()):
    os.environ.update({key: os.environ.get(key, value) for key, value in SANITIZERS.items()})
    model = make_model(pathlib.Path(directory) / "tiny")
    return Daemon(model, {**SETTINGS, "server.state_dir": pathlib.Path(directory) / "state", **dict(settings)})


def finish(fuzzer, baseline):
    """Checks that descriptors are as before, then sends SIGTERM. The exit code must be 0; a sanitizer's report changes it."""
    daemon = fuzzer.daemon
    try:
        if daemon.process.poll() is None:
            settled(daemon, baseline)
        require(daemon.process.poll() is None, "the daemon ended by itself, with", daemon.process.poll())
    except (Wrong, OSError, KeyError) as error:
        fuzzer.failures.append(Failure(fuzzer.next, f"at the end: {error}"))
    try:
        daemon.close()
    except AssertionError:
        fuzzer.failures.append(Failure(fuzzer.next, "the daemon does not end with 0"))
    if fuzzer.failures:
        fuzzer.out.mkdir(parents=True, exist_ok=True)
        (fuzzer.out / f"log-{fuzzer.seed}").write_text("\n".join(line for line in daemon.lines if line))


def report(fuzzer, seconds, memory):
    print(f"seed {fuzzer.seed}: {fuzzer.done} cases, {fuzzer.answers} answers in {seconds:.0f} s, {fuzzer.done / max(seconds, 1):.0f} cases/s")
    print("  kinds   ", ", ".join(f"{kind} {count}" for kind, count in fuzzer.kinds.items()))
    print("  statuses", ", ".join(f"{status} {count}" for status, count in sorted(fuzzer.statuses.items())))
    print(f"  resident {memory[0] / 1e6:.1f} MB at the start, {memory[1] / 1e6:.1f} MB at the end")
    for failure in fuzzer.failures:
        print(f"  FAILED at case {failure.number}: {failure.reason}")
    if fuzzer.failures:
        print(f"  kept in {fuzzer.out}; again: tests/fuzz/socket_fuzzer.py --seed {fuzzer.seed} --case {fuzzer.failures[0].number}")


def fuzz(directory, seed, out, threads=6, settings=(), **bounds):
    """Runs the cases and ends the daemon. Returns the fuzzer, which holds the failures."""
    http_cases.generate_tokens = "auth.generate_tokens" in dict(settings)
    daemon = start(directory, settings)
    fuzzer = Fuzzer(daemon, seed, out)
    require(daemon.get("/healthz").status == 200 and daemon.admin("GET", "/train").status == 200, "the daemon answers")
    baseline, begin, memory = descriptors(daemon), time.monotonic(), [daemon.resident_bytes()] * 2
    fuzzer.run(threads, **bounds)
    seconds = time.monotonic() - begin
    if daemon.process.poll() is None:
        memory[1] = daemon.resident_bytes()
    finish(fuzzer, baseline)
    report(fuzzer, seconds, memory)
    return fuzzer


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--cases", type=int)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--threads", type=int, default=6)
    parser.add_argument("--case", type=int, help="play this one again")
    parser.add_argument("--before", type=int, default=0, help="and so many before it")
    parser.add_argument("--out", default=str(ROOT / "build/fuzz-socket"))
    parser.add_argument("--set", action="append", default=[], metavar="key=value")
    arguments = parser.parse_args()
    bounds, threads = {"seconds": arguments.seconds}, arguments.threads
    if arguments.cases:
        bounds = {"last": arguments.cases}
    if arguments.case is not None:
        bounds, threads = {"first": max(0, arguments.case - arguments.before), "last": arguments.case + 1}, 1
    with tempfile.TemporaryDirectory() as directory:
        settings = [tuple(one.split("=", 1)) for one in arguments.set]
        fuzzer = fuzz(directory, arguments.seed, arguments.out, threads, settings, **bounds)
    return 1 if fuzzer.failures or not fuzzer.done else 0


if __name__ == "__main__":
    sys.exit(main())
