"""Cases of the fuzzer. A case is what one client does on one connection. It depends only on its seed and number."""

import base64
import dataclasses
import gzip
import json
import pathlib
import random
import urllib.parse

import schema_values
from api_document import DOCUMENT, resolve

ROOT = pathlib.Path(__file__).resolve().parents[2]
ADMIN = "admin-token-of-the-tests"
GENERATE = "generate-token-of-the-tests"
generate_tokens = False  # the daemon wants tokens for texts; a case then has other bytes
MODEL_FILE = (ROOT / "tests/golden/data/keras/k208_lstm_list.h5").read_bytes()
NAMES = ["tiny", "tiny", "tiny", "a", "b", "m.1", "default", "none"]
ODD_NAMES = ["..", "%2e%2e", "%00", "a%2fb", "%", "%zz", "\xe4", "x" * 300, "a b", "", "%ff", "tiny%20", "TINY", ".", "a/../b"]
WEIGHTS = {"generate": 12, "generateByQuery": 10, "openaiCompletions": 8, "score": 5, "inspect": 5, "importModel": 0.3, "train": 2}
ENDLESS = {"jobEvents"}


@dataclasses.dataclass
class Operation:
    path: str
    method: str
    node: dict

    @property
    def name(self):
        return self.node["operationId"]

    @property
    def admin(self):
        return self.node.get("security") == [{"bearer": ["admin"]}]


@dataclasses.dataclass
class Request:
    """Bytes of one request. operation: the operation of openapi.yaml that answers it, or None if that is not sure."""

    method: str
    operation: Operation | None
    head: list  # of lines
    body: bytes = b""
    id: str | None = None
    chunked: bool = False

    def data(self):
        return b"\r\n".join(self.head) + b"\r\n\r\n" + self.body


@dataclasses.dataclass
class Case:
    """sound: requests that every reader reads alike; each gets an answer. steps: ("send", bytes), ("pause", seconds).
    end: the last act: "read" (all answers), "half" (close the sending half), "close", "reset"."""

    number: int
    kind: str
    source: str
    requests: list
    steps: list
    end: str
    sound: bool

    def data(self):
        return b"".join(what for step, what in self.steps if step == "send")


OPERATIONS = [
    Operation(path, method.upper(), item[method])
    for path, item in DOCUMENT["paths"].items()
    for method in ("get", "post", "put", "delete")
    if method in item
]


# --- Sound requests ---


def path_of(rng, operation):
    """Returns the path, and whether this operation serves it."""
    path, sure = operation.path, True
    if "{name}" in path:
        names = ["app.js", "style.css"] if path.startswith("/web") else NAMES
        name = rng.choice(names)
        if rng.random() < 0.1:
            name = rng.choice(ODD_NAMES)
        # "default" has a path of its own beside {name}
        sure = name in names and name != "default"
        path = path.replace("{name}", name)
    return path.replace("{id}", f"j{rng.randrange(12):06}" if rng.random() < 0.95 else rng.choice(ODD_NAMES)), sure


def query_of(rng, operation):
    rows = [resolve(row) for row in operation.node.get("parameters", ()) if resolve(row)["in"] == "query"]
    pairs = []
    for row in rows:
        if rng.random() < 3 / (len(rows) + 3):
            schema = row.get("schema", {"type": "object"})
            value = schema_values.valid(rng, schema) if rng.random() < 0.8 else schema_values.odd(rng)
            if row["name"] == "length" and rng.random() < 0.9:
                value = rng.randrange(1, 40)
            pairs += [(row["name"], item) for item in (value if isinstance(value, list) else [value])]
    if rng.random() < 0.05:
        pairs.append((schema_values.text(rng, 20), schema_values.text(rng, 20)))
    parts = []
    for name, value in pairs[:60]:
        spelt = value if isinstance(value, str) else json.dumps(value)
        parts.append(urllib.parse.quote(name) + "=" + urllib.parse.quote(spelt.encode("utf-8", "replace")[:3000]))
    text = "&".join(parts)
    if rng.random() < 0.06:
        text += rng.choice(["&", "&&", "=", "&=", "&a", "%", "&prompt=%f", "&prompt=%ff", "&length=1&length=2", "&prompt=%00", "#x"])
    text = text[:4000]  # beyond limits.max_url, libmicrohttpd may answer itself: spoil_head()
    return "?" + text if text or rng.random() < 0.02 else ""


