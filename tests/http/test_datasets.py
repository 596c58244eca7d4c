"""Datasets over HTTP: upload, description, replacement, deletion. A refused upload leaves nothing."""

import contextlib
import gzip
import hashlib
import http.client
import os
import pathlib
import random
import resource
import threading
import time

import pytest

import training
from conftest import ADMIN, DEADLINE, Daemon, read_answer

LARGE_MIB = int(os.environ.get("LARGE_MIB", 64))  # make soak: 1024


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    return tmp_path_factory.mktemp("datasets") / "state"


@pytest.fixture(scope="module")
def daemon(models, state):
    running = Daemon(models["tiny"], {"server.state_dir": state, "limits.max_dataset": "2GiB"})
    yield running
    running.close()


def put(daemon, name, body, query="", content_type=None, **options):
    headers = {"Content-Type": content_type} if content_type else {}
    return daemon.request("PUT", f"/datasets/{name}{query}", body, headers, ADMIN, **options)


def ask(daemon, method, path=""):
    return daemon.request(method, "/datasets" + path, token=ADMIN)


def names(daemon):
    return [dataset["name"] for dataset in ask(daemon, "GET").json()["datasets"]]


def files(state):
    return sorted(path.name for path in (state / "datasets").iterdir())


def wait_until(condition, what):
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def test_life_of_a_dataset(start, tmp_path):
    state = tmp_path / "state"
    daemon = start("tiny", {"server.state_dir": state})
    assert names(daemon) == []
    body = "Café\n\nTee\n".encode()
    answer = put(daemon, "drinks", body, "?format=lines")
    assert (answer.status, answer.headers["Location"]) == (201, "/datasets/drinks")
    described = answer.json()
    assert described["sha256"] == hashlib.sha256(body).hexdigest()
    assert (described["size"], described["documents"], described["characters"]) == (len(body), 2, 7)
    assert (described["format"], described["alphabet"], described["alphabet_size"]) == ("lines", "CTaefé", 6)
    assert ask(daemon, "GET", "/drinks").json() == described
    assert (state / "datasets/drinks/data").read_bytes() == body
    answer = put(daemon, "drinks", b"Water")
    assert answer.status == 200 and answer.headers["Location"] is None
    assert put(daemon, "bread", b"Rye").status == 201
    assert names(daemon) == ["bread", "drinks"]
    daemon.close()
    daemon = start("tiny", {"server.state_dir": state})
    assert names(daemon) == ["bread", "drinks"]
    assert ask(daemon, "GET", "/drinks").json()["format"] == "text"
    answer = ask(daemon, "DELETE", "/drinks")
    assert (answer.status, answer.body) == (204, b"")
    ask(daemon, "GET", "/drinks").problem(404)
    ask(daemon, "DELETE", "/drinks").problem(404)
    assert names(daemon) == ["bread"] and files(state) == ["bread"]


@pytest.mark.parametrize(
    "name, query, content_type, body, expected",
    [
        ("a", "?format=csv&columns=title,body&label_column=kind", None, "kind,title,body\nx,1,2\ny,3,4\n", {"documents": 2, "labels": 2, "columns": "title,body", "label_column": "kind"}),
        ("b", "?columns=1&csv_header=yes", "text/csv; charset=utf-8", "a\nb\nc\n", {"format": "csv", "documents": 2, "csv_header": "yes"}),
        ("c.csv", "?columns=1", "text/plain", "a\nb\nc\n", {"format": "csv", "documents": 3}),
        ("d", "?field=body", "application/x-ndjson", '{"body": "x"}\n{"body": "yz"}', {"format": "jsonl", "documents": 2, "characters": 3, "field": "body"}),
        ("e.jsonl", "", None, '{"text": "x"}\n', {"format": "jsonl", "documents": 1}),
        ("f", "?bytes=true", None, b"\xff\xfe", {"bytes": True, "characters": 2, "alphabet": "þÿ"}),
        ("g", "", "application/octet-stream", "a\nb", {"format": "text", "documents": 1, "characters": 3}),
    ],
)
def test_formats(daemon, name, query, content_type, body, expected):
    answer = put(daemon, name, body if isinstance(body, bytes) else body.encode(), query, content_type)
    assert answer.status == 201, answer.body
    described = answer.json()
    assert {key: described[key] for key in expected} == expected
    assert ask(daemon, "DELETE", "/" + name).status == 204


