"""A strict reader of HTTP/1.1 answers (RFC 9112), and a check of each answer against openapi.yaml."""

import dataclasses
import json
import re

import jsonschema

from api_document import DOCUMENT, resolve

TYPES = {
    "application/json", "application/problem+json", "text/event-stream", "text/csv", "text/plain", "application/yaml", "text/html",
    "application/x-ndjson", "text/javascript", "text/css", "image/svg+xml",
}
STATUSES = {200, 201, 202, 204, 304, 400, 401, 403, 404, 405, 408, 409, 413, 414, 415, 417, 421, 422, 429, 431, 501, 503, 505, 507}
# Every operation may answer these: they depend on the head, the path, the body's size or the daemon's load.
ANYWHERE = {400, 408, 413, 414, 415, 421, 422, 429, 431, 503}
# libmicrohttpd itself answers these, in HTML and without an id, if it cannot read a request.
LIBRARY = {400, 413, 414, 431, 505}
FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ([\t -~\x80-\xff]*)")
ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
LARGEST_CHECKED = 20_000
LARGEST_HEAD = 7168  # limits.max_header; libmicrohttpd has memory for a little more
NOTHING = object()  # this answer never came


class Wrong(Exception):
    """An answer breaks a rule."""


def require(condition, *what):
    if not condition:
        raise Wrong(" ".join(str(one)[:300] for one in what))


@dataclasses.dataclass
class Answer:
    status: int
    headers: dict
    body: bytes = b""

    @property
    def last(self):
        return self.headers.get("connection", "").lower() == "close"

    @property
    def type(self):
        return self.headers.get("content-type", "").split(";")[0]


class Reader:
    """feed() takes bytes as they come. answers holds the complete answers. methods: those of the requests, in order; later
    requests count as GET."""

    def __init__(self, methods):
        self.methods = methods
        self.answers = []
        self.rest = bytearray()
        self.work = self._read()
        self.ended = False
        next(self.work)

    def feed(self, data):
        self.rest += data
        self.work.send(None)

    def end(self, cut):
        """No more bytes come. cut: the daemon may cut an answer off, because of something that the client did."""
        self.ended = True
        self.work.send(None)
        require(cut or not self.rest, "an answer is cut off:", bytes(self.rest[:200]))

    def _until(self, mark):
        at = 0
        while (found := self.rest.find(mark, at)) < 0:
            at = max(0, len(self.rest) - len(mark))
            yield
        piece = bytes(self.rest[:found])
        del self.rest[:found + len(mark)]
        return piece

    def _take(self, n):
        while len(self.rest) < n:
            yield
        piece = bytes(self.rest[:n])
        del self.rest[:n]
        return piece

    def _head(self):
        start, *lines = (yield from self._until(b"\r\n\r\n")).split(b"\r\n")
        match = re.fullmatch(rb"HTTP/1\.[01] (\d{3}) [ -~]*", start)
        require(match, "no status line:", start)
        headers = {}
        for line in lines:
            field = FIELD.fullmatch(line)
            require(field, "no header line:", line)
            name = field[1].decode().lower()
            require(name not in headers or name in ("vary", "set-cookie"), "a header comes twice:", lines)
            headers[name] = field[2].decode("latin-1")
        return Answer(int(match[1]), headers)

    def _chunks(self):
        body = bytearray()
        while True:
            size = yield from self._until(b"\r\n")
            require(re.fullmatch(rb"[0-9a-fA-F]{1,8}", size), "no chunk size:", size)
            data = yield from self._take(int(size, 16))
            require((yield from self._take(2)) == b"\r\n", "a chunk has no end")
            if not data:
                return bytes(body)
            body += data

    def _body(self, answer, method):
        length, coding = answer.headers.get("content-length"), answer.headers.get("transfer-encoding")
        require(length is None or coding is None, "a length and a coding:", answer.headers)
        if method == "HEAD" or answer.status in (204, 304):
            require(answer.status != 204 or (coding is None and length in (None, "0")), "204 with a body:", answer.headers)
            return b""
        if coding is not None:
            require(coding == "chunked", "coding", coding)
            return (yield from self._chunks())
        if length is not None:
            require(length.isdigit(), "length", length)
            return (yield from self._take(int(length)))
        require(answer.last, "a body without an end:", answer.headers)
        while not self.ended:
            yield
        return (yield from self._take(len(self.rest)))

    def _read(self):
        yield
        while True:
            answer = yield from self._head()
            if answer.status == 100:
                require(not answer.headers, "100 with headers")
                continue
            number = len(self.answers)
            answer.body = yield from self._body(answer, self.methods[number] if number < len(self.methods) else "GET")
            require(not self.answers or not self.answers[-1].last, "an answer after the last one")
            self.answers.append(answer)


