"""Training jobs and the disk: they wait for room, read datasets in their uploaded form, and keep large corpora on the disk."""

import contextlib
import math
import os
import pathlib
import re
import resource
import shutil
import subprocess
import threading
import time
import urllib.parse

import pytest

from conftest import ADMIN, DEADLINE
from training import ENDLESS, LONGER, act, body, events, expected, job, own, send, submit, text, upload, wait_end, wait_for, weights


@pytest.fixture
def small_disk(tmp_path):
    """small_disk(24) returns the directory of a file system of 24 MB."""
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
    """SQLite calls this an I/O error."""
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
        time.sleep(0.02)  # a run gets the time that this process leaves
    assert "No space left" in document["reason"]
    assert daemon.generate(length=3, ignore_eos=True)["text"]
    filler.unlink()
    wait_end(daemon, id)
    assert weights(disk / "state") == expected


def waiting_jobs(daemon):
    return int(re.search(rb"^lstmd_train_waiting_jobs (\d+)$", daemon.get("/metrics").body, re.M)[1])


def submit_without_room(start, small_disk):
    """Submits a job whose tokens do not fit on the disk. Returns the daemon, the job's id, and the file that fills the disk."""
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
    """The job knows the size of a large corpus' tokens before it writes them. So it does not fill the disk in vain."""
    daemon, id, filler = submit_without_room(start, small_disk)
    wait_end(daemon, submit(daemon, "other", **{**ENDLESS, "max_minutes": 0.05}))  # the daemon looks every second: three looks
    document = job(daemon, id)
    assert document["state"] == "paused" and waiting_jobs(daemon) == 1
    filler.unlink()
    wait_end(daemon, id)
    assert waiting_jobs(daemon) == 0
    states = [data["state"] for _, kind, data in events(daemon, id) if kind == "state"]
    assert states == ["queued", "paused", "queued", "running", "succeeded"]  # the job never began to write


def test_daemon_ends_while_a_job_that_never_ran_waits_for_room(start, small_disk):
    daemon, _, _ = submit_without_room(start, small_disk)
    daemon.close()


# ---- datasets ----


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


LARGE_MIB = int(os.environ.get("LARGE_MIB", 40))  # the rest is far more than base/scratch.h keeps in memory; make soak sets 1024
LARGE_FORMATS = {
    "text": ({}, "Text with an é, and a €, to be read.\n"),
    "lines": ({"format": "lines"}, "oil prices rise\nfall again on the market\n"),
    "csv": ({"format": "csv", "columns": "1,2", "csv_header": "no"}, 'one,"t""wo"\n'),
    "jsonl": ({"format": "jsonl"}, '{"text": "a \\u20ac line"}\n'),
}


class Memory(threading.Thread):
    """Measures the most memory of its own that a daemon has meanwhile, in KiB. Pages of mapped files do not count: the system
    can take them back."""

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
    """The daemon receives, reads and shuffles the dataset and trains on it. Its memory does not depend on the dataset's size."""
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