@pytest.mark.parametrize(
    "query, body, detail",
    [
        ("", b"", "x: the corpus has no text"),
        ("", b"ab\ncd\xff", "x:2: not UTF-8 at byte offset 5 (byte ff)"),
        ("", "ab\ncd".encode("utf-16-le"), "UTF-16LE"),
        ("", b"ab\nc\0d", "x:2: a NUL character at byte offset 4"),
        ("", b"PK\3\4\x14\0", ".docx"),
        ("", b"%PDF-1.7\n", "pdftotext"),
        ("", b"caf\xe9", "iconv -f CP1252"),
        ("", b"ab\n\xe2\x82", "x:2: not UTF-8 at byte offset 3"),
        ("?format=csv&columns=2", b"a,b\nc\n", "x:2: the row has 1 column, and column 2 is wanted"),
        ("?format=csv", b"a,b\n", "choose the columns"),
        ("?format=csv&columns=z", b"a,b\n", 'no column is named "z"'),
        ("?format=jsonl", b'{"text": "a"}\n{"text": 1}\n', 'x:2: field "text" is not a string'),
        ("?format=jsonl", b'{"text": "a"}\n{\n', "x:2: not JSON"),
    ],
)
def test_what_is_wrong_with_the_text_is_named_with_its_line(daemon, state, query, body, detail):
    before = files(state)
    assert detail in put(daemon, "x", body, query).problem(422)["detail"]
    assert files(state) == before and "x" not in names(daemon)


def packed(data, level=9):
    """Packs without the time. The time would be part of the tests' names, and each process would have another one."""
    return gzip.compress(data, level, mtime=0)


TITLES = "title\nOil priçes\nStocks 😀 rest\n"


@pytest.mark.parametrize(
    "name, body, query, encoding, format",
    [
        ("p1", packed(TITLES.encode()), "?format=lines", "gzip", "lines"),
        ("p2.csv", packed(TITLES.encode()), "?columns=title", "gzip", "csv"),
        ("p3.csv.gz", packed(TITLES.encode()), "?columns=title", "gzip", "csv"),
        ("p4.tsv", b"\xff\xfe" + TITLES.encode("utf-16-le"), "?columns=title", "utf-16", "tsv"),
        ("p5", packed(b"\xfe\xff" + TITLES.encode("utf-16-be")), "?format=lines", "gzip, utf-16", "lines"),
        ("p6", packed(TITLES.encode()[:9]) + packed(TITLES.encode()[9:]), "?format=lines", "gzip", "lines"),
        ("p7", TITLES.encode(), "?format=lines", None, "lines"),
    ],
)
def test_what_is_packed_is_kept_as_text(daemon, state, name, body, query, encoding, format):
    told = put(daemon, name, body, query).json()
    kept = (state / "datasets" / name / "data").read_bytes()
    assert kept == TITLES.encode()
    assert told["size"] == len(kept) and told["sha256"] == hashlib.sha256(kept).hexdigest()
    assert told.get("encoding") == encoding and told["format"] == format
    titles = TITLES.splitlines()[1 if "columns" in query else 0 :]
    assert told["documents"] == len(titles) and told["characters"] == sum(map(len, titles))
    assert ask(daemon, "GET", f"/{name}").json() == told


def test_what_is_packed_comes_in_pieces_of_any_size(daemon):
    body = packed(TITLES.encode())
    head = f"PUT /datasets/slowly?format=lines HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN}\r\nContent-Length: {len(body)}\r\n\r\n"
    with daemon.socket() as connection:
        connection.sendall(head.encode())
        for byte in body:
            connection.sendall(bytes([byte]))
        assert read_answer(connection).status == 201
    assert ask(daemon, "GET", "/slowly").json()["size"] == len(TITLES.encode())


def test_bytes_are_kept_as_they_come(daemon, state):
    body = packed(TITLES.encode())
    told = put(daemon, "raw", body, "?bytes=true").json()
    assert told["size"] == len(body) and (state / "datasets/raw/data").read_bytes() == body and "encoding" not in told


