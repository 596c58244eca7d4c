"""Several models: load, swap, default, delete. What requests get meanwhile, and what a restart finds."""

import concurrent.futures
import ctypes
import http.client
import json
import os
import random
import re
import shutil
import signal
import subprocess
import threading
import time

import pytest

from api_document import check, operation_of
from conftest import DEADLINE, PROGRAM, ROOT, Daemon
from make_model import make_model

REQUESTS = int(os.environ.get("SWAP_REQUESTS", 1000))
SWAPS = int(os.environ.get("SWAPS", 5))
CLIENTS = 8


def exchange(one, other):
    """Exchanges two directories atomically, as a publication does."""
    swapped = 2
    assert ctypes.CDLL(None, use_errno=True).renameat2(-100, os.fsencode(one), -100, os.fsencode(other), swapped) == 0


class State:
    """A state directory, and daemons that use it."""

    def __init__(self, path, scratch):
        self.path, self.scratch = path, scratch
        self.models = path / "models"
        self.models.mkdir(parents=True)
        self.count = 0
        self.daemons = []

    def publish(self, name, **how):
        self.count += 1
        aside = make_model(self.scratch / f"made-{self.count}", **how)
        if (self.models / name).exists():
            exchange(aside, self.models / name)
        else:
            aside.rename(self.models / name)

    def damage(self, name):
        self.publish(name, seed=1)
        (self.models / name / "vocabulary.json").write_text("{}")

    def start(self, model=None, cwd=None, **settings):
        settings = {"server.state_dir": self.path, **settings}
        self.daemons.append(Daemon(model, settings, cwd=cwd or self.scratch))
        return self.daemons[-1]

    def restart(self, model=None):
        self.daemons[-1].close()
        return self.start(model)

    def kill(self):
        daemon = self.daemons.pop()
        daemon.process.kill()
        daemon.process.wait(DEADLINE)
        daemon.process.stderr.close()


@pytest.fixture
def state(tmp_path):
    scratch = tmp_path / "scratch"  # without a bundled model below this directory
    scratch.mkdir()
    one = State(tmp_path / "state", scratch)
    yield one
    for daemon in one.daemons:
        daemon.close()


def listed(daemon):
    answer = daemon.get("/models")
    check(operation_of("/models", "get"), answer)
    return {model["name"]: model for model in answer.json()["models"]}


def load(daemon, name, status=200):
    answer = daemon.admin("POST", f"/models/{name}/load")
    check(operation_of("/models/{name}/load", "post"), answer)
    assert answer.status == status, answer.body
    return answer


def unload(daemon, name, status=200):
    answer = daemon.admin("POST", f"/models/{name}/unload")
    check(operation_of("/models/{name}/unload", "post"), answer)
    assert answer.status == status, answer.body
    return answer


def delete(daemon, name, status=204):
    answer = daemon.admin("DELETE", f"/models/{name}")
    if status != 204:
        check(operation_of("/models/{name}", "delete"), answer)
    assert answer.status == status, answer.body
    return answer


def set_default(daemon, name, status=200):
    answer = daemon.admin("PUT", "/models/default", {"name": name})
    check(operation_of("/models/default", "put"), answer)
    assert answer.status == status, answer.body
    return answer


def text_of(daemon, **fields):
    return daemon.generate(prompt="ab", length=20, seed=1, **fields)["completion"]


# --- The set ---


def test_all_models_are_listed_and_those_that_are_loaded_answer(state, models):
    state.publish("one", seed=1)
    state.publish("two", seed=2, labels=("World", "Sports"))
    daemon = state.start(models["tiny"])
    found = listed(daemon)
    assert list(found) == ["one", "tiny", "two"]
    assert [found[name]["state"] for name in found] == ["unloaded", "loaded", "unloaded"]
    assert [found[name]["default"] for name in found] == [False, True, False]
    assert found["two"]["labels"] == ["World", "Sports"]
    unloaded, loaded = found["one"], found["tiny"]
    for key in ("cell", "layers", "hidden_size", "vocabulary_size", "parameters", "size_bytes", "weights"):
        assert unloaded[key] == loaded[key], key
    assert text_of(daemon) == text_of(daemon, model="tiny")
    load(daemon, "one")
    load(daemon, "two")
    assert all(model["state"] == "loaded" for model in listed(daemon).values())
    texts = {name: text_of(daemon, model=name) for name in found}
    assert texts["one"] == texts["tiny"] != texts["two"]  # the same seed makes the same weights
    assert daemon.generate(model="two", label="World", length=1)["model"] == "two"
    assert daemon.get("/models/two").json()["tensors"]
    ids = [model["id"] for model in daemon.get("/v1/models").json()["data"]]
    assert sorted(ids) == ["one", "tiny", "two"]


