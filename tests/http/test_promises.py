"""Tries the promises of openapi.yaml, docs/train.md and --help. Each test looks its sentence up, so a changed promise fails its
test. test_openapi.py tests the ranges of JSON fields."""

import json
import os
import re
import struct
import subprocess
import urllib.parse

import pytest

import training
from api_document import DOCUMENT, OPERATIONS, check, concrete, edges, operation_of, resolve
from conftest import ADMIN, PROGRAM, ROOT, Daemon

SCHEMAS = DOCUMENT["components"]["schemas"]
GENERATE = SCHEMAS["GenerateRequest"]["properties"]
OPENAI = SCHEMAS["OpenAIRequest"]["properties"]
TRAIN = (ROOT / "docs/train.md").read_text()
BUNDLED = ROOT / "model/pretrained/headlines"


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    return tmp_path_factory.mktemp("promises") / "state"


@pytest.fixture(scope="module")
def daemon(models, state):
    running = Daemon(models["labelled"], {"server.state_dir": state})
    yield running
    running.close()


def prose(node):
    """Returns all descriptions below a node, each in one line."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("description", "summary") and isinstance(value, str):
                yield " ".join(value.split())
            yield from prose(value)
    elif isinstance(node, list):
        for value in node:
            yield from prose(value)


def promised(words):
    assert any(words in text for text in prose(DOCUMENT)), words


# ---- /v1 ----


def completion(daemon, **fields):
    answer = daemon.post("/v1/completions", {"prompt": "abc", "seed": 1, "max_tokens": 12, **fields})
    assert answer.status == 200, (fields, answer.body)
    return answer.json()


@pytest.mark.parametrize("field", OPENAI)
def test_null_is_as_if_the_field_were_not_there(daemon, field):
    promised("null is as if the field were not there")
    base = {"prompt": "abc", "seed": 1, "max_tokens": 12, "temperature": 0}
    without = {name: value for name, value in base.items() if name != field}
    answers = []
    for fields in (without, {**without, field: None}):
        answer = daemon.post("/v1/completions", fields)
        assert answer.status == 200, answer.body
        answers.append(answer.json())
    same = [(one["choices"][0]["finish_reason"], one["usage"]["completion_tokens"], set(one)) for one in answers]
    assert same[0] == same[1]
    if field != "seed":
        assert answers[0]["choices"] == answers[1]["choices"]


def test_penalties_at_v1_leave_the_prompt_out(start):
    promised("not for those of the prompt")
    daemon = start(BUNDLED)
    fields = {"prompt": "Today the the the", "max_tokens": 1, "temperature": 0}

    def text(**more):
        return daemon.post("/v1/completions", {**fields, **more}).json()["choices"][0]["text"]

    assert text() == text(frequency_penalty=2) == text(presence_penalty=2) == " "
    # At /generate they look back over the prompt, too.
    wanted = {"prompt": fields["prompt"], "length": 1, "temperature": 0}
    assert daemon.generate(**wanted)["completion"] == " "
    assert daemon.generate(**wanted, frequency_penalty=2)["completion"] != " "
    assert daemon.generate(**wanted, frequency_penalty=2, repetition_window=0)["completion"] == " "


def test_penalties_at_v1_look_back_over_all_that_was_written(start):
    """Two tokens have a bias. A presence penalty puts the second one in the place of the first."""
    daemon = start("tiny")
    names = daemon.post("/tokenize", {"text": "ab"}).json()["ids"]
    fields = {"prompt": "c", "temperature": 0, "max_tokens": 100, "logit_bias": {str(names[0]): 99, str(names[1]): 90}}

    def text(**more):
        return daemon.post("/v1/completions", {**fields, **more}).json()["choices"][0]["text"]

    assert text() == "a" * 100
    assert set(text(frequency_penalty=0.05)) == {"a"}  # 99 of them make 4.95: not yet enough
    counted = text(frequency_penalty=0.25)
    assert "b" in counted and counted.index("b") < 64
    fields["repetition_window"] = 1
    assert text(frequency_penalty=0.25) == counted


# ---- defaults ----

# For each field: a value other than the default, and the other fields that make it visible.
SHOWS = {
    "prompt": ({}, "abc"),
    "length": ({}, 99),
    "temperature": ({}, 0.01),
    "top_k": ({}, 1),
    "top_p": ({}, 0.01),
    "min_p": ({}, 0.99),
    "repetition_penalty": ({}, 50),
    "presence_penalty": ({}, 50),
    "frequency_penalty": ({}, 50),
    "repetition_window": ({"presence_penalty": 50}, 1),
    "logit_bias": ({}, {"a": 50}),
    "stop": ({}, ["a", "b", "c"]),
    "choice_mode": ({"choices": ["a", "b", "c", "d", "e", "f"], "temperature": 9, "seed": 5}, "likeliest"),
    "ignore_eos": ({"length": 300}, True),
    "include_stop": ({"stop": ["a", "b", "c", "d", "e"]}, True),
    "min_length": ({"seed": 1}, 50),
    "n": ({}, 2),
    "logprobs": ({}, 1),
    "stream": ({}, True),
    "unknown": ({"prompt": "漢"}, "error"),
    "cache_prompt": ({}, False),
    "return_state": ({}, True),
}


def outcome(answer):
    """Returns the parts that do not depend on the request's time and name."""
    if answer.status != 200 or answer.headers["Content-Type"] != "application/json":
        return answer.status, answer.headers["Content-Type"]
    document = answer.json()
    return {key: value for key, value in document.items() if key not in ("id", "timings", "usage")}


