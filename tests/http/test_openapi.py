"""Compares openapi.yaml with the daemon. The tests send every example and check every answer, and leave no operation out."""

import json
import re
import shutil
import urllib.parse

import jsonschema
import pytest

import training
from api_document import DOCUMENT, NAMES, OPERATIONS, check, concrete, edges, operation_of, resolve, validate
from conftest import ADMIN, Daemon, ROOT

# A form has no example as text.
IMPORT = (
    "multipart/form-data; boundary=x",
    b'--x\r\nContent-Disposition: form-data; name="vocabulary"\r\n\r\n["a", "b", "c", "d", "e", "f"]\r\n'
    b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n'
    + (ROOT / "tests/golden/data/keras/k208_lstm_list.h5").read_bytes() + b"\r\n--x--\r\n",
)


def test_document_is_well_formed():
    assert DOCUMENT["openapi"].startswith("3.1.")
    for name, schema in DOCUMENT["components"]["schemas"].items():
        jsonschema.Draft202012Validator.check_schema(schema)
    identifiers = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len(set(identifiers)) == len(identifiers)


def test_document_has_the_daemon_s_routes():
    rows = re.findall(r'^    {"([A-Z]+)", "([^"]+)", HTTP_', (ROOT / "server/api/api.c").read_text(), re.M)
    assert sorted(rows) == sorted((method.upper(), path) for path, method, _ in OPERATIONS)


def scope_of(operation):
    """Returns public, generate or admin."""
    security = operation.get("security", DOCUMENT["security"])
    if not security:
        return "public"
    return security[-1]["bearer"][0]


def send(daemon, path, method, token=None):
    headers = {"Content-Type": "application/json"} if method == "post" else {}
    return daemon.request(method.upper(), concrete(path), b"{}" if headers else None, headers, token)


def test_scopes_are_as_documented(start):
    daemon = start("tiny", {"auth.generate_tokens": "generate-token-of-the-tests"})
    for path, method, operation in OPERATIONS:
        scope = scope_of(operation)
        answer = send(daemon, path, method)
        if scope == "public":
            assert answer.status == 200, (method, path)
            continue
        assert answer.status == 401, (method, path)
        check(operation, answer)
        answer = send(daemon, path, method, "generate-token-of-the-tests")
        assert (answer.status == 403) == (scope == "admin"), (method, path, answer.status)
        if scope == "admin":
            check(operation, answer)


def test_every_answer_names_its_request(start):
    """This holds for any path, method and token, and if the daemon refuses the head or the body before it looks at them."""
    daemon = start("tiny", {"auth.generate_tokens": "generate-token-of-the-tests"})
    json_type = {"Content-Type": "application/json"}
    odd = [
        (404, "GET", "/nothing", None, {}),
        (204, "OPTIONS", "/generate", None, {}),
        (204, "OPTIONS", "*", None, {}),
        (405, "BREW", "/generate", None, {}),
        (400, "GET", "/healthz?a=%", None, {}),
        (400, "GET", "/healthz", None, {"X-A": "\x01"}),
        (413, "POST", "/generate", b" " * (2 << 20), json_type),
        (414, "GET", "/" + "a" * 5300, None, {}),
        (415, "POST", "/generate", b"{}", {}),
        (415, "POST", "/generate", b"{}", {**json_type, "Content-Encoding": "gzip"}),
        (417, "GET", "/healthz", None, {"Expect": "nothing"}),
        (400, "POST", "/generate", b"{}1", json_type),
        (422, "POST", "/generate", b'{"length": 0}', json_type),
        (431, "GET", "/healthz", None, {"X-A": "a" * 7200}),
        (431, "GET", "/healthz", None, {"X-A": "a" * 20_000}),
        (501, "POST", "/generate", b"0\r\n\r\n", {"Transfer-Encoding": "gzip, chunked"}),
    ]
    for status, method, path, body, headers in odd:
        answer = daemon.request(method, path, body, headers, "generate-token-of-the-tests")
        assert (answer.status, answer.headers["X-Request-Id"] is None) == (status, False), (method, path[:20], headers)
    for path, item in DOCUMENT["paths"].items():
        for method in [method for method in item if method in ("get", "post", "put", "delete")] + ["head", "options"]:
            for token in (None, "wrong", ADMIN):
                assert send(daemon, path, method, token).headers["X-Request-Id"], (path, method, token)


