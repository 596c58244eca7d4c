"""Cross-origin requests, as in the Fetch standard: who may read answers, and what a preflight gets."""

import pytest

from conftest import Daemon

APP, LOCAL, OTHER = "https://app.example.org", "http://localhost:3000", "https://evil.example.org"
TOKEN = "generate-token-of-the-tests"


@pytest.fixture(scope="module")
def shared(models):
    """This daemon wants a token and names two origins."""
    running = Daemon(models["tiny"], {"server.cors_origins": [APP, LOCAL], "auth.generate_tokens": TOKEN})
    yield running
    running.close()


def cors_headers(answer):
    return {name.lower() for name in answer.headers if name.lower().startswith("access-control-")}


def preflight(daemon, path, origin, method="POST", headers="authorization,content-type,x-stainless-os"):
    asked = {"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
    return daemon.request("OPTIONS", path, headers=asked)


@pytest.mark.parametrize("path", ["/generate", "/v1/completions", "/models/tiny", "/models/tiny/load"])
@pytest.mark.parametrize("origin", [APP, LOCAL])
def test_preflight_is_answered_without_a_token(shared, path, origin):
    answer = preflight(shared, path, origin)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["Access-Control-Allow-Origin"] == origin
    assert answer.headers["Access-Control-Allow-Methods"] == answer.headers["Allow"]
    # "*" allows every header except this one.
    assert answer.headers["Access-Control-Allow-Headers"] == "*, Authorization"
    assert answer.headers["Access-Control-Max-Age"] == "600"
    assert answer.headers["Vary"] == "Origin"
    assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize("origin", [OTHER, "null", APP + ":444", APP + ".evil.org", "http://app.example.org"])
def test_other_origins_are_told_nothing(shared, origin):
    answers = [
        preflight(shared, "/generate", origin),
        shared.request("GET", "/generate?length=1", headers={"Origin": origin}, token=TOKEN),
    ]
    assert [answer.status for answer in answers] == [204, 200]
    for answer in answers:
        assert cors_headers(answer) == set()
        assert answer.headers["Vary"] == "Origin"


def test_answers_and_refusals_can_be_read(shared):
    """If a page cannot read a 401 or a 413, it shows "network error" instead of the reason."""
    origin = {"Origin": APP}
    json_body = {**origin, "Content-Type": "application/json"}
    answers = {
        200: shared.request("GET", "/generate?length=1", headers=origin, token=TOKEN),
        401: shared.request("GET", "/generate?length=1", headers=origin),
        404: shared.request("GET", "/nothing", headers=origin),
        405: shared.request("DELETE", "/generate", headers=origin, token=TOKEN),
        413: shared.request("POST", "/generate", b" " * 2_000_000, json_body, token=TOKEN),
        414: shared.request("GET", "/" + "a" * 7000, headers=origin),
        422: shared.request("POST", "/generate", b'{"length":0}', json_body, token=TOKEN),
        431: shared.request("GET", "/healthz", headers={**origin, "X-Long": "a" * 7200}),
    }
    for status, answer in answers.items():
        assert answer.status == status
        assert answer.headers["Access-Control-Allow-Origin"] == APP, status
        assert answer.headers["Access-Control-Expose-Headers"] == "*"


def test_streams_can_be_read(shared):
    headers = {"Origin": APP, "Content-Type": "application/json"}
    answer = shared.request("POST", "/generate", b'{"length":3,"stream":true}', headers, token=TOKEN)
    assert answer.headers["Access-Control-Allow-Origin"] == APP
    assert answer.body.endswith(b"data: [DONE]\n\n")


def test_options_that_is_no_preflight(shared):
    answer = shared.request("OPTIONS", "/generate", headers={"Origin": APP})
    assert answer.status == 204
    assert cors_headers(answer) == {"access-control-allow-origin", "access-control-expose-headers"}


def test_no_origin_is_allowed_by_default(daemon):
    for answer in (preflight(daemon, "/generate", APP), daemon.get("/generate?length=1", headers={"Origin": APP})):
        assert answer.status in (200, 204)
        assert cors_headers(answer) == set()
        assert "Vary" not in answer.headers


def test_all_origins(start):
    daemon = start("tiny", {"server.cors_origins": "*"})
    assert preflight(daemon, "/generate", OTHER).headers["Access-Control-Allow-Origin"] == "*"
    assert daemon.get("/healthz", headers={"Origin": "null"}).headers["Access-Control-Allow-Origin"] == "*"


def test_longest_replies_to_heads_at_their_limit(start):
    """The HTTP library's memory has room for the reply's head beside the part of the next request that it has already read."""
    origin = "https://" + "a" * 188 + ".org"
    daemon = start("tiny", {"server.cors_origins": origin})
    head = (
        "OPTIONS /models/tiny HTTP/1.1\r\nHost: x\r\nX-Request-Id: %s\r\nOrigin: %s\r\n"
        "Access-Control-Request-Method: DELETE\r\nX-Long: \r\n\r\n" % ("i" * 128, origin)
    )
    for size in range(7168 - 140, 7168 + 1):
        request = head.replace("X-Long: ", "X-Long: " + "a" * (size - 5 * 64 - len(head))).encode()
        last = b"OPTIONS / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        with daemon.socket() as connection:
            connection.sendall(request * 2 + last)
            got = b"".join(iter(lambda: connection.recv(65536), b""))
        assert got.count(b"HTTP/1.1 204 ") == 3, size
        assert got.count(b"Access-Control-Allow-Origin: %s\r\n" % origin.encode()) == 2
    assert daemon.request("GET", "/healthz", headers={"X-Long": "a" * 7000}).status == 431


NO_ORIGINS = [APP + "/", "app.example.org", "https://", APP.upper(), "https://" + "a" * 193, "https://a b"]


@pytest.mark.parametrize("origin", NO_ORIGINS)
def test_what_is_no_origin_is_refused_at_the_start(models, origin):
    with pytest.raises(AssertionError, match="server.cors_origins: .* is neither an origin"):
        Daemon(models["tiny"], {"server.cors_origins": origin})