@pytest.mark.parametrize(
    "body, part",
    [
        (packed(TITLES.encode())[:-9], "the gzip file ends too early"),
        (packed(TITLES.encode()) + b"more", "the gzip file is damaged"),
        (packed(packed(TITLES.encode())), "packed twice"),
        (packed(b"bad \xff byte"), "not UTF-8 at byte offset 4"),
        (b"\xff\xfe\x00\xdcab", "half of a pair"),
        (b"\xff\xfeabc", "ends within a character"),
    ],
)
def test_what_is_packed_and_damaged_is_refused(daemon, state, body, part):
    before = files(state)
    assert part in put(daemon, "damaged", body, "?format=lines").problem(422)["detail"]
    assert files(state) == before


def test_what_unpacks_to_too_much_is_refused_early(start, tmp_path):
    """40 kB unpack to 40 MB. They never reach the disk."""
    daemon = start("tiny", {"server.state_dir": tmp_path / "state", "limits.max_dataset": "1MiB"})
    put(daemon, "bomb", packed(b"ab" * 20_000_000, 1)).problem(413)
    assert files(tmp_path / "state") == []
    assert put(daemon, "fits", packed(b"ab" * 500_000)).json()["size"] == 1_000_000


@pytest.mark.parametrize(
    "name, body, content_type, format, documents",
    [
        ("s1", b'[{"text": "one"}, {"text": "two"}]', None, "jsonl", 2),
        ("s2", b'{"text": "one"}\n{"text": "two"}\n', None, "jsonl", 2),
        ("s3", b'["one", "two", "three"]', "application/json", "jsonl", 3),
        ("s4.json", b'["one", "two", "three"]', None, "jsonl", 3),
        ("s5", b"[one] two", None, "text", 1),
        ("s6.txt", b'["one", "two", "three"]', None, "text", 1),
    ],
)
def test_format_is_seen_where_the_name_does_not_tell(daemon, name, body, content_type, format, documents):
    told = put(daemon, name, body, content_type=content_type).json()
    assert (told["format"], told["documents"]) == (format, documents)
    assert ask(daemon, "GET", f"/{name}").json()["format"] == format


def test_every_wrong_parameter_is_named(daemon):
    answer = put(daemon, "x", b"text", "?format=xls&colums=1&bytes=2&field=&csv_header=1")
    assert set(answer.fields()) == {"format", "colums", "bytes", "field", "csv_header"}
    answer = put(daemon, "x", b"text", "?format=lines&columns=1&field=a&label_column=2&csv_header=no")
    assert set(answer.fields()) == {"columns", "field", "label_column", "csv_header"}
    assert "needs format csv or tsv, not lines" in answer.fields()["columns"]
    assert put(daemon, "x", b"text", "?format=jsonl&field=" + 256 * "a").fields().keys() == {"field"}


@pytest.mark.parametrize("name", [".hidden", "-x", "a%2Fb", "..%2Fx", "%2e%2e", "a%20b", "a%00b", 65 * "a", "%C3%A9"])
def test_names_are_restricted(daemon, state, name):
    before = files(state)
    assert put(daemon, name, b"text").status in (404, 422)
    assert ask(daemon, "GET", "/" + name).status == 404
    assert ask(daemon, "DELETE", "/" + name).status == 404
    assert files(state) == before


def test_forms_and_encodings_are_refused(daemon):
    assert "curl -T" in put(daemon, "x", b"--b\r\n", "", "multipart/form-data; boundary=b").problem(415)["detail"]
    answer = daemon.request("PUT", "/datasets/x", b"\x1f\x8b", {"Content-Encoding": "gzip"}, ADMIN)
    assert "gzip" in answer.problem(415)["detail"]


def test_without_a_state_directory_it_says_how_to_get_one(start):
    daemon = start("tiny")
    for answer in (put(daemon, "x", b"text"), ask(daemon, "GET"), ask(daemon, "GET", "/x"), ask(daemon, "DELETE", "/x")):
        assert "server.state_dir" in answer.problem(409)["detail"]


def test_limit_of_size(start, tmp_path):
    state = tmp_path / "state"
    daemon = start("tiny", {"server.state_dir": state, "limits.max_dataset": 1000})
    assert put(daemon, "x", 1000 * b"a").status == 201
    assert "limits.max_dataset, 1000 bytes" in put(daemon, "y", 1001 * b"a").problem(413)["detail"]
    chunks = (100 * b"a" for _ in range(11))
    assert daemon.request("PUT", "/datasets/z", chunks, None, ADMIN).status == 413
    wait_until(lambda: files(state) == ["x"], "something was left")


