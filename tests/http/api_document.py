"""openapi.yaml as a Python object: its operations, and a check of answers against them."""

import pathlib

import jsonschema
import yaml

DOCUMENT = yaml.load((pathlib.Path(__file__).resolve().parents[2] / "openapi.yaml").read_text(), yaml.CSafeLoader)
OPERATIONS = [
    (path, method, item[method])
    for path, item in DOCUMENT["paths"].items()
    for method in ("get", "post", "put", "delete")
    if method in item
]
NAMES = {
    "/datasets/{name}": "titles",
    "/models/{name}": "spare",
    "/models/{name}/import": "imported",
    "/models/{name}/load": "spare",
    "/models/{name}/unload": "spare",
    "/v1/models/{name}": "tiny",
    "/web/{name}": "app.js",
}


def resolve(node):
    while isinstance(node, dict) and "$ref" in node:
        at = DOCUMENT
        for part in node["$ref"].removeprefix("#/").split("/"):
            at = at[part]
        node = at
    return node


def validate(value, schema):
    whole = {"components": DOCUMENT["components"], "allOf": [schema]}
    jsonschema.Draft202012Validator(whole, format_checker=jsonschema.FormatChecker()).validate(value)


def check(operation, answer):
    """Checks status, content type, headers and body of an answer against the operation."""
    responses = operation["responses"]
    assert str(answer.status) in responses, (answer.status, answer.body)
    response = resolve(responses[str(answer.status)])
    if answer.status in (204, 304):
        assert answer.body == b"" and "content" not in response
        return
    content_type = answer.headers["Content-Type"].split(";")[0]
    assert content_type in response["content"]
    if content_type.endswith("json"):
        assert answer.body.endswith(b"}\n"), "a terminal's prompt would stand behind the answer"
    for name, header in response.get("headers", {}).items():
        value = answer.headers[name]
        if value is None and resolve(header).get("required") is False:  # checked by itself: most answers lack it
            continue
        assert value is not None, name
        schema = resolve(header)["schema"]
        validate(int(value) if schema["type"] == "integer" else value, schema)
    schema = response["content"][content_type].get("schema")
    if schema:
        validate(answer.json(), schema)


def concrete(path, id="j000001"):
    return path.replace("{name}", NAMES.get(path, "x")).replace("{id}", id)


def operation_of(path, method):
    return DOCUMENT["paths"][path][method]


def edges(schema):
    """Returns values at the bounds of a field and just beyond them: [(value, whether it is allowed)]."""
    schema = resolve(schema)
    for one in schema.get("oneOf", schema.get("anyOf", [])):
        yield from edges(one)
    types = schema.get("type", [])
    types = [types] if isinstance(types, str) else types
    if "integer" in types or "number" in types:
        beyond = 1 if "integer" in types else 1e-6
        for key, sign in (("minimum", -1), ("maximum", 1)):
            if key in schema:
                yield schema[key], True
                yield schema[key] + sign * max(beyond, abs(schema[key]) * beyond / 1e3 if beyond < 1 else 1), False
        for key, sign in (("exclusiveMinimum", 1), ("exclusiveMaximum", -1)):
            if key in schema:
                yield schema[key], False
                yield schema[key] + sign * beyond, True
    if "string" in types:
        for length, allowed in ((schema.get("minLength"), True), (schema.get("maxLength"), True)):
            if length is not None:
                yield "a" * length, allowed
        if schema.get("minLength", 0) > 0:
            yield "a" * (schema["minLength"] - 1), False
        if "maxLength" in schema:
            yield "a" * (schema["maxLength"] + 1), False
    if "array" in types and "maxItems" in schema:
        yield [f"a{i}" for i in range(schema["maxItems"])], True
        yield [f"a{i}" for i in range(schema["maxItems"] + 1)], False
