"""Training jobs: from a request to a model that is served; queue, pause, resume, cancel; what survives a restart."""

import contextlib
import ctypes
import json
import math
import os
import pathlib
import random
import re
import resource
import select
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.parse

import pytest

from conftest import ADMIN, DEADLINE, PROGRAM, Daemon
from make_model import make_model
from test_life import DRAINING, refused
from test_openapi import check, operation_of
from training import ENDLESS, KILLS, SMALL, act, body, events, job, send, submit, text, wait_end, wait_for, weights


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
    """own(settings): a daemon on the test's own state directory, which the next one finds again."""

    def start_one(settings=()):
        return start("tiny", {"server.state_dir": tmp_path / "state", "train.snapshot_seconds": 0.05, **dict(settings)})

    start_one.state = tmp_path / "state"
    return start_one


def metrics(daemon, id, accept="application/json"):
    return send(daemon, "GET", f"/train/{id}/metrics", headers={"Accept": accept})


# ---- from a request to a model ----


def test_text_becomes_a_model_that_is_served(daemon, state):
    answer = send(daemon, "POST", "/train", body("first", deploy=True, validate_every=10))
    assert answer.status == 202
    id = answer.json()["id"]
    assert answer.headers["Location"] == f"/train/{id}"
    told = list(events(daemon, id))
    assert [number for number, _, _ in told] == sorted({number for number, _, _ in told})
    states = [data["state"] for _, kind, data in told if kind == "state"]
    assert states == ["queued", "running", "succeeded"]
    assert {"state", "progress", "validation", "sample", "checkpoint"} == {kind for _, kind, _ in told}

    document = job(daemon, id)
    assert document["state"] == "succeeded" and document["error"] is None and document["reason"] is None
    assert document["created"] <= document["started"] <= document["finished"]
    progress = document["progress"]
    assert progress["epoch"] == progress["epochs"] == 3 and progress["fraction"] == 1 and progress["eta_seconds"] == 0
    assert progress["best_validation_nats_per_char"] <= progress["validation_nats_per_char"] < 3.1
    assert {sample["temperature"] for sample in document["samples"]} == {0.2, 0.5, 1.0, 1.2}
    assert {sample["epoch"] for sample in document["samples"]} == {3}
    assert document["options"]["hidden"] == 16 and "data" not in document["options"]

    told_samples = [(data["epoch"], data["temperature"]) for _, kind, data in told if kind == "sample"]
    assert told_samples == [(epoch, temperature) for epoch in (1, 2, 3) for temperature in (0.2, 0.5, 1.0, 1.2)]
    assert all(data["step"] > 0 for _, kind, data in told if kind == "checkpoint")

    assert daemon.generate(length=5)["model"] == "first"  # deployed
    assert daemon.generate(length=5, ignore_eos=True, model="first", seed=1)["text"]
    training = json.loads((state / "models/first/config.json").read_text())["training"]
    assert training["job"] == id and training["dataset"] is None
    (listed,) = [model for model in daemon.get("/models").json()["models"] if model["name"] == "first"]
    assert (listed["job"], listed["dataset"], listed["cell"], listed["hidden_size"]) == (id, None, "lstm", 16)
    assert listed["validation_nats_per_character"] == pytest.approx(progress["best_validation_nats_per_char"])
    assert listed["size_bytes"] > 0 and listed["modified_at"] >= document["created"][:19]
    assert not list((state / "jobs").iterdir())


def test_figures_of_a_job_that_runs(own):
    daemon = own()
    id = submit(daemon, **{**ENDLESS, "lr": 0.01, "schedule": "cosine"})
    told = wait_for(daemon, id, "progress")
    assert told["step"] > 0 and told["epoch"] > 0 and told["epochs"] == 10**9 and 0 < told["fraction"] < 1e-3
    for figure in ("seconds", "eta_seconds", "tokens_per_second", "chars_per_second", "train_nats_per_char", "gradient_norm"):
        assert told[figure] > 0, figure
    assert told["learning_rate"] == pytest.approx(0.01)
    wait_for(daemon, id, "validation")
    act(daemon, id, "pause")
    rows = metrics(daemon, id).json()["metrics"]
    assert all(row["gradient_norm"] and row["tokens_per_second"] for row in rows if row["learning_rate"])
    assert any(row["learning_rate"] for row in rows)


def notes_until(daemon, id, beginning):
    """The notes among a job's events, up to the first that begins so."""
    told = []
    for _, kind, data in events(daemon, id):
        if kind == "note":
            told.append(data["text"])
            if told[-1].startswith(beginning):
                return told
    raise AssertionError(f"no note {beginning}: {told}")


def test_epochs_are_counted_in_one_way(daemon):
    id = submit(daemon, model="counted", epochs=3, hidden=8)
    told = [(kind, data) for _, kind, data in events(daemon, id)]
    validations = [data["epoch"] for kind, data in told if kind == "validation"]
    progress = [data["epoch"] for kind, data in told if kind == "progress"]
    assert validations[-1] == 3 and sorted(progress) == progress and set(progress) <= {1, 2, 3}
    assert daemon.get(f"/train/{id}", token=ADMIN).json()["progress"]["epoch"] == 3
    assert [row["epoch"] for row in metrics(daemon, id).json()["metrics"]][-1] == 3
    place = 0  # progress never names an epoch that the validations have not reached yet, or are in
    for kind, data in told:
        place = data["epoch"] if kind == "validation" else place
        assert kind != "progress" or data["epoch"] in (max(place, 1), place + 1), told