def tame(rng, operation, value):
    """Makes most generations short and most trainings small. Otherwise they would take all the time."""
    if not isinstance(value, dict) or rng.random() < 0.03:
        return value
    if operation.name in ("generate", "openaiCompletions"):
        name = "length" if operation.name == "generate" else "max_tokens"
        value[name] = rng.randrange(1, 40) if isinstance(value.get(name, 1), int) else value[name]
        if "session" in value and rng.random() < 0.9:
            value["session"] = f"s{rng.randrange(8)}"
    if operation.name == "train":
        value |= {"hidden": rng.choice([1, 4, 16]), "layers": 1, "threads": 1, "text": schema_values.text(rng, 200) * 5,
                  "model": rng.choice(["a", "b"]), "epochs": rng.choice([1, 2, 1000])}
    if "model" in value and operation.name != "train" and rng.random() < 0.7:
        value["model"] = rng.choice(NAMES)
    if operation.name == "setDefaultModel":
        value["name"] = rng.choice(NAMES)
    return value


def json_body(rng, operation, schema):
    how = rng.choices(["valid", "odd", "wild"], [60, 30, 10])[0]
    if how == "wild":
        return schema_values.body(rng, schema, how)
    value = tame(rng, operation, schema_values.document(rng, schema, how))
    literal = schema_values.Literal(schema_values.write(rng, value))
    return schema_values.body(rng, {"const": literal}, "valid")


def dataset_body(rng):
    lines = [schema_values.text(rng, 60) for _ in range(rng.choice([1, 5, 200]))]
    kind = rng.choice(["text/plain", "text/csv", "application/x-ndjson", "application/json", "text/tab-separated-values"])
    data = {
        "text/csv": "label,text\n" + "\n".join(f'a,"{line}"' for line in lines),
        "application/x-ndjson": "\n".join(json.dumps({"text": line}) for line in lines),
        "application/json": json.dumps([{"text": line} for line in lines]),
    }.get(kind, "\n".join(lines)).encode("utf-8", "replace")
    packed = rng.random()
    if packed < 0.15:
        data = gzip.compress(data, 1, mtime=0)
    elif packed < 0.3:
        data = data.decode().encode("utf-16")
    return kind, mutate(rng, data, 3) if rng.random() < 0.3 else data


