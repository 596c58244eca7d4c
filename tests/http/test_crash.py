"""A fault kills the daemon at a call that changes files: before the call or half way through it. After a restart each file is
whole, everything acknowledged is there, and nothing is left over.

By default the tests try a few calls of each operation. With FAULTS=all (make faults) they try each call."""

import collections
import http.client
import itertools
import os
import re
import shutil
import subprocess

import pytest

import training
from conftest import ADMIN, Daemon
from inject import CHANGES, KILL, KILL_HALF_WAY, Injector, mode_name
from make_model import make_model
from test_model_import import KERAS, TOKENS, form

ALL = os.environ.get("FAULTS") == "all"
FEW = 5
OLD, NEW = b"what was there\n" * 50, b"what is to be there\n" * 70
SETTINGS = {"engine.threads": 1, "train.snapshot_seconds": 0.01}


def ask(daemon, method, path, body=None, document=None, headers=None):
    """Returns the status, or None if nothing was acknowledged: the daemon or its child died before the answer."""
    try:
        if document is not None:
            status = daemon.admin(method, path, document).status
        else:
            status = daemon.request(method, path, body, headers, token=ADMIN).status
        return status if status < 300 else None
    except (ConnectionError, http.client.HTTPException):
        return None


def get(daemon, path):
    answer = daemon.admin("GET", path)
    return answer.json() if answer.status == 200 else None


def models_of(daemon):
    """Returns the models' names. No model is damaged, and each one answers."""
    listed = get(daemon, "/models")["models"]
    assert not [model for model in listed if "error" in model], listed
    for model in listed:
        assert ask(daemon, "POST", f"/models/{model['name']}/load") == 200
        assert daemon.generate(model=model["name"], prompt="abc", length=3, seed=1)
    return {model["name"] for model in listed}


class Put:
    """Uploads a new dataset, or replaces one."""

    def __init__(self, name, old):
        self.name, self.old = name, old

    def run(self, daemon):
        return ask(daemon, "PUT", f"/datasets/{self.name}", NEW)

    def check(self, daemon, state, status):
        found = get(daemon, f"/datasets/{self.name}")
        size = found and found["size"]
        assert size == len(NEW) if status else size in (self.old and len(self.old), len(NEW))
        if size:
            assert (state / "datasets" / self.name / "data").read_bytes() == (NEW if size == len(NEW) else self.old)


class DeleteDataset:
    def run(self, daemon):
        return ask(daemon, "DELETE", "/datasets/old")

    def check(self, daemon, state, status):
        found = get(daemon, "/datasets/old")
        assert found is None if status else found is None or found["size"] == len(OLD)


class Import:
    def __init__(self, name):
        self.name = name

    def run(self, daemon):
        file = KERAS / "k392_two_lstm_dense.keras"
        body, headers = form((("file", file.read_bytes()), ("vocabulary", TOKENS)))
        return ask(daemon, "POST", f"/models/{self.name}/import", body, headers=headers)

    def check(self, daemon, state, status):
        names = models_of(daemon)
        assert not status or self.name in names
        if self.name == "other":
            assert "other" in names


class DeleteModel:
    def run(self, daemon):
        return ask(daemon, "DELETE", "/models/other")

    def check(self, daemon, state, status):
        assert not status or "other" not in models_of(daemon)
        models_of(daemon)


class SetDefault:
    def run(self, daemon):
        return ask(daemon, "PUT", "/models/default", document={"name": "other"})

    def check(self, daemon, state, status):
        models_of(daemon)
        name = daemon.generate(prompt="a", length=1)["model"]
        assert name == "other" if status else name in ("tiny", "other")


class Train:
    """Takes snapshots all the time and publishes. The model equals that of an undisturbed run, to the bit."""

    expected = None

    def run(self, daemon):
        status = ask(daemon, "POST", "/train", document=training.body(epochs=2, sample_length=5))
        self.id = None
        while status == 202:
            try:
                jobs = get(daemon, "/train")["jobs"]
            except (ConnectionError, http.client.HTTPException):
                break
            if jobs[0]["state"] == "succeeded":
                self.id = jobs[0]["id"]
                break
        return status

    def check(self, daemon, state, status):
        jobs = get(daemon, "/train")["jobs"]
        assert jobs or not status, "the job that was acknowledged has gone"
        for job in jobs:
            training.wait_end(daemon, job["id"])
            made = training.weights(state)
            Train.expected = Train.expected or made
            assert made == Train.expected
        assert bool(jobs) == ("m" in models_of(daemon))


OPERATIONS = {
    "upload": Put("new", None),
    "replace": Put("old", OLD),
    "delete": DeleteDataset(),
    "import": Import("imported"),
    "import-over": Import("other"),
    "delete-model": DeleteModel(),
    "default": SetDefault(),
    "train": Train(),
}


def left_over(state):
    return [path for path in state.rglob("*") if re.search(r"\.(tmp|old)-[0-9a-f]{12}$|^\.scratch-", path.name)]


def spread(count):
    return range(1, count + 1) if ALL else sorted({1 + (count - 1) * i // (FEW - 1) for i in range(FEW)})


@pytest.fixture
def prepared(models, tmp_path):
    state = tmp_path / "prepared"
    make_model(state / "models/other", seed=2)
    daemon = Daemon(models["tiny"], {"server.state_dir": state, **SETTINGS})
    assert ask(daemon, "PUT", "/datasets/old", OLD) == 201
    daemon.close()
    return state


def reap(daemon):
    """Ends the daemon, whether or not the fault killed it."""
    try:
        code = daemon.process.wait(0.05)
    except subprocess.TimeoutExpired:
        daemon.process.kill()
        code = 0
    daemon.wait()
    daemon.process.stderr.close()
    return code


@pytest.mark.parametrize("name", OPERATIONS)
def test_killed_at_a_change_of_files(models, prepared, tmp_path, name):
    operation, injector, results = OPERATIONS[name], Injector(tmp_path), collections.Counter()

    def begin(number):
        state = tmp_path / f"state{number}"
        shutil.copytree(prepared, state)
        return state, Daemon(models["tiny"], {"server.state_dir": state, **SETTINGS}, injector.environment())

    state, daemon = begin("")
    with injector.counting() as calls:
        status = operation.run(daemon)
    operation.check(daemon, state, status)
    daemon.close()
    count = sum(calls[kind] for kind in CHANGES)
    assert status and count > 2, calls
    for n, mode in itertools.product(spread(count), (KILL, KILL_HALF_WAY)):
        state, daemon = begin(f"{n}{mode}")
        injector.arm(CHANGES, n, mode)
        status = operation.run(daemon)
        injector.disarm()
        code = reap(daemon)
        assert code in (-9, 0), daemon.lines
        daemon = Daemon(models["tiny"], {"server.state_dir": state, **SETTINGS})
        try:
            operation.check(daemon, state, status)
            assert left_over(state) == []
            daemon.close()
        except BaseException:
            print(f"{mode_name(mode)} at call {n} of {count}; the operation's answer was {status}; log {daemon.lines}")
            raise
        results[mode_name(mode), "died" if code else "went on", status] += 1
        shutil.rmtree(state)
    print(name, count, sorted(results.items(), key=str))
