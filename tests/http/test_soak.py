"""Everything at once for a while: generations of all kinds, bad input and clients that leave, beside training, swaps and
reloads. Memory, descriptors and threads do not grow, and requests fail only in documented ways.

By default it takes a few seconds. `make soak-mixed SOAK_SECONDS=1800` prints a table. It compares the last sixth of the time
with the second one: memory (within 2 %) and the time of answers.
"""

import contextlib
import http.client
import os
import pathlib
import random
import signal
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time

import training
from conftest import DEADLINE, Daemon

SECONDS = float(os.environ.get("SOAK_SECONDS", 8))
LONG = 600  # after this many seconds the figures count
INTERVAL = 10 if SECONDS >= LONG else SECONDS / 8
MODEL = "trained"
SETTINGS = {
    "engine.threads": 2,
    "cache.max_bytes": "4MiB",  # the cache is full long before the first figures count
    "sessions.max_count": 200,
    "limits.max_length": 1_000_000,
    "limits.request_timeout": 3600,
    "train.snapshot_seconds": 1,
}


class Traffic:
    """Plays the clients. Each kind is a method: it makes one visit and returns the statuses that the documents allow."""

    def __init__(self, daemon, seed):
        self.daemon, self.rng = daemon, random.Random(seed)

    def text(self, most):
        return "".join(self.rng.choices("abcdefgh .", k=self.rng.randrange(most)))

    def expect(self, answer, *statuses):
        assert answer.status in statuses, (answer.status, answer.body[:300])
        return answer.status

    def plain(self):
        fields = {"prompt": self.text(300), "length": self.rng.randrange(1, 200), "seed": self.rng.randrange(100)}
        return self.expect(self.daemon.post("/generate", fields), 200, 503)

    def several(self):
        fields = {"prompt": self.text(30), "length": 60, "n": 4, "logprobs": 3, "cache_prompt": self.rng.random() < 0.5}
        return self.expect(self.daemon.post("/generate", fields), 200, 503)

    def session(self):
        fields = {"prompt": self.text(30), "length": 20, "session": f"s{self.rng.randrange(400)}"}
        return self.expect(self.daemon.post("/generate", fields), 200, 409, 503)

    def stream(self):
        answer = self.daemon.post("/generate", {"prompt": self.text(50), "length": 300, "stream": True})
        assert answer.status != 200 or answer.body.endswith(b"data: [DONE]\n\n") or b"event: error" in answer.body, answer.body[-300:]
        return self.expect(answer, 200, 503)

    def openai(self):
        return self.expect(self.daemon.post("/v1/completions", {"prompt": self.text(50), "max_tokens": 40, "stop": "e"}), 200, 503)

    def large(self):
        answer = self.daemon.post("/generate", {"length": 1500, "n": 4, "logprobs": 10})
        assert answer.status != 200 or len(answer.json()["choices"]) == 4
        return self.expect(answer, 200, 503)

    def score(self):
        return self.expect(self.daemon.post("/score", {"text": "a" + self.text(3000)}), 200, 503)

    def inspect(self):
        fields = {"text": "a" + self.text(1000), "layers": "all", "gates": True, "probe": {}, "stream": self.rng.random() < 0.5}
        return self.expect(self.daemon.post("/inspect", fields), 200, 503)

    def tokenize(self):
        return self.expect(self.daemon.post("/tokenize", {"text": self.text(20_000)}), 200, 503)

    def lists(self):
        for path in ("/models", "/metrics", "/openapi.yaml", "/"):
            self.expect(self.daemon.get(path), 200)
        return self.expect(self.daemon.admin("GET", "/train"), 200)

    def head(self):
        return self.expect(self.daemon.request("HEAD", self.rng.choice(["/generate?length=3&stream=true", "/models", "/nothing"])), 200, 404, 503)

    def bad(self):
        body, status = self.rng.choice([(b"{", 400), (b'{"length": 0}', 422), (b'{"lenght": 1}', 422), (b"\xff", 400),
                                        (b" " * (2 << 20), 413), (b'{"model": "none"}', 422), (b'{"a":' * 5000, 400)])
        return self.expect(self.daemon.post("/generate", body), status)

    def kept(self):
        """Sends several requests on one connection."""
        connection = http.client.HTTPConnection(self.daemon.address, self.daemon.port, timeout=DEADLINE)
        with contextlib.closing(connection):
            for _ in range(5):
                connection.request("GET", f"/generate?length={self.rng.randrange(1, 50)}")
                answer = connection.getresponse()
                answer.read()
                assert answer.status in (200, 503)
        return 200

    def leave(self):
        """Asks for much, reads a little, and leaves."""
        fields = {"length": 1_000_000, "stream": self.rng.random() < 0.7, "cache_prompt": False}
        with self.daemon.send_generate(**fields) as connection:
            if self.rng.random() < 0.5:
                connection.settimeout(0.05)
                with contextlib.suppress(TimeoutError):
                    connection.recv(1000)
            how = self.rng.choice(["reset", "half", "close"])
            if how == "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif how == "half":
                connection.shutdown(socket.SHUT_WR)
        return 499


KINDS = {"plain": 10, "several": 3, "session": 5, "stream": 5, "openai": 3, "large": 0.3, "score": 3, "inspect": 2, "tokenize": 3, "lists": 1,
         "head": 2, "bad": 3, "kept": 3, "leave": 4}