@pytest.mark.parametrize("field", [name for name, schema in GENERATE.items() if "default" in resolve(schema)])
def test_default_is_the_documented_one(models, start, field):
    daemon = start("ending" if field in ("ignore_eos", "min_length") else "tiny")
    context, other = SHOWS[field]
    default = resolve(GENERATE[field])["default"]
    base = {"prompt": "ab", "length": 100, "seed": 3, **context}
    base.pop(field, None)
    without = outcome(daemon.post("/generate", base))
    assert outcome(daemon.post("/generate", {**base, field: default})) == without
    if field != "cache_prompt":  # the text does not depend on these, as promised
        assert outcome(daemon.post("/generate", {**base, field: other})) != without


def test_default_number_of_tokens_at_v1_is_the_documented_one(daemon):
    answer = daemon.post("/v1/completions", {"prompt": "a", "ignore_eos": True})
    assert answer.json()["usage"]["completion_tokens"] == OPENAI["max_tokens"]["default"]


def query_edges():
    for parameter in operation_of("/generate", "get")["parameters"]:
        if parameter["in"] != "query" or "schema" not in parameter:
            continue
        for value, allowed in edges(parameter["schema"]):
            if not isinstance(value, list):
                yield pytest.param(parameter["name"], value, allowed, id=f"{parameter['name']} {str(value)[:20]} {allowed}")


@pytest.mark.parametrize("field, value, allowed", query_edges())
def test_range_of_a_query_parameter(daemon, field, value, allowed):
    fields = {"length": 1, field: repr(value) if isinstance(value, float) else value}
    answer = daemon.get("/generate?" + urllib.parse.urlencode(fields))
    assert answer.status == (200 if allowed else 422), answer.body
    check(operation_of("/generate", "get"), answer)


@pytest.mark.parametrize("path, field, setting", [
    ("/generate", "length", "limits.max_length"),
    ("/generate", "n", "limits.max_n"),
    ("/v1/completions", "max_tokens", "limits.max_length"),
    ("/v1/completions", "n", "limits.max_n"),
])
def test_upper_bound_is_the_setting(start, path, field, setting):
    daemon = start("tiny", {"limits.max_length": 7, "limits.max_n": 3})
    bound = {"limits.max_length": 7, "limits.max_n": 3}[setting]
    assert daemon.post(path, {"prompt": "a", field: bound}).status == 200
    answer = daemon.post(path, {"prompt": "a", field: bound + 1})
    assert answer.status == (422 if path == "/generate" else 400)
    assert f"to {bound}, not {bound + 1}" in answer.body.decode()