def test_requests_for_a_model_that_is_not_loaded_say_how_to_load_it(state, models):
    state.publish("one")
    daemon = state.start(models["tiny"])
    for path, fields in (
        ("/generate", {}),
        ("/score", {"text": "a"}),
        ("/tokenize", {"text": "a"}),
        ("/detokenize", {"ids": [1]}),
    ):
        answer = daemon.post(path, {"model": "one", **fields})
        check(operation_of(path, "post"), answer)
        assert "POST /models/one/load" in answer.problem(409)["detail"]
        answer = daemon.post(path, {"model": "none", **fields})
        check(operation_of(path, "post"), answer)
        assert '"tiny"' in answer.fields()["model"]
    answer = daemon.post("/v1/completions", {"model": "one", "prompt": "a"})
    check(operation_of("/v1/completions", "post"), answer)
    assert answer.status == 409
    assert daemon.post("/v1/completions", {"model": "none", "prompt": "a"}).json()["error"]["code"] == "model_not_found"
    assert daemon.get("/v1/models/one").status == 409


def test_unload_frees_a_model_but_not_the_default(state, models):
    state.publish("one")
    daemon = state.start(models["tiny"])
    load(daemon, "one")
    assert unload(daemon, "one").json()["state"] == "unloaded"
    assert unload(daemon, "one").json()["state"] == "unloaded"
    assert sum("event=model_unloaded model=one" in line for line in daemon.lines) == 1
    daemon.post("/generate", {"model": "one"}).problem(409)
    assert "default" in unload(daemon, "tiny", 409).problem(409)["detail"]
    unload(daemon, "none", 404)
    load(daemon, "one")
    text_of(daemon, model="one")


def test_load_refuses_names_that_are_none(state, models):
    (state.path / "jobs").mkdir()
    shutil.copytree(models["tiny"], state.path / "jobs/tiny")
    state.publish(".hidden")
    state.publish("a.tmp-0123456789az")
    daemon = state.start(models["tiny"])
    assert list(listed(daemon)) == ["a.tmp-0123456789az", "tiny"]
    for name in ("..%2Fjobs%2Ftiny", ".hidden", "%2e%2e", "-x", "x" * 65, "a.tmp-0123456789ab"):
        assert "a model's name has" in load(daemon, name, 422).problem(422)["detail"]
        unload(daemon, name, 404)
        delete(daemon, name, 404)
    load(daemon, "none", 404)
    assert (state.path / "jobs/tiny/config.json").exists()


def test_changes_take_no_body_and_the_default_takes_a_name(daemon):
    for method, path in (("POST", "/models/tiny/load"), ("POST", "/models/tiny/unload"), ("DELETE", "/models/tiny")):
        assert "takes no body" in daemon.admin(method, path, {"name": "x"}).problem(422)["detail"]
    assert "the body is empty" in daemon.admin("PUT", "/models/default").problem(400)["detail"]
    for document, field in (({}, "name"), ({"nam": "x"}, "nam"), ({"name": 1}, "name"), ({"name": "a\0b"}, "name")):
        answer = daemon.admin("PUT", "/models/default", document)
        check(operation_of("/models/default", "put"), answer)
        assert field in answer.fields()


