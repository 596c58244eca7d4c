"""POST /v1/completions and /v1/models, by hand and with OpenAI's own client."""

import datetime
import json
import os
import subprocess

import pytest

from make_model import make_model


def complete(daemon, **fields):
    answer = daemon.post("/v1/completions", fields)
    assert answer.status == 200, answer.body
    return answer.json()


def error(answer, status):
    assert answer.status == status, answer.body
    assert answer.headers["Content-Type"] == "application/json"
    document = answer.json()
    assert list(document) == ["error"] and set(document["error"]) == {"message", "type", "param", "code"}
    return document["error"]


def test_models(daemon):
    listed = daemon.get("/v1/models").json()["data"][0]
    assert listed["id"] == "tiny" and daemon.get("/v1/models/tiny").json() == listed
    written = datetime.datetime.fromtimestamp(listed["created"], datetime.timezone.utc)
    assert written.strftime("%Y-%m-%dT%H:%M:%SZ") == daemon.get("/models").json()["models"][0]["modified_at"]
    assert error(daemon.get("/v1/models/none"), 404)["code"] == "model_not_found"


def test_completion_is_what_generate_writes(daemon):
    document = complete(daemon, prompt="Today ", max_tokens=30, seed=3, temperature=0.7)
    own = daemon.generate(prompt="Today ", length=30, seed=3, temperature=0.7)
    choice = document["choices"][0]
    assert document["object"] == "text_completion"
    assert (choice["text"], choice["finish_reason"], choice["logprobs"]) == (own["completion"], "length", None)
    assert document["usage"]["total_tokens"] == 37
    assert complete(daemon, prompt=["Today "], max_tokens=30, seed=3, temperature=0.7)["choices"][0] == choice


def test_defaults_and_nulls(daemon):
    nothing = dict.fromkeys(["prompt", "max_tokens", "temperature", "top_p", "n", "stop", "seed", "logprobs", "echo",
                             "presence_penalty", "frequency_penalty", "logit_bias", "user", "stream", "suffix"])
    document = complete(daemon, **nothing)
    assert document["usage"]["completion_tokens"] == 16


def test_bias_by_token_id(daemon):
    b = daemon.post("/tokenize", {"text": "b"}).json()["ids"][0]
    assert complete(daemon, max_tokens=5, logit_bias={str(b): 100})["choices"][0]["text"] == "bbbbb"
    assert "token id" in error(daemon.post("/v1/completions", {"logit_bias": {"b": 1}}), 400)["message"]


def test_logprobs(daemon):
    choice = complete(daemon, prompt="a", max_tokens=8, seed=1, logprobs=3)["choices"][0]
    logprobs = choice["logprobs"]
    assert "".join(logprobs["tokens"]) == choice["text"]
    assert logprobs["text_offset"] == list(range(8))
    assert all(len(top) == 3 for top in logprobs["top_logprobs"])
    assert all(value < 0 for value in logprobs["token_logprobs"])
    none = complete(daemon, prompt="a", max_tokens=8, seed=1, logprobs=0)["choices"][0]["logprobs"]
    assert none["token_logprobs"] == logprobs["token_logprobs"] and none["top_logprobs"] == [{}] * 8


@pytest.mark.parametrize(
    "fields, param",
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": [1, "a"]}, "prompt"),
        ({"prompt": ["a", 1]}, "prompt[1]"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"presence_penalty": 2.1}, "presence_penalty"),
        ({"n": 9}, "n"),
        ({"best_of": 1, "n": 2}, "best_of"),
        ({"suffix": "x"}, "suffix"),
        ({"stream_options": {}}, "stream_options"),
        ({"max_token": 5}, "max_token"),
    ],
)
def test_wrong_fields(daemon, fields, param):
    wrong = error(daemon.post("/v1/completions", fields), 400)
    assert wrong["param"] == param and wrong["type"] == "invalid_request_error"
    assert wrong["message"].startswith(f"{param}: ")


def test_model_that_is_not_there(daemon):
    wrong = error(daemon.post("/v1/completions", {"model": "none"}), 404)
    assert (wrong["param"], wrong["code"]) == ("model", "model_not_found")
    assert wrong["message"] == 'model: there is no model "none"; loaded: "tiny"'


def test_every_refusal_has_openai_s_form(daemon):
    error(daemon.post("/v1/completions", b"{"), 400)
    error(daemon.get("/v1/nothing"), 404)
    error(daemon.get("/v1/completions"), 405)
    error(daemon.post("/v1/completions", b" " * (2**20 + 1)), 413)
    error(daemon.request("POST", "/v1/completions", b"{}"), 415)