# ---- messages ----


@pytest.mark.parametrize("path, field, meant", [
    ("/generate", "max_tokens", "length"),
    ("/generate", "max_new_tokens", "length"),
    ("/generate", "n_predict", "length"),
    ("/generate", "text", "prompt"),
    ("/generate", "PROMPT", "prompt"),
    ("/generate", "topK", "top_k"),
    ("/train", "learning_rate", "lr"),
    ("/train", "rnn_size", "hidden"),
    ("/train", "seq_length", "bptt"),
    ("/train", "validation_split", "validation"),
])
def test_unknown_field_names_the_one_that_was_meant(daemon, path, field, meant):
    promised("with the field that was meant where one is near")
    answer = daemon.admin("POST", path, {field: 1, "model": "labelled", **({"text": "a"} if path == "/train" else {})})
    assert answer.fields()[field] == f'unknown field; did you mean "{meant}"?'


def test_unknown_field_with_nothing_near_names_no_other(daemon):
    errors = daemon.post("/generate", {"foo": 1, "gpu": 0}).fields()
    assert errors["foo"] == "unknown field; /openapi.yaml lists all"
    assert "no GPU" in errors["gpu"]
    answer = daemon.get("/generate?max_tokens=3&bar=1")
    assert "length" in answer.fields()["max_tokens"] and "mean" not in answer.fields()["bar"]


@pytest.mark.parametrize("path, said", [
    ("/v1/chat/completions", "lstmd does not chat; POST /v1/completions continues a prompt"),
    ("/chat/completions", "lstmd does not chat; POST /v1/completions continues a prompt"),
    ("/completion", "did you mean /completions?"),
    ("/v1/completion", "did you mean /v1/completions?"),
    ("/api/generate", "did you mean /generate?"),
    ("/generate/", "did you mean /generate?"),
    ("/x", "/openapi.yaml lists all there is"),
    ("/nothing/of/the/kind", "/openapi.yaml lists all there is"),
])
def test_path_that_is_not_there_names_the_one_that_was_meant(daemon, path, said):
    answer = daemon.post(path, {})
    assert answer.status == 404
    document = answer.json()
    detail = document["error"]["message"] if path.startswith("/v1/") else document["detail"]
    assert detail == f"there is nothing at {path}; {said}"


def test_path_of_the_other_listener_is_not_named(models, start):
    daemon = start("tiny", {"admin.listen": "127.0.0.1", "admin.port": 0})
    assert "did you mean" not in daemon.get("/trian").problem(404)["detail"]


def test_byte_order_mark_is_skipped(daemon):
    promised("A byte order mark before a JSON body is skipped.")
    body = b"\xef\xbb\xbf" + json.dumps({"prompt": "a", "length": 1}).encode()
    assert daemon.post("/generate", body).status == 200
    assert daemon.post("/v1/completions", b'\xef\xbb\xbf{"prompt": "a"}').status == 200


def test_other_languages_literals_are_explained(daemon):
    assert "true and false, in lower case" in daemon.post("/generate", b'{"stream": False}').problem(400)["detail"]
    assert '"False"' in daemon.post("/generate", {"stream": "False"}).fields()["stream"]
    assert daemon.get("/generate?stream=False").fields()["stream"] == 'must be true or false, not "False"'