def test_without_a_state_directory_there_is_one_model(start, models, tmp_path):
    daemon = start(make_model(tmp_path / "only"))
    assert list(listed(daemon)) == ["only"]
    for answer in (set_default(daemon, "only", 409), delete(daemon, "only", 409)):
        assert "server.state_dir" in answer.problem(409)["detail"]
    before = text_of(daemon)
    exchange(make_model(tmp_path / "other", seed=2), tmp_path / "only")
    assert text_of(daemon) == before
    load(daemon, "only")
    assert text_of(daemon) != before


# --- The default ---


def test_default_is_remembered(state, models):
    state.publish("one", seed=1)
    state.publish("two", seed=2)
    daemon = state.start(models["tiny"])
    assert daemon.get("/readyz").json()["model"] == "tiny"
    answer = set_default(daemon, "two")
    assert answer.json()["default"] and answer.json()["state"] == "loaded"
    assert daemon.get("/readyz").json()["model"] == "two"
    assert daemon.generate(length=1)["model"] == "two"
    unload(daemon, "tiny")
    daemon = state.restart(models["tiny"])
    found = listed(daemon)
    assert [name for name in found if found[name]["default"]] == ["two"]
    assert [name for name in found if found[name]["state"] == "loaded"] == ["two"]
    assert "name" in set_default(daemon, "none", 422).fields()
    assert "name" in set_default(daemon, "../models/one", 422).fields()


def test_default_that_does_not_load_gives_way_to_model_path(state, models):
    state.publish("one")
    state.start(models["tiny"])
    set_default(state.daemons[-1], "one")
    state.damage("one")
    daemon = state.restart(models["tiny"])
    daemon.wait_log("event=model_not_loaded.*model=one")
    assert daemon.get("/readyz").json()["model"] == "tiny"
    found = listed(daemon)
    assert found["one"]["state"] == "unloaded" and "vocabulary.json" in found["one"]["error"]


def test_only_model_is_the_default(state):
    state.publish("one")
    daemon = state.start()
    assert daemon.generate(length=1)["model"] == "one"
    state.publish("two")
    assert listed(daemon)["two"]["state"] == "unloaded"


def test_no_model_is_not_ready_and_says_how_to_get_one(state):
    daemon = state.start()
    assert listed(daemon) == {
        "headlines": {"name": "headlines", "state": "unloaded", "default": False, "error": listed(daemon)["headlines"]["error"]}
    }
    assert daemon.get("/healthz").status == 200
    for answer, operation in (
        (daemon.get("/readyz"), operation_of("/readyz", "get")),
        (daemon.post("/generate", {}), operation_of("/generate", "post")),
        (daemon.post("/tokenize", {"text": "a"}), operation_of("/tokenize", "post")),
    ):
        check(operation, answer)
        assert "PUT /models/default" in answer.problem(503)["detail"]
    state.publish("one")
    load(daemon, "one")
    assert daemon.get("/readyz").json()["model"] == "one"
    state.publish("two")
    daemon = state.restart()
    assert daemon.get("/readyz").json()["model"] == "one"


def test_several_models_and_no_default(state):
    state.publish("one")
    state.publish("two")
    daemon = state.start()
    daemon.get("/readyz").problem(503)
    set_default(daemon, "two")
    assert daemon.generate(length=1)["model"] == "two"


def test_model_path_that_was_asked_for_must_load(state, tmp_path):
    state.publish("one")
    result = subprocess.run(
        [PROGRAM, "serve", "--model", str(tmp_path / "none"), "--set", f"server.state_dir={state.path}"],
        capture_output=True, text=True, timeout=DEADLINE, cwd=ROOT,
    )
    assert result.returncode == 1 and str(tmp_path / "none") in result.stderr


def test_model_of_the_state_directory_hides_model_path_of_the_same_name(state, models):
    state.publish("tiny", hidden=24)
    daemon = state.start(models["tiny"])
    assert list(listed(daemon)) == ["tiny"]
    assert daemon.get("/models/tiny").json()["hidden_size"] == 24


# --- Deleting ---


