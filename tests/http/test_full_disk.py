"""The daemon starts on a full disk. It says so, serves everything that needs no disk, and recovers by itself."""

import errno
import re

import pytest

from conftest import ADMIN, Daemon
from inject import FOR_EVER, Injector
import training

GROWTH = ("write", "sync", "name")


def store_is_open(daemon):
    return int(re.search(rb"^lstmd_train_store_open (\d)$", daemon.get("/metrics").body, re.M)[1])


@pytest.fixture
def killed(models, tmp_path):
    """The state directory of a killed daemon: a dataset, a finished job, a running one and a waiting one."""
    state = tmp_path / "state"
    daemon = Daemon(models["tiny"], {"server.state_dir": state})
    assert daemon.request("PUT", "/datasets/d", b"what is in it\n" * 99, token=ADMIN).status == 201
    done = training.submit(daemon, "done", epochs=1)
    training.wait_end(daemon, done)
    fields = {key: value for key, value in training.ENDLESS.items() if key not in ("text", "format")}
    body = {"model": "m", **fields, "dataset": "d"}
    running = training.send(daemon, "POST", "/train", body).json()["id"]
    training.wait_for(daemon, running, "checkpoint")
    waiting = training.send(daemon, "POST", "/train", body).json()["id"]
    daemon.process.kill()
    daemon.wait()
    daemon.process.stderr.close()
    return state, done, running, waiting


def test_full_disk_at_the_start_is_no_end_of_generation(models, killed, tmp_path):
    state, done, running, waiting = killed
    injector = Injector(tmp_path)
    injector.arm(GROWTH, 1, errno.ENOSPC, FOR_EVER)
    daemon = Daemon(models["tiny"], {"server.state_dir": state}, injector.environment())
    assert daemon.generate(prompt="abc", length=5)["model"] == "tiny"
    assert daemon.generate(prompt="abc", length=5, model="tiny")
    assert daemon.get("/readyz").status == 200
    assert daemon.admin("GET", "/datasets").json()["datasets"][0]["name"] == "d"
    assert "the disk is full" in daemon.wait_log("no jobs until there is room") or "No space" in daemon.wait_log("no jobs until")
    for method, path, document in (("GET", "/train", None), ("POST", "/train", training.body()), ("GET", f"/train/{done}", None),
                                   ("GET", f"/train/{done}/events", None), ("DELETE", f"/train/{done}", None)):
        problem = daemon.admin(method, path, document).problem(507)
        assert "the disk of the state directory is full" in problem["detail"]
    assert "may be in use" in daemon.admin("DELETE", "/datasets/d").problem(507)["detail"]
    assert daemon.request("PUT", "/datasets/d", b"another", token=ADMIN).status == 507
    assert daemon.request("PUT", "/datasets/new", b"a new one", token=ADMIN).status == 507
    assert store_is_open(daemon) == 0

    injector.disarm()
    daemon.wait_log("jobs can be read again")
    training.wait_for(daemon, running, "progress")
    assert store_is_open(daemon) == 1
    assert training.job(daemon, done)["state"] == "succeeded"
    assert training.job(daemon, waiting)["state"] == "queued"
    assert "in use by 2" in daemon.admin("DELETE", "/datasets/d").problem(409)["detail"]
    daemon.close()


def test_daemon_that_is_ended_while_the_disk_is_full_ends_well(models, killed, tmp_path):
    state, *_ = killed
    injector = Injector(tmp_path)
    injector.arm(GROWTH, 1, errno.ENOSPC, FOR_EVER)
    daemon = Daemon(models["tiny"], {"server.state_dir": state}, injector.environment())
    daemon.wait_log("no jobs until there is room")
    daemon.close()