def test_official_client(daemon, npm):
    command = ["node", "openai.js", f"http://{daemon.address}:{daemon.port}/v1", "tiny"]
    environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    prompts = ["Today ", "the end"]
    environment["IDS"] = json.dumps([daemon.post("/tokenize", {"text": text}).json()["ids"] for text in prompts])
    result = subprocess.run(command, cwd=npm, capture_output=True, text=True, timeout=120, env=environment)
    assert result.returncode == 0, result.stderr
    out = json.loads(result.stdout)
    own = daemon.generate(prompt="Today ", length=40, seed=5, temperature=0.8, n=3)
    texts = [choice["completion"] for choice in own["choices"]]
    assert out["models"] == ["tiny"] and out["model"]["id"] == "tiny"
    assert out["whole"]["choices"][0]["text"] == texts[0]
    assert out["echo"]["choices"][0]["text"] == "Today " + texts[0]
    assert [choice["text"] for choice in out["several"]["choices"]] == [text.split("e")[0] for text in texts]
    assert out["stream"]["texts"] == {"0": texts[0]} and out["stream"]["finish"] == {"0": "length"}
    assert out["stream"]["usage"]["completion_tokens"] == 40
    assert out["streams"]["texts"] == {str(i): "Today " + text for i, text in enumerate(texts)}
    assert (out["wrong"]["name"], out["wrong"]["param"]) == ("BadRequestError", "top_p")
    assert (out["none"]["name"], out["none"]["code"]) == ("NotFoundError", "model_not_found")
    assert out["lost"]["status"] == 404
    several = daemon.generate(prompt=prompts, length=40, seed=5, temperature=0.8, n=2)["choices"]
    texts = [(one["index"], one["completion"]) for one in several]
    assert [(one["index"], one["text"]) for one in out["prompts"]["choices"]] == texts
    assert out["ids"]["choices"] == out["prompts"]["choices"]
    assert out["promptStreams"]["texts"] == {str(index): text for index, text in texts}
    best = daemon.generate(prompt="Today ", length=40, seed=5, temperature=0.8, best_of=4)
    assert [one["text"] for one in out["best"]["choices"]] == [best["completion"]]
    for one, prompt in zip(out["scored"]["choices"], prompts):
        scored = [token["logprob"] for token in daemon.post("/score", {"text": prompt}).json()["tokens"]]
        assert one["text"] == prompt and one["logprobs"]["token_logprobs"] == [None, *scored[1:]]
    assert (out["wrongPrompt"]["name"], out["wrongPrompt"]["param"]) == ("BadRequestError", "prompt[2]")


def streamed(daemon, **fields):
    answer = daemon.post("/v1/completions", {**fields, "stream": True})
    assert answer.status == 200, answer.body
    lines = [line[6:] for line in answer.body.decode().splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


@pytest.mark.parametrize("level", ["char", "byte", "word"])
@pytest.mark.parametrize("fields", [{}, {"stop": ["ee h"]}, {"stop": ["e"]}, {"prompt": "red "}])
def test_logprobs_joined_are_the_text_at_every_level(start, tmp_path, level, fields):
    """A word's space is part of its token. If a stop text cuts a token, the answer has its visible part."""
    daemon = start(make_model(tmp_path / "model", level=level, text="abcdehours "))
    for seed in range(4):
        wanted = {"prompt": "red", "max_tokens": 12, "seed": seed, "logprobs": 4, **fields}
        choice = complete(daemon, **wanted)["choices"][0]
        tokens, offsets, tops = (choice["logprobs"][key] for key in ("tokens", "text_offset", "top_logprobs"))
        if level != "byte":  # its tokens need not be characters
            assert "".join(tokens) == choice["text"]
            ends = [len("".join(tokens[:i])) for i in range(len(tokens))]
            assert offsets == ends
        for token, top, value in zip(tokens, tops, choice["logprobs"]["token_logprobs"]):
            assert list(top.values()) == sorted(top.values(), reverse=True)
            assert token not in top or top[token] >= value
        parts = [event["choices"][0]["logprobs"] for event in streamed(daemon, **wanted)]
        for key in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
            assert sum((part[key] for part in parts), []) == choice["logprobs"][key]


def test_alternatives_of_a_word_are_spelt_as_the_token_is(start, tmp_path):
    daemon = start(make_model(tmp_path / "model", level="word"))
    wanted = {"prompt": "red", "max_tokens": 5, "temperature": 0, "logprobs": 1}
    logprobs = complete(daemon, **wanted)["choices"][0]["logprobs"]
    assert [list(top) for top in logprobs["top_logprobs"]] == [[token] for token in logprobs["tokens"]]
    assert all(token.startswith(" ") for token in logprobs["tokens"])


def test_alternatives_that_look_alike_are_one(start, tmp_path):
    """Half of the bytes of a byte vocabulary are no characters by themselves."""
    daemon = start(make_model(tmp_path / "model", level="byte"))
    answer = daemon.post("/v1/completions", {"prompt": "a", "max_tokens": 20, "seed": 1, "logprobs": 20})

    def once(pairs):
        assert len({key for key, _ in pairs}) == len(pairs), pairs
        return dict(pairs)

    json.loads(answer.body, object_pairs_hook=once)


def test_answer_says_which_characters_of_the_prompt_were_skipped(daemon):
    wanted = {"prompt": "a日b", "max_tokens": 4, "seed": 1}
    warnings = complete(daemon, **wanted)["warnings"]
    assert len(warnings) == 1 and "U+65E5" in warnings[0]
    assert warnings == daemon.generate(prompt="a日b", length=4)["warnings"]
    assert "warnings" not in complete(daemon, **{**wanted, "prompt": "ab"})
    events = streamed(daemon, **wanted, n=2, stream_options={"include_usage": True})
    assert [event["warnings"] for event in events if "warnings" in event] == [warnings]
