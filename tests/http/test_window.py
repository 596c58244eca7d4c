"""Models that predict every token from a window of the last few tokens."""

import pytest

from make_model import make_model

SIZE = 5


@pytest.fixture(scope="module", params=[True, False], ids=["masked", "padded"])
def model(request, tmp_path_factory):
    window = {"size": SIZE, "masked": request.param}
    return make_model(tmp_path_factory.mktemp("windows") / "window", window=window)


@pytest.fixture
def window(start, model):
    return start(str(model))


def test_only_the_last_tokens_of_a_prompt_matter(window):
    prompts = ("abcde", "xyzabcde", "bcde")
    same, longer, shorter = [window.generate(prompt=p, length=20, seed=1, logprobs=1)["logprobs"] for p in prompts]
    assert same == longer != shorter


def test_a_text_goes_on_as_one_long_one_would(window):
    whole = window.generate(prompt="abc", length=20, temperature=0)["completion"]
    assert len(whole) == 20
    rest = window.generate(prompt="abc" + whole[:8], length=12, temperature=0)["completion"]
    assert rest == whole[8:]


def test_logprobs_are_those_of_score(window):
    written = window.generate(prompt="abc", length=10, seed=2, logprobs=1)
    answer = window.post("/score", {"text": "abc" + written["completion"]})
    assert answer.status == 200, answer.body
    scored = answer.json()["tokens"]
    assert len(scored) == 12  # no token predicts the first one
    for one, other in zip(scored[2:], written["logprobs"]):
        assert one["logprob"] == pytest.approx(other["logprob"], abs=1e-4)


def test_score_counts_a_window_for_every_token(start, model):
    daemon = start(str(model), {"limits.max_score": 20})
    assert daemon.post("/score", {"text": "abcd"}).status == 200
    assert "each scored from a window of 5" in daemon.post("/score", {"text": "abcde"}).fields()["text"]


def test_a_session_is_refused_with_what_to_do_instead(window):
    message = window.post("/generate", {"prompt": "abc", "session": "s"}).fields()["session"]
    assert "sees the last 5 tokens" in message and "prompt" in message


def test_an_empty_prompt_is_refused(window):
    assert "no start token" in window.post("/generate", {"prompt": ""}).fields()["prompt"]


def test_the_model_says_so(window):
    served = window.get("/models").json()["models"][0]
    assert served["window"]["size"] == SIZE
    assert "activation" not in served and "dense" not in served
