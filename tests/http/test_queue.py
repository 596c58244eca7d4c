"""The engine under load: the queue's limit, clients that leave, probes during computation."""

import re
import select
import socket
import struct
import threading
import time

import pytest

from conftest import DEADLINE, read_answer

ONE_SLOT = {"engine.threads": 1, "engine.max_batch": 1, "limits.queue": 0, "limits.max_length": 10_000_000}
FOREVER = 5_000_000


def wait_until(condition):
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "never"


def test_full_queue_refuses_at_once(start):
    daemon = start("tiny", ONE_SLOT)
    with daemon.occupy(FOREVER) as connection:
        answer = daemon.query(length=1)
        assert "try again" in answer.problem(503)["detail"]
        assert int(answer.headers["Retry-After"]) >= 1
        assert not select.select([connection], [], [], 0)[0]  # the refusal came at once


def test_queue_holds_as_many_as_it_says_and_frees_places(start):
    daemon = start("tiny", {**ONE_SLOT, "limits.queue": 2})
    for round in (1, 2):  # in the second round all places must be free again
        left = [daemon.send_generate(length=FOREVER) for _ in range(7)]
        refused = []
        end = time.monotonic() + DEADLINE
        while len(refused) < 4:
            readable = select.select(left, [], [], end - time.monotonic())[0]
            assert readable
            for connection in readable:
                assert read_answer(connection).status == 503
                left.remove(connection)
                refused.append(connection)
        assert not select.select(left, [], [], 0.2)[0]
        for connection in left + refused:
            connection.close()
        wait_until(lambda: sum("status=499" in line for line in daemon.lines) == 3 * round)
        wait_until(lambda: daemon.query(length=1).status == 200)


@pytest.mark.parametrize("how", ["close", "reset", "half"])
def test_client_that_leaves_frees_its_slot(start, how):
    daemon = start("tiny", ONE_SLOT)
    connection = daemon.occupy(FOREVER)
    if how == "half":
        connection.shutdown(socket.SHUT_WR)
    else:
        if how == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    line = daemon.wait_log("id=sent ")
    assert "status=499" in line
    assert int(re.search(r" tokens=(\d+)", line)[1]) < FOREVER
    wait_until(lambda: daemon.query(length=1).status == 200)
    connection.close()


def test_clients_that_leave_in_the_midst_of_others_disturb_nobody(start):
    daemon = start("tiny", {"limits.max_length": 100_000, "engine.max_batch": 8})
    alone = daemon.generate(length=500, seed=4)["text"]
    stop = threading.Event()

    def come_and_go():
        while not stop.is_set():
            with daemon.send_generate(length=100_000):
                daemon.get("/healthz")

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        for _ in range(10):
            assert daemon.generate(length=500, seed=4)["text"] == alone
    finally:
        stop.set()
        thread.join()


def test_probes_do_not_wait_behind_compute(start):
    daemon = start("tiny", {"limits.max_length": 10_000_000, "limits.max_body": 2**26, "limits.max_prompt": 2**26})
    busy = [daemon.send_generate(length=FOREVER) for _ in range(8)]
    busy += [daemon.send_generate(prompt="ab" * 2**20, length=1) for _ in range(4)]
    assert daemon.get("/healthz").status == 200
    assert not select.select(busy, [], [], 0)[0]  # the probe came last and got the first answer
    for _ in range(20):
        assert daemon.get("/healthz").status == 200
        assert daemon.get("/readyz").status == 200
    assert not select.select(busy[:8], [], [], 0)[0]
    for connection in busy:
        connection.close()


def test_long_texts_keep_no_short_one_waiting(start):
    daemon = start("tiny", {"engine.threads": 1, "engine.max_batch": 16, "limits.queue": 400, "limits.max_length": 40_000})
    alone = daemon.generate(prompt="ab", length=20, seed=3)["text"]
    left = [daemon.send_generate(prompt="a", length=40_000, ignore_eos=True, n=8) for _ in range(40)]

    def unfinished():
        text = daemon.get("/metrics").body.decode()
        return sum(float(n) for n in re.findall(r"^lstmd_(?:sequences|queue_depth)\{.*\} (\S+)$", text, re.M))

    wait_until(lambda: unfinished() == 320)
    for _ in range(3):
        assert daemon.generate(prompt="ab", length=20, seed=3)["text"] == alone
    assert unfinished() == 320  # no slot became free by itself
    assert not select.select(left, [], [], 0)[0]
    for connection in left:
        connection.close()


def test_requests_beyond_the_batch_are_queued_and_answered(start):
    daemon = start("tiny", {"engine.threads": 1, "engine.max_batch": 2})
    answers = [None] * 12

    def run(i):
        answers[i] = daemon.generate(length=300, seed=i)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(answers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, answer in enumerate(answers):
        assert answer["text"] == daemon.generate(length=300, seed=i)["text"]
