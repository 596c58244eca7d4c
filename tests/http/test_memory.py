"""While strangers ask, only the cache of states grows, up to its limit."""

import http.client
import json
import os
import random
import re

import pytest

from conftest import DEADLINE, ROOT

REQUESTS = int(os.environ.get("MUTATED_REQUESTS", 1500))
SLACK = 1 << 20  # bytes that the allocator may keep


def ask_mutated(daemon, seed, count=REQUESTS):
    """Sends requests with zero to three changed bytes in their bodies. The daemon answers each."""
    rng = random.Random(seed)
    connection = http.client.HTTPConnection(daemon.address, daemon.port, timeout=DEADLINE)
    for _ in range(count):
        prompt = "".join(rng.choice("abcdefgh ") for _ in range(rng.randrange(200)))
        body = bytearray(json.dumps({"prompt": prompt, "length": rng.randrange(1, 4), "seed": rng.randrange(99)}).encode())
        for _ in range(rng.randrange(4)):
            body[rng.randrange(len(body))] = rng.randrange(256)
        connection.request("POST", "/generate", bytes(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        assert answer.status in (200, 400, 413, 422), answer.status
    connection.close()


def cached_bytes(daemon):
    found = re.search(rb"^lstmd_cache_bytes (\d+)", daemon.get("/metrics").body, re.M)
    return int(found[1]) if found else 0  # with a limit of 0 there is no cache


@pytest.mark.skipif(bool(os.environ.get("SANITIZE")), reason="a sanitizer keeps freed memory")
@pytest.mark.parametrize("limit", ["0", "2MiB"])
def test_memory_grows_by_the_cache_of_states_alone(start, limit):
    daemon = start(ROOT / "model/pretrained/headlines", {"cache.max_bytes": limit, "engine.threads": 1, "engine.kernel": "auto"})
    ask_mutated(daemon, 1, 300)
    before, cached = daemon.resident_bytes(), cached_bytes(daemon)
    for seed in (2, 3):
        ask_mutated(daemon, seed)
        assert daemon.resident_bytes() - before <= cached_bytes(daemon) - cached + SLACK
    print(limit, before, daemon.resident_bytes(), cached, cached_bytes(daemon))
    assert cached_bytes(daemon) == 0 if limit == "0" else (1 << 20) < cached_bytes(daemon) <= (2 << 20)