def test_notes_of_a_run_stay_with_its_job(own):
    """What the trainer has to say is in the answer about the job and in its events, once, also after a restart."""
    daemon = own()
    wait_end(daemon, submit(daemon, "base", epochs=1, sample_length=0))
    id = submit(daemon, "fine", init_from="base", text=text(20) + "\n" + "\N{PARTY POPPER}!" * 30, epochs=10**9, batch=60000, sample_length=0)
    wait_for(daemon, id, "checkpoint")
    notes = job(daemon, id)["notes"]
    assert any("batch" in note and "60000" in note for note in notes), notes
    told = "training: 60 characters that the vocabulary lacks are skipped, "
    assert any(note.startswith(told) and "'🎉' (U+1F389) 30 times" in note for note in notes), notes
    assert notes_until(daemon, id, notes[-1]) == notes
    assert "notes" not in send(daemon, "GET", "/train").json()["jobs"][0]
    daemon.process.kill()
    daemon.wait()
    daemon = own()
    again = notes_until(daemon, id, "resumed in epoch")
    assert again[:-1] == notes and job(daemon, id)["notes"] == again


LINES = text().splitlines()
FORMATS = {
    "text": ({}, text()),
    "lines": ({"format": "lines"}, text()),
    "named": ({"format": "csv", "columns": "title", "label_column": "l"}, "l,title\n" + "".join(f"{len(one) % 2},{one}\n" for one in LINES)),
    "header": ({"format": "csv", "columns": "2", "csv_header": "yes"}, "l,title\n" + "".join(f"x,{one}\n" for one in LINES)),
    "headless": ({"format": "csv", "columns": "1", "csv_header": "no"}, "".join(f"{one},x\n" for one in LINES)),
    "jsonl": ({"format": "jsonl", "field": "title"}, "".join(json.dumps({"title": one}) + "\n" for one in LINES)),
    "bytes": ({"format": "lines", "bytes": "true"}, text()),
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_job_makes_the_model_that_lstmd_train_makes(daemon, state, tmp_path, name):
    """They are the same code: the same bits of the same options, however the corpus is read."""
    reading, content = FORMATS[name]
    upload(daemon, name, content, **reading)
    fields = {"cell": "gru", "layers": 2, "hidden": 12, "embedding": 5, "dropout": 0.1, "optimizer": "adamw", "schedule": "cosine",
              "validation": 0.2, "epochs": 1, "batch": 4, "bptt": 10, "threads": 2, "seed": 7, "average": 0.9, "lr": 0.01}  # fmt: skip
    id = send(daemon, "POST", "/train", {"model": f"of-{name}", "dataset": name, **fields}).json()["id"]
    wait_end(daemon, id)
    (tmp_path / "corpus").write_text(content)
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in {**fields, **reading}.items()]
    command = [PROGRAM, "train", "--data", tmp_path / "corpus", "--out", tmp_path / "model", *flags]
    subprocess.run(command, check=True, timeout=DEADLINE, capture_output=True)
    trained, made = tmp_path / "model", state / "models" / f"of-{name}"
    for file in ("model.safetensors", "vocabulary.json"):
        assert (trained / file).read_bytes() == (made / file).read_bytes()
    listed = {model["name"]: model for model in daemon.get("/models").json()["models"]}[f"of-{name}"]
    assert (listed["job"], listed["dataset"]) == (id, name)


def test_time_limit_ends_a_job_with_a_model(daemon):
    id = submit(daemon, "limited", **{**ENDLESS, "max_minutes": 0.01})
    progress = wait_end(daemon, id)["progress"]
    assert 0 < progress["epoch"] < 10**9 and progress["fraction"] == 1 and progress["validation_nats_per_char"] > 0
    assert daemon.generate(model="limited", length=3, ignore_eos=True)["text"]


def test_a_corpus_is_called_by_the_name_of_its_dataset(daemon, state):
    upload(daemon, "named", text(), format="lines")
    id = send(daemon, "POST", "/train", {"model": "of-named", "dataset": "named", "epochs": 1, "hidden": 8}).json()["id"]
    wait_end(daemon, id)
    told = daemon.get("/models/of-named").json()["training"]
    assert told["corpus"]["name"] == told["validation"]["name"] == "named" and told["corpus"]["bytes"] == len(text())
    assert told["options"]["optimizer"] == "adam" and told["seed"] == 1 and told["epochs"] == 1
    assert told["seconds"] > 0 and re.fullmatch(r"\d+\.\d+\.\d+", told["lstmd_version"])
    assert all(told[f"{part}_nats_per_token"] > 0 for part in ("train", "validation"))


def test_loss_curve_as_json_and_csv(daemon):
    id = submit(daemon, "curve", validate_every=10)
    wait_end(daemon, id)
    rows = metrics(daemon, id).json()["metrics"]
    steps = [row["step"] for row in rows]
    assert steps == sorted(set(steps)) and steps[-1] == job(daemon, id)["progress"]["step"]
    assert all(row["validation_nats_per_char"] > 0 for row in rows if row["step"] % 10 == 0)
    answer = metrics(daemon, id, "text/csv")
    assert answer.headers["Content-Type"].startswith("text/csv")
    lines = answer.body.decode().splitlines()
    assert lines[0].split(",") == list(rows[0])
    assert [int(line.split(",")[0]) for line in lines[1:]] == steps


def test_preset_is_a_set_of_defaults_and_fields_win(daemon, state):
    for order in (1, -1):
        fields = {**SMALL, "model": "p", "preset": "headlines", "epochs": 1}
        answer = send(daemon, "POST", "/train", {key: fields[key] for key in list(fields)[::order] if key != "bptt"})
        assert answer.status == 202, answer.body
        told = wait_end(daemon, answer.json()["id"])["options"]
        assert (told["preset"], told["hidden"], told["embedding"], told["bptt"]) == ("headlines", 16, 64, 48)
    training = json.loads((state / "models/p/config.json").read_text())["training"]
    assert training["options"]["preset"] == "headlines"
    message = send(daemon, "POST", "/train", body(preset="huge")).fields()["preset"]
    assert re.findall(r'"(\w+)"', message.partition(", not ")[0]) == ["none", "tiny", "small", "medium", "large", "headlines"]
    wrong = send(daemon, "POST", "/train", body(preset="large", hidden=0, text=None)).fields()
    assert set(wrong) == {"hidden", "dataset"}
    id = send(daemon, "POST", "/train", {**SMALL, "model": "q", "init_from": "p", "preset": "headlines", "epochs": 1}).json()["id"]
    assert wait_end(daemon, id)["options"]["embedding"] == 64