def form_body(rng):
    file = mutate(rng, MODEL_FILE, 4) if rng.random() < 0.5 else MODEL_FILE
    parts = [("vocabulary", b'["a","b","c","d","e","f"]'), ("file", file)]
    rng.shuffle(parts)
    if rng.random() < 0.2:
        parts.append((rng.choice(["file", "x", "vocabulary_from_text", ""]), schema_values.text(rng).encode("utf-8", "replace")))
    data = b"".join(b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%b\r\n' % (name.encode(), part) for name, part in parts)
    return rng.choice(["multipart/form-data; boundary=x"] * 5 + ["multipart/form-data", "multipart/form-data; boundary="]), (
        data + rng.choice([b"--x--\r\n"] * 5 + [b"", b"--x", b"--"]))


def content_of(rng, operation):
    """Returns Content-Type, or None, and a body."""
    if operation.method not in ("POST", "PUT"):
        return (None, b"") if rng.random() < 0.97 else ("application/json", b"{}")
    content = operation.node.get("requestBody", {}).get("content", {})
    if "multipart/form-data" in content:
        return form_body(rng) if rng.random() < 0.8 else ("application/octet-stream", mutate(rng, MODEL_FILE, 2))
    if "text/plain" in content:
        return dataset_body(rng)
    if not content:
        return (None, b"") if rng.random() < 0.8 else ("application/json", rng.choice([b"{}", b"", b"x", b'{"a":1}']))
    kind = "application/json" if rng.random() < 0.97 else rng.choice([None, "text/plain", "application/json;charset=x", "a"])
    return kind, json_body(rng, operation, content["application/json"]["schema"])


def token_of(rng, operation):
    """Returns a token. Few are wrong: after thousands of guesses the daemon refuses all tokens."""
    chance = rng.random()
    if chance < 0.005:
        return rng.choice([b"Bearer wrong", b"Bearer", b"Basic " + base64.b64encode(b"a:b"), b"Bearer " + b"x" * 3000])
    if generate_tokens and not operation.admin and chance > 0.1:
        return b"Bearer " + GENERATE.encode()
    if operation.admin and chance < 0.95 or chance < 0.05:
        return b"Bearer " + ADMIN.encode()
    return None


EXTRA = [
    b"Accept: application/json", b"Accept: text/csv", b"Accept: application/x-ndjson", b"Accept: text/csv;q=0.5, application/json;q=0", b"Accept: */*;q=x,,;",
    b"Accept: " + b"a/b;q=0.1," * 60, b"Accept-Encoding: gzip", b"Origin: https://app.example.org", b"Origin: null", b"Origin: x y",
    b"Access-Control-Request-Method: POST", b"Last-Event-ID: 1", b"Last-Event-ID: 99999999999999999999", b"Last-Event-ID: x",
    b"Cookie: a=b; c=d", b"User-Agent: \xc3\xa4\xff", b"X-Forwarded-For: 1.2.3.4, unknown",
    b"Forwarded: for=\"[::1]:80\"", b"Idempotency-Key: k1", b"Idempotency-Key: k2", b"Idempotency-Key: ", b"If-None-Match: *",
    b"Range: bytes=0-1", b"TE: trailers", b"Upgrade: h2c", b"Connection: keep-alive", b"Connection: Upgrade, HTTP2-Settings",
    b"Content-Encoding: identity", b"Content-Encoding: gzip", b"Access-Control-Request-Headers: authorization",
    b"Accept-Language: de", b"X-HTTP-Method-Override: DELETE", b"Date: yesterday", b"Prefer: " + b"y" * 900,
]
HOSTS = [b"x", b"x", b"X:80", b"localhost", b"127.0.0.1", b"[::1]:1", b"x.", b"evil.example.org", b"a b", b"", b"x:y", b"[::", b"*"]


def chunk(rng, data):
    """Makes a sound chunked body."""
    out = b""
    while data:
        n = rng.choice([1, 7, 100, 5000, len(data)])
        size = b"%x" % len(data[:n])
        if rng.random() < 0.1:
            size = rng.choice([b"000" + size, size.upper(), size + b";a=b", size + b';a="b c"'])
        out += size + b"\r\n" + data[:n] + b"\r\n"
        data = data[n:]
    return out + b"0\r\n" + (b"X-Trailer: 1\r\n" if rng.random() < 0.1 else b"") + b"\r\n"


def sound_request(rng, operation=None, last=True):
    while operation is None or (operation.name in ENDLESS and not last):
        operation = rng.choices(OPERATIONS, [WEIGHTS.get(one.name, 1) for one in OPERATIONS])[0]
    path, sure = path_of(rng, operation)
    method = operation.method
    if rng.random() < 0.06:
        method = rng.choice(["HEAD", "OPTIONS", "PATCH", "TRACE", "get", "DELETE" if operation.admin else "BREW"])
        sure = sure and method == "HEAD" and operation.method == "GET"
    kind, body = content_of(rng, operation)
    body = body if method not in ("HEAD", "OPTIONS", "TRACE") else b""
    target = path + query_of(rng, operation)
    if rng.random() < 0.01:
        target = "http://" + rng.choice(["x", "evil", "localhost:1", ""]) + target
    start = f"{method} {target}".replace(" ", "%20").replace("%20", " ", 1).encode("latin-1", "replace")
    version = b" HTTP/1.0" if last and rng.random() < 0.05 else b" HTTP/1.1"  # a request after HTTP/1.0 may get no answer
    lines = [b"Host: " + (b"x" if rng.random() < 0.95 else rng.choice(HOSTS))]
    chunked = bool(body) and version.endswith(b"1.1") and rng.random() < 0.2
    if body or method in ("POST", "PUT"):
        lines.append(b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(body))
    if kind is not None:
        lines.append(b"Content-Type: " + kind.encode())
    token, id = token_of(rng, operation), None
    if token:
        lines.append(b"Authorization: " + token)
    if rng.random() < 0.3:
        id = f"case{rng.randrange(10**9)}"
        lines.append(b"X-Request-Id: " + id.encode())
    if body and rng.random() < 0.05:
        lines.append(b"Expect: 100-continue")
    for _ in range(rng.choice([0, 0, 1, 2, 8])):
        lines.append(rng.choice(EXTRA))
    if last and rng.random() < 0.6:
        lines.append(b"Connection: close")
    rng.shuffle(lines)
    return Request(method, operation if sure else None, [start + version, *lines], chunk(rng, body) if chunked else body, id, chunked)


# --- Broken requests ---------


def mutate(rng, data, edits):
    """Changes bytes, flips bits, removes or doubles pieces, or cuts the end."""
    data = bytearray(data)
    for _ in range(rng.randint(1, edits)):
        if not data:
            break
        at = rng.randrange(len(data))
        n = min(rng.randint(1, 16), len(data) - at)
        how = rng.randrange(5)
        if how == 0:
            data[at] = rng.choice(b"\0\t\n\r :,;=\"/%\x7f\x80\xff09aZ")
        elif how == 1:
            data[at] ^= 1 << rng.randrange(8)
        elif how == 2:
            del data[at:at + n]
        elif how == 3:
            data[at:at] = data[at:at + n]
        elif rng.random() < 0.3:
            del data[at:]
    return bytes(data)


ODD_LINES = [
    b"Content-Length: 5", b"Content-Length: +5", b"Content-Length: 5, 5", b"Content-Length: -1", b"Content-Length: 0x5", b"Content-Length:",
    b"Content-Length: 18446744073709551616", b"Content-Length: 9223372036854775807", b"Content-Length : 5", b"Content-Length: 5\0",
    b"Content-Length: 4294967296", b"Transfer-Encoding: chunked", b"Transfer-Encoding : chunked", b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding: identity", b"Transfer-Encoding: xchunked", b"Transfer-Encoding:\x0bchunked",
    b"Host: y", b"Host:", b"Host: x\r\n y", b"X-A: b\r\n c", b" X-A: b", b"X-A: b\0c", b"X-A\0: b", b"X-A", b": b", b"", b"X A: b",
    b"X-A: b\nX-B: c", b"X-A: b\rX-B: c", b"X-\xc3\xa4: b", b"Expect: 100-continue", b"Expect: a-miracle", b"Expect:",
    b"Authorization: Bearer " + ADMIN.encode(), b"Authorization: Bearer " + ADMIN.encode() + b"\0junk", b"Authorization:",
    b"Authorization: bearer  " + ADMIN.encode(), b'Cookie: =;a="', b"Cookie: a=b;" + b"c=d;" * 300, b"Cookie: " + b'"' * 50, b"Cookie:",
    b"Cookie: ;;==,\t", b"X-Long: " + b"a" * 9000, b"X" * 5000 + b": b", b"X-Long: " + b"a" * 40_000, b"Content-Type: application/json",
    b"Content-Type: multipart/form-data; boundary=\"", b"Connection: close, keep-alive", b"Connection: " + b"close," * 40,
    b"X-Request-Id: a\x01b", b"X-Request-Id:", b"Accept: " + b"\xff" * 100, b"Origin: " + b"https://a" * 100,
]
ODD_STARTS = [
    b"GET /healthz", b"GET  /healthz HTTP/1.1", b"GET /healthz HTTP/2.0", b"GET /healthz HTTP/0.9", b"GET /healthz HTTP/1.1 ", b"\0\0",
    b"GET /healthz\t HTTP/1.1", b"G@T / HTTP/1.1", b"GET / HTTP/1.1\rX: y", b"GET /" + b"a" * 6000 + b" HTTP/1.1", b"* * *",
    b"GET /" + b"%41" * 8000 + b" HTTP/1.1", b"PRI * HTTP/2.0", b"\x16\x03\x01\x02\x00\x01\x00", b"OPTIONS * HTTP/1.1", b"GET * HTTP/1.1",
    b"CONNECT x:80 HTTP/1.1", b"GET http://x HTTP/1.1", b"GET http:// HTTP/1.1", b"GET //x//y HTTP/1.1", b"GET /?" + b"&" * 4000 + b" HTTP/1.1",
    b"GET /generate?" + b"a=%zz&" * 300 + b" HTTP/1.1", b"A" * 300 + b" / HTTP/1.1", b"GET / HTTP/1.9", b"GET / HTTP/11", b"get / http/1.1",
]
ODD_CHUNKS = [
    b"zz\r\n", b"-1\r\n", b"\r\n", b"ffffffffffffffff\r\n", b"10000000000000000\r\n", b"5\r\nabc", b"5\r\nabcdefgh\r\n", b"5\nabcde\n0\n\n",
    b"5;" + b"a" * 9000 + b"\r\nabcde\r\n", b"0\r\nX: " + b"a" * 9000, b"0\r\nX\r\n\r\n", b"0\r\n\0\r\n\r\n", b"0x5\r\nabcde\r\n", b" 5\r\nabcde\r\n",
    b"5 \r\nabcde\r\n", b"0\r\nContent-Length: 5\r\n\r\n", b"0\r\n X: y\r\n\r\n", b"00000000000000000000005\r\nabcde\r\n", b"7fffffffffffffff\r\n" + b"a" * 99,
]


def spoil_head(rng, request):
    for _ in range(rng.choice([1, 1, 2, 4])):
        how = rng.random()
        if how < 0.55:
            request.head.insert(rng.randint(1, len(request.head)), rng.choice(ODD_LINES))
        elif how < 0.7:
            request.head[0] = rng.choice(ODD_STARTS)
        elif how < 0.8:
            at = rng.randrange(len(request.head))
            request.head[at] = mutate(rng, request.head[at], 3)
        elif how < 0.9 and len(request.head) > 2:
            del request.head[rng.randrange(1, len(request.head))]
        else:
            request.head += [b"X-%d: %d" % (rng.randrange(99), i) for i in range(rng.choice([20, 60, 400]))]


def spoil_chunks(rng, request):
    request.head = [line for line in request.head if not line.startswith((b"Content-Length", b"Transfer-Enc"))]
    request.head.append(b"Transfer-Encoding: chunked")
    body = request.body if request.chunked else chunk(rng, request.body)
    cut = rng.randrange(len(body) + 1)
    request.body = rng.choice([body[:cut] + rng.choice(ODD_CHUNKS), rng.choice(ODD_CHUNKS) + body, mutate(rng, body, 3)])


# --- Connections ---


def cut_up(rng, data):
    """Returns the steps that send it: at once, in some pieces, or byte by byte at first."""
    how = rng.random()
    if how < 0.6:
        return [("send", data)]
    if how < 0.7:
        slow = rng.randint(1, 60)
        return [("send", data[i:i + 1]) for i in range(slow)] + [("send", data[slow:])]
    steps, cuts = [], sorted(rng.randrange(len(data) + 1) for _ in range(rng.randint(1, 5)))
    for begin, end in zip([0, *cuts], [*cuts, len(data)]):
        steps += [("send", data[begin:end]), ("pause", rng.choice([0, 0, 0.001, 0.01]))]
    return steps


KINDS = {"sound": 45, "head": 20, "chunks": 8, "bytes": 10, "leave": 12, "nothing": 1}


def make_case(seed, number):
    rng = random.Random(f"{seed}/{number}")
    kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
    source = f"127.{rng.randint(1, 250)}.{rng.randint(1, 250)}.{rng.randint(1, 250)}"
    count = rng.choice([1, 1, 1, 2, 3, 6]) if kind != "nothing" else 0
    requests = [sound_request(rng, last=i == count - 1) for i in range(count)]
    sound = kind == "sound"
    if not sound:
        for request in requests:  # if a request can be read in two ways, it is no HEAD in either
            request.head[0] = request.head[0].replace(b"HEAD ", b"GET ", 1)
            request.method = "GET" if request.method == "HEAD" else request.method
    if kind in ("head", "chunks"):
        (spoil_head if kind == "head" else spoil_chunks)(rng, rng.choice(requests))
    data = b"".join(request.data() for request in requests)
    if kind == "bytes":
        data = mutate(rng, data, 6)
    if kind == "leave":
        data = data[:rng.randrange(len(data) + 1)]
    endless = any(request.operation and request.operation.name in ENDLESS for request in requests)
    end = "read" if sound and not endless else rng.choice(["half", "half", "close", "reset"])
    return Case(number, kind, source, requests, cut_up(rng, data), end, sound)