class Soak:
    def __init__(self, daemon, seconds):
        self.daemon = daemon
        self.end = time.monotonic() + seconds
        self.lock = threading.Lock()
        self.failures, self.counts, self.waits = [], {}, {"healthz": [], "generate": []}
        self.rows = []

    def going(self):
        return time.monotonic() < self.end and len(self.failures) < 10

    def forever(self, once, *arguments):
        """Repeats the function until time is up, at least once."""
        while True:
            try:
                once(*arguments)
            except Exception as error:  # noqa: BLE001
                with self.lock:
                    self.failures.append(f"{once.__name__}: {error!r}"[:600])
            if not self.going():
                return

    def count(self, what):
        with self.lock:
            self.counts[what] = self.counts.get(what, 0) + 1

    # --- What goes on ---

    def visit(self, traffic):
        kind = traffic.rng.choices(list(KINDS), list(KINDS.values()))[0]
        self.count((kind, getattr(traffic, kind)()))

    def probe(self):
        """Measures the time of answers until time is up."""
        command = [sys.executable, pathlib.Path(__file__).with_name("soak_probe.py"), self.daemon.address, str(self.daemon.port)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout:
                name, status, milliseconds = line.split()
                with self.lock:
                    self.waits[name].append(float(milliseconds))
                assert status == "200" or (name, status) == ("generate", "503"), line
                if not self.going():
                    process.kill()

    def train(self):
        id = training.submit(self.daemon, MODEL, epochs=2)
        job = training.wait_end(self.daemon, id)
        assert training.send(self.daemon, "DELETE", f"/train/{job['id']}").status == 204
        self.count(("train", job["state"]))

    def swap(self):
        """Loads the default again, and for a moment another default."""
        assert self.daemon.admin("POST", "/models/tiny/load").status == 200
        status = self.daemon.admin("PUT", "/models/default", {"name": MODEL}).status
        assert status in (200, 409, 422), status  # its training may not be over yet
        assert self.daemon.admin("PUT", "/models/default", {"name": "tiny"}).status == 200
        self.count(("swap", status))
        time.sleep(0.2)

    def reload(self):
        self.daemon.process.send_signal(signal.SIGHUP)
        self.count(("reload", "sent"))
        time.sleep(0.5)

    # --- What is measured ---

    def sample(self):
        status = pathlib.Path(f"/proc/{self.daemon.process.pid}/status").read_text()
        with self.lock:
            waits = {name: sorted(values) or [0] for name, values in self.waits.items()}
            self.waits = {name: [] for name in self.waits}
            visits = sum(self.counts.values())
        row = {
            "rss": int(status.split("VmRSS:")[1].split()[0]) / 1024,
            "threads": int(status.split("Threads:")[1].split()[0]),
            "descriptors": len(os.listdir(f"/proc/{self.daemon.process.pid}/fd")),
            "visits": visits,
            **{name: values[int(0.99 * (len(values) - 1))] for name, values in waits.items()},
        }
        self.rows.append(row)
        return row

    def run(self, clients):
        jobs = [(self.visit, Traffic(self.daemon, seed)) for seed in range(clients)]
        jobs += [(self.probe,), (self.train,), (self.swap,), (self.reload,)]
        threads = [threading.Thread(target=self.forever, args=job) for job in jobs]
        for thread in threads:
            thread.start()
        begin = time.monotonic()
        print("\n     s  RSS MiB  descriptors  threads   visits  p99 ms: healthz  generate")
        for number in range(1, int(SECONDS / INTERVAL) + 1):
            time.sleep(max(0, begin + number * INTERVAL - time.monotonic()))
            row = self.sample()
            print(f"{number * INTERVAL:6.0f} {row['rss']:8.1f} {row['descriptors']:12} {row['threads']:8} {row['visits']:8} "
                  f"{row['healthz']:16.1f} {row['generate']:9.1f}", flush=True)
        for thread in threads:
            thread.join()


def mean(rows, name):
    return statistics.fmean(row[name] for row in rows)


def settle(daemon, descriptors):
    """Waits until no more descriptors are open than before: all clients are gone."""
    end = time.monotonic() + DEADLINE
    folder = f"/proc/{daemon.process.pid}/fd"
    while len(os.listdir(folder)) > descriptors:
        assert time.monotonic() < end, [os.readlink(f"{folder}/{name}") for name in os.listdir(folder)]
        time.sleep(0.05)


def compare(rows):
    """Compares the last sixth with the second. Returns a table and the figures out of bounds."""
    sixth = len(rows) // 6 or 1
    early, late = rows[sixth:2 * sixth] or rows[:1], rows[-sixth:]
    bounds = {"rss": (1.02, 0), "descriptors": (1, 8), "threads": (1, 4), "healthz": (1.5, 5), "generate": (1.5, 5)}
    beyond = []
    for name, (factor, more) in bounds.items():
        before, after = mean(early, name), mean(late, name)
        print(f"  {name:12} {before:9.2f} -> {after:9.2f}  ({100 * (after / max(before, 1e-9) - 1):+.1f} %)")
        if after > before * factor + more:
            beyond.append((name, before, after))
    return beyond


def test_mixed_traffic_leaves_nothing_behind(models, tmp_path):
    daemon = Daemon(models["tiny"], {**SETTINGS, "server.state_dir": tmp_path / "state"})
    daemon.generate(length=1)
    assert training.wait_end(daemon, training.submit(daemon, MODEL, epochs=1))["state"] == "succeeded"
    descriptors = len(os.listdir(f"/proc/{daemon.process.pid}/fd"))
    soak = Soak(daemon, SECONDS)
    soak.run(clients=6)
    settle(daemon, descriptors)
    beyond = compare(soak.rows)
    print("  " + ", ".join(f"{kind} {status}: {count}" for (kind, status), count in sorted(soak.counts.items(), key=str)))
    daemon.close()
    assert not soak.failures, soak.failures
    assert {kind for kind, _ in soak.counts} >= {"train", "swap", "reload", "plain"}
    assert SECONDS < LONG or not beyond, beyond
