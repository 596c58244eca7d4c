"""Makes values for the schemas of openapi.yaml: valid ones, ones at and beyond a bound, ones of a wrong type, huge and nested
ones. Also writes them as JSON, as a hostile client would. All come from one random generator, so the same seed gives the same
bytes.
"""

import json

from api_document import resolve

LETTERS = " abcdefghijklmnopqrstuvwxyzABC0123456789.,'-\u00e4\u00e9\u20ac"
STRANGE = ["\0", "\x7f", "\u0085", "\u200b", "\u2028", "\ufeff", "\ufffd", "\U0001f600", "\u0301", '"', "\\", "\n", "<eos>"]
NUMBERS = [0, -0.0, -1, 1, 2**31, 2**53 - 1, 2**53, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 0.5, 1e-320, 1e308, 10**40]
# Numbers and literals that only look like JSON, or that are JSON but difficult for readers. They are written as they are.
LITERALS = ["1e400", "-1e400", "1E+2", "1.0", "-0", "00", "0x10", "+1", ".5", "5.", "NaN", "Infinity", "True", "nul", "1" * 400]


class Literal(str):
    """A text that goes into JSON as it is."""


def text(rng, most=60):
    n = rng.choice([0, 1, 3, 10, 30, most])
    if n and rng.random() < 0.2:
        return "".join(rng.choice(STRANGE) if rng.random() < 0.3 else rng.choice(LETTERS) for _ in range(n))
    return "".join(rng.choices(LETTERS, k=n))


def valid_number(rng, schema, whole):
    low = schema.get("minimum", schema.get("exclusiveMinimum", 0))
    high = schema.get("maximum", schema.get("exclusiveMaximum", low + 20))
    near = min(high, low + 20)
    value = rng.choice([low, high, near, schema.get("default", low), rng.uniform(low, near)])
    return int(value) if whole else value


def valid(rng, schema, depth=0):
    """Returns a value that the schema allows, as far as that matters."""
    schema = resolve(schema)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return rng.choice(schema["enum"])
    if "oneOf" in schema:
        return valid(rng, rng.choice(schema["oneOf"]), depth)
    kind = schema.get("type", "string")
    kind = rng.choice(kind) if isinstance(kind, list) else kind
    if kind in ("integer", "number"):
        return valid_number(rng, schema, kind == "integer")
    if kind == "boolean":
        return rng.random() < 0.5
    if kind == "null":
        return None
    if kind == "array":
        return [valid(rng, schema.get("items", {}), depth + 1) for _ in range(rng.choice([0, 1, 2, 5]))]
    if kind == "object":
        return valid_object(rng, schema, depth)
    return text(rng, min(schema.get("maxLength", 60), 200))


def valid_object(rng, schema, depth):
    members = schema.get("properties", {})
    some = [name for name in members if name in schema.get("required", ()) or rng.random() < 3 / (len(members) + 3)]
    value = {name: valid(rng, members[name], depth + 1) for name in some}
    if isinstance(schema.get("additionalProperties"), dict):
        value |= {text(rng, 5): valid(rng, schema["additionalProperties"], depth + 1) for _ in range(rng.randrange(4))}
    return value


def nested(rng):
    depth = rng.choice([3, 50, 2000, 100_000])
    opening = rng.choice(["[", '{"a":', '[{"":'])
    return Literal(opening * depth + rng.choice(["", "1"]) + (rng.choice(["]", "}"]) * depth if rng.random() < 0.5 else ""))


def odd(rng):
    """Returns a value that no field takes, or only some fields take."""
    return rng.choice([
        lambda: None,
        lambda: rng.choice(NUMBERS),
        lambda: Literal(rng.choice(LITERALS)),
        lambda: text(rng, 3000),
        lambda: "a" * rng.choice([129, 1025, 70_000]),
        lambda: [text(rng, 3) for _ in range(rng.choice([0, 17, 2000]))],
        lambda: {text(rng, 3): rng.choice(NUMBERS) for _ in range(rng.choice([0, 1, 500]))},
        lambda: True,
        lambda: nested(rng),
        lambda: Literal('"\\ud800"'),
        lambda: Literal('"' + text(rng, 9).translate({34: None, 92: None}) + rng.choice(['', '\\', '\\u12', '\\x"', '\x01"'])),
    ])()


def document(rng, schema, how):
    """Returns a value for a body. how: "valid", "odd" (one or more fields are wrong) or "wild" (any value)."""
    if how == "wild":
        return odd(rng)
    value = valid(rng, schema)
    if how == "odd" and isinstance(value, dict):
        names = list(resolve(schema).get("properties", {"a": {}}))
        for _ in range(rng.choice([1, 1, 2, 6])):
            name = rng.choice(names)
            value[rng.choice([name, name, name, name.upper(), name[:-1], text(rng, 200)])] = odd(rng)
    return value


def write(rng, value):
    """Writes a value as JSON, in one of its spellings."""
    if isinstance(value, Literal):
        return str(value)
    if isinstance(value, dict):
        members = [f"{write(rng, str(key))}:{write(rng, item)}" for key, item in value.items()]
        if members and rng.random() < 0.02:
            members.append(members[0])
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(write(rng, item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=rng.random() < 0.5)


def body(rng, schema, how):
    data = bytearray(write(rng, document(rng, schema, how)).encode("utf-8", "surrogatepass"))
    if how == "wild" or rng.random() < 0.05:
        where = rng.randrange(len(data) + 1)
        data[where:where] = rng.choice([b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\0", b" " * 5000, b"}", b","])
    if rng.random() < 0.03:
        data[:0] = rng.choice([b"\xef\xbb\xbf", b"\xff\xfe", b"\n\n", b"\0"])
    if rng.random() < 0.03:
        data += rng.choice([b"{}", b"\0", b"\n", b"x", b"]"])
    if rng.random() < 0.002:
        data += b" " * rng.choice([2**20, 3 * 2**20])
    return bytes(data)