@pytest.mark.parametrize("path, method", [(path, method) for path, method, _ in OPERATIONS])
def test_query_where_none_is_taken_is_refused(daemon, path, method):
    promised("A query where none is taken gets 422, but for what needs no token: there it is ignored.")
    operation = operation_of(path, method)
    taken = [one for one in operation.get("parameters", []) if one["in"] == "query"]
    headers = {"Content-Type": "application/json"} if method in ("post", "put") else {}
    body = b"{}" if headers else None
    answer = daemon.request(method.upper(), concrete(path) + "?modle=x", body, headers, token=ADMIN)
    check(operation, answer)
    if operation.get("security") == []:
        assert answer.status == 200
    elif path.startswith("/v1/") or path == "/completions":
        assert answer.status == 400 and "query string" in answer.json()["error"]["message"]
    elif taken:
        assert "modle" in answer.fields()
    else:
        assert "query string" in answer.problem(422)["detail"]


# ---- models and jobs ----


def test_damaged_model_does_not_show_where_it_lies(daemon, state):
    broken = state / "models/broken"
    broken.mkdir()
    (broken / "config.json").write_text("{")
    try:
        for answer in (daemon.get("/models"), daemon.get("/models/broken")):
            assert str(state) not in answer.body.decode()
        error = daemon.get("/models/broken").json()["error"]
        assert error.startswith("config.json:1:")
        assert daemon.admin("POST", "/models/broken/load").status == 409
        assert str(state) not in daemon.get("/models").body.decode()
    finally:
        (broken / "config.json").unlink()
        broken.rmdir()


def test_default_model_cannot_be_deleted_wherever_it_lies(daemon):
    promised("The default model cannot be deleted (409), nor the one that model.path names.")
    answer = daemon.admin("DELETE", "/models/labelled")
    assert "default" in answer.problem(409)["detail"]
    check(operation_of("/models/{name}", "delete"), answer)


@pytest.mark.parametrize("accept, form", [
    (None, "application/json"),
    ("text/csv", "text/csv"),
    ("text/csv;q=0", "application/json"),
    ("application/json, text/csv;q=0.1", "application/json"),
    ("application/json;q=0.1, text/csv", "text/csv"),
    ("*/*;q=0.1, text/csv;q=0.2", "text/csv"),
    ("text/html", "application/json"),
])
def test_loss_curve_has_the_form_that_accept_prefers(daemon, job, accept, form):
    promised("As CSV where Accept gives text/csv a greater weight than application/json")
    answer = training.send(daemon, "GET", f"/train/{job}/metrics", headers={"Accept": accept} if accept else {})
    assert answer.headers["Content-Type"].split(";")[0] == form
    assert answer.headers["Vary"] == "Accept"


@pytest.fixture(scope="module")
def job(daemon):
    id = training.submit(daemon, "promised")
    training.wait_end(daemon, id)
    return id


# ---- docs/train.md and --help ----


def safetensors_names(path):
    with open(path, "rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        return {name for name in json.loads(file.read(size)) if name != "__metadata__"}


def test_names_of_weights_are_those_that_the_document_says(tmp_path):
    assert "are one sum, `rnn.bias_l0`, and `lstmd export` writes two." in TRAIN
    names = safetensors_names(BUNDLED / "model.safetensors")
    assert {"rnn.weight_ih_l0", "rnn.weight_hh_l0", "rnn.bias_l0"} <= names
    subprocess.run([PROGRAM, "export", BUNDLED, "--to", "pytorch", "--out", tmp_path / "x.safetensors"], check=True,
                   timeout=60)
    exported = safetensors_names(tmp_path / "x.safetensors")
    assert {"rnn.weight_ih_l0", "rnn.weight_hh_l0", "rnn.bias_ih_l0", "rnn.bias_hh_l0"} <= exported


def run(*arguments, environment=None, expect=0):
    env = {key: value for key, value in os.environ.items() if not key.startswith("LSTMD")}
    done = subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=60,
                          env={**env, **(environment or {})})
    assert done.returncode == expect, done.stderr
    return done


