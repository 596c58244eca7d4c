"""The rows of `make bench` that need a running daemon: http, stream, beside, memory, inspect.

Load and server share the machine's cores. The measurements take turns: the floor (a bare libmicrohttpd), lstmd, FastAPI,
and again.
"""

import contextlib
import http.client
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import servers

LENGTH, PROMPT = 100, 4  # characters of a request; the prompt is that of generate.lua
CONCURRENCY = (1, 8, 32, 128)
PEERS = {"fastapi": 1, "fastapi x2": 2}  # processes
TIMES = ("p50", "p95", "p99")
STREAM_TIMES = {"first_p50": "first event p50", "first_p99": "first event p99",
                "gap_p50": "between events p50", "gap_p99": "between events p99"}
LONG_PROMPT = 100_000
JOB = {"model": "job", "text": servers.TEXT * 1000, "hidden": 512, "batch": 32, "bptt": 100, "epochs": 10**9,
       "sample_length": 0, "threads": min(2, os.cpu_count())}
CONNECTIONS = 1000
STATES = 9_900  # with 10,000 kept sessions; with a few, their table would dominate


def say(text):
    print(f"bench: {text}", file=sys.stderr)


class Rows:
    """The measurements by name. Rows keep the order in which their names first came."""

    def __init__(self, only, with_peers):
        self.only, self.with_peers, self.all = only, with_peers, {}

    def wanted(self, group):
        """Tells whether to measure a group of rows. The names of its rows start with its name."""
        wanted = self.only is None or self.only in group
        if wanted:
            say(group.rstrip(":"))
        return wanted

    def add(self, name, unit, value, limit=None, peers=None, less=False):
        """less: a time or a size. The ratio to a peer is then inverted, so that above 1 is better than the peer."""
        row = self.all.setdefault(name, {"unit": unit, "less": less, "values": [], "limits": [], "peers": {}})
        row["values"].append(value)
        if limit is not None:
            row["limits"].append(limit)
        for peer, figure in (peers or {}).items():
            row["peers"].setdefault(peer, []).append(figure)

    def finished(self):
        def ratio(values, to):  # like bench_ratio() of cli/bench.h
            return statistics.median(value / other for value, other in zip(values, to)) if to else None
        for name, row in self.all.items():
            value = statistics.median(row["values"])
            limit = statistics.median(row["limits"]) if row["limits"] else None
            yield {"name": name, "unit": row["unit"], "value": value, "limit": limit, "less": row["less"],
                   "ratio_to_limit": ratio(row["values"], row["limits"]),
                   "spread": (max(row["values"]) - min(row["values"])) / 2 / value if value else 0,
                   "peers": {peer: statistics.median(figures) for peer, figures in row["peers"].items()},
                   "ratio_to_peers": {peer: ratio(row["values"], figures) for peer, figures in row["peers"].items()}}


# --- http ---


def wrk(server, concurrency, seconds, length=None):
    """Runs wrk. Returns the result of tests/bench/generate.lua."""
    environment = {**os.environ, **({"BENCH_LENGTH": str(length)} if length else {})}
    path = "/generate" if length else "/"
    command = ["wrk", "-t1", f"-c{concurrency}", f"-d{seconds}s", "--timeout", "60s", "-s",
               str(servers.BENCH / "generate.lua"), f"http://127.0.0.1:{server.port}{path}"]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment).stdout
    result = json.loads(output.splitlines()[-1])
    if result["errors"] or not result["requests"]:
        raise RuntimeError(f"wrk had errors: {result}")
    return result


def engine_rate(concurrency, quick):
    """Returns requests per second if only steps took time: `lstmd bench` with as many sequences and threads."""
    name = f"step 1x128 f32 B={concurrency}, sampled, {min(2, os.cpu_count())} thread"
    command = [str(servers.LSTMD), "bench", "--json", "--only", name, *(["--quick"] if quick else [])]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    return json.loads(result.stdout)["rows"][0]["value"] / (PROMPT + LENGTH - 1)