def test_guessing_is_answered_as_documented(start):
    daemon = start("tiny", {"auth.generate_tokens": "generate-token-of-the-tests", "auth.admin_tokens": None})
    while send(daemon, "/models", "get", "wrong").status != 429:
        pass
    for path, method, operation in OPERATIONS:
        if scope_of(operation) == "generate":
            check(operation, send(daemon, path, method, "wrong"))
        elif scope_of(operation) == "admin":
            answer = send(daemon, path, method, ADMIN)
            assert "LSTMD_AUTH_ADMIN_TOKEN_FILE" in answer.problem(403)["detail"]
            check(operation, answer)


def test_every_reference_leads_somewhere():
    for reference in re.findall(r"\$ref: \"([^\"]*)\"", (ROOT / "openapi.yaml").read_text()):
        assert resolve({"$ref": reference})


def test_version_is_the_program_s():
    assert DOCUMENT["info"]["version"] == (ROOT / "VERSION").read_text().split()[0]


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    return tmp_path_factory.mktemp("openapi") / "state"


@pytest.fixture(scope="module")
def daemon(models, state):
    """This daemon has a state directory, so every operation works."""
    running = Daemon(models["tiny"], {"server.state_dir": state})
    yield running
    running.close()


def job_for(daemon, path):
    """Returns a job on which this operation works: one that waits for a resume, or one that has ended."""
    if not path.startswith("/train/"):
        return "none"
    waits = path.endswith(("pause", "resume", "cancel"))
    id = training.submit(daemon, "spare", **(training.ENDLESS if waits else training.SMALL))
    if waits:
        training.act(daemon, id, "pause")
    else:
        training.wait_end(daemon, id)
    return id


@pytest.mark.parametrize("path, method, operation", OPERATIONS, ids=lambda value: value if isinstance(value, str) else "")
def test_examples(daemon, models, state, path, method, operation):
    if "spare" in NAMES.get(path, ""):
        shutil.copytree(models["tiny"], state / "models/spare", dirs_exist_ok=True)
    if path.startswith("/datasets") and method != "put":
        daemon.request("PUT", "/datasets/titles", b"What is there to be described", token=ADMIN)
    query = {}
    for parameter in operation.get("parameters", []):
        if "example" in parameter:
            validate(parameter["example"], parameter["schema"])
            query[parameter["name"]] = parameter["example"]
    target = concrete(path, job_for(daemon, path)) + ("?" + urllib.parse.urlencode(query) if query else "")
    bodies = [(None, None)]
    if "requestBody" in operation:
        content_type, content = next(iter(operation["requestBody"]["content"].items()))
        values = [example["value"] for example in content.get("examples", {}).values()]
        for value in values:
            validate(value, content["schema"])
        encode = lambda value: value.encode() if isinstance(value, str) else json.dumps(value).encode()
        bodies = [(content_type, encode(value)) for value in values] or [IMPORT]
    for content_type, body in bodies:
        headers = {"Content-Type": content_type} if content_type else {}
        token = ADMIN if scope_of(operation) == "admin" else None
        answer = daemon.request(method.upper(), target, body, headers, token)
        assert answer.status // 100 == 2, answer.body
        check(operation, answer)
    if path == "/train/{id}/resume":
        training.act(daemon, target.split("/")[2], "cancel")


def edge_cases():
    for path, method, operation in OPERATIONS:
        content = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if not content:
            continue
        base = next(iter(content["examples"].values()))["value"]
        for field, schema in resolve(content["schema"]).get("properties", {}).items():
            for value, allowed in edges(schema):
                # These need an existing name, the level of words, a table, or memory for the largest network.
                if field in ("name", "filters", "columns", "hidden") and allowed:
                    continue
                yield pytest.param(path, method, base, field, value, allowed, id=f"{path} {field} {str(value)[:20]} {allowed}")


def complaints(path, answer):
    """Returns the fields about which an answer complains."""
    if answer.status in (200, 202, 404):  # 404: nothing has this name
        return []
    if path.startswith("/v1/") or path == "/completions":
        assert answer.status == 400, answer.body
        return [answer.json()["error"]["param"]]
    return list(answer.fields())


