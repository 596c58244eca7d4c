"""Clients connect, leave at random points and come back. Slots, queue, descriptors and memory return to the baseline.

By default there are a few hundred clients for a few seconds. `make soak` sets CHURN_CLIENTS and CHURN_SECONDS.
"""

import asyncio
import contextlib
import json
import os
import random
import resource
import select
import socket
import struct
import time

from conftest import DEADLINE, read_answer

CLIENTS = int(os.environ.get("CHURN_CLIENTS", 200))
SECONDS = float(os.environ.get("CHURN_SECONDS", 3))
FOREVER = 5_000_000
SLOTS, QUEUE = 2 * 8, 24
SETTINGS = {
    "engine.threads": 2,
    "engine.max_batch": 8,
    "limits.queue": QUEUE,
    "limits.max_length": 10_000_000,
    "limits.max_connections": CLIENTS + 100,
    "limits.idle_timeout": 3600,  # connections end because their clients leave, not because of a time limit
    "limits.body_timeout": 3600,
    "cache.max_bytes": "1MiB",
    "sessions.max_count": 100,
}


def more_descriptors():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CLIENTS + 300
    if soft < wanted and (hard == resource.RLIM_INFINITY or hard >= wanted):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def descriptors(daemon):
    return len(os.listdir(f"/proc/{daemon.process.pid}/fd"))


def random_request(rng):
    fields = {
        "prompt": "".join(rng.choices("abcdefgh ", k=rng.choice([0, 3, 20, 20, 300, 3000]))),
        "length": rng.choice([1, 20, 200, 5000, FOREVER]),
        "seed": rng.randrange(1000),
        "stream": rng.random() < 0.6,
        "n": rng.choice([1, 1, 1, 3]),
        "cache_prompt": rng.random() < 0.7,
    }
    if fields["n"] == 1 and rng.random() < 0.2:
        fields["session"] = f"s{rng.randrange(200)}"
    body = json.dumps(fields).encode()
    head = "POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def visit(daemon, rng, counts):
    """One connection from its beginning to its end, which may be anywhere."""
    reader, writer = await asyncio.open_connection(daemon.address, daemon.port, limit=1024)
    request = random_request(rng)
    how = rng.choice(["reset", "close", "half", "torn", "patient", "deaf"])
    if how == "torn":
        request = request[: rng.randrange(len(request))]
    writer.write(request)
    with contextlib.suppress(OSError):
        await writer.drain()
        if how == "patient":  # reads for a while
            with contextlib.suppress(asyncio.TimeoutError):
                data = await asyncio.wait_for(reader.read(rng.choice([1, 100, 10000])), 0.3)
                counts["answered"] += data.startswith(b"HTTP/1.1 200")
                counts["refused"] += data.startswith(b"HTTP/1.1 503")
        else:  # "deaf" reads nothing: once buffers are full, the daemon cannot write its stream
            await asyncio.sleep(rng.random() * 0.05)
        if how == "half" and not writer.transport.is_closing():
            writer.write_eof()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(reader.read(), 0.05)
    if how == "reset":
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort() if how == "deaf" else writer.close()
    counts["visits"] += 1


async def come_and_go(daemon, seed, end, counts):
    rng = random.Random(seed)
    visits = 0
    while time.monotonic() < end or visits < 2:  # each client comes back, even on a slow machine
        with contextlib.suppress(ConnectionError):
            await visit(daemon, rng, counts)
        visits += 1


async def insist(daemon, end, counts):
    """A client that waits for its answers, and comes back until one of them is a text."""
    last = end + DEADLINE
    while time.monotonic() < end or counts["insisted"] == 0:
        assert time.monotonic() < last, "nobody is answered"
        reader, writer = await asyncio.open_connection(daemon.address, daemon.port)
        writer.write(b"GET /generate?length=20 HTTP/1.0\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), DEADLINE)
        assert answer.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 503 ")), answer
        counts["insisted"] += answer.startswith(b"HTTP/1.1 200 ")
        writer.close()


async def churn(daemon, clients, seconds, seed):
    counts = {"visits": 0, "answered": 0, "refused": 0, "insisted": 0}
    end = time.monotonic() + seconds
    visitors = (come_and_go(daemon, seed * 1_000_000 + i, end, counts) for i in range(clients))
    await asyncio.gather(insist(daemon, end, counts), *visitors)
    return counts


def wait_for_descriptors(daemon, count):
    end = time.monotonic() + DEADLINE
    while descriptors(daemon) > count:
        assert daemon.get("/healthz").status == 200
        assert time.monotonic() < end, (descriptors(daemon), count)


def assert_all_places_are_free(daemon):
    """Takes every slot and every place in the queue, and finds no more."""
    taken = [daemon.send_generate(length=FOREVER, cache_prompt=False) for _ in range(SLOTS + QUEUE + 3)]
    refused = 0
    while refused < 3:
        readable = select.select(taken, [], [], DEADLINE)[0]
        assert readable
        for connection in readable:
            assert read_answer(connection).status == 503
            connection.close()
            taken.remove(connection)
            refused += 1
    assert daemon.get("/healthz").status == 200  # everything sent before has arrived after this
    assert refused == 3 and not select.select(taken, [], [], 0)[0]
    for connection in taken:
        connection.close()


def settle(daemon, idle_descriptors):
    wait_for_descriptors(daemon, idle_descriptors)
    assert_all_places_are_free(daemon)
    wait_for_descriptors(daemon, idle_descriptors)


def test_slots_queue_descriptors_and_memory_return_to_the_baseline(start):
    more_descriptors()
    daemon = start("tiny", SETTINGS)
    idle, fresh = descriptors(daemon), daemon.resident_bytes()
    asyncio.run(churn(daemon, CLIENTS, SECONDS / 3, 1))  # fills the cache and the allocator's pools
    settle(daemon, idle)
    before = daemon.resident_bytes()
    counts = asyncio.run(churn(daemon, CLIENTS, SECONDS, 2))
    settle(daemon, idle)
    after = daemon.resident_bytes()
    print(f"{CLIENTS} clients, {counts}; resident {fresh / 1e6:.1f} MB fresh, {before / 1e6:.1f} MB before, "
          f"{after / 1e6:.1f} MB after")
    assert counts["visits"] > CLIENTS
    assert counts["insisted"] > 0
    assert after < before * 1.25 + 4e6
