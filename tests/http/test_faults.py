"""In a running daemon the n-th call of each kind fails. The daemon answers cleanly, loses nothing and keeps serving.

By default the tests try a few n of each kind. With FAULTS=40 they try 40, with FAULTS=all (make faults) every n."""

import collections
import errno
import http.client
import json
import os
import re
import signal
import time

import pytest

import training
from conftest import ADMIN, DEADLINE, Answer
from inject import SHORT, Injector, cases, mode_name, try_to_start
from make_model import make_model
from test_model_import import KERAS, TOKENS, form

FAULTS = os.environ.get("FAULTS", "")
FEW = 3  # number of failing calls of each kind if FAULTS is not set
SHORTAGES = {"memory", "map", "thread", "event", "accept"}
CLOSES = {"memory", "event", "accept", "send", "receive"}  # here libmicrohttpd closes the connection instead of an answer


# ---- asking ----


def ask(daemon, method, path, body=None, document=None, headers=None):
    """Returns the answer, or None if the connection closed without one."""
    headers = dict(headers or {})
    if document is not None:
        body, headers["Content-Type"] = http_json(document), "application/json"
    try:
        return daemon.request(method, path, body, headers, token=ADMIN)
    except (ConnectionError, http.client.HTTPException):
        return None


def http_json(document):
    return json.dumps(document).encode()


def good(answer):
    return answer is not None and answer.status < 300


def allowed(kind, mode):
    """Returns the statuses that a client may get."""
    if mode in (SHORT, errno.EINTR, errno.ECONNABORTED):
        return set()
    if mode == errno.ENOSPC:
        return {507, 500} if kind == "sync" else {507}  # SQLite does not say why fsync() failed
    if kind in SHORTAGES or mode == errno.EMFILE:
        return {503}
    return {500}


def check_answer(answer, scenario, kind, mode):
    if isinstance(scenario, Import) and answer is not None and answer.status == 422:
        assert b"No space left" not in answer.body, "a full disk is 507"
        assert os.strerror(mode).encode() in answer.body or b"memory" in answer.body or b"harm" in answer.body, answer.body
    elif answer is None:
        assert kind in CLOSES, "the connection was closed"
    elif answer.status >= 300:
        assert answer.status in allowed(kind, mode), (answer.status, answer.body)
        assert answer.json().get("detail") or answer.json()["error"]["message"]


def eventually(condition, what):
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)


# ---- scenarios: requests while a call fails, and what must hold afterwards ----


class Scenario:
    """ask() yields answers. The test takes no more after a bad one. after() runs without a fault."""

    few = FEW
    spares = ()

    def prepare(self, daemon, state):
        pass

    def after(self, daemon, answers):
        pass


class Generate(Scenario):
    def __init__(self, path="/generate", **fields):
        self.path, self.fields = path, fields

    def ask(self, daemon):
        yield ask(daemon, "POST", self.path, document=self.fields)

    def after(self, daemon, answers):
        """The text is right, or there is none."""
        if good(answers[0]) and "seed" in self.fields and not self.fields.get("stream"):
            again = ask(daemon, "POST", self.path, document=self.fields).json()
            text = answers[0].json()
            for volatile in ("id", "created", "timings", "usage"):
                again.pop(volatile, None), text.pop(volatile, None)
            assert text == again


class Look(Scenario):
    def ask(self, daemon):
        for path in ("/models", "/train", "/datasets", "/metrics", "/healthz", "/readyz", "/openapi.yaml"):
            yield ask(daemon, "GET", path)

    def after(self, daemon, answers):
        """Each list is complete."""
        if good(answers[0]):
            assert {model["name"] for model in answers[0].json()["models"]} >= {"tiny", "other"}


class Upload(Scenario):
    body = b"hello world\n" * 200

    def ask(self, daemon):
        yield ask(daemon, "PUT", "/datasets/d", self.body)
        yield ask(daemon, "DELETE", "/datasets/d")

    def after(self, daemon, answers):
        found = ask(daemon, "GET", "/datasets/d")
        assert found.status == 404 or found.json()["size"] == len(self.body)
        if good(answers[0]):
            assert found.status == (404 if len(answers) > 1 and good(answers[1]) else found.status)
        if found.status == 200:
            # The request of a closed connection may still be running.
            assert ask(daemon, "DELETE", "/datasets/d").status in ((204, 404) if answers[-1] is None else (204,))