@pytest.mark.parametrize("path, method, base, field, value, allowed", edge_cases())
def test_bounds_are_exactly_those_of_the_document(daemon, path, method, base, field, value, allowed):
    fields = {key: given for key, given in base.items() if key != "stream"}
    body = json.dumps({**fields, field: value}).encode()
    answer = daemon.request(method.upper(), path, body, {"Content-Type": "application/json"}, ADMIN)
    wrong = complaints(path, answer)
    if answer.status == 202:  # it may be a job of a thousand million epochs
        training.act(daemon, answer.headers["Location"].rsplit("/", 1)[1], "cancel")
    assert (field not in wrong) == allowed, wrong


def query_edge_cases():
    for path, method, operation in OPERATIONS:
        for parameter in operation.get("parameters", []):
            if parameter["in"] != "query" or "schema" not in parameter:
                continue
            for value, allowed in edges(parameter["schema"]):
                if not isinstance(value, list):
                    identity = f"{method} {path} {parameter['name']} {str(value)[:20]} {allowed}"
                    yield pytest.param(path, method, parameter["name"], value, allowed, id=identity)


@pytest.mark.parametrize("path, method, name, value, allowed", query_edge_cases())
def test_bounds_of_the_query_are_exactly_those_of_the_document(daemon, path, method, name, value, allowed):
    beside = {"field": {"format": "jsonl"}, "columns": {"format": "csv"}, "label_column": {"format": "csv", "columns": "1"}}
    target = f"{concrete(path)}?{urllib.parse.urlencode({name: value, **beside.get(name, {})})}"
    content_type = next(iter(operation_of(path, method).get("requestBody", {}).get("content", {})), None)
    if content_type == "multipart/form-data":
        content_type += "; boundary=x"
    headers = {"Content-Type": content_type} if content_type else {}
    answer = daemon.request(method.upper(), target, b"x" if content_type else None, headers, ADMIN)
    errors = {error["field"] for error in answer.json().get("errors", [])}
    assert (name not in errors) == allowed, answer.body


@pytest.mark.parametrize(
    "fields", [{"length": 0}, {"x": 1, "y": 2}, {"prompt": 1, "temperature": "a"}, {"model": "none"}, {"label": "none"}]
)
def test_wrong_fields(daemon, fields):
    schema = DOCUMENT["components"]["schemas"]["GenerateRequest"]
    if "model" not in fields and "label" not in fields:
        with pytest.raises(jsonschema.ValidationError):
            validate(fields, schema)
    check(operation_of("/generate", "post"), daemon.post("/generate", fields))
    check(operation_of("/generate", "get"), daemon.query(**fields))


def test_other_refusals(daemon):
    post = operation_of("/generate", "post")
    check(post, daemon.post("/generate", b"{"))
    check(post, daemon.post("/generate", b" " * (2**20 + 1)))
    check(post, daemon.request("POST", "/generate", b"{}"))
    check(operation_of("/generate", "get"), daemon.get("/generate?prompt=%"))
    check(operation_of("/models/{name}", "get"), daemon.get("/models/none"))
    check(operation_of("/web/{name}", "get"), daemon.get("/web/none"))


@pytest.mark.parametrize("path", ["/", "/client.js", "/client.d.ts", "/openapi.yaml", "/web/{name}"])
def test_files_that_the_client_has(daemon, path):
    get = operation_of(path, "get")
    assert "ETag" in get["responses"]["200"].get("headers", {}) or path == "/web/{name}"
    for headers in ({}, {"Accept-Encoding": "gzip"}):
        whole = daemon.get(concrete(path), headers=headers)
        check(get, whole)
        known = daemon.get(concrete(path), headers={**headers, "If-None-Match": whole.headers["ETag"]})
        assert known.status == 304
        check(get, known)


def test_busy_and_draining(start):
    daemon = start("tiny", {"engine.threads": 1, "engine.threads": 1, "engine.max_batch": 1, "limits.queue": 0, "limits.max_length": 10_000_000})
    with daemon.occupy(10_000_000):
        check(operation_of("/generate", "post"), daemon.post("/generate", {}))
        daemon.signal()
        daemon.wait_log("event=draining")
        check(operation_of("/generate", "get"), daemon.query(length=1))
        check(operation_of("/readyz", "get"), daemon.get("/readyz"))


def test_odd_answers(start):
    post = operation_of("/generate", "post")
    check(post, start("ending").post("/generate", {"prompt": "漢"}))
    labelled = start("labelled")
    check(post, labelled.post("/generate", {"label": "World", "length": 1}))
    check(operation_of("/models", "get"), labelled.get("/models"))
    check(operation_of("/models/{name}", "get"), labelled.get("/models/labelled"))


