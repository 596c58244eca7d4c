"""The life of a training job: queue, pause, resume, cancel; its events; restart and kill."""

import contextlib
import ctypes
import os
import pathlib
import random
import re
import select
import sqlite3
import subprocess
import sys
import time

from api_document import check, operation_of
from conftest import ADMIN, DEADLINE, Daemon
from test_life import DRAINING, refused
from training import ENDLESS, KILLS, LONGER, SMALL, act, body, daemon, events, expected, job, metrics, own, send, state, submit, text
from training import wait_end, wait_for, weights


def test_one_key_begins_one_job(daemon):
    def post(document, key):
        return send(daemon, "POST", "/train", document, {"Idempotency-Key": key})

    first = post(body("keyed", epochs=1), "k-1")
    again = post(dict(reversed(body("keyed", epochs=1).items())), "k-1")  # the same document in another layout
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
    connection = daemon.occupy(DRAINING["limits.max_length"])  # keeps the job from its end
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
    """The test measures the run's work and not the time: a run has the lowest priority, so a busy machine delays it."""
    daemon = own()
    id = submit(daemon, text=text(lines=12000), validation=0.5, hidden=512, bptt=8, batch=2, validate_every=1, sample_length=0)
    wait_for(daemon, id, "state", state="running")
    begun, end = cpu_seconds(daemon), time.monotonic() + DEADLINE
    assert act(daemon, id, "cancel")["state"] == "cancelled"
    while list((own.state / "jobs").iterdir()):  # the thread notices last
        assert time.monotonic() < end
        time.sleep(0.02)  # a run gets the time that this process leaves
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
    """The job is paused, but its thread still writes the snapshot when the daemon drains. There will be no more events."""
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
    assert daemon.wait() == 0  # long before the drain's limit; the lines below show that the job did not end
    assert (own.state / "jobs" / id / "model.train" / "snapshot.json").exists()
    daemon = own()
    wait_end(daemon, id)
    states = [data["state"] for _, kind, data in events(daemon, id) if kind == "state"]
    assert states == ["queued", "running", "queued", "running", "succeeded"]
    assert weights(own.state) == expected
    steps = [row["step"] for row in metrics(daemon, id).json()["metrics"]]
    assert steps == sorted(set(steps))


def test_each_validation_leaves_a_snapshot_to_go_on_from(own, expected):
    """It does so even if no snapshot is due by time. After a kill the job goes on from there."""
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
    """Reports new files in a directory, by inotify. A loop that polls would take the processor from the job."""

    CREATED, MOVED_HERE = 0x100, 0x80

    def __init__(self, directory):
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self.fd < 0 or libc.inotify_add_watch(self.fd, bytes(directory), self.CREATED | self.MOVED_HERE) < 0:
            raise OSError(ctypes.get_errno(), "inotify")

    def wait(self, seconds):
        """Returns the names of the next files, or none if no file came in time."""
        if not select.select([self.fd], [], [], seconds)[0]:
            return []
        data, names = os.read(self.fd, 65536), []
        while data:
            size = int.from_bytes(data[12:16], sys.byteorder)  # length of the name: struct inotify_event
            names.append(data[16 : 16 + size].rstrip(b"\0").decode())
            data = data[16 + size :]
        return names

    def kill(self, daemon, pattern):
        """kill -9 as soon as there is a matching file."""
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
    """The kill comes several times during the copy, then after the copy but before the store's entry. The model is whole or
    absent."""
    fields = {**SMALL, "hidden": 256, "batch": 2, "text": text(lines=10), "epochs": 1, "sample_length": 0}
    other = Daemon(models["tiny"], {"server.state_dir": tmp_path / "undisturbed"})
    wait_end(other, submit(other, **fields))
    other.close()
    daemon, directory = own(), own.state / "models"
    with contextlib.closing(Arrivals(directory)) as arrivals:
        id = submit(daemon, **fields)
        kills = 0
        while kills < 4 and not (directory / "m").exists():  # the model is there if the copy was faster than the kill
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