def test_model_is_fine_tuned_with_its_vocabulary_and_network(daemon, state):
    wait_end(daemon, submit(daemon, "base", hidden=24, epochs=1))
    other = text(seed=2) + " Žluťoučký"
    id = send(daemon, "POST", "/train", body("tuned", init_from="base", text=other, hidden=24, epochs=1)).json()["id"]
    document = wait_end(daemon, id)
    assert document["init_from"] == "base" and document["options"]["hidden"] == 24
    assert (state / "models/tuned/vocabulary.json").read_bytes() == (state / "models/base/vocabulary.json").read_bytes()
    first = metrics(daemon, id).json()["metrics"][-1]["validation_nats_per_char"]
    base = job(daemon, id)
    assert first < 3 and base["progress"]["epoch"] == 1
    fields = send(daemon, "POST", "/train", body("x", init_from="base", hidden=16, cell="gru", unknown=True)).fields()
    assert "unknown" in fields
    fields = send(daemon, "POST", "/train", body("x", init_from="base", cell="gru")).fields()
    assert set(fields) & {"cell", "hidden"}
    assert 'no model "none"' in send(daemon, "POST", "/train", body("x", init_from="none")).fields()["init_from"]
    assert "init_from" in send(daemon, "POST", "/train", body("x", init_from="../models/base")).fields()


def test_the_model_that_the_daemon_was_given_can_be_fine_tuned(start, tmp_path):
    """It is no model of the state directory, and listed like one."""
    given, state = make_model(tmp_path / "given", eos_bias=0), tmp_path / "state"
    daemon = start(given, {"server.state_dir": state})
    id = submit(daemon, "tuned", init_from="given", epochs=1)
    wait_end(daemon, id)
    assert json.loads((state / "models/tuned/vocabulary.json").read_text()) == json.loads((given / "vocabulary.json").read_text())
    assert f"job={id} state=queued model=tuned" in daemon.wait_log("state=queued") and "init_from=given" in daemon.wait_log("state=queued")


# ---- refusals ----


def test_every_wrong_field_is_named(daemon):
    wrong = {"model": "../x", "dataset": "none", "text": "abc", "hidden": 0, "lr": "fast", "cell": "cnn", "data": "/etc/passwd",
             "validation_data": "x", "epochs": 1.5, "deploy": 1, "threads": -1, "tie_weights": True, "nonsense": 1}  # fmt: skip
    fields = send(daemon, "POST", "/train", wrong).fields()
    assert set(fields) == set(wrong)
    assert "unknown field" in fields["data"] and "unknown field" in fields["nonsense"]


@pytest.mark.parametrize(
    "fields, names",
    [
        ({"text": None}, {"dataset"}),
        ({"text": ""}, {"text"}),
        ({"text": "aaaa"}, {"text"}),
        ({"columns": "1"}, {"columns"}),
        ({"filters": "x"}, {"filters"}),
        ({"bytes": True, "level": "word"}, {"bytes"}),
        ({"hidden": 16384, "layers": 8, "batch": 65536}, {"hidden"}),
        ({"layers": 8, "hidden": 16384, "batch": 1}, {"hidden"}),
        ({"min_count": 10**6}, {"text"}),
        ({"dataset": "none", "text": None}, {"dataset"}),
    ],
)
def test_what_cannot_be_trained_is_refused_before_202(daemon, fields, names):
    assert set(send(daemon, "POST", "/train", body(**fields)).fields()) == names


@pytest.mark.parametrize(
    "content, fields, cause",
    [
        ("aaaaaa", {}, "repeated"),
        ("aAaAaA", {"lower": True}, "repeated"),
        ("word\n" * 50, {"level": "word"}, "repeated"),
        (text(), {"min_count": 10**6}, "the minimum count"),
        (text(), {"max_vocabulary": 1}, "no room for text"),
        ("\u6f22\u5b57" * 9, {"init_from": "tiny"}, "none of its characters is in the vocabulary of the model"),
    ],
)
def test_a_dataset_that_cannot_be_trained_on_is_refused_before_202(daemon, content, fields, cause):
    upload(daemon, "useless", content)
    told = send(daemon, "POST", "/train", {"model": "x", "dataset": "useless", **fields}).fields()
    assert list(told) == ["dataset"] and told["dataset"].startswith("useless: ") and cause in told["dataset"]


def test_memory_is_that_of_the_batch_that_fits_the_text(daemon):
    """4096 streams of 4096 steps would take 86 GB; this text fills less than one of them."""
    id = submit(daemon, batch=4096, bptt=4096, hidden=128, epochs=1, sample_length=0)
    assert wait_end(daemon, id)["state"] == "succeeded"
    upload(daemon, "short", text(), format="lines")
    fields = {"model": "m", "dataset": "short", "batch": 4096, "bptt": 4096, "hidden": 128, "epochs": 1, "sample_length": 0}
    id = send(daemon, "POST", "/train", fields).json()["id"]
    assert wait_end(daemon, id)["state"] == "succeeded"


def test_a_dataset_whose_end_is_all_new_is_trained_on_as_a_whole(daemon):
    upload(daemon, "tail", "abc abc " * 225 + "wxyz" * 50)
    id = send(daemon, "POST", "/train", {"model": "tail", "dataset": "tail", "epochs": 1, "hidden": 8}).json()["id"]
    assert wait_end(daemon, id)["state"] == "succeeded"
    assert daemon.get("/models/tail").json()["training"]["validation"] is None