def test_delete_removes_a_model_that_is_not_the_default(state, models):
    state.publish("one")
    state.publish("two")
    daemon = state.start(models["tiny"])
    set_default(daemon, "one")
    load(daemon, "two")
    assert "default" in delete(daemon, "one", 409).problem(409)["detail"]
    assert "model.path" in delete(daemon, "tiny", 409).problem(409)["detail"]  # this model is not in the state directory
    delete(daemon, "two")
    assert list(listed(daemon)) == ["one", "tiny"]
    assert os.listdir(state.models) == ["one"]
    delete(daemon, "two", 404)
    assert "model" in daemon.post("/generate", {"model": "two"}).fields()
    load(daemon, "two", 404)
    daemon.get("/models/two").problem(404)
    assert models["tiny"].exists()


def test_kill_at_any_moment_leaves_whole_models(state, models):
    """A kill ends deletes and publications at random moments. Afterwards every listed model loads."""
    rng = random.Random(5)
    for _ in range(8):
        for name in ("a", "b", "c"):
            state.publish(name, hidden=48)
        daemon = state.start(models["tiny"])
        publisher = subprocess.Popen(
            [PROGRAM, "quantize", str(models["tiny"]), "--weights", "int8", "--out", str(state.models / "d")],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT,
        )

        def remove():
            for name in ("a", "b", "c"):
                try:
                    delete(daemon, name)
                except (OSError, AssertionError):
                    return

        thread = threading.Thread(target=remove)
        thread.start()
        threading.Event().wait(rng.uniform(0, 0.02))
        publisher.kill()
        state.kill()
        thread.join()
        publisher.wait()
        daemon = state.start(models["tiny"])
        assert not [name for name in os.listdir(state.models) if ".tmp-" in name or ".old-" in name]
        for name, model in listed(daemon).items():
            assert "error" not in model
            load(daemon, name)
        state.kill()


# --- Swapping ---


def test_damaged_model_is_refused_and_the_old_one_stays(state, models):
    state.publish("one", seed=2)
    daemon = state.start(models["tiny"])
    load(daemon, "one")
    before = text_of(daemon, model="one")
    state.damage("one")
    assert "vocabulary.json" in load(daemon, "one", 409).problem(409)["detail"]
    assert text_of(daemon, model="one") == before
    found = listed(daemon)["one"]
    assert found["state"] == "loaded" and "vocabulary.json" in found["error"]
    state.publish("one", seed=3)
    assert "error" not in load(daemon, "one").json()
    assert text_of(daemon, model="one") != before


@pytest.mark.parametrize("name", ["json", "."])
def test_directory_whose_name_is_part_of_a_message_is_hidden_where_it_is_a_path(state, models, tmp_path, name):
    directory = shutil.copytree(models["tiny"], tmp_path / "json")
    daemon = state.start(name, cwd=directory if name == "." else tmp_path)
    (directory / "vocabulary.json").write_text("{}")
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_log("event=model_not_loaded")
    [error] = [model["error"] for model in daemon.get("/models").json()["models"]]
    assert re.match(r"vocabulary\.json\b", error)


def test_stream_ends_on_the_model_that_it_began_on(state, models):
    state.publish("one", seed=2)
    daemon = state.start(models["tiny"], **{"engine.threads": 1, "limits.max_length": 1_000_000})
    load(daemon, "one")
    length = daemon.tokens_for(0.5)
    wanted = {"model": "one", "prompt": "ab", "length": length, "seed": 1}
    before = daemon.generate(**wanted)["completion"]
    with daemon.send_generate(stream=True, **wanted) as connection:
        stream = http.client.HTTPResponse(connection)
        stream.begin()
        while not stream.readline().startswith(b"data:"):
            pass
        state.publish("one", seed=3)
        load(daemon, "one")
        assert text_of(daemon, model="one") != before[:20]
        unload(daemon, "one")
        text = stream.read()
    events = [json.loads(line[6:]) for line in text.split(b"\n") if line.startswith(b"data: {")]
    assert events[-1]["finish_reason"] == "length"
    assert before.endswith("".join(event["delta"] for event in events))