@pytest.mark.parametrize("command, flag, meant", [
    ("train", "--learning-rate", "--lr"),
    ("train", "--learning_rate", "--lr"),
    ("train", "--rnn-size", "--hidden"),
    ("train", "--seq-length", "--bptt"),
    ("train", "--val-frac", "--validation"),
    ("generate", "--max-tokens", "--length"),
    ("serve", "--sett", "--set"),
])
def test_unknown_flag_names_the_one_that_was_meant(command, flag, meant):
    assert run(command, flag, "1", expect=2).stderr == f'lstmd: unknown flag "{flag}", did you mean {meant}?\n'


def test_unknown_flag_with_nothing_near_names_no_other():
    assert "there is no GPU" in run("train", "--gpu", "0", expect=2).stderr
    assert run("train", "--bogus", "0", expect=2).stderr == 'lstmd: unknown flag "--bogus"; --help lists all\n'
    bogus = run("config", "--set", "auth.bogus=1", expect=1).stderr
    assert bogus == 'lstmd: --set: unknown key "auth.bogus"; --help lists all\n'


@pytest.mark.parametrize("arguments", [
    ["train", "--lr", "1", "--lr", "1"],
    ["generate", "--json", "--no-json"],
    ["serve", "--model", "a", "--model", "b"],
    ["serve", "--model", "a", "--set", "model.path=b"],
    ["config", "--set", "server.port=1", "--set", "server.port=2"],
])
def test_option_that_is_given_twice_is_refused(arguments):
    done = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode in (1, 2) and "given twice" in done.stderr


def test_help_of_train_has_the_defaults_that_a_run_has(tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("some words of a text that is short. " * 40)
    given = {"data": corpus, "out": tmp_path / "m", "hidden": 8, "epochs": 1, "threads": 1, "sample-length": 0}
    run("train", *[part for key, value in given.items() for part in (f"--{key}", value)])
    options = json.loads((tmp_path / "m/config.json").read_text())["training"]["options"]
    text = run("train", "--help").stdout
    defaults = dict(re.findall(r"^  --([a-z0-9-]+) +[^\n]*\n +\([^\n]*; default ([^\n)]*)\)$", text, re.M))
    compared = 0
    for key, value in options.items():
        flag = key.replace("_", "-")
        # The run fits batch and bptt to a short text. For products, "auto" is a rule, and the run names its choice.
        if flag in given or flag not in defaults or flag in ("batch", "bptt", "products"):
            continue
        shown = defaults[flag]
        same = float(shown) == value if isinstance(value, (int, float)) and not isinstance(value, bool) else shown == value
        assert same, (key, value, shown)
        compared += 1
    assert compared > 15


# ---- what is in effect ----


def test_environment_that_overrides_the_file_is_told(models, tmp_path, start):
    file = tmp_path / "lstmd.yaml"
    file.write_text("server:\n  ping_seconds: 3\nlimits:\n  max_n: 5\nlog:\n  level: info\n")
    environment = {"LSTMD_CONFIG": str(file), "LSTMD_LIMITS_MAX_N": "6", "LSTMD_LOG_FORMAT": "logfmt"}
    done = run("config", environment=environment)
    assert done.stderr == f"lstmd: warning: LSTMD_LIMITS_MAX_N overrides limits.max_n of {file}:4\n"
    assert f"  max_n: 6  # LSTMD_LIMITS_MAX_N, which overrides {file}:4\n" in done.stdout
    assert f"  ping_seconds: 3  # {file}:2\n" in done.stdout
    assert "  max_uploads: 8  # default\n" in done.stdout
    daemon = start("tiny", environment=environment)
    line = daemon.wait_log("the environment overrides the file")
    assert "level=warning" in line and "key=limits.max_n" in line and "variable=LSTMD_LIMITS_MAX_N" in line
    assert f"{file}:4" in line
    assert sum("overrides the file" in one for one in daemon.lines if one) == 1
    assert daemon.post("/generate", {"length": 1, "n": 6}).status == 200