def test_labels_that_a_model_does_not_know_are_refused(daemon):
    upload(daemon, "labelled", "a,the cat\nb,the dog\n" * 20, format="csv", columns="2", label_column="1")
    told = send(daemon, "POST", "/train", {"model": "x", "dataset": "labelled", "init_from": "tiny"}).fields()
    assert list(told) == ["label_column"] and "knows no labels" in told["label_column"]


def test_without_a_state_directory_there_are_no_jobs(start):
    daemon = start()
    for method, path in [("GET", "/train"), ("POST", "/train"), ("GET", "/train/j000001/events")]:
        problem = send(daemon, method, path, body() if method == "POST" else None).problem(409)
        assert "server.state_dir" in problem["detail"]


def test_jobs_are_for_administrators(daemon):
    for method, path in [("GET", "/train"), ("POST", "/train"), ("DELETE", "/train/j000001"), ("GET", "/train/j000001/events")]:
        assert daemon.request(method, path, b"{}" if method == "POST" else None).status == 401


@pytest.mark.parametrize("id", ["j000099", "j99", "x", "j0000001", "%2e%2e"])
def test_unknown_job_is_404(daemon, id):
    for method, path in [("GET", ""), ("DELETE", ""), ("GET", "/events"), ("GET", "/metrics"), ("POST", "/cancel"), ("POST", "/pause")]:
        send(daemon, method, f"/train/{id}{path}").problem(404)


def test_one_key_begins_one_job(daemon):
    def post(document, key):
        return send(daemon, "POST", "/train", document, {"Idempotency-Key": key})

    first = post(body("keyed", epochs=1), "k-1")
    again = post(dict(reversed(body("keyed", epochs=1).items())), "k-1")  # the same document, laid out otherwise
    assert first.status == again.status == 202
    assert first.json()["id"] == again.json()["id"] and first.headers["Location"] == again.headers["Location"]
    assert first.json()["id"] in post(body("keyed", epochs=2), "k-1").problem(409)["detail"]
    assert post(body("keyed", epochs=1), "k-2").json()["id"] != first.json()["id"]
    assert set(post(body("keyed"), "k 3").fields()) == {"Idempotency-Key"}
    for answer in (first, post(body("keyed", epochs=1), "k-2")):
        wait_end(daemon, answer.json()["id"])


def test_key_is_remembered_over_a_restart_until_its_job_is_deleted(own):
    def post(epochs=1):
        return send(daemon, "POST", "/train", body("keyed", epochs=epochs), {"Idempotency-Key": "once"})

    daemon = own()
    id = post().json()["id"]
    daemon.process.kill()
    daemon.wait()
    daemon = own()
    assert post().json()["id"] == id
    post(epochs=2).problem(409)
    wait_end(daemon, id)
    assert send(daemon, "DELETE", f"/train/{id}").status == 204
    assert post(epochs=2).json()["id"] != id


def test_a_daemon_that_stops_takes_no_jobs_and_tells_of_those_it_has(start, tmp_path):
    daemon = start("tiny", {**DRAINING, "server.state_dir": tmp_path / "state"})
    id = submit(daemon, **ENDLESS)
    wait_for(daemon, id, "progress")
    connection = daemon.occupy(DRAINING["limits.max_length"])  # keeps it from its end
    daemon.signal()
    for _ in events(daemon, id):
        pass  # until its thread has stopped
    answer = send(daemon, "POST", "/train", body())
    assert "shutting down" in answer.problem(503)["detail"] and int(answer.headers["Retry-After"]) >= 1
    assert job(daemon, id)["state"] == "queued"
    assert act(daemon, id, "cancel")["state"] == "cancelled"
    connection.close()
    assert daemon.wait() == 0


# ---- the life of a job ----


def test_queue_pause_resume_cancel_delete(own):
    daemon = own()
    first, second, third = (submit(daemon, name, **ENDLESS) for name in ("a", "b", "c"))
    wait_for(daemon, first, "state", state="running")
    assert job(daemon, second)["state"] == "queued"
    send(daemon, "DELETE", f"/train/{first}").problem(409)
    assert act(daemon, second, "cancel")["state"] == "cancelled"
    assert act(daemon, second, "cancel")["state"] == "cancelled"
    act(daemon, second, "resume", 409)
    assert act(daemon, first, "pause")["state"] == "paused"
    wait_for(daemon, third, "progress")  # its turn has come
    assert act(daemon, first, "resume")["state"] == "queued"
    assert [one["id"] for one in send(daemon, "GET", "/train?state=queued").json()["jobs"]] == [first]
    assert [one["id"] for one in send(daemon, "GET", "/train?limit=2").json()["jobs"]] == [third, second]
    assert [one["id"] for one in send(daemon, "GET", f"/train?after={second}").json()["jobs"]] == [first]
    assert set(send(daemon, "GET", "/train?state=odd&limit=0&after=7").fields()) == {"state", "limit", "after"}
    act(daemon, third, "cancel")
    wait_end(daemon, third, "cancelled")
    wait_for(daemon, first, "progress")
    act(daemon, first, "cancel")
    for id in (first, second, third):
        assert send(daemon, "DELETE", f"/train/{id}").status == 204
        send(daemon, "GET", f"/train/{id}").problem(404)
    assert send(daemon, "GET", "/train").json()["jobs"] == []
    assert daemon.generate(length=3, ignore_eos=True)["text"]


def cpu_seconds(daemon):
    values = pathlib.Path(f"/proc/{daemon.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")