def test_every_key_of_a_model_is_described(daemon):
    described = DOCUMENT["components"]["schemas"]["Model"]["properties"]
    for model in daemon.get("/models").json()["models"]:
        assert set(model) <= set(described)


def test_methods_are_exactly_those_that_are_served(daemon):
    for path, item in DOCUMENT["paths"].items():
        example = path.replace("{name}", "app.js").replace("{id}", "j000001")
        allow = daemon.request("OPTIONS", example).headers["Allow"].split(", ")
        # /models/default is also a /models/{name}
        items = [other for name, other in DOCUMENT["paths"].items() if re.fullmatch(re.sub("{[a-z]+}", "[^/]+", name), example)]
        documented = {method.upper() for one in items for method in one if method in ("get", "post", "put", "delete", "patch")}
        assert set(allow) - {"HEAD", "OPTIONS"} == documented


def test_fields_are_exactly_those_that_are_served(daemon):
    schema = DOCUMENT["components"]["schemas"]["GenerateRequest"]
    parameters = operation_of("/generate", "get")["parameters"]
    assert {parameter["name"] for parameter in parameters if parameter["in"] == "query"} == set(schema["properties"])
    wrong = dict.fromkeys(schema["properties"])  # no field allows null
    errors = daemon.post("/generate", wrong).fields()
    assert set(errors) == set(wrong)
    assert not any("unknown field" in message for message in errors.values())


def test_options_of_the_sampler_are_those_of_the_document(daemon):
    """Compares the sampler's table, which makes flags, fields and the page's form, with the document."""
    answer = daemon.get("/web/sampler.json")
    check(operation_of("/web/{name}", "get"), answer)
    schemas = DOCUMENT["components"]["schemas"]
    said = ("type", "minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "default")
    for name, option in answer.json().items():
        for schema in (schemas["GenerateRequest"], schemas["OpenAIRequest"]):
            assert name in schema["properties"]
        documented = schemas["GenerateRequest"]["properties"][name]
        assert {key: option.get(key) for key in said} == {key: documented.get(key) for key in said}, name


def test_options_of_training_are_those_of_the_document(daemon):
    """Compares the trainer's table, which makes flags, fields and the page's form, with the document."""
    answer = daemon.get("/web/training.json")
    check(operation_of("/web/{name}", "get"), answer)
    table = answer.json()
    documented = {name: schema for name, schema in DOCUMENT["components"]["schemas"]["TrainRequest"]["properties"].items()
                  if name not in ("model", "dataset", "text", "init_from", "deploy")}
    assert set(table["options"]) == set(documented)
    said = ("type", "enum", "minimum", "maximum", "minLength", "maxLength")
    for name, option in table["options"].items():
        assert {key: option.get(key) for key in said} == {key: documented[name].get(key) for key in said}, name
        assert table["presets"]["none"]["options"].get(name) == documented[name].get("default"), name
    assert list(table["presets"]) == documented["preset"]["enum"]
    tiny = table["presets"]["tiny"]
    assert tiny["description"] and tiny["options"]["hidden"] == 256 and tiny["options"]["preset"] == "tiny"


def test_training_fields_are_exactly_those_that_are_served(daemon):
    schema = DOCUMENT["components"]["schemas"]["TrainRequest"]
    names = list(schema["properties"])
    for some in (names[::2], names[1::2]):  # an answer lists at most 32 errors
        errors = training.send(daemon, "POST", "/train", {"model": [], **dict.fromkeys(some, [])}).fields()
        assert set(errors) - {"model", "dataset"} == set(some) - {"model", "dataset"}
        assert not any("unknown field" in message for message in errors.values())
    answer = training.send(daemon, "POST", "/train", training.body("spare"))
    for name, value in answer.json()["options"].items():
        default = schema["properties"][name].get("default")
        assert name in training.SMALL or name == "threads" or value == default, name
    training.wait_end(daemon, answer.json()["id"])


def test_refusals_of_training(daemon, start):
    post = operation_of("/train", "post")
    check(post, training.send(daemon, "POST", "/train", training.body(hidden=0)))
    check(operation_of("/train", "get"), training.send(daemon, "GET", "/train?state=odd"))
    for path, method, operation in OPERATIONS:
        if path.startswith("/train/"):
            check(operation, send(daemon, path.replace("{id}", "none"), method, ADMIN))
    check(post, training.send(start(), "POST", "/train", training.body()))
