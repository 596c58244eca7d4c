"""Files and directories that other users could change or read: refusals, warnings, and the needs of containers."""

import os
import signal
import subprocess
import tempfile

import pytest

import training
from conftest import ADMIN, DEADLINE, PROGRAM, ROOT, Daemon

OTHER, ANOTHER = 54321, 54322
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="SKIPPED: needs root, to give files to other users")


def refusal(model, state, preexec_fn=None):
    command = [PROGRAM, "serve", "--model", str(model), "--set", "server.port=0", "--set", f"server.state_dir={state}"]
    done = subprocess.run(command, stderr=subprocess.PIPE, timeout=DEADLINE, cwd=ROOT, preexec_fn=preexec_fn)
    assert done.returncode == 1, done.stderr
    return done.stderr.decode()


def upload(daemon, method, path, data, kind):
    return daemon.request(method, path, data, {"Content-Type": kind}, token=ADMIN)


def become(user):
    def change():
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)

    return change


@pytest.fixture
def open_path():
    """A directory that every user can enter. pytest's own directories are closed."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        yield directory


@pytest.mark.parametrize("part", ["", "models", "datasets", "jobs"])
def test_state_directory_that_everybody_may_write_to_is_refused(models, tmp_path, part):
    state = tmp_path / "state"
    (state / part).mkdir(parents=True)
    (state / part).chmod(0o777)
    line = refusal(models["tiny"], state)
    assert "everybody may write into this directory" in line and "server.state_dir" in line and str(state / part) in line
    (state / part).chmod(0o1777)  # a tmpfs: everybody can add files, and nobody can remove another user's
    assert "everybody may write" in refusal(models["tiny"], state)


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o770, 0o2775])
def test_state_directory_with_modes_of_volumes_is_taken(start, tmp_path, mode):
    """Kubernetes' fsGroup gives a volume the mode 2775."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(mode)
    daemon = start("tiny", {"server.state_dir": tmp_path / "state"})
    assert not any("state directory" in line for line in daemon.lines)


@needs_root
def test_state_directory_of_another_user_is_refused(models, open_path):
    state = os.path.join(open_path, "state")
    os.mkdir(state, 0o2775)
    os.chown(state, OTHER, ANOTHER)
    os.chmod(state, 0o2775)
    line = refusal(ROOT / "model/pretrained/headlines", state, become(ANOTHER))
    assert f"belongs to user {OTHER}" in line and f"runs as user {ANOTHER}" in line


@needs_root
def test_volume_of_root_with_a_group_that_may_write_is_taken(open_path):
    state = os.path.join(open_path, "state")
    os.mkdir(state)
    os.chown(state, 0, OTHER)
    os.chmod(state, 0o2775)
    daemon = Daemon(ROOT / "model/pretrained/headlines", {"server.state_dir": state}, preexec_fn=become(OTHER))
    daemon.close()


@needs_root
def test_root_takes_a_directory_of_anybody_with_a_warning(start, tmp_path):
    """A container runs as root and mounts a directory from a user's home."""
    (tmp_path / "state").mkdir()
    os.chown(tmp_path / "state", OTHER, OTHER)
    daemon = start("tiny", {"server.state_dir": tmp_path / "state"})
    assert f"user={OTHER}" in daemon.wait_log('level=warning event="the state directory belongs to user"')