def test_session_of_a_swapped_model_starts_afresh_and_says_so(state, models):
    state.publish("one", seed=2)
    daemon = state.start(models["tiny"])
    load(daemon, "one")
    wanted = {"model": "one", "prompt": "ab", "length": 10, "temperature": 0, "session": "s"}
    assert daemon.generate(**wanted)["warnings"] == []
    daemon.generate(length=5, session="s")  # the name now means another model
    load(daemon, "one")
    answer = daemon.generate(**wanted)
    assert ["started afresh" in warning for warning in answer["warnings"]] == [True]
    assert answer["completion"] == daemon.generate(**{**wanted, "session": "t"})["completion"]
    assert daemon.generate(**wanted)["warnings"] == []
    assert daemon.generate(length=5, session="s")["warnings"] == []


def test_swap_empties_what_the_cache_has_of_the_old_model_and_nothing_else(state, models):
    state.publish("one", seed=2)
    daemon = state.start(models["tiny"])
    load(daemon, "one")
    prompt = "abcdefgh" * 20

    def cached(model):
        return daemon.generate(model=model, prompt=prompt, length=1, seed=1)["usage"]["cached_tokens"]

    assert cached("one") == cached("tiny") == 0
    assert cached("one") > 100 and cached("tiny") > 100
    state.publish("one", seed=3)
    load(daemon, "one")
    assert cached("one") == 0
    assert cached("tiny") > 100


def test_hangup_loads_what_has_changed_and_takes_the_default(state, models):
    state.publish("one", seed=1)
    state.publish("two", seed=2)
    daemon = state.start(models["tiny"])
    load(daemon, "one")
    load(daemon, "two")
    daemon.wait_log("event=model_loaded model=two")
    state.publish("one", seed=3)
    (state.path / "default").write_text("two\n")
    daemon.lines.clear()
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_log("event=default_model model=two")
    assert [line for line in daemon.lines if "event=model_loaded" in line and "model=one" in line]
    assert not [line for line in daemon.lines if "event=model_loaded" in line and "model=two" in line]
    assert daemon.get("/readyz").json()["model"] == "two"
    state.publish("four", seed=3)
    load(daemon, "four")
    assert text_of(daemon, model="one") == text_of(daemon, model="four")


def test_hot_swap_under_load_fails_nobody(state, models):
    """Several clients ask while two models take turns under one name. Each answer comes from one of the two."""
    state.publish("one", seed=2)
    daemon = state.start(models["tiny"])
    set_default(daemon, "one")
    prompts = ["", "ab", "The ", "x" * 70]

    def answer(prompt):
        found = daemon.post("/generate", {"prompt": prompt, "length": 24, "seed": 7})
        assert found.status == 200, found.body
        return found.json()["completion"]

    first = {prompt: answer(prompt) for prompt in prompts}
    state.publish("one", seed=3)
    load(daemon, "one")
    second = {prompt: answer(prompt) for prompt in prompts}
    assert not set(first.values()) & set(second.values())
    done = threading.Semaphore(0)
    seen = {"first": 0, "second": 0}
    lock = threading.Lock()

    def client(number):
        rng = random.Random(number)
        for _ in range(REQUESTS // CLIENTS):
            prompt = rng.choice(prompts)
            text = answer(prompt)
            which = "first" if text == first[prompt] else "second"
            assert text in (first[prompt], second[prompt])
            with lock:
                seen[which] += 1
            done.release()

    begun = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(client, number) for number in range(CLIENTS)]
        for swap in range(SWAPS):
            for _ in range(REQUESTS // CLIENTS * CLIENTS // (SWAPS + 1)):
                while not done.acquire(timeout=0.2):
                    assert not any(one.done() and one.exception() for one in clients)
            state.publish("one", seed=2 if swap % 2 == 0 else 3)
            load(daemon, "one")
        for one in clients:
            one.result()
    total = sum(seen.values())
    print(f"\n{total} requests, {SWAPS} swaps, {seen}, {time.monotonic() - begun:.1f} s")
    assert total == REQUESTS // CLIENTS * CLIENTS and min(seen.values()) > 0
    assert len([line for line in daemon.lines if line and "event=model_loaded" in line]) >= SWAPS
