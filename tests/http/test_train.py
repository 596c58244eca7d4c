"""Training jobs: from a request to a served model; the fields of a request, and refusals."""

import contextlib
import json
import re
import socket
import sqlite3
import subprocess

import pytest

from conftest import ADMIN, DEADLINE, PROGRAM, Daemon
from make_model import make_model
from training import ENDLESS, SMALL, act, body, daemon, events, job, metrics, own, send, state, submit, text, upload, wait_end, wait_for


# ---- from request to model ----


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
    """Returns the notes among a job's events, up to the first one with this beginning."""
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
    place = 0  # progress never names an epoch before its validation has ended
    for kind, data in told:
        place = data["epoch"] if kind == "validation" else place
        assert kind != "progress" or data["epoch"] in (max(place, 1), place + 1), told


def test_notes_of_a_run_stay_with_its_job(own):
    """The trainer's notes are in the answer about the job and in its events: each one once, also after a restart."""
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
    """Both run the same code. The same options give the same bits, for each way to read the corpus."""
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
    """It is not in the state directory, but the list shows it like the models there."""
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
    told = send(daemon, "POST", "/train", body(**fields)).fields()
    assert set(told) == names
    assert not any(message.startswith(f"{field}: ") for field, message in told.items())


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
    """4096 streams of 4096 steps would take 86 GB. This text fills less than one stream."""
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


def test_long_curves_and_lists_are_whole(models, tmp_path):
    """The daemon reads these answers from the store and writes them page by page. They are larger than any buffer."""
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
        # If the job is deleted meanwhile, its curve does not look complete.
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