def begun(daemon, name):
    """Sends half of an upload of 100 bytes. The daemon has answered "continue", so the upload has its place."""
    connection = daemon.socket()
    connection.sendall(
        f"PUT /datasets/{name} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN}\r\nContent-Type: text/plain\r\n"
        "Content-Length: 100\r\nExpect: 100-continue\r\n\r\n".encode()
    )
    assert connection.recv(4096).startswith(b"HTTP/1.1 100 ")
    connection.sendall(b"o" * 50)
    return connection


def test_one_upload_more_than_the_limit_is_refused(start, tmp_path):
    daemon = start("tiny", {"server.state_dir": tmp_path / "state", "limits.max_uploads": 2})
    with begun(daemon, "a") as one, begun(daemon, "b") as two:
        answer = put(daemon, "c", b"What is it?")
        assert "limits.max_uploads" in answer.problem(503)["detail"] and int(answer.headers["Retry-After"]) > 0
        assert daemon.get("/healthz").status == 200
        for connection in (one, two):
            connection.sendall(b"o" * 50)
            assert read_answer(connection).status == 201
    wait_until(lambda: put(daemon, "c", b"What is it?").status == 201, "the places were not given back")


def test_a_full_disk_is_said_and_leaves_nothing(start, tmp_path):
    state = tmp_path / "state"
    daemon = start("tiny", {"server.state_dir": state})
    assert put(daemon, "x", b"old").status == 201
    soft, hard = resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (300_000, hard))
    assert put(daemon, "x", 1_000_000 * b"a").problem(507)["detail"]
    wait_until(lambda: files(state) == ["x"], "something was left")
    assert (state / "datasets/x/data").read_bytes() == b"old"
    assert daemon.query(length=1).status == 200
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (soft, hard))
    assert put(daemon, "x", 1_000_000 * b"a").status == 200


def begin(daemon, name, size):
    """Sends the head of an upload of this many bytes."""
    connection = daemon.socket()
    connection.sendall(
        f"PUT /datasets/{name} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN}\r\nContent-Length: {size}\r\n\r\n".encode()
    )
    return connection


def test_a_wrong_byte_is_refused_before_the_rest_has_come(daemon, state):
    before = files(state)
    with begin(daemon, "x", 2**30) as connection:
        connection.sendall(b"abc\xff" + 200_000 * b"d")
        answer = read_answer(connection)
        assert "byte offset 3" in answer.problem(422)["detail"]
    wait_until(lambda: files(state) == before, "something was left")


def test_a_client_that_leaves_leaves_nothing(start, tmp_path):
    state = tmp_path / "state"
    daemon = start("tiny", {"server.state_dir": state, "limits.idle_timeout": 1})
    for size in (10, 1_000_000):
        with begin(daemon, "x", 2_000_000) as connection:
            connection.sendall(size * b"a")
            if size > 100:
                wait_until(lambda: files(state) != [], "nothing was written")
        daemon.wait_log("route=\"/datasets/{name}\" status=499")
        wait_until(lambda: files(state) == [], "something was left")
        daemon.lines.clear()
    assert names(daemon) == []


def test_uploads_do_not_keep_others_waiting(daemon):
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(begin(daemon, f"slow-{i}", 6)) for i in range(3)]
        for connection in connections:
            connection.sendall(b"one")
        assert put(daemon, "fast", b"text").status == 201
        assert daemon.query(length=1).status == 200
        for connection in connections:
            connection.sendall(b"two")
            assert read_answer(connection).status == 201
    for i in range(3):
        assert ask(daemon, "GET", f"/slow-{i}").json()["characters"] == 6


def test_the_last_of_two_uploads_of_a_name_wins(daemon):
    with begin(daemon, "twice", 4) as one, begin(daemon, "twice", 4) as other:
        one.sendall(b"on")
        other.sendall(b"ot")
        other.sendall(b"he")
        assert read_answer(other).status == 201
        one.sendall(b"ne")
        assert read_answer(one).status == 200
    assert ask(daemon, "GET", "/twice").json()["alphabet"] == "eno"


def memory(daemon, key):
    """Returns KiB."""
    status = pathlib.Path(f"/proc/{daemon.process.pid}/status").read_text()
    return int(status.split(key + ":")[1].split()[0])


