"""Bearer tokens: who needs one, refusals, digests, files, rotation, and the delay for guesses."""

import hashlib
import re
import signal

import pytest

from conftest import ADMIN, ROOT

GENERATE = "generate-token-of-the-tests"
ROUTES = [
    ("GET", "/generate"),
    ("POST", "/generate"),
    ("POST", "/score"),
    ("POST", "/inspect"),
    ("POST", "/tokenize"),
    ("POST", "/detokenize"),
    ("GET", "/models"),
    ("GET", "/models/tiny"),
    ("POST", "/v1/completions"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/tiny"),
]
OPEN = ["/", "/web/app.js", "/client.js", "/client.d.ts", "/openapi.yaml", "/healthz", "/readyz"]


@pytest.fixture(scope="module")
def closed(models):
    """This daemon wants a token for everything."""
    from conftest import Daemon

    running = Daemon(models["tiny"], {"auth.generate_tokens": GENERATE})
    yield running
    running.close()


def ask(daemon, method, path, token=None):
    headers = {"Content-Type": "application/json"} if method == "POST" else {}
    return daemon.request(method, path, b"{}" if method == "POST" else None, headers, token)


def test_generation_is_open_where_no_generate_token_is_configured(daemon):
    assert daemon.query(length=1).status == 200
    assert daemon.get("/generate?length=1", token="whatever-it-is-nobody-asks").status == 200


@pytest.mark.parametrize("method, path", ROUTES)
def test_generation_needs_a_token_where_one_is_configured(closed, method, path):
    answer = ask(closed, method, path)
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="lstmd"'
    if path.startswith("/v1/"):
        assert answer.json()["error"]["code"] == "invalid_api_key"
        assert "Authorization: Bearer" in answer.json()["error"]["message"]
    else:
        assert "scope generate" in answer.problem(401)["detail"]
    assert ask(closed, method, path, GENERATE).status not in (401, 403, 429)
    assert ask(closed, method, path, ADMIN).status not in (401, 403, 429)


@pytest.mark.parametrize("path", OPEN)
def test_probes_page_and_contract_need_none(closed, path):
    assert closed.get(path).status == 200


def test_options_needs_none(closed):
    assert closed.request("OPTIONS", "/generate").status == 204


def test_what_is_not_there_is_404_without_a_token(closed):
    assert closed.get("/nothing").status == 404
    assert closed.request("DELETE", "/generate").status == 405


def test_unknown_token(start):
    daemon = start("tiny", {"auth.generate_tokens": GENERATE})
    answer = ask(daemon, "GET", "/models", GENERATE + "x")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="lstmd", error="invalid_token"'
    assert answer.problem(401)
    line = daemon.wait_log("token refused")
    assert "client=127.0.0.1" in line and f"id={answer.headers['X-Request-Id']}" in line
    assert not any(GENERATE in line for line in daemon.lines)


def test_a_token_is_wanted_before_the_body(closed):
    with closed.socket() as connection:
        connection.sendall(
            b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        assert connection.recv(4096).startswith(b"HTTP/1.1 401 ")


def test_digests_files_and_environment(start, tmp_path):
    digest = hashlib.sha256(GENERATE.encode()).hexdigest()
    file = tmp_path / "tokens"
    file.write_text("# Ann\nanns-token-for-generating\n# Bob\nbobs-token-for-generating\n")
    daemon = start("tiny", {"auth.generate_token_file": file}, {"LSTMD_AUTH_GENERATE_TOKENS": f"sha256:{digest},token-number-three"})
    for token in (GENERATE, "token-number-three", "anns-token-for-generating", "bobs-token-for-generating", ADMIN):
        assert ask(daemon, "GET", "/models", token).status == 200
    assert ask(daemon, "GET", "/models", digest).status == 401


def reload(daemon):
    with daemon.changed:
        daemon.lines.clear()
    daemon.process.send_signal(signal.SIGHUP)
    return daemon.wait_log("event=reloaded|event=\"not reloaded\"|event=\"needs a restart\"")


def test_sighup_rotates_tokens(start, tmp_path):
    file = tmp_path / "tokens"
    file.write_text("the-first-token-of-all\n")
    daemon = start("tiny", {"auth.generate_token_file": file})
    assert ask(daemon, "GET", "/models", "the-first-token-of-all").status == 200
    file.write_text("the-second-token-of-all\n")
    assert ask(daemon, "GET", "/models", "the-first-token-of-all").status == 200
    assert "event=reloaded" in reload(daemon)
    assert ask(daemon, "GET", "/models", "the-first-token-of-all").status == 401
    assert ask(daemon, "GET", "/models", "the-second-token-of-all").status == 200


@pytest.mark.parametrize("content", ["", "short\n", None])
def test_a_bad_file_keeps_the_old_tokens(start, tmp_path, content):
    file = tmp_path / "tokens"
    file.write_text("the-first-token-of-all\n")
    daemon = start("tiny", {"auth.generate_token_file": file})
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    line = reload(daemon)
    assert "not reloaded" in line and "level=error" in line and str(file) in line
    assert ask(daemon, "GET", "/models", "the-first-token-of-all").status == 200
    assert ask(daemon, "GET", "/models").status == 401


def test_sighup_reads_the_configuration_and_says_what_needs_a_restart(start, tmp_path):
    file = tmp_path / "lstmd.yaml"
    file.write_text("auth: {generate_tokens: [the-first-token-of-all]}\n")
    daemon = start("tiny", (), {"LSTMD_CONFIG": str(file)})
    assert ask(daemon, "GET", "/models", "the-first-token-of-all").status == 200
    file.write_text("auth: {generate_tokens: [the-second-token-of-all]}\nlimits: {queue: 7}\n")
    assert "event=reloaded" in reload(daemon)
    assert "key=limits.queue" in daemon.wait_log("needs a restart")
    assert ask(daemon, "GET", "/models", "the-first-token-of-all").status == 401
    assert ask(daemon, "GET", "/models", "the-second-token-of-all").status == 200
    file.write_text("auth: {generate_token: [a-misspelt-key-is-refused]}\n")
    assert "auth.generate_tokens" in reload(daemon)
    assert ask(daemon, "GET", "/models", "the-second-token-of-all").status == 200


def test_guessing_is_slowed_and_does_not_touch_others(start):
    daemon = start("tiny", {"auth.generate_tokens": GENERATE})
    for i in range(10):
        assert ask(daemon, "GET", "/models", f"guess-number-{i}").status == 401
    answer = ask(daemon, "GET", "/models", GENERATE)
    assert int(answer.headers["Retry-After"]) >= 1
    assert "wrong tokens" in answer.problem(429)["detail"]
    assert ask(daemon, "GET", "/models").status == 401  # a request without a token is no guess
    assert daemon.get("/healthz").status == 200
    status = 429
    while status == 429:
        status = ask(daemon, "GET", "/models", GENERATE).status
    assert status == 200


def test_strangers_wait_where_everybody_guesses_and_known_clients_do_not(start):
    daemon = start("tiny", {"auth.generate_tokens": GENERATE, "server.trusted_proxies": "127.0.0.0/8"})

    def status(address, token):
        return daemon.get("/models", token=token, headers={"X-Forwarded-For": address}).status

    assert status("192.0.2.1", GENERATE) == 200
    guesses = [status(f"10.0.{i // 256}.{i % 256}", "wrong-token-of-many") for i in range(1000)]
    assert set(guesses) == {401}
    assert 429 in (status(f"10.1.{i // 256}.{i % 256}", "wrong-token-of-many") for i in range(5000))
    assert status("192.0.2.1", GENERATE) == 200


def test_tokens_are_not_shown(start, tmp_path):
    import subprocess

    from conftest import PROGRAM

    output = subprocess.run(
        [PROGRAM, "config", "--set", f"auth.admin_tokens={ADMIN}"], capture_output=True, text=True, cwd=ROOT, check=True
    ).stdout
    assert ADMIN not in output
    assert re.search(r'^  admin_tokens: \["\(set\)"\]  # --set$', output, re.M)
    daemon = start("tiny", {"log.level": "debug", "auth.generate_tokens": GENERATE})
    for token in (GENERATE, ADMIN, "wrong-token-of-somebody"):
        ask(daemon, "POST", "/generate", token)
    daemon.signal()
    daemon.wait()
    assert not any(secret in line for line in daemon.lines if line for secret in (GENERATE, ADMIN, "wrong-token"))