def test_cancel_ends_a_run_soon_even_in_a_long_validation(own):
    """By its work, not by the clock: a run has the lowest priority, and what it gets of a busy machine is not its own doing."""
    daemon = own()
    id = submit(daemon, text=text(lines=12000), validation=0.5, hidden=512, bptt=8, batch=2, validate_every=1, sample_length=0)
    wait_for(daemon, id, "state", state="running")
    begun, end = cpu_seconds(daemon), time.monotonic() + DEADLINE
    assert act(daemon, id, "cancel")["state"] == "cancelled"
    while list((own.state / "jobs").iterdir()):  # the thread is the last to know
        assert time.monotonic() < end
        time.sleep(0.02)  # a run gets what this process leaves of the machine
    assert daemon.get("/healthz").status == 200
    assert cpu_seconds(daemon) - begun < 2 or os.environ.get("SANITIZE")


def test_training_yields(own):
    daemon = own()
    id = submit(daemon, **{**ENDLESS, "threads": 2})
    wait_for(daemon, id, "progress")
    low = 0
    for task in pathlib.Path(f"/proc/{daemon.process.pid}/task").iterdir():
        values = (task / "stat").read_text().rpartition(")")[2].split()
        nice, policy = int(values[16]), int(values[38])
        low += nice == 19 and policy == 5  # SCHED_IDLE
    assert low == 2
    act(daemon, id, "cancel")


def test_diverged_job_has_failed_and_says_why(daemon):
    id = submit(daemon, "diverged", optimizer="sgd", lr=1000, clip=0, epochs=100)
    document = wait_end(daemon, id, "failed")
    assert "diverged" in document["error"] and "lr" in document["error"]
    assert not any(one["name"] == "diverged" for one in daemon.get("/models").json()["models"])


# ---- events ----


