"""Runs the fuzzer of tests/fuzz for a moment, with a fixed seed. `make fuzz-socket` runs it longer, under sanitizers."""

import http.client
import json
import os
import random
import re
import sys

from conftest import DEADLINE, ROOT

sys.path.insert(0, str(ROOT / "tests/fuzz"))

import http_answers  # noqa: E402
import http_cases  # noqa: E402
import pytest  # noqa: E402
import socket_fuzzer  # noqa: E402

CASES = int(os.environ.get("FUZZ_CASES", 1000))


@pytest.mark.parametrize("way, cases", [("network", CASES), ("UNIX socket", CASES // 3), ("generate tokens", CASES // 3)])
def test_nothing_that_a_client_sends_breaks_the_daemon(tmp_path, way, cases):
    settings = {"UNIX socket": {"server.listen": f"unix:{tmp_path / 's'}"},
                "generate tokens": {"auth.generate_tokens": http_cases.GENERATE}}.get(way, {})
    fuzzer = socket_fuzzer.fuzz(tmp_path, seed=1, out=tmp_path / "failed", threads=4, settings=settings, last=cases)
    assert not fuzzer.failures
    assert fuzzer.done == cases and fuzzer.answers > cases


def send_mutated(daemon, numbers):
    """Sends generations of different prompts. Half of them are broken."""
    connection = http.client.HTTPConnection(daemon.address, daemon.port, timeout=DEADLINE)
    for number in numbers:
        rng = random.Random(number)
        prompt = "".join(rng.choices("abcdefgh .", k=rng.randrange(1, 200)))
        body = json.dumps({"prompt": prompt, "length": 3, "seed": number}).encode()
        body = http_cases.mutate(rng, body, 2) if rng.random() < 0.5 else body
        connection.request("POST", "/generate", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        assert answer.status in (200, 400, 422)
    connection.close()


@pytest.mark.skipif(bool(os.environ.get("SANITIZE")), reason="a sanitizer keeps what is freed")
@pytest.mark.parametrize("cache", ["0", "64MiB"])
def test_memory_grows_by_the_cache_of_states_and_by_nothing_else(start, cache):
    daemon = start("tiny", {"cache.max_bytes": cache})

    def cached():
        found = re.search(r"^lstmd_cache_bytes (\S+)", daemon.get("/metrics").body.decode(), re.M)
        return float(found[1]) if found else 0

    send_mutated(daemon, range(1000))
    memory, states = daemon.resident_bytes(), cached()
    send_mutated(daemon, range(1000, 4000))
    grown, kept = daemon.resident_bytes() - memory, cached() - states
    assert (kept > 1e6) == (cache != "0")
    assert grown < 1.25 * kept + 5e5, (grown, kept)


def test_number_of_a_case_gives_its_bytes_again():
    for number in range(200):
        assert http_cases.make_case(7, number) == http_cases.make_case(7, number)


def test_every_operation_is_tried():
    tried = {request.operation.name for number in range(3000) for request in http_cases.make_case(1, number).requests if request.operation}
    assert tried == {operation.name for operation in http_cases.OPERATIONS}


GOOD = b"HTTP/1.1 200 OK\r\nDate: x\r\nContent-Type: application/json\r\nX-Request-Id: a\r\nContent-Length: 3\r\n\r\n{}\n"
BAD = {
    "status": GOOD.replace(b"200 OK", b"500 No"),
    "no id": GOOD.replace(b"X-Request-Id: a\r\n", b""),
    "odd id": GOOD.replace(b"Id: a", b"Id: a b"),
    "no date": GOOD.replace(b"Date: x\r\n", b""),
    "no JSON": GOOD.replace(b"{}\n", b"{]\n"),
    "no number": GOOD.replace(b"3\r\n\r\n{}\n", b"4\r\n\r\nNaN\n"),
    "unknown type": GOOD.replace(b"application/json", b"x/y"),
    "cut off": GOOD[:-1],
    "too long": GOOD + b"\n",
    "no end": GOOD.replace(b"Content-Length: 3\r\n", b""),
    "two lengths": GOOD.replace(b"Content", b"Content-Length: 3\r\nContent", 1),
    "length and chunks": GOOD.replace(b"Content", b"Transfer-Encoding: chunked\r\nContent", 1),
    "wrong chunk": GOOD.replace(b"Content-Length: 3\r\n\r\n{}\n", b"Transfer-Encoding: chunked\r\n\r\nx\r\n{}\n\r\n0\r\n\r\n"),
    "folded line": GOOD.replace(b"Date: x", b"Date: x\r\n y"),
    "status line": GOOD.replace(b"HTTP/1.1", b"HTTP/1.1 "),
    "half an event": GOOD.replace(b"application/json", b"text/event-stream"),
}


def read(data):
    reader = http_answers.Reader(["GET"])
    for i in range(len(data)):
        reader.feed(data[i:i + 1])
    reader.end(cut=False)
    for answer in reader.answers:
        http_answers.judge(answer, None, True)
    return reader.answers


def test_fuzzer_sees_what_is_wrong_with_an_answer():
    assert [answer.status for answer in read(GOOD + GOOD)] == [200, 200]
    for name, data in BAD.items():
        with pytest.raises(http_answers.Wrong):
            read(data)
            pytest.fail(f"not seen: {name}")