def large_body(mebibytes, line):
    block = line.encode() * (2**20 // len(line.encode()))
    for _ in range(mebibytes):
        yield block


@pytest.mark.parametrize(
    "query, line",
    [("", "Text with an é, and a €, to be read.\n"), ("?format=lines", "A title\n"), ("?format=csv&columns=1,2&csv_header=no", 'one,"t""wo"\n'), ("?format=jsonl", '{"text": "a line"}\n')],
)
def test_a_large_upload_takes_no_memory(daemon, query, line):
    put(daemon, "warm", b"up")
    pathlib.Path(f"/proc/{daemon.process.pid}/clear_refs").write_text("5")  # resets VmHWM
    before = memory(daemon, "VmRSS")
    mebibytes = LARGE_MIB if not query else min(LARGE_MIB, 32)
    answer = daemon.request("PUT", "/datasets/large" + query, large_body(mebibytes, line), None, ADMIN, timeout=10 * DEADLINE)
    assert answer.status in (200, 201), answer.body
    lines = mebibytes * (2**20 // len(line.encode()))
    assert answer.json()["size"] == lines * len(line.encode())
    assert answer.json()["documents"] == (lines if query else 1)
    grown = memory(daemon, "VmHWM") - before
    print(f"{mebibytes} MiB uploaded{query}: {grown} KiB of memory more at most")
    assert grown < 32 * 1024 or os.environ.get("SANITIZE"), grown
    assert ask(daemon, "DELETE", "/large").status == 204


def test_killed_at_any_moment_leaves_old_or_new(models, tmp_path):
    """kill -9 during uploads that replace a dataset. The directory holds the old or the new dataset, and nothing else."""
    state = tmp_path / "state"
    old, new = 1_000_000 * b"o", 3_000_000 * b"n"
    seen = set()
    seed = int(os.environ.get("TRAIN_SEED", random.randrange(2**32)))
    print("TRAIN_SEED", seed)
    rng = random.Random(seed)
    for round in range(max(training.KILLS, 8)):
        daemon = Daemon(models["tiny"], {"server.state_dir": state})
        assert files(state) == (["x"] if round else [])
        assert put(daemon, "x", old).status in (200, 201)

        def replace():
            with contextlib.suppress(OSError, http.client.HTTPException):
                put(daemon, "x", new)

        thread = threading.Thread(target=replace)
        thread.start()
        if round % 4 == 1:
            wait_until(lambda: len(files(state)) > 1 or not thread.is_alive(), "no upload began")
        elif round % 4 == 3:
            wait_until(lambda: list((state / "datasets").glob("x.tmp-*/dataset.json")) or not thread.is_alive(), "no end")
        else:
            threading.Event().wait(rng.uniform(0, 0.05))  # at any moment of the upload
        daemon.process.kill()
        daemon.wait()
        daemon.process.stderr.close()
        thread.join()
        daemon = Daemon(models["tiny"], {"server.state_dir": state})
        assert names(daemon) == ["x"] and files(state) == ["x"]
        described = ask(daemon, "GET", "/x").json()
        data = (state / "datasets/x/data").read_bytes()
        assert data in (old, new) and described["sha256"] == hashlib.sha256(data).hexdigest()
        seen.add(data[:1])
        daemon.close()
    assert b"o" in seen


def test_a_dataset_that_a_job_uses_is_neither_replaced_nor_deleted(start, tmp_path):
    state = tmp_path / "state"
    daemon = start("tiny", {"server.state_dir": state})

    def assert_held():
        assert ask(daemon, "GET", "/corpus").json()["users"] == 1
        assert "in use by 1 training job" in put(daemon, "corpus", b"other").problem(409)["detail"]
        assert "in use" in ask(daemon, "DELETE", "/corpus").problem(409)["detail"]

    assert put(daemon, "corpus", training.text().encode(), "?format=lines").status == 201
    fields = {key: value for key, value in training.ENDLESS.items() if key not in ("text", "format")}
    job = training.send(daemon, "POST", "/train", {**fields, "model": "m", "dataset": "corpus"}).json()["id"]
    assert_held()
    training.act(daemon, job, "pause")
    wait_until(lambda: training.job(daemon, job)["state"] == "paused", "it is not paused")
    assert_held()
    daemon.close()
    daemon = start("tiny", {"server.state_dir": state})
    assert_held()
    training.act(daemon, job, "cancel")
    wait_until(lambda: ask(daemon, "GET", "/corpus").json()["users"] == 0, "the dataset is still held")
    assert put(daemon, "corpus", b"other").status == 200
    assert ask(daemon, "DELETE", "/corpus").status == 204
