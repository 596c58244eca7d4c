"""The same request with the same seed gives the same text: after restarts, with one thread or several, alone or beside other
requests, while models come and go, and with weights of every format."""

import contextlib
import os
import threading

import pytest

from make_model import make_model

REQUESTS = [
    {"prompt": "The ", "length": 60, "seed": 1, "n": 3},
    {"prompt": "", "length": 40, "seed": 2, "temperature": 0.7, "top_k": 20, "logprobs": 3},
    {"prompt": "a longer prompt, so that much of it is read beside others. " * 4, "length": 30, "seed": 3, "top_p": 0.9},
    {"prompt": "red green", "length": 50, "seed": 4, "repetition_penalty": 1.3, "min_p": 0.02},
]
ROUNDS = 20 if os.environ.get("FAULTS") == "all" else 2


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """So large that sums have many parts. Their order could change the result."""
    return make_model(tmp_path_factory.mktemp("determinism") / "large", hidden=96)


def texts(daemon, **fields):
    """Returns the parts of all answers that must not change."""
    answers = [daemon.generate(model="large", **request, **fields) for request in REQUESTS]
    return [(answer["seed"], answer["completion"], answer["choices"] if "n" in request else None, answer.get("logprobs"))
            for request, answer in zip(REQUESTS, answers)]


@contextlib.contextmanager
def beside(*actions):
    """Repeats each of these functions in a thread of its own. A failure there fails the test."""
    done, failures = threading.Event(), []

    def again_and_again(action):
        try:
            number = 0
            while not done.is_set():
                action(number)
                number += 1
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=again_and_again, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not failures, failures


def load(daemon):
    return lambda number: daemon.generate(model="large", prompt="b" * (number % 50), length=20 + number % 30, seed=number)


def swaps(daemon):
    def swap(number):
        assert daemon.admin("POST", "/models/other/load").status == 200
        assert daemon.admin("PUT", "/models/default", {"name": "other"}).status == 200
        assert daemon.admin("POST", "/models/large/load").status == 200
        assert daemon.admin("PUT", "/models/default", {"name": "large"}).status == 200
        assert daemon.admin("POST", "/models/other/unload").status == 200

    return swap


@pytest.mark.parametrize("weights", ["f32", "bf16", "int8"])
def test_same_request_same_text(start, large, tmp_path, weights):
    make_model(tmp_path / "state/models/other", seed=2)
    expected = None
    for threads in (1, 3, 1):
        daemon = start(large, {"server.state_dir": tmp_path / "state", "engine.weights": weights, "engine.threads": threads,
                               "engine.kernel": "auto", "engine.max_batch": 8})
        for _ in range(ROUNDS):
            alone = texts(daemon)
            expected = expected or alone
            assert alone == expected
        with beside(load(daemon), load(daemon), load(daemon)):
            for _ in range(ROUNDS):
                assert texts(daemon) == expected
        with beside(swaps(daemon), load(daemon)):
            for _ in range(ROUNDS):
                assert texts(daemon) == expected
        daemon.close()