def test_events_resume_after_the_last_one_seen(daemon):
    id = submit(daemon, "told")
    wait_end(daemon, id)
    told = list(events(daemon, id))
    for number in (told[0][0], told[len(told) // 2][0], told[-2][0]):
        assert list(events(daemon, id, after=number)) == [event for event in told if event[0] > number]
    for never in ("x", "", "0", "-1", "12 ", f"{told[-1][0]}x", "9" * 30):
        assert list(events(daemon, id, after=never)) == told
    answer = send(daemon, "GET", f"/train/{id}/events", headers={"Last-Event-ID": str(told[-1][0])})
    assert (answer.status, answer.body) == (204, b"")
    check(operation_of("/train/{id}/events", "get"), answer)


def test_head_of_events_has_no_body_and_keeps_the_connection(daemon):
    id = submit(daemon, "head")
    request = b"HEAD /train/%s/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n" % (id.encode(), ADMIN.encode())
    with daemon.socket() as connection:
        connection.sendall(request + b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        got = b""
        while part := connection.recv(4096):
            got += part
    first, second, body = got.split(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 200 ") and second.startswith(b"HTTP/1.1 200 ") and b"event-stream" in first
    wait_end(daemon, id)


def test_events_of_a_run_that_ends_while_they_are_read_are_all_there(daemon):
    id = submit(daemon, "all", validate_every=5, epochs=2)
    live = [event for event in events(daemon, id) if event[1] in ("state", "validation", "sample")]
    assert live == [event for event in events(daemon, id) if event[1] in ("state", "validation", "sample")]
    assert live[-1][2]["state"] == "succeeded"


def test_silent_events_are_pinged_and_end_with_the_daemon(own):
    daemon = own({"server.ping_seconds": 0.2})
    id = submit(daemon, **ENDLESS)
    act(daemon, id, "pause")
    connection = daemon.socket()
    connection.sendall(f"GET /train/{id}/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN}\r\n\r\n".encode())
    data = b""
    while data.count(b": ping") < 2:
        piece = connection.recv(4096)
        assert piece, data
        data += piece
    daemon.signal()
    while connection.recv(4096):
        pass
    connection.close()
    assert daemon.wait() == 0


def test_events_of_a_job_that_is_still_stopping_end_with_the_daemon(own):
    """It is paused, but its thread is at its snapshot yet, when the daemon drains: nothing more will be told of it."""
    daemon = own({"server.drain_seconds": 3600})
    id = submit(daemon, **{**ENDLESS, "hidden": 1024, "bptt": 1, "batch": 1})
    wait_for(daemon, id, "checkpoint")
    act(daemon, id, "pause")
    told = events(daemon, id)
    for _, kind, data in told:
        if kind == "state" and data["state"] == "paused":
            break
    daemon.signal()
    assert daemon.wait() == 0
    assert list(told) == []


# ---- survival ----


LONGER = {"epochs": 100 * max(KILLS, 8), "sample_length": 20, "dropout": 0.2, "validate_every": 30}


@pytest.fixture(scope="module")
def expected(models, tmp_path_factory):
    """The weights of a run that nobody interrupts."""
    state = tmp_path_factory.mktemp("expected") / "state"
    daemon = Daemon(models["tiny"], {"server.state_dir": state})
    wait_end(daemon, submit(daemon, **LONGER))
    daemon.close()
    return weights(state)


def test_jobs_in_parallel_and_over_a_restart(own, expected):
    settings = {"train.max_parallel": 2}
    daemon = own(settings)
    ended, cancelled = submit(daemon, "e", **ENDLESS), submit(daemon, "c", **ENDLESS)
    for id in (ended, cancelled):
        wait_for(daemon, id, "progress")
    kept, waiting = submit(daemon, "m", **LONGER), submit(daemon, "w", epochs=1)
    assert [job(daemon, id)["state"] for id in (ended, cancelled, kept, waiting)] == ["running"] * 2 + ["queued"] * 2
    for id in (ended, cancelled):
        assert act(daemon, id, "cancel")["state"] == "cancelled"
    wait_for(daemon, kept, "validation")
    act(daemon, kept, "pause")
    wait_end(daemon, waiting)
    daemon.process.kill()
    daemon.wait()
    store = sqlite3.connect(own.state / "lstmd.db")
    assert dict(store.execute("SELECT id, state FROM jobs")) == {1: "cancelled", 2: "cancelled", 3: "paused", 4: "succeeded"}
    assert [*store.execute("PRAGMA journal_mode"), *store.execute("PRAGMA user_version")] == [("wal",), (1,)]
    store.close()
    daemon = own(settings)
    assert [job(daemon, id)["state"] for id in (kept, cancelled, waiting)] == ["paused", "cancelled", "succeeded"]
    assert act(daemon, kept, "resume")["state"] in ("queued", "running")
    wait_end(daemon, kept)
    assert weights(own.state) == expected


def test_sigterm_saves_what_runs(own, expected):
    daemon = own({"train.snapshot_seconds": 0, "server.drain_seconds": 3600})
    id = submit(daemon, **LONGER)
    wait_for(daemon, id, "validation")
    daemon.signal()
    assert daemon.wait() == 0  # long before the drain's time is over; that the job did not end shows below
    assert (own.state / "jobs" / id / "model.train" / "snapshot.json").exists()
    daemon = own()
    wait_end(daemon, id)
    states = [data["state"] for _, kind, data in events(daemon, id) if kind == "state"]
    assert states == ["queued", "running", "queued", "running", "succeeded"]
    assert weights(own.state) == expected
    steps = [row["step"] for row in metrics(daemon, id).json()["metrics"]]
    assert steps == sorted(set(steps))


def test_each_validation_leaves_a_snapshot_to_go_on_from(own, expected):
    """Also where none is due by time: killed, the job goes on from there."""
    daemon = own({"train.snapshot_seconds": 0})
    id = submit(daemon, **LONGER)
    step = wait_for(daemon, id, "checkpoint")["step"]
    assert step in [row["step"] for row in metrics(daemon, id).json()["metrics"] if row["validation_nats_per_char"]]
    daemon.process.kill()
    daemon.wait()
    assert (own.state / "jobs" / id / "model.train" / "snapshot.json").exists()
    daemon = own()
    assert "after step" in daemon.wait_log(f'job={id} note="resumed in epoch')
    wait_end(daemon, id)
    assert weights(own.state) == expected


def test_kill_at_any_moment_loses_no_job(own, expected):
    seed = int(os.environ.get("TRAIN_SEED", random.randrange(2**32)))
    print("TRAIN_SEED", seed)
    rng = random.Random(seed)
    daemon = own()
    id = submit(daemon, **LONGER)
    kills = 0
    while True:
        with subprocess.Popen(["sleep", str(rng.uniform(0.01, 0.3))]) as moment:
            moment.wait()
        state = job(daemon, id)["state"]
        if kills == KILLS or state == "succeeded":
            break
        daemon.process.kill()
        daemon.wait()
        kills += 1
        published = own.state / "models/m"
        assert not published.exists() or len(list(published.iterdir())) == 3
        daemon = own()
    assert kills == KILLS, "the job ended before it was killed so often: it needs more epochs"
    document = wait_end(daemon, id)
    assert weights(own.state) == expected
    assert document["progress"]["epoch"] == LONGER["epochs"]
    assert not list((own.state / "jobs").iterdir())
    assert sorted(path.name for path in (own.state / "models").iterdir()) == ["m"]
    print("kills:", kills)


class Arrivals:
    """What comes to be in a directory, told by inotify: a loop that looks would take the time of a job that yields."""

    CREATED, MOVED_HERE = 0x100, 0x80

    def __init__(self, directory):
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self.fd < 0 or libc.inotify_add_watch(self.fd, bytes(directory), self.CREATED | self.MOVED_HERE) < 0:
            raise OSError(ctypes.get_errno(), "inotify")

    def wait(self, seconds):
        """The names of the next ones; none where nothing came in time."""
        if not select.select([self.fd], [], [], seconds)[0]:
            return []
        data, names = os.read(self.fd, 65536), []
        while data:
            size = int.from_bytes(data[12:16], sys.byteorder)  # of the name: struct inotify_event
            names.append(data[16 : 16 + size].rstrip(b"\0").decode())
            data = data[16 + size :]
        return names

    def kill(self, daemon, pattern):
        """kill -9 as soon as a matching one is there."""
        end = time.monotonic() + DEADLINE
        while not any(re.fullmatch(pattern, name) for name in self.wait(1)):
            assert time.monotonic() < end, f"no {pattern}"
        daemon.process.kill()
        daemon.wait()
        while self.wait(0):
            pass

    def close(self):
        os.close(self.fd)


def test_kill_while_the_model_is_published(own, models, tmp_path):
    """In the midst of the copy several times, then when it stands and the store does not know: whole or not there at all."""
    fields = {**SMALL, "hidden": 256, "batch": 2, "text": text(lines=10), "epochs": 1, "sample_length": 0}
    other = Daemon(models["tiny"], {"server.state_dir": tmp_path / "undisturbed"})
    wait_end(other, submit(other, **fields))
    other.close()
    daemon, directory = own(), own.state / "models"
    with contextlib.closing(Arrivals(directory)) as arrivals:
        id = submit(daemon, **fields)
        kills = 0
        while kills < 4 and not (directory / "m").exists():  # it is there where the copy was faster than the kill
            arrivals.kill(daemon, "m[.]tmp-.*")
            kills += not (directory / "m").exists()
            daemon = own()
        assert kills > 0
        if not (directory / "m").exists():
            arrivals.kill(daemon, "m")
            daemon = own()
    assert not any("error" in model for model in daemon.get("/models").json()["models"])
    wait_end(daemon, id)
    assert weights(own.state) == weights(tmp_path / "undisturbed")
    assert os.listdir(directory) == ["m"] and daemon.admin("POST", "/models/m/load").status == 200
    assert not list((own.state / "jobs").iterdir())


def test_damaged_store_is_refused_at_the_start(own, models):
    daemon = own()
    daemon.close()
    path = own.state / "lstmd.db"
    path.write_bytes(b"not a database at all" * 1000)
    line = refused(models["tiny"], f"server.state_dir={own.state}")
    assert str(path) in line and "move it away" in line
    assert path.read_bytes().startswith(b"not a database")


@pytest.fixture
def small_disk(tmp_path):
    """small_disk(24): the directory of a file system of 24 MB."""
    directory = tmp_path / "disk"
    directory.mkdir()

    def mount(megabytes):
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(directory)]
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except OSError as error:
            pytest.skip(f"no small file system can be mounted here: {error}")
        if done.returncode:
            pytest.skip(f"no small file system can be mounted here: {done.stderr.strip()}")
        return directory

    yield mount
    if os.path.ismount(directory):
        subprocess.run(["umount", "-l", str(directory)], check=True)


def test_a_file_size_limit_is_lack_of_room(own):
    """What SQLite calls an error of input and output."""
    daemon = own()
    soft, hard = resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (8192, hard))
    large = body("m", text="the rain in spain " * 2000)
    assert "lstmd.db: File too large" in send(daemon, "POST", "/train", large).problem(507)["detail"]
    assert send(daemon, "GET", "/train").json() == {"jobs": []}
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (soft, hard))
    assert send(daemon, "POST", "/train", large).status == 202


def test_full_disk_pauses_a_job_until_there_is_room(start, small_disk, expected):
    disk = small_disk(24)
    daemon = start("tiny", {"server.state_dir": disk / "state", "train.snapshot_seconds": 0.05})
    id = submit(daemon, **LONGER)
    wait_for(daemon, id, "checkpoint")
    filler = disk / "filler"
    with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    end = time.monotonic() + DEADLINE
    while (document := job(daemon, id))["state"] != "paused":
        assert document["state"] == "running" and time.monotonic() < end, document
        time.sleep(0.02)  # a run gets what this process leaves of the machine
    assert "No space left" in document["reason"]
    assert daemon.generate(length=3, ignore_eos=True)["text"]
    filler.unlink()
    wait_end(daemon, id)
    assert weights(disk / "state") == expected


def waiting_jobs(daemon):
    return int(re.search(rb"^lstmd_train_waiting_jobs (\d+)$", daemon.get("/metrics").body, re.M)[1])


def submit_without_room(start, small_disk):
    """A job on a corpus whose tokens the disk has no room for. Returns the daemon, the job's id, and what fills the disk."""
    disk = small_disk(200)
    daemon = start("tiny", {"server.state_dir": disk / "state"})
    block = text(lines=5000).encode() + b"\n"
    corpus = (block for _ in range(70 * 2**20 // len(block)))
    assert daemon.request("PUT", "/datasets/large", corpus, {"Content-Type": "text/plain"}, ADMIN).status == 201
    filler = disk / "filler"
    filler.write_bytes(bytes(80 * 2**20))
    few = {"hidden": 16, "max_minutes": 0.01, "validation": 0.001, "sample_length": 0, "threads": 1}
    id = send(daemon, "POST", "/train", {"model": "m", "dataset": "large", **few}).json()["id"]
    assert "it takes 7" in (reason := wait_for(daemon, id, "state", state="paused")["reason"]) and "No space left" in reason
    return daemon, id, filler


def test_job_that_needs_more_room_than_its_snapshot_waits_for_it(start, small_disk):
    """The tokens of a large corpus: what they take is known before they are written, and fill nobody's disk in vain."""
    daemon, id, filler = submit_without_room(start, small_disk)
    wait_end(daemon, submit(daemon, "other", **{**ENDLESS, "max_minutes": 0.05}))  # three of the seconds at which it is looked
    document = job(daemon, id)
    assert document["state"] == "paused" and waiting_jobs(daemon) == 1
    filler.unlink()
    wait_end(daemon, id)
    assert waiting_jobs(daemon) == 0
    states = [data["state"] for _, kind, data in events(daemon, id) if kind == "state"]
    assert states == ["queued", "paused", "queued", "running", "succeeded"]  # it never began what it could not end


def test_daemon_ends_while_a_job_that_never_ran_waits_for_room(start, small_disk):
    daemon, _, _ = submit_without_room(start, small_disk)
    daemon.close()


# ---- datasets ----


def upload(daemon, name="titles", content=None, **query):
    path = f"/datasets/{name}?" + "&".join(f"{key}={value}" for key, value in query.items())
    headers = {"Content-Type": "text/plain"}
    answer = daemon.request("PUT", path, (text() if content is None else content).encode(), headers, token=ADMIN)
    assert answer.status in (200, 201), answer.body


def test_dataset_is_read_as_it_was_uploaded_and_kept_while_a_job_needs_it(own):
    daemon = own()
    upload(daemon, format="csv", columns=1, content="\n".join(f'"{line}",x' for line in text().splitlines()))
    fields = {**ENDLESS, "text": None, "format": "csv"}
    assert set(send(daemon, "POST", "/train", body(**fields, dataset="titles")).fields()) == {"format"}
    del fields["format"], fields["text"]
    document = {key: value for key, value in {"model": "m", **fields, "dataset": "titles"}.items()}
    id = send(daemon, "POST", "/train", document).json()["id"]
    assert job(daemon, id)["options"]["format"] == "csv" and job(daemon, id)["options"]["columns"] == "1"
    wait_for(daemon, id, "validation")
    for restart in (False, True):
        assert daemon.request("DELETE", "/datasets/titles", token=ADMIN).status == 409
        act(daemon, id, "pause")
        assert daemon.request("DELETE", "/datasets/titles", token=ADMIN).status == 409
        act(daemon, id, "resume")
        if not restart:
            daemon.process.kill()
            daemon.wait()
            daemon = own()
    act(daemon, id, "cancel")
    end = time.monotonic() + DEADLINE
    while daemon.request("DELETE", "/datasets/titles", token=ADMIN).status == 409:
        assert time.monotonic() < end
    assert "titles" in send(daemon, "POST", "/train", document).fields()["dataset"]


def test_job_whose_dataset_vanished_has_failed(own):
    daemon = own()
    upload(daemon, format="lines")
    document = {key: value for key, value in ENDLESS.items() if key not in ("text", "format")}
    id = send(daemon, "POST", "/train", {"model": "m", **document, "dataset": "titles"}).json()["id"]
    wait_for(daemon, id, "checkpoint")
    daemon.close()
    shutil.rmtree(own.state / "datasets/titles")
    daemon = own()
    assert "titles" in wait_end(daemon, id, "failed")["error"]


LARGE_MIB = int(os.environ.get("LARGE_MIB", 40))  # what is left of it is far more than base/scratch.h keeps in memory; make soak: 1024
LARGE_FORMATS = {
    "text": ({}, "Text with an é, and a €, to be read.\n"),
    "lines": ({"format": "lines"}, "oil prices rise\nfall again on the market\n"),
    "csv": ({"format": "csv", "columns": "1,2", "csv_header": "no"}, 'one,"t""wo"\n'),
    "jsonl": ({"format": "jsonl"}, '{"text": "a \\u20ac line"}\n'),
}


class Memory(threading.Thread):
    """The most that a daemon has in memory of its own meanwhile, KiB: pages of mapped files go back to the system when
    others want them."""

    def __init__(self, daemon):
        super().__init__()
        self.status = pathlib.Path(f"/proc/{daemon.process.pid}/status")
        self.over = threading.Event()
        self.most = 0
        self.start()

    def run(self):
        while not self.over.wait(0.01):
            self.most = max(self.most, int(re.search(r"^RssAnon:\s*(\d+)", self.status.read_text(), re.M)[1]))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()


@pytest.mark.parametrize("name", LARGE_FORMATS)
def test_a_job_trains_on_a_large_corpus_from_disk(own, name):
    """The dataset comes, is read, shuffled and trained on, and the daemon's memory does not know how large it is."""
    daemon = own({"train.snapshot_seconds": 60})
    query, line = LARGE_FORMATS[name]
    block = line.encode() * (2**20 // len(line.encode()))
    path = f"/datasets/large?{urllib.parse.urlencode(query)}"
    few = {"hidden": 16, "batch": 8, "bptt": 16, "max_minutes": 0.02, "validation": 0.001, "sample_length": 0, "threads": 1}
    with Memory(daemon) as memory:
        answer = daemon.request("PUT", path, (block for _ in range(LARGE_MIB)), {"Content-Type": "text/plain"}, ADMIN, 10 * DEADLINE)
        assert answer.status == 201 and answer.json()["size"] == LARGE_MIB * len(block)
        uploaded = memory.most
        id = send(daemon, "POST", "/train", {"model": "m", "dataset": "large", **few}).json()["id"]
        assert wait_end(daemon, id)["progress"]["step"] > 0
    print(f"{LARGE_MIB} MiB, {name}: at most {uploaded} KiB of private memory to come, {memory.most} KiB to be trained on")
    limit = 64 * 1024 if not os.environ.get("SANITIZE") else math.inf
    assert 0 < memory.most < limit
    assert daemon.generate(model="m", length=3, ignore_eos=True)["text"] and not list((own.state / "jobs").iterdir())


def test_long_curves_and_lists_are_whole(models, tmp_path):
    """Answers that are read from the store and written a page at a time, beyond any buffer."""
    settings = {"server.state_dir": tmp_path / "state"}
    first = Daemon(models["tiny"], settings)
    id = submit(first, epochs=1)
    wait_end(first, id)
    first.close()
    rows = [(step, 1, step / 8, 2.5, 0.001, 1 / step, 1e4, None if step % 3 else 1.25) for step in range(100_001, 110_001)]
    with contextlib.closing(sqlite3.connect(tmp_path / "state" / "lstmd.db")) as database, database:
        (number,) = database.execute("SELECT id FROM jobs").fetchone()
        database.executemany(f"INSERT INTO metrics VALUES ({number}, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        columns = [column[1] for column in database.execute("PRAGMA table_info(jobs)") if column[1] not in ("id", "idempotency_key")]
        for _ in range(199):
            database.execute(f"INSERT INTO jobs ({', '.join(columns)}) SELECT {', '.join(columns)} FROM jobs WHERE id = {number}")
    daemon = Daemon(models["tiny"], settings)
    try:
        answer = metrics(daemon, id)
        assert answer.headers["Transfer-Encoding"] == "chunked"
        found = [tuple(row.values()) for row in answer.json()["metrics"] if row["step"] > 100_000]
        assert found == [tuple(pytest.approx(value) if value else None for value in row) for row in rows]
        lines = metrics(daemon, id, "text/csv").body.decode().splitlines()
        assert lines[0].startswith("step,epoch,") and len(lines) == len(answer.json()["metrics"]) + 1
        assert lines[-1] == "110000,1,13750,2.5,0.001,9.09090909e-06,10000,"
        listed = send(daemon, "GET", "/train?limit=200").json()["jobs"]
        assert len({one["id"] for one in listed}) == 200 and listed[-1]["id"] == id
        assert [one["id"] for one in send(daemon, "GET", "/train?limit=9").json()["jobs"]] == [one["id"] for one in listed[:9]]
        assert send(daemon, "GET", f"/train?after={id}").json()["jobs"] == []
        # A curve whose job is deleted on the way does not look like a whole one.
        with contextlib.closing(socket.socket()) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect((daemon.address, daemon.port))
            connection.settimeout(DEADLINE)
            connection.sendall(f"GET /train/{id}/metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ADMIN}\r\n\r\n".encode())
            assert connection.recv(1) == b"H"
            assert send(daemon, "DELETE", f"/train/{id}").status == 204
            rest = b"".join(iter(lambda: connection.recv(65536), b""))
        assert rest.count(b"step") < 10_000 and not rest.endswith(b"0\r\n\r\n")
    finally:
        daemon.close()
