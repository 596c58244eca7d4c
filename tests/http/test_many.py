"""Several prompts in one request, prompts as tokens, best_of, a least length, and the prompt's log-probabilities in the form
that lm-evaluation-harness asks for."""

import json
import math
import operator
import time

import pytest

from conftest import DEADLINE, ROOT

BUNDLED = ROOT / "model/pretrained/headlines"


def ids_of(daemon, text):
    return daemon.post("/tokenize", {"text": text}).json()["ids"]


def complete(daemon, **fields):
    answer = daemon.post("/v1/completions", fields)
    assert answer.status == 200, answer.body
    return answer.json()


def wrong(daemon, path="/generate", **fields):
    """Returns {field: message} of a refusal."""
    answer = daemon.post(path, fields)
    if path == "/generate":
        assert answer.status == 422, answer.body
        return answer.fields()
    assert answer.status == 400, answer.body
    error = answer.json()["error"]
    return {error["param"]: error["message"]}


PROMPTS = ["Today ", "", "the end of the ", "a"]


@pytest.mark.parametrize("n", [1, 3])
def test_several_prompts_are_each_alone(daemon, n):
    asked = {"length": 30, "temperature": 0.8, "n": n, "logprobs": 2}
    together = daemon.generate(prompt=PROMPTS, seed=7, **asked)
    choices = together["choices"]
    assert [(one["index"], one["prompt_index"], one["seed"]) for one in choices] == [(i, i // n, 7 + i) for i in range(4 * n)]
    tokens = {"prompt_tokens": 0, "completion_tokens": 0}
    for p, prompt in enumerate(PROMPTS):
        alone = daemon.generate(prompt=prompt, seed=7 + p * n, **asked)
        for one, same in zip(choices[p * n : p * n + n], alone.get("choices", [alone])):
            for key in ("text", "completion", "finish_reason", "seed", "logprobs"):
                assert one[key] == same[key], key
            assert one["text"].startswith(prompt)
        tokens = {key: count + alone["usage"][key] for key, count in tokens.items()}
    assert {key: together["usage"][key] for key in tokens} == tokens
    assert together["text"] == choices[0]["text"]

    openai = complete(daemon, prompt=PROMPTS, seed=7, max_tokens=30, temperature=0.8, n=n, echo=True)
    assert [(one["index"], one["text"]) for one in openai["choices"]] == [(one["index"], one["text"]) for one in choices]
    assert openai["usage"]["prompt_tokens"] == tokens["prompt_tokens"]
    assert openai["usage"]["completion_tokens"] == tokens["completion_tokens"]


def test_a_list_of_one_prompt_has_choices(daemon):
    alone, listed = (daemon.generate(prompt=prompt, length=9, seed=1) for prompt in ("a", ["a"]))
    assert "choices" not in alone
    assert [(one["prompt_index"], one["text"]) for one in listed["choices"]] == [(0, alone["text"])]


def test_prompts_as_tokens(daemon):
    lists = [ids_of(daemon, text) for text in PROMPTS]
    asked = {"length": 20, "seed": 3, "n": 2}
    texts = daemon.generate(prompt=PROMPTS, **asked)
    for prompts in (lists, [PROMPTS[0], *lists[1:]]):
        same = daemon.generate(prompt=prompts, **asked)
        assert same["choices"] == texts["choices"]
    one = daemon.generate(prompt=lists[0], **asked)
    assert "prompt_index" not in one["choices"][0]
    assert [one["text"] for one in one["choices"]] == [one["text"] for one in texts["choices"][:2]]
    assert complete(daemon, prompt=[lists[0], lists[2]], max_tokens=20, seed=3)["choices"][0]["text"] == one["completion"]
    assert daemon.generate(prompt=[0, *lists[0]], **asked)["choices"][0]["completion"] == one["completion"]


def streamed(daemon, path, **fields):
    answer = daemon.post(path, {**fields, "stream": True})
    assert answer.status == 200, answer.body
    lines = [line[6:] for line in answer.body.decode().splitlines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_streams_of_several_prompts(daemon):
    asked = {"prompt": PROMPTS, "seed": 7, "n": 2}
    whole = daemon.generate(**asked, length=30)["choices"]
    events = streamed(daemon, "/generate", **asked, length=30)
    for one in whole:
        own = [event for event in events if event["index"] == one["index"]]
        assert "".join(event["delta"] for event in own) == one["completion"]
        assert {event["prompt_index"] for event in own} == {one["prompt_index"]}
        assert own[-1]["seed"] == one["seed"] and own[-1]["finish_reason"] == one["finish_reason"]
    events = streamed(daemon, "/v1/completions", **asked, max_tokens=30, echo=True, stream_options={"include_usage": True})
    for one in whole:
        own = [event["choices"][0] for event in events[:-1] if event["choices"][0]["index"] == one["index"]]
        assert "".join(event["text"] for event in own) == one["text"]
    assert events[-1]["choices"] == [] and events[-1]["usage"]["completion_tokens"] == 8 * 30


@pytest.mark.parametrize("path, limit", [("/generate", {}), ("/v1/completions", {"model": "tiny"})])
def test_every_wrong_prompt_is_named(daemon, path, limit):
    first = wrong(daemon, path, prompt=["a", 5, None, "b", ["x"], [1.5], [-1], True], **limit)
    assert next(iter(first)) == "prompt[1]" and "must be a string or an array of token ids, not a number" in first["prompt[1]"]
    if path == "/generate":
        assert set(first) == {f"prompt[{i}]" for i in (1, 2, 4, 5, 6, 7)}
        assert first["prompt[4]"] == "[0] must be a token id, an integer, not a string"
        assert first["prompt[5]"] == "[0] must be a token id, an integer, not 1.5"
        several = wrong(daemon, path, prompt=[[1], [10**6], "漢", [2, 0]], unknown="error")
        assert set(several) == {"prompt[1]", "prompt[2]", "prompt[3]"}
        assert "token ids are from 0 to" in several["prompt[1]"] and "special token" in several["prompt[3]"]
    assert "[1] must be a token id" in next(iter(wrong(daemon, path, prompt=[1, "a"]).values()))
    assert "list without a prompt" in wrong(daemon, path, prompt=[])["prompt"]
    assert "must be a string or an array" in wrong(daemon, path, prompt={"a": 1})["prompt"]


def test_warnings_name_the_prompt(daemon):
    warnings = daemon.generate(prompt=["a", "a漢", "b漢漢"], n=2, length=3)["warnings"]
    assert [warning.split(": ")[0] for warning in warnings] == ["prompt[1]", "prompt[2]", "prompt[2]"]
    assert complete(daemon, prompt=["a", "a漢"], max_tokens=3)["warnings"][0].startswith("prompt[1]: ")


def test_limits_of_several_prompts(start):
    daemon = start("tiny", {"limits.max_texts": 6, "limits.max_prompt": 10, "limits.max_n": 4})
    assert len(daemon.generate(prompt=["a"] * 3, n=2, length=1)["choices"]) == 6
    assert len(daemon.generate(prompt="a", n=4, length=1)["choices"]) == 4
    assert "limits.max_texts is 6" in wrong(daemon, prompt=["a"] * 7)["prompt"]
    assert "limits.max_texts is 6" in wrong(daemon, prompt=["a"] * 4, n=2)["prompt"]
    assert "limits.max_texts is 6" in wrong(daemon, prompt=["a"] * 3, n=2, best_of=3)["prompt"]
    assert daemon.post("/generate", {"prompt": ["aaaaa", "bbbbb"], "length": 1}).status == 200
    assert wrong(daemon, prompt=["aaaaa", "bbbbbb"])["prompt"] == "have 11 bytes together; limits.max_prompt is 10"
    assert "limits.max_prompt" in wrong(daemon, prompt=[ids_of(daemon, "a")[0]] * 11)["prompt"]
    assert "from 1 to 4" in wrong(daemon, best_of=5)["best_of"]


def test_a_session_takes_one_prompt(daemon):
    assert "one prompt" in wrong(daemon, prompt=["a", "b"], session="s", length=3)["session"]
    assert "best_of" in wrong(daemon, prompt="a", session="s", best_of=2)["session"]
    assert daemon.post("/generate", {"prompt": ["a"], "session": "s", "length": 3}).status == 200


def test_a_state_goes_on_with_every_prompt(daemon):
    state = daemon.generate(prompt="Once ", length=5, seed=1, return_state=True)["state"]
    together = daemon.generate(prompt=["a", "b"], state=state, seed=5, length=20)["choices"]
    for one, prompt in zip(together, "ab"):
        assert one["completion"] == daemon.generate(prompt=prompt, state=state, seed=one["seed"], length=20)["completion"]


def test_prompts_use_the_cache_and_leave_states(start):
    daemon = start("tiny")
    prompts = ["Today " * 30, "the end " * 30]
    first = daemon.generate(prompt=prompts, n=2, seed=1, length=5)
    again = daemon.generate(prompt=prompts, n=2, seed=1, length=5)
    tokens = first["usage"]["prompt_tokens"]
    assert again["usage"]["cached_tokens"] == tokens - 2 and again["choices"] == first["choices"]


def figure(daemon, name):
    lines = daemon.get("/metrics").body.decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


def wait_for(condition):
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end


def test_prompts_of_one_request_are_one_batch(start):
    daemon = start("tiny", {"engine.threads": 1})
    before = figure(daemon, "lstmd_engine_steps_total")
    daemon.generate(prompt=["a"] * 20, length=50, seed=1, cache_prompt=False)
    assert 50 <= figure(daemon, "lstmd_engine_steps_total") - before < 20 * 50 / 4


def test_a_client_that_leaves_ends_all_texts(start):
    daemon = start("tiny", {"engine.threads": 1, "limits.max_length": 1_000_000})
    connection = daemon.send_generate(prompt=["a", "b", "c"], n=2, length=1_000_000)
    wait_for(lambda: figure(daemon, "lstmd_sequences{") == 6)
    connection.close()
    wait_for(lambda: figure(daemon, "lstmd_sequences{") == 0)


def mean(choice):
    values = [token["logprob"] for token in choice["logprobs"]]
    return sum(values) / len(values)


def test_best_of_shows_the_best(daemon):
    asked = {"prompt": ["a", "the "], "seed": 9, "length": 12}
    everything = daemon.generate(**asked, n=6, logprobs=2)["choices"]
    best = daemon.generate(**asked, n=2, best_of=6, logprobs=2)
    for p in range(2):
        ranked = sorted(everything[6 * p : 6 * p + 6], key=mean, reverse=True)[:2]
        shown = best["choices"][2 * p : 2 * p + 2]
        assert [one["seed"] for one in shown] == [one["seed"] for one in ranked]
        assert [one["logprobs"] for one in shown] == [one["logprobs"] for one in ranked]
    assert best["usage"]["completion_tokens"] == 4 * 12
    hidden = daemon.generate(**asked, n=2, best_of=6)["choices"]
    assert [one["text"] for one in hidden] == [one["text"] for one in best["choices"]]
    assert not any("logprobs" in one for one in hidden)
    openai = complete(daemon, prompt="a", seed=9, max_tokens=12, best_of=6)["choices"]
    assert [one["text"] for one in openai] == [best["choices"][0]["completion"]]


def test_best_of_counts_the_end(start):
    daemon = start("ending")
    asked = {"prompt": "a", "seed": 1, "length": 40, "temperature": 2}
    shown = daemon.generate(**asked, best_of=8, n=8)["choices"]
    echoed = complete(daemon, prompt="a", seed=1, max_tokens=40, temperature=2, best_of=8, n=8, echo=True, logprobs=1)["choices"]
    assert {one["finish_reason"] for one in echoed} == {"stop"}
    assert [one["text"] for one in shown] == [one["text"] for one in echoed]
    whole = daemon.generate(**asked, n=8, logprobs=1)["choices"]
    assert sorted(one["text"] for one in whole) == sorted(one["text"] for one in shown)


def test_what_best_of_cannot_be_joined_with(daemon):
    assert "at least n" in wrong(daemon, n=3, best_of=2)["best_of"]
    assert "stream" in wrong(daemon, best_of=2, stream=True)
    assert "likeliest" in wrong(daemon, best_of=2, choices=["a", "b"], choice_mode="likeliest")["best_of"]
    assert daemon.post("/generate", {"n": 2, "best_of": 2, "stream": True, "length": 2}).status == 200


def test_likeliest_choice_of_every_prompt(daemon):
    asked = {"choices": ["a", "end", "the"], "choice_mode": "likeliest", "seed": 1}
    together = daemon.generate(prompt=PROMPTS, **asked)["choices"]
    assert [one["completion"] for one in together] == [daemon.generate(prompt=prompt, **asked)["completion"] for prompt in PROMPTS]


@pytest.mark.parametrize("least", [0, 1, 37])
def test_least_length(start, least):
    daemon = start("ending")
    asked = {"prompt": "a", "seed": 1, "length": 60, "n": 8}
    texts = daemon.generate(**asked, min_length=least, logprobs=1)["choices"]
    assert all(len(one["logprobs"]) >= least for one in texts)
    if least > 30:
        assert texts != daemon.generate(**asked, logprobs=1)["choices"]
    assert complete(daemon, prompt="a", seed=1, max_tokens=60, min_length=37)["usage"]["completion_tokens"] >= 37


def test_least_length_has_room(daemon):
    assert wrong(daemon, length=5, min_length=6)["min_length"] == "must be at most length, which allows 5 new tokens"
    assert "at most max_tokens" in next(iter(wrong(daemon, "/v1/completions", max_tokens=5, min_length=6).values()))


def test_stop_text_that_stays(daemon):
    asked = {"prompt": "a", "seed": 5, "length": 80}
    text = daemon.generate(**asked)["completion"]
    stop = text[20:22]
    cut = daemon.generate(**asked, stop=stop)["completion"]
    kept = daemon.generate(**asked, stop=stop, include_stop=True)
    assert kept["completion"] == cut + stop and kept["finish_reason"] == "stop"
    events = streamed(daemon, "/generate", **asked, stop=stop, include_stop=True)
    assert "".join(event["delta"] for event in events) == cut + stop
    openai = complete(daemon, prompt="a", seed=5, max_tokens=80, stop=stop, include_stop=True, logprobs=0)["choices"][0]
    assert openai["text"] == cut + stop == "".join(openai["logprobs"]["tokens"])


# ---- the prompt's log-probabilities ----


def scores(daemon, text):
    return [token["logprob"] for token in daemon.post("/score", {"text": text}).json()["tokens"]]


@pytest.mark.parametrize("model", ["tiny", BUNDLED])
def test_echo_has_the_scores_of_the_prompt(start, model):
    daemon = start(model)
    texts = ["Oil prices rise", "a", "the end"]
    ids = [ids_of(daemon, text) for text in texts]
    for prompt in (texts, ids):
        for length in (0, 1, 3):
            document = complete(daemon, prompt=prompt, max_tokens=length, echo=True, logprobs=2, temperature=0)
            plain = complete(daemon, prompt=prompt, max_tokens=max(length, 1), logprobs=2, temperature=0)
            assert document["usage"]["completion_tokens"] == 3 * length
            for one, text, other in zip(document["choices"], texts, plain["choices"]):
                lists, count = one["logprobs"], len(text)
                assert one["text"] == text + (other["text"] if length else "")
                assert one["finish_reason"] == "length"
                assert "".join(lists["tokens"]) == one["text"]
                assert lists["text_offset"] == list(range(count + length))
                assert lists["token_logprobs"][:count] == [None, *scores(daemon, text)[1:]]
                assert lists["top_logprobs"][0] is None and all(len(top) == 2 for top in lists["top_logprobs"][1:])
                for token, value, top in zip(lists["tokens"][1:], lists["token_logprobs"][1:], lists["top_logprobs"][1:]):
                    assert value <= max(top.values()) and top.get(token, value) == value
                if length:
                    assert lists["token_logprobs"][count:] == other["logprobs"]["token_logprobs"]
                    assert lists["top_logprobs"][count:] == other["logprobs"]["top_logprobs"]


def test_streams_and_several_texts_have_the_scores_too(daemon):
    asked = {"prompt": ["Today ", "a"], "max_tokens": 5, "n": 2, "seed": 1, "echo": True, "logprobs": 1}
    whole = complete(daemon, **asked)["choices"]
    events = streamed(daemon, "/v1/completions", **asked)
    for one in whole:
        own = [event["choices"][0] for event in events if event["choices"][0]["index"] == one["index"]]
        for name, values in one["logprobs"].items():
            assert sum((event["logprobs"][name] for event in own), []) == values, name
    nothing = streamed(daemon, "/v1/completions", prompt="ab", max_tokens=0, echo=True, logprobs=0)
    assert nothing[-1]["choices"][0]["text"] == "ab" and len(nothing[-1]["choices"][0]["logprobs"]["tokens"]) == 2


def test_offsets_pass_over_what_the_vocabulary_lacks(daemon):
    lists = complete(daemon, prompt="a漢bé漢 c", max_tokens=0, echo=True, logprobs=1)["choices"][0]["logprobs"]
    text = "a漢bé漢 c"
    assert len(lists["tokens"]) < len(text)
    assert [text[offset] for offset in lists["text_offset"]] == lists["tokens"]


def test_a_prompt_that_is_scored_has_a_limit(start):
    daemon = start("tiny", {"limits.max_score": 20})
    asked = {"echo": True, "logprobs": 1, "max_tokens": 0}
    assert daemon.post("/v1/completions", {"prompt": ["a" * 10] * 2, **asked}).status == 200
    assert "limits.max_score is 20" in wrong(daemon, "/v1/completions", prompt=["a" * 10, "a" * 11], **asked)["prompt"]
    assert daemon.post("/v1/completions", {"prompt": ["a" * 30] * 2, "echo": True, "max_tokens": 1}).status == 200


def test_no_new_token_at_all(daemon):
    document = complete(daemon, prompt="ab", max_tokens=0)
    assert (document["choices"][0]["text"], document["choices"][0]["finish_reason"]) == ("", "length")
    assert document["usage"]["completion_tokens"] == 0
    assert "at least 1" in wrong(daemon, "/v1/completions", max_tokens=0, session="s")["max_tokens"]
    assert "at least 1" in wrong(daemon, "/v1/completions", max_tokens=0, return_state=True)["max_tokens"]


def harness_request(prompts, seed=1234):
    """Makes the request that lm-evaluation-harness sends for log-likelihoods (models openai-completions, local-completions)."""
    return {"model": "headlines", "prompt": prompts, "temperature": 0, "max_tokens": 1, "logprobs": 1, "seed": seed, "echo": True}


def harness_reads(document, context_lengths):
    """Reads an answer as the harness does: [(log-likelihood, whether it is greedy)] of the tokens after the context, without
    the new token at the end."""
    results = []
    for choice, length in zip(sorted(document["choices"], key=operator.itemgetter("index")), context_lengths):
        values = choice["logprobs"]["token_logprobs"][length:-1]
        tops = choice["logprobs"]["top_logprobs"][length:-1]
        results.append((sum(values), all(value == max(top.values()) for value, top in zip(values, tops))))
    return results


def test_lm_evaluation_harness(start):
    daemon = start(BUNDLED)
    greedy = daemon.generate(prompt="Oil ", length=12, temperature=0)["completion"]
    cases = [("Oil ", greedy), ("Oil prices ", "rise"), ("Oil prices ", "zzzz"), ("The ", "end of the day"), ("", "Oil")]
    for as_ids in (True, False):
        prompts, lengths = [], []
        for context, continuation in cases if as_ids else cases[:-1]:
            ids = ids_of(daemon, context + continuation)
            before = ids_of(daemon, context) if context else [0]  # the harness puts its end-of-text token there
            prompts.append((ids if context else [0, *ids]) if as_ids else context + continuation)
            lengths.append(len(before))
        document = daemon.post("/v1/completions", harness_request(prompts)).json()
        results = harness_reads(document, lengths)
        for (context, continuation), (likelihood, is_greedy) in zip(cases, results):
            expected = sum(scores(daemon, context + continuation)[len(context):])
            assert math.isclose(likelihood, expected, rel_tol=1e-12)
            assert is_greedy == (continuation == greedy)
    text = daemon.post("/v1/completions", {"prompt": ["Oil "], "model": "headlines", "max_tokens": 12, "temperature": 0, "stop": ["\n\n"], "seed": 1234}).json()
    assert text["choices"][0]["text"] == greedy


def test_harness_reads_right_where_the_model_would_end(start):
    """One item follows the prompt's items, even if the new token is <eos>."""
    daemon = start("ending")
    eos = ids_of(daemon, "ab")
    document = complete(daemon, prompt=[eos], max_tokens=1, temperature=0, echo=True, logprobs=1, logit_bias={"0": 100})
    lists = document["choices"][0]["logprobs"]
    assert document["choices"][0]["finish_reason"] == "stop" and document["usage"]["completion_tokens"] == 0
    assert lists["tokens"][-1] == "<eos>" and len(lists["tokens"]) == 3 and len(lists["token_logprobs"]) == 3


# ---- aliases ----


def test_aliases(daemon):
    assert daemon.get("/health").json() == daemon.get("/healthz").json()
    fields = {"prompt": "a", "max_tokens": 9, "seed": 1}
    one, other = (daemon.post(path, fields).json() for path in ("/completions", "/v1/completions"))
    assert one["choices"] == other["choices"]
    refused = daemon.post("/completions", {"max_token": 1})
    assert refused.status == 400 and refused.json()["error"]["param"] == "max_token"
    hints = wrong(daemon, prompt="a", max_tokens=5, n_predict=5)
    assert all('did you mean "length"?' in hints[name] for name in ("max_tokens", "n_predict"))
    hints = wrong(daemon, min_tokens=1, include_stop_str_in_output=True)
    assert 'did you mean "min_length"?' in hints["min_tokens"]
    assert 'did you mean "include_stop"?' in hints["include_stop_str_in_output"]


def test_fields_that_are_ignored(daemon):
    fields = {"prompt": "a", "max_tokens": 9, "seed": 1}
    plain = complete(daemon, **fields)["choices"]
    assert complete(daemon, **fields, store=True, user="u", metadata={"a": "b"})["choices"] == plain