class Import(Scenario):
    """A child process reads the file. It has less memory and room than the daemon. If they do not suffice, the answer is 422."""

    few = 2
    spares = ("lock",)  # the two processes agree whether the file system has locks

    def ask(self, daemon):
        file = KERAS / "k392_two_lstm_dense.keras"
        body, headers = form((("file", file.read_bytes()), ("vocabulary", TOKENS)))
        yield ask(daemon, "POST", "/models/imported/import", body, headers=headers)
        yield ask(daemon, "DELETE", "/models/imported")

    def after(self, daemon, answers):
        names = {model["name"]: model for model in ask(daemon, "GET", "/models").json()["models"]}
        if "imported" in names:
            assert ask(daemon, "POST", "/models/imported/load").status == 200
            assert ask(daemon, "DELETE", "/models/imported").status == 204
        else:
            assert not good(answers[0]) or len(answers) > 1


class Train(Scenario):
    """Trains one epoch with validation, a sample and a snapshot. Publishes and loads the model."""

    few = 2

    def prepare(self, daemon, state):
        self.seen = set()

    def ask(self, daemon):
        answer = ask(daemon, "POST", "/train", document=training.body(epochs=1, sample_length=5))
        yield answer
        if good(answer):
            self.wait(daemon, answer.json()["id"], {"succeeded", "failed", "paused"}, 2)

    def wait(self, daemon, id, states, seconds=DEADLINE):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            answer = ask(daemon, "GET", f"/train/{id}")
            if good(answer) and answer.json()["state"] in states:
                return answer.json()
            time.sleep(0.005)
        return None

    def after(self, daemon, answers):
        jobs = {job["id"]: job for job in ask(daemon, "GET", "/train?limit=200").json()["jobs"]}
        fresh = set(jobs) - self.seen
        self.seen |= fresh
        assert fresh == ({answers[0].json()["id"]} if good(answers[0]) else set()) or (
            answers[0] is None or b"is queued" in answers[0].body), (fresh, answers[0] and answers[0].body)
        for id in fresh:
            if self.wait(daemon, id, {"succeeded", "failed", "paused"})["state"] == "paused":
                assert ask(daemon, "POST", f"/train/{id}/resume").status == 200
            job = self.wait(daemon, id, {"succeeded", "failed"})
            assert job, f"the job {id} got stuck: {ask(daemon, 'GET', f'/train/{id}').body}"
            assert (job["state"] == "failed") == bool(job["error"]), job
            assert "UTF-8" not in (job["error"] or ""), "the text is UTF-8, and so is its name"
            if job["state"] == "succeeded":
                assert daemon.generate(model="m", prompt="oil", length=3, seed=1)
            assert ask(daemon, "DELETE", f"/train/{id}").status == 204


class Swap(Scenario):
    def ask(self, daemon):
        yield ask(daemon, "POST", "/models/other/load")
        yield ask(daemon, "PUT", "/models/default", document={"name": "other"})
        yield ask(daemon, "PUT", "/models/default", document={"name": "tiny"})
        yield ask(daemon, "POST", "/models/other/unload")

    def after(self, daemon, answers):
        assert ask(daemon, "PUT", "/models/default", document={"name": "tiny"}).status == 200
        assert daemon.generate(prompt="a", length=3, seed=1)["model"] == "tiny"


class Reload(Scenario):
    def ask(self, daemon):
        mark = len(daemon.lines)
        daemon.process.send_signal(signal.SIGHUP)
        eventually(lambda: any("reload" in line for line in daemon.lines[mark:] if line), "nothing is said of a reload")
        yield Answer(200, {}, b"{}")


NUMBERS = {"layers": [{"h": [0.5] * 16, "c": [0.25] * 16}]}

SCENARIOS = {
    "generate": Generate(prompt="abc", length=6, n=2, seed=3, logprobs=2),
    "stream": Generate(prompt="abc", length=6, seed=3, stream=True),
    "session": Generate(prompt="abc", length=6, session="s"),
    "openai": Generate("/v1/completions", prompt="abc", max_tokens=6, seed=3, logprobs=2),
    "score": Generate("/score", text="the text that is scored"),
    "inspect": Generate("/inspect", text="the text", layers="all", units=[1, 2], c=True, gates=True, top=2, probe={}),
    "carried": Generate(prompt="abc", length=6, n=2, seed=3, state=NUMBERS, return_state=True),
    "carried openai": Generate("/v1/completions", prompt="abc", max_tokens=6, seed=3, state=NUMBERS, return_state=True),
    "carried score": Generate("/score", text="the text that is scored", state=NUMBERS, return_state=True),
    "state": Generate("/state", ids=[1, 2, 3], **{"as": "numbers"}),
    "tokenize": Generate("/tokenize", text="a" * 62),
    "look": Look(),
    "upload": Upload(),
    "import": Import(),
    "train": Train(),
    "swap": Swap(),
    "reload": Reload(),
}