def test_default_that_is_a_link_is_not_followed(start, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("root-password")
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    (state / "default").symlink_to(secret)
    daemon = start("tiny", {"server.state_dir": state})
    line = daemon.wait_log("event=model_not_loaded")
    assert "is a symbolic link, which is not followed" in line and "root-password" not in "".join(daemon.lines)
    training.wait_end(daemon, training.submit(daemon, "titles"))
    detail = daemon.admin("PUT", "/models/default", {"name": "titles"}).problem(409)["detail"]
    assert "symbolic link" in detail and secret.read_text() == "root-password"
    (state / "default").unlink()
    assert daemon.admin("PUT", "/models/default", {"name": "titles"}).status == 200
    assert (state / "default").read_text() == "titles"


@pytest.mark.parametrize("name", ["lstmd.db", "lstmd.db-wal", "lstmd.db-shm", "lstmd.db-journal", "lock"])
def test_file_that_is_a_link_is_not_followed(models, tmp_path, name):
    state, elsewhere = tmp_path / "state", tmp_path / "elsewhere"
    state.mkdir(mode=0o700)
    elsewhere.write_text("")
    (state / name).symlink_to(elsewhere)
    assert f"{state / name}: is a symbolic link, which is not followed" in refusal(models["tiny"], state)
    assert elsewhere.read_text() == ""


@pytest.mark.parametrize("part", ["models", "datasets", "jobs"])
def test_part_that_is_a_link_is_not_followed(models, tmp_path, part):
    state, elsewhere = tmp_path / "state", tmp_path / "elsewhere"
    left = elsewhere / "a.tmp-0123456789ab"  # a sweep removes this
    left.mkdir(parents=True)
    state.mkdir(mode=0o700)
    (state / part).symlink_to(elsewhere)
    line = refusal(models["tiny"], state)
    assert "server.state_dir" in line and f"{state / part}: is a symbolic link, which is not followed" in line
    assert left.exists()


def test_state_directory_may_be_a_link_itself(start, tmp_path):
    (tmp_path / "disk").mkdir(mode=0o700)
    (tmp_path / "state").symlink_to(tmp_path / "disk")
    start("tiny", {"server.state_dir": tmp_path / "state"})
    assert (tmp_path / "disk" / "models").is_dir()


@pytest.fixture
def linked(start, tmp_path):
    """A daemon that the kernel does not confine, its state directory, and another directory to which links lead."""
    state, elsewhere = tmp_path / "state", tmp_path / "elsewhere"
    for part in ("models", "datasets", "jobs"):
        (state / part).mkdir(mode=0o700, parents=True)
    elsewhere.mkdir()
    (elsewhere / "mine").write_text("precious")
    (state / "models/out").symlink_to(elsewhere)
    (state / "datasets/out").symlink_to(elsewhere)
    (state / "jobs/out").symlink_to(elsewhere)
    (elsewhere / "a.tmp-0123456789ab").mkdir()
    yield start("tiny", {"server.state_dir": state, "server.sandbox": "off"}), state, elsewhere
    assert (elsewhere / "mine").read_text() == "precious" and (elsewhere / "a.tmp-0123456789ab").exists()
    assert sorted(entry.name for entry in elsewhere.iterdir()) == ["a.tmp-0123456789ab", "mine"]


def test_model_that_is_a_link_is_not_listed_loaded_replaced_or_removed(linked):
    daemon, state, _ = linked
    (state / "models/copy").symlink_to(ROOT / "model/pretrained/headlines")
    assert [model["name"] for model in daemon.get("/models").json()["models"]] == ["tiny"]
    assert daemon.get("/models/copy").status == 404
    for method, path in (("POST", "/models/copy/load"), ("DELETE", "/models/copy")):
        detail = daemon.admin(method, path).problem(409)["detail"]
        assert detail == "models/copy: is a symbolic link, which is not followed"
    answer = training.send(daemon, "POST", "/train", training.body("out"))
    assert "models/out: is a symbolic link" in answer.problem(409)["detail"]
    answer = upload(daemon, "POST", "/models/out/import", b"no model", "application/octet-stream")
    assert "models/out: is a symbolic link" in answer.problem(409)["detail"]
    assert (state / "models/out").is_symlink() and (state / "models/copy").is_symlink()


def test_model_that_becomes_a_link_before_its_job_ends_is_not_replaced(linked):
    daemon, state, elsewhere = linked
    first = training.submit(daemon, "first", **training.ENDLESS)
    late = training.submit(daemon, "late")  # waits for the other request
    (state / "models/late").symlink_to(elsewhere)
    training.act(daemon, first, "cancel")
    ended = training.wait_end(daemon, late, "failed")
    assert "models/late: is a symbolic link" in ended["error"]
    assert (state / "models/late").is_symlink()


def test_dataset_that_is_a_link_is_not_listed_or_replaced(linked):
    daemon, state, _ = linked
    assert daemon.admin("GET", "/datasets").json()["datasets"] == []
    detail = upload(daemon, "PUT", "/datasets/out", b"abc", "text/plain").problem(409)["detail"]
    assert "datasets/out: is a symbolic link" in detail
    assert (state / "datasets/out").is_symlink()


def test_job_with_links_in_its_directory_does_not_go_on(start, tmp_path):
    state = tmp_path / "state"
    settings = {"server.state_dir": state, "server.sandbox": "off", "train.snapshot_seconds": 0.05}
    daemon = start("tiny", settings)
    id = training.submit(daemon, **training.ENDLESS)
    training.wait_for(daemon, id, "checkpoint")
    training.act(daemon, id, "pause")
    training.wait_for(daemon, id, "state", state="paused")
    daemon.close()
    snapshot = state / "jobs" / id / "model.train"
    snapshot.rename(tmp_path / "elsewhere")
    snapshot.symlink_to(tmp_path / "elsewhere")
    before = sorted(file.name for file in (tmp_path / "elsewhere").iterdir())
    daemon = start("tiny", settings)
    training.act(daemon, id, "resume")
    error = training.wait_end(daemon, id, "failed")["error"]
    assert error == f"jobs/{id}/model.train: is a symbolic link, which is not followed"
    assert sorted(file.name for file in (tmp_path / "elsewhere").iterdir()) == before


def test_links_in_models_and_datasets_are_not_followed(start, tmp_path):
    state, settings = tmp_path / "state", {"server.state_dir": tmp_path / "state", "server.sandbox": "off"}
    daemon = start("tiny", settings)
    assert upload(daemon, "PUT", "/datasets/d", b"abc", "text/plain").status == 201
    training.wait_end(daemon, training.submit(daemon, "m"))
    daemon.close()
    for file in (state / "models/m/vocabulary.json", state / "datasets/d/data"):
        file.rename(tmp_path / file.name)
        file.symlink_to(tmp_path / file.name)
    daemon = start("tiny", settings)
    words = "is a symbolic link, which is not followed"
    assert daemon.admin("POST", "/models/m/load").problem(409)["detail"] == f"models/m/vocabulary.json: {words}"
    assert words in daemon.get("/models/m").json()["error"]
    assert f"datasets/d/data: {words}" in daemon.wait_log('event="dataset left out"')
    assert daemon.admin("GET", "/datasets").json()["datasets"] == []
    assert daemon.admin("DELETE", "/models/m").status == 204  # the daemon removes the link and not its target
    assert (tmp_path / "vocabulary.json").exists() and not (state / "models/m").exists()


@pytest.mark.parametrize("key", ["auth.admin_token_file", "auth.generate_token_file"])
def test_file_of_tokens_that_others_can_read_is_warned_of(start, tmp_path, key):
    file = tmp_path / "tokens"
    file.write_text("a-token-of-the-file\n")
    warning = 'level=warning event="others can read or write this file of tokens"'
    for mode in (0o600, 0o400, 0o440):  # the last one: a secret of Kubernetes
        file.chmod(mode)
        daemon = start("tiny", {key: file})
        assert not any(warning in line for line in daemon.lines)
    file.chmod(0o644)
    daemon.process.send_signal(signal.SIGHUP)
    assert f"key={key}" in daemon.wait_log(warning)
    assert str(file) in start("tiny", {key: file}).wait_log(warning)


def test_digests_may_be_read_by_anybody_and_written_by_nobody(start, tmp_path):
    file = tmp_path / "tokens"
    file.write_text("sha256:" + "0123456789abcdef" * 4 + "\n")
    file.chmod(0o644)
    daemon = start("tiny", {"auth.generate_token_file": file})
    assert not any("file of tokens" in line for line in daemon.lines)
    file.chmod(0o602)
    assert str(file) in start("tiny", {"auth.generate_token_file": file}).wait_log("others can read or write this file of tokens")


def test_configuration_with_tokens_that_others_can_read_is_warned_of(start, tmp_path):
    file = tmp_path / "lstmd.yaml"
    file.write_text("auth:\n  generate_tokens: [a-token-of-the-file]\n")
    file.chmod(0o644)
    line = start("tiny", environment={"LSTMD_CONFIG": str(file)}).wait_log("others can read or write this file of tokens")
    assert "key=auth.generate_tokens" in line and str(file) in line
    # The same file without tokens. They come from the environment.
    file.write_text("log: {level: info}\n")
    daemon = start("tiny", environment={"LSTMD_CONFIG": str(file), "LSTMD_AUTH_GENERATE_TOKENS": "a-token-of-the-file"})
    assert not any("file of tokens" in line for line in daemon.lines)