# --- Judging ---


def no_constant(text):
    raise ValueError(f"{text} is not JSON")


def parse(text):
    try:
        return json.loads(text, parse_constant=no_constant)
    except ValueError as error:
        raise Wrong(f"no JSON ({error}): {text[:300]!r}") from error


def check_events(body):
    require(body == b"" or body.endswith(b"\n\n"), "a stream ends within an event:", body[-100:])
    for line in body.decode().split("\n"):
        name, colon, value = line.partition(": ")
        require(line in ("", ":") or colon and name in ("data", "id", "event", ""), "no line of a stream:", line)
        if name == "data" and value != "[DONE]":
            parse(value)


def check_body(answer, method):
    if method == "HEAD" or answer.status in (204, 304):
        return
    require(answer.type in TYPES, "type", answer.headers)
    if answer.type == "application/x-ndjson":
        require(answer.body.endswith(b"}\n"), "a stream ends within a line:", answer.body[-100:])
        for line in answer.body.splitlines():
            parse(line)
    elif answer.type.endswith("json"):
        document = parse(answer.body)
        require(answer.body.endswith(b"\n"), "no end of line:", answer.body[-50:])
        if answer.type == "application/problem+json":
            require(document["status"] == answer.status and document["detail"], "problem", document)
    elif answer.type == "text/event-stream":
        check_events(answer.body)


VALIDATORS = {}


def validator(key, schema):
    if key not in VALIDATORS:
        whole = {"components": DOCUMENT["components"], "allOf": [schema]}
        VALIDATORS[key] = jsonschema.Draft202012Validator(whole)
    return VALIDATORS[key]


def check_operation(answer, request):
    """Checks that openapi.yaml has this answer for the operation."""
    operation = request.operation
    responses = operation.node["responses"]
    require(str(answer.status) in responses or answer.status in ANYWHERE, operation.name, "answers", answer.status, answer.body)
    content = resolve(responses.get(str(answer.status), {})).get("content", {})
    if request.method == "HEAD" or not content:
        return
    require(answer.type in content or answer.status in ANYWHERE, operation.name, answer.status, "has the type", answer.type)
    schema = content.get(answer.type, {}).get("schema")
    if schema and len(answer.body) < LARGEST_CHECKED:
        error = next(validator((operation.name, answer.status, answer.type), schema).iter_errors(json.loads(answer.body)), None)
        require(error is None, operation.name, answer.status, "is not as openapi.yaml says:", error and error.message, answer.body)


def judge(answer, request, sound):
    require(answer.status in STATUSES, "status", answer.status, answer.body)
    require("date" in answer.headers, "no Date:", answer.headers)
    large = request and len(request.data()) - len(request.body) > LARGEST_HEAD
    if (large or not sound) and answer.last and answer.status in LIBRARY and not answer.type and answer.body.startswith(b"<html>"):
        return
    check_body(answer, request.method if request else "GET")
    require(ID.fullmatch(answer.headers.get("x-request-id", "")), "no X-Request-Id:", answer.status, answer.headers)
    if not sound or not request:
        return
    if request.id:
        require(answer.headers["x-request-id"] == request.id, "another X-Request-Id:", answer.headers, request.id)
    if request.operation:
        check_operation(answer, request)
