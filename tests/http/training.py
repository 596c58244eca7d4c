"""Shared by the tests of training: daemons, corpora, requests about jobs, and waits for a job's events."""

import contextlib
import http.client
import json
import os
import random

import pytest

from conftest import ADMIN, DEADLINE, Daemon

WORDS = "oil prices rise fall again on the market quietly today".split()


def text(lines=200, seed=1):
    rng = random.Random(seed)
    return "\n".join(" ".join(rng.choice(WORDS) for _ in range(5)) for _ in range(lines))


SMALL = {"text": text(), "format": "lines", "hidden": 16, "batch": 8, "bptt": 16, "threads": 1, "epochs": 3}
ENDLESS = {**SMALL, "epochs": 10**9, "sample_length": 0}


def body(model="m", **fields):
    return {"model": model, **SMALL, **fields}


def send(daemon, method, path, document=None, headers=None, **options):
    headers = {"Content-Type": "application/json", **(headers or {})}
    data = None if document is None else json.dumps(document).encode()
    return daemon.request(method, path, data, headers, token=ADMIN, **options)


def submit(daemon, model="m", **fields):
    """Queues a job and returns its id."""
    answer = send(daemon, "POST", "/train", body(model, **fields))
    assert answer.status == 202, answer.body
    return answer.json()["id"]


def job(daemon, id):
    answer = send(daemon, "GET", f"/train/{id}")
    assert answer.status == 200, answer.body
    return answer.json()


def act(daemon, id, action, status=200):
    answer = send(daemon, "POST", f"/train/{id}/{action}")
    assert answer.status == status, answer.body
    return answer.json()


def events(daemon, id, after=None, timeout=DEADLINE):
    """Yields (number, type, data) until the end of the stream."""
    connection = http.client.HTTPConnection(daemon.address, daemon.port, timeout=timeout)
    headers = {"Authorization": f"Bearer {ADMIN}"}
    if after is not None:
        headers["Last-Event-ID"] = str(after)
    with contextlib.closing(connection):
        connection.request("GET", f"/train/{id}/events", headers=headers)
        response = connection.getresponse()
        assert response.status == 200
        assert response.getheader("Content-Type") == "text/event-stream"
        event = {}
        for line in response:
            line = line.decode().rstrip("\n")
            if not line and event:
                yield int(event["id"]), event["event"], json.loads(event["data"])
                event = {}
            elif line and not line.startswith(":"):
                key, _, value = line.partition(": ")
                event[key] = value


def wait_for(daemon, id, type, **members):
    """Returns the first event, past or future, of this type and with these members."""
    for _, kind, data in events(daemon, id):
        if kind == type and all(data[key] == value for key, value in members.items()):
            return data
    raise AssertionError(f"no {type} with {members} before the end: {job(daemon, id)}")


def wait_end(daemon, id, state="succeeded"):
    """Waits for the end of the job and returns the job."""
    for _ in events(daemon, id):
        pass
    document = job(daemon, id)
    assert document["state"] == state, document
    return document


def metrics(daemon, id, accept="application/json"):
    return send(daemon, "GET", f"/train/{id}/metrics", headers={"Accept": accept})


def upload(daemon, name="titles", content=None, **query):
    path = f"/datasets/{name}?" + "&".join(f"{key}={value}" for key, value in query.items())
    headers = {"Content-Type": "text/plain"}
    answer = daemon.request("PUT", path, (text() if content is None else content).encode(), headers, token=ADMIN)
    assert answer.status in (200, 201), answer.body


def weights(state_dir, model="m"):
    return (state_dir / "models" / model / "model.safetensors").read_bytes()


KILLS = int(os.environ.get("TRAIN_KILLS", 5))


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    return tmp_path_factory.mktemp("state") / "state"


@pytest.fixture(scope="module")
def daemon(models, state):
    running = Daemon(models["tiny"], {"server.state_dir": state, "train.max_parallel": 2})
    yield running
    running.close()


@pytest.fixture
def own(start, tmp_path):
    """own(settings) starts a daemon on the test's own state directory. The next daemon uses the same directory."""

    def start_one(settings=()):
        return start("tiny", {"server.state_dir": tmp_path / "state", "train.snapshot_seconds": 0.05, **dict(settings)})

    start_one.state = tmp_path / "state"
    return start_one


LONGER = {"epochs": 100 * max(KILLS, 8), "sample_length": 20, "dropout": 0.2, "validate_every": 30}


@pytest.fixture(scope="module")
def expected(models, tmp_path_factory):
    """Returns the weights of an uninterrupted run."""
    state = tmp_path_factory.mktemp("expected") / "state"
    daemon = Daemon(models["tiny"], {"server.state_dir": state})
    wait_end(daemon, submit(daemon, **LONGER))
    daemon.close()
    return weights(state)