def measure_concurrency(rows, name, running, concurrency, quick):
    seconds = 1 if quick else 4
    floor = wrk(running["hello"], concurrency, 1 if quick else 2)
    limit = engine_rate(concurrency, quick)
    own = wrk(running["lstmd"], concurrency, seconds, LENGTH)
    # A slow peer needs time for a few rounds.
    peers = {peer: wrk(running[peer], concurrency, max(2, concurrency // 8 if quick else 8), LENGTH)
             for peer in PEERS if peer in running}
    rows.add(f"{name} hello", "req/s", floor["rate"])
    rows.add(f"{name} hello, p99", "ms", floor["p99"], less=True)
    name += f" generate {LENGTH} of 1x128"
    rows.add(name, "req/s", own["rate"], limit, {peer: result["rate"] for peer, result in peers.items()})
    for time in TIMES:
        rows.add(f"{name}, {time}", "ms", own[time], None, {peer: result[time] for peer, result in peers.items()}, less=True)


def start_peers(rows, stack):
    """Starts the available peers. Returns them by name."""
    running = {}
    for peer, processes in PEERS.items() if rows.with_peers else ():
        server = servers.fastapi(processes)
        if server:
            running[peer] = server
            stack.callback(server.close)
        else:
            say(f"peer {peer} is left out: {servers.PYTHON} lacks fastapi, uvicorn or torch "
                "(apt-get install python3-fastapi python3-uvicorn python3-torch)")
    return running


def http_rows(rows, directory, quick):
    if not shutil.which("wrk"):
        return say("the rows of http are left out: no wrk (apt-get install wrk)")
    with contextlib.ExitStack() as stack:
        running = {"lstmd": servers.Lstmd(servers.model(directory, 128)), "hello": servers.hello()}
        for server in running.values():
            stack.callback(server.close)
        running |= start_peers(rows, stack)
        for concurrency in CONCURRENCY:
            name = f"http, concurrency {concurrency}:"
            try:
                for _ in range(1 if quick else 3) if rows.wanted(name) else ():
                    measure_concurrency(rows, name, running, concurrency, quick)
            except RuntimeError as error:  # the other concurrencies are still useful
                say(f"{name} broken off: {error}")


# --- stream ---


def stream(server, seconds, length, prompt_bytes):
    client = servers.compiled("stream_client", "-O2", "-pthread")
    command = [str(client), str(server.port), str(seconds), str(length), str(prompt_bytes)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def stream_rows(rows, directory, quick):
    """Measures one stream after the other, alone and while the daemon reads a long prompt. Both use the same client."""
    seconds, repetitions = (1, 1) if quick else (3, 5)
    for hidden, length in ((128, 2000), (512, 400)):
        for threads in (1, 2):
            name = f"stream 1x{hidden}, {threads} engine thread{'s' if threads > 1 else ''}:"
            if not rows.wanted(name):
                continue
            with contextlib.closing(servers.Lstmd(servers.model(directory, hidden), engine__threads=threads)) as server:
                for _ in range(repetitions):
                    alone, beside = (stream(server, seconds, length, prompt) for prompt in (0, LONG_PROMPT))
                    for words, figures in (("alone", alone), (f"beside a prompt of {LONG_PROMPT // 1000} kB", beside)):
                        for key, what in STREAM_TIMES.items():
                            rows.add(f"{name} {what}, {words}", "ms", figures[key], less=True)
                    rows.add(f"{name} between events p99, beside / alone", "times", beside["gap_p99"] / alone["gap_p99"])


# --- beside training ---


def open_loop(server, seconds, rate):
    client = servers.compiled("open_loop", "-O2", "-D_GNU_SOURCE", "-lm")
    command = [str(client), str(server.port), str(seconds), str(rate), str(LENGTH)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


class Job:
    """A training job in the measured daemon, from its first step until close()."""

    def __init__(self, server):
        self.server = server
        self.id = self.ask("POST", "/train", JOB)["id"]
        end = time.monotonic() + servers.DEADLINE
        while not self.step():
            if time.monotonic() > end:
                raise RuntimeError(f"no training: {self.ask('GET', f'/train/{self.id}')}")
            time.sleep(0.1)

    def ask(self, method, path, document=None):
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {servers.ADMIN}"}
        with contextlib.closing(connect(self.server)) as connection:
            connection.request(method, path, json.dumps(document) if document else None, headers)
            answer = connection.getresponse()
            text = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{answer.status}: {text}")
        return json.loads(text)

    def step(self):
        progress = self.ask("GET", f"/train/{self.id}")["progress"]
        return progress["step"] if progress else 0

    def rate(self, meanwhile):
        """Returns tokens per second while meanwhile() runs, and its result."""
        first, begun = self.step(), time.monotonic()
        result = meanwhile()
        return (self.step() - first) * JOB["batch"] * JOB["bptt"] / (time.monotonic() - begun), result

    def close(self):
        self.ask("POST", f"/train/{self.id}/cancel")


def beside_rows(rows, directory, quick):
    """Sends requests in an open loop at half of the daemon's rate, alone and during training. Also measures the training."""
    name = f"beside training: generate {LENGTH} of 1x128 at half the load"
    if not rows.wanted("beside training:"):
        return
    if not shutil.which("wrk"):
        return say("the rows of beside are left out: no wrk (apt-get install wrk)")
    seconds = 3 if quick else 15
    settings = {"server__state_dir": f"{directory}/state", "auth__admin_tokens": servers.ADMIN}
    with contextlib.closing(servers.Lstmd(servers.model(directory, 128), **settings)) as server:
        for _ in range(1 if quick else 5):
            load = wrk(server, 32, max(2, seconds // 3), LENGTH)["rate"] / 2
            alone = open_loop(server, seconds, load)
            with contextlib.closing(Job(server)) as job:
                undisturbed, _ = job.rate(lambda: time.sleep(seconds))
                left, beside = job.rate(lambda: open_loop(server, seconds, load))
            rows.add(f"{name}, the load", "req/s", load)
            for key in TIMES:
                rows.add(f"{name}, {key}, alone", "ms", alone[key], less=True)
                rows.add(f"{name}, {key}, beside a job of 1x512", "ms", beside[key], less=True)
            rows.add(f"{name}, p99, beside / alone", "times", beside["p99"] / alone["p99"])
            rows.add(f"{name}, training 1x512, alone", "tokens/s", undisturbed)
            rows.add(f"{name}, training 1x512, beside requests", "tokens/s", left)


# --- memory ---


def post(connection, **fields):
    connection.request("POST", "/generate", json.dumps(fields), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{answer.status}: {text}")


def connect(server):
    return http.client.HTTPConnection("127.0.0.1", server.port, timeout=servers.DEADLINE)


def growth_per_request(server, count, fields_of):
    """Returns resident bytes per request. Each request leaves a state. fields_of(i): the fields of request i."""
    with contextlib.closing(connect(server)) as connection:
        for i in range(100):
            post(connection, length=1, **fields_of(count + i))
        before = server.memory()
        for i in range(count):
            post(connection, length=1, **fields_of(i))
        return (server.memory() - before) / count


def memory_with_connections(server, count):
    """Returns resident bytes without and with this many waiting connections. Each has had an answer."""
    with contextlib.ExitStack() as stack:
        def open_one():
            connection = stack.enter_context(contextlib.closing(connect(server)))
            connection.request("GET", "/healthz")
            connection.getresponse().read()
        for _ in range(10):
            open_one()
        before = server.memory()
        for _ in range(count):
            open_one()
        return before, server.memory()


def process_rows(rows, name, quick):
    for _ in range(1 if quick else 5):
        with contextlib.ExitStack() as stack:
            server = servers.Lstmd()
            stack.callback(server.close)
            peers = start_peers(rows, stack)
            rows.add(f"{name} idle with the bundled model", "MB", server.memory() / 1e6,
                     peers={peer: one.memory() / 1e6 for peer, one in peers.items()}, less=True)
            rows.add(f"{name} start to first answer", "ms", server.started * 1e3,
                     peers={peer: one.started * 1e3 for peer, one in peers.items()}, less=True)
            without, with_them = memory_with_connections(server, CONNECTIONS)
            rows.add(f"{name} each idle connection", "kB", (with_them - without) / CONNECTIONS / 1e3, less=True)
            rows.add(f"{name} with {CONNECTIONS:,} idle connections", "MB", with_them / 1e6, less=True)


def state_rows(rows, name, directory, quick):
    kinds = {"each session of 1x128": lambda i: {"session": f"s{i}", "prompt": "a", "cache_prompt": False},
             "each cached state of 1x128": lambda i: {"prompt": f"{i:07}ab"}}
    for _ in range(1 if quick else 3):
        for kind, fields_of in kinds.items():
            with contextlib.closing(servers.Lstmd(servers.model(directory, 128))) as server:
                rows.add(f"{name} {kind}", "bytes", growth_per_request(server, STATES, fields_of), less=True)


def memory_rows(rows, directory, quick):
    if rows.wanted("memory, process:"):
        process_rows(rows, "memory, process:", quick)
    if rows.wanted("memory, states:"):
        state_rows(rows, "memory, states:", directory, quick)


# --- inspect ---

INSPECTED = ("Oil prices rise as markets wait for news of the talks. " * 20)[:1000]
INSPECTIONS = {"h of the layer, top 5": {"layers": [0], "top": 5}, "top 5": {"top": 5}, "a probe": {"probe": {}},
               "h, c and gates": {"layers": [0], "c": True, "gates": True}}


def timed(connection, method, path, body=None):
    """Returns milliseconds until the whole answer is read."""
    begun = time.perf_counter()
    connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
    answer = connection.getresponse()
    if answer.status != 200 or not answer.read():
        raise RuntimeError(f"{path}: {answer.status}")
    return (time.perf_counter() - begun) * 1e3


def probe_while(server, work):
    """Returns the longest time of /healthz while work() runs."""
    over, longest = threading.Event(), [0.0]

    def ask():
        with contextlib.closing(connect(server)) as connection:
            while not over.is_set():
                longest[0] = max(longest[0], timed(connection, "GET", "/healthz"))
    thread = threading.Thread(target=ask)
    thread.start()
    try:
        work()
    finally:
        over.set()
        thread.join()
    return longest[0]


def inspect_rows(rows, directory, quick):
    """Measures the bundled model. directory: unused."""
    if not rows.wanted("inspect 1,000 tokens:"):
        return
    with contextlib.closing(servers.Lstmd()) as server, contextlib.closing(connect(server)) as connection:
        for _ in range(5 if quick else 25):
            rows.add("inspect 1,000 tokens: /score", "ms", timed(connection, "POST", "/score", json.dumps({"text": INSPECTED})),
                     less=True)
            for name, fields in INSPECTIONS.items():
                body = json.dumps({"text": INSPECTED, **fields})
                rows.add(f"inspect 1,000 tokens: {name}", "ms", timed(connection, "POST", "/inspect", body), less=True)
        body = json.dumps({"text": INSPECTED, "layers": [0], "top": 5})
        for _ in range(5):
            longest = probe_while(server, lambda: [timed(connection, "POST", "/inspect", body) for _ in range(10)])
            rows.add("inspect 1,000 tokens: /healthz meanwhile, longest", "ms", longest, less=True)


PARTS = {"http": http_rows, "stream": stream_rows, "beside": beside_rows, "memory": memory_rows, "inspect": inspect_rows}


def descriptions():
    """Describes the peers for the head of the table."""
    script = ("import fastapi, uvicorn, torch, platform; print('FastAPI', fastapi.__version__ + ', uvicorn', "
              "uvicorn.__version__ + ', PyTorch', torch.__version__ + ', Python', platform.python_version())")
    result = subprocess.run([servers.PYTHON, "-c", script], capture_output=True, text=True)
    text = result.stdout.strip()
    return {"fastapi": f"{text}; one process", "fastapi x2": "two processes"} if text else {}


def measure(only, quick, peers):
    """Returns rows in the form of `lstmd bench --json`, with `less`."""
    rows = Rows(only, peers)
    with tempfile.TemporaryDirectory() as directory:
        for name, part in PARTS.items():
            if only is None or only.startswith(name):
                part(rows, directory, quick)
    return list(rows.finished())