def attempt(daemon, scenario):
    answers = []
    for answer in scenario.ask(daemon):
        answers.append(answer)
        if not good(answer):
            break
    return answers


def spread(count, few=FEW):
    """Chooses which of `count` calls fail."""
    if FAULTS == "all":
        return range(1, count + 1)
    few = int(FAULTS or few)
    return sorted({1 + (count - 1) * (i + 1) // (few + 1) for i in range(few)}) if count else []


def descriptors(daemon):
    return len(os.listdir(f"/proc/{daemon.process.pid}/fd"))


def settle(daemon, scenario):
    """Without a fault everything works. A closing connection gets a moment to close."""
    answers = []

    def well():
        answers[:] = attempt(daemon, scenario)
        return all(map(good, answers))

    eventually(well, f"the daemon does not serve on: {answers}")
    scenario.after(daemon, answers)


@pytest.mark.parametrize("name", SCENARIOS)
def test_failing_calls_are_answered_and_nothing_is_lost(start, tmp_path, name):
    injector, scenario, state = Injector(tmp_path), SCENARIOS[name], tmp_path / "state"
    make_model(state / "models/other", seed=2)
    daemon = start("tiny", {"server.state_dir": state, "engine.threads": 1}, injector.environment())
    scenario.prepare(daemon, state)
    for _ in range(2):
        settle(daemon, scenario)
    with injector.counting() as calls:
        answers = attempt(daemon, scenario)
    scenario.after(daemon, answers)
    open_before, results = descriptors(daemon), collections.Counter()
    for kind, mode, times in cases():
        for n in spread(0 if kind in scenario.spares else calls[kind], scenario.few):
            injector.arm(kind, n, mode, times)
            answers = attempt(daemon, scenario)
            sprung = injector.disarm()
            try:
                for answer in answers:
                    check_answer(answer, scenario, kind, mode)
                scenario.after(daemon, answers)
                settle(daemon, SCENARIOS["generate"] if name == "train" else scenario)
            except BaseException:
                print(f"call {n} of kind {kind}: {mode_name(mode)}, {times} times; answers {[a and a.body for a in answers]}")
                raise
            status = answers[-1].status if answers[-1] else "closed"
            results[(kind, mode_name(mode), "for ever" if times > 1 else "once", status) if sprung else "too late"] += 1
    for result, count in sorted(results.items(), key=str):
        print(name, result, count)
    eventually(lambda: descriptors(daemon) <= open_before, "descriptors leak")


def test_start_serves_or_says_why_not(models, tmp_path):
    """The start ends with a sentence and status 1 (try_to_start() checks that), or the daemon serves. Existing data stay."""
    injector, state = Injector(tmp_path), tmp_path / "state"
    make_model(state / "models/other", seed=2)
    settings = {"server.state_dir": state, "engine.threads": 1}
    daemon, _ = try_to_start(models["tiny"], settings, injector.environment())
    assert ask(daemon, "PUT", "/datasets/d", b"text\n" * 99).status == 201
    id = training.submit(daemon, epochs=1, sample_length=0)
    training.wait_end(daemon, id)
    daemon.close()
    results = collections.Counter()
    with injector.counting() as calls:
        try_to_start(models["tiny"], settings, injector.environment())[0].close()
    for kind, mode, times in cases():
        for n in spread(calls[kind], 20 if kind == "memory" else FEW):
            injector.arm(kind, n, mode, times)
            daemon, lines = try_to_start(models["tiny"], settings, injector.environment())
            sprung = injector.disarm()
            results[(kind, mode_name(mode), "serves" if daemon else "says why") if sprung else "too late"] += 1
            try:
                if lines is not None:
                    assert lines and lines[-1].startswith("lstmd: ") and len(lines[-1]) > 20, lines
                    assert kind != "memory" or re.search("memory|temporarily", lines[-1]), lines
                else:
                    assert daemon.generate(prompt="a", length=3)
                    daemon.close()
            except BaseException:
                print(f"call {n} of kind {kind}: {mode_name(mode)}, {times} times; {lines}")
                raise
    print(sorted(results.items(), key=str))
    daemon, _ = try_to_start(models["tiny"], settings, injector.environment())
    assert ask(daemon, "GET", "/datasets/d").json()["size"] == 5 * 99
    assert training.job(daemon, id)["state"] == "succeeded"
    assert {model["name"] for model in ask(daemon, "GET", "/models").json()["models"]} >= {"tiny", "other", "m"}
    daemon.close()
