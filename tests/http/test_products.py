"""Who multiplies in training jobs: engine.products, the field products of POST /train, and the daemon's messages."""

import concurrent.futures
import json
import re
import pathlib

import pytest

from training import ENDLESS, act, body, events, job, send, submit, wait_end, wait_for

NAME = r"openblas [0-9.]+\S* \w+"


def loads_openblas(daemon):
    return "libopenblas" in pathlib.Path(f"/proc/{daemon.process.pid}/maps").read_text()


def metric(daemon, pattern):
    return re.search(pattern, daemon.get("/metrics").body.decode(), re.M)


def products_of(state, model):
    training = json.loads((state / "models" / model / "config.json").read_text())["training"]
    return training["products"], training["options"]["products"]


@pytest.fixture
def own(start, tmp_path):
    def start_one(settings=()):
        return start("tiny", {"server.state_dir": tmp_path / "state", "train.snapshot_seconds": 0.05, **dict(settings)})

    start_one.state = tmp_path / "state"
    return start_one


def test_daemon_that_never_uses_the_library_does_not_load_it(own):
    daemon = own({"engine.products": "own"})
    assert "products=own " in daemon.wait_log("event=listening ") and not loads_openblas(daemon)
    told = send(daemon, "POST", "/train", body("m", products="openblas")).fields()
    assert "engine.products must be openblas" in told["products"]
    list(events(daemon, submit(daemon, "m", products="auto")))
    assert products_of(own.state, "m") == ("own", "own") and not loads_openblas(daemon)
    assert metric(daemon, r'^lstmd_products_info\{products="own"\} 1$')
    assert metric(daemon, r"^lstmd_openblas_products_total 0$")


def test_confined_daemon_trains_with_the_library_that_it_loaded(own):
    daemon = own({"engine.products": "openblas", "train.threads": 2})
    name = re.search(f'products="({NAME})"', daemon.wait_log("event=listening "))[1]
    assert loads_openblas(daemon) and len(list(pathlib.Path(f"/proc/{daemon.process.pid}/task").iterdir())) < 20
    assert metric(daemon, rf'^lstmd_products_info\{{products="{re.escape(name)}"\}} 1$')
    assert metric(daemon, r"^lstmd_openblas_products_total 0$")
    id = submit(daemon, "m", threads=2)
    list(events(daemon, id))
    document = job(daemon, id)
    assert document["state"] == "succeeded" and document["options"]["products"] == "openblas"
    assert f"products: {name}" in document["notes"]
    assert products_of(own.state, "m") == (name, "openblas")
    calls = metric(daemon, r"^lstmd_openblas_products_total (\d+)$")[1]
    assert int(calls) > 0
    list(events(daemon, submit(daemon, "other", products="own")))
    assert products_of(own.state, "other") == ("own", "own")
    assert metric(daemon, r"^lstmd_openblas_products_total (\d+)$")[1] == calls


def test_job_goes_on_with_the_same_products_or_not_at_all(own):
    daemon = own({"engine.products": "openblas"})
    refused, forced = submit(daemon, "refused", **ENDLESS), submit(daemon, "forced", **ENDLESS, other_products=True)
    wait_for(daemon, refused, "checkpoint")
    act(daemon, refused, "pause")
    wait_for(daemon, forced, "checkpoint")
    act(daemon, forced, "pause")
    daemon.close()
    daemon = own({"engine.products": "own"})
    for id in (refused, forced):
        act(daemon, id, "resume")
    assert "engine.products must be openblas" in wait_end(daemon, refused, "failed")["error"]
    wait_for(daemon, forced, "note", text="products openblas: this daemon did not load the library: engine.products must be "
                                          "openblas; the run goes on without it")
    assert job(daemon, forced)["state"] == "running"
    act(daemon, forced, "cancel")


TEXT = "abcdef " * 40


def scored(daemon, **fields):
    answer = send(daemon, "POST", "/score", {"text": TEXT, **fields})
    assert answer.status == 200, answer.body
    return answer.json()


def calls_of(daemon, ask):
    """How often OpenBLAS multiplies for a request, and the answer."""
    def count():
        return int(metric(daemon, r"^lstmd_openblas_products_total (\d+)$")[1])

    before = count()
    answer = ask()
    return count() - before, answer


def test_score_is_read_by_the_library_that_is_named(start):
    own, named = start("tiny"), start("tiny", {"engine.products": "openblas"})
    assert calls_of(own, lambda: scored(own))[0] == 0
    calls, answer = calls_of(named, lambda: scored(named))
    assert calls > 0
    expected = scored(own)
    assert [token["id"] for token in answer["tokens"]] == [token["id"] for token in expected["tokens"]]
    for a, b in zip(answer["tokens"], expected["tokens"]):
        assert abs(a["logprob"] - b["logprob"]) < 1e-5
    with concurrent.futures.ThreadPoolExecutor(8) as pool:  # neighbours change no bit
        texts = [pool.submit(scored, named, text=text) for text in (TEXT, TEXT[:50], TEXT, TEXT[3:], TEXT)]
        assert all(texts[i].result() == answer for i in (0, 2, 4))


def test_what_keeps_a_state_is_read_without_the_library(start):
    own, named = start("tiny"), start("tiny", {"engine.products": "openblas"})

    def chain(daemon):
        first = scored(daemon, return_state=True)
        second = scored(daemon, text="gh" + TEXT, state=first["state"], return_state=True)
        state = send(daemon, "POST", "/state", {"text": TEXT}).json()["state"]
        text = send(daemon, "POST", "/generate", {"prompt": TEXT, "length": 30, "seed": 1, "return_state": True}).json()
        again = send(daemon, "POST", "/generate", {"prompt": "", "length": 30, "state": text["state"]}).json()
        return first["tokens"], first["state"], second["tokens"], second["state"], state, text["text"], again["text"]

    calls, answers = calls_of(named, lambda: chain(named))
    assert calls == 0 and answers == chain(own)
