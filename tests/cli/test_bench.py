"""lstmd bench: the form of its output, its peers, and the arguments that it refuses."""

import json
import os
import pathlib
import subprocess

LSTMD = os.environ.get("LSTMD", str(pathlib.Path(__file__).resolve().parents[2] / "build/lstmd"))
PEER = "fake=echo a peer 1.0; while read -r line; do echo 1000; done"


def bench(*flags):
    return subprocess.run([LSTMD, "bench", "--quick", *flags], capture_output=True, text=True, timeout=100)


def test_bench_json_has_a_limit_and_a_ratio_for_stepping():
    result = bench("--json", "--only", "step 1x128 f32 B=1, sampled, 1")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    (row,) = report["rows"]
    assert row["unit"] == "chars/s"
    assert row["value"] > 0 and row["limit"] > 0 and row["peers"] == {}
    assert 0 < row["ratio_to_limit"] < 10
    assert {"date", "version", "processor", "kernels"} <= report["machine"].keys()


def test_bench_rows_of_the_machine_have_no_limit():
    result = bench("--json", "--only", "arithmetic, 1")
    assert result.returncode == 0, result.stderr
    (row,) = json.loads(result.stdout)["rows"]
    assert row["unit"] == "GFLOP/s" and row["value"] > 0
    assert row["limit"] is None and row["ratio_to_limit"] is None


def test_bench_measures_a_peer_beside_products():
    result = bench("--json", "--only", "product 1024, 1", "--peer", PEER.replace("1000", "5e9"))
    assert result.returncode == 0, result.stderr
    (row,) = json.loads(result.stdout)["rows"]
    assert row["unit"] == "GFLOP/s" and row["value"] > 0 and row["limit"] > 0
    assert row["peers"] == {"fake": 5}


def test_bench_measures_a_peer_beside_training():
    result = bench("--json", "--only", "train 1x128 B=8 T=50, 1 thread", "--peer", PEER)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    (row,) = report["rows"]
    assert row["value"] > 0 and row["peers"] == {"fake": 1000}
    assert abs(row["ratio_to_peers"]["fake"] - row["value"] / 1000) < 1e-3  # the peer's figures are all the same
    assert report["machine"]["peers"] == {"fake": "a peer 1.0"}


def test_bench_says_what_the_products_of_a_peer_that_does_not_train_would_allow():
    peer = "fake=echo a peer 1.0; while read -r task _; do case $task in product) echo 5e9;; *) echo skip;; esac; done"
    result = bench("--json", "--only", "train 1x128 B=8 T=50, 1 thread", "--peer", peer)
    assert result.returncode == 0, result.stderr
    (row,) = json.loads(result.stdout)["rows"]
    forward = 2 * (4 * 128 * 128 + 65 * 128)  # one-hot input is a look-up
    assert abs(row["peers"]["fake"] - 5e9 / (3 * forward)) < 1


def test_bench_measures_a_peer_beside_every_format_of_stepping():
    result = bench("--json", "--only", "B=8, sampled, 2 threads", "--peer", PEER)
    assert result.returncode == 0, result.stderr
    rows = json.loads(result.stdout)["rows"]
    assert [row["name"].split()[2] for row in rows] == ["f32", "bf16", "int8"]
    assert all(row["value"] > 0 and row["limit"] > 0 and row["peers"] == {"fake": 1000} for row in rows)


def test_bench_table_names_the_row_and_the_peer():
    result = bench("--only", "train 1x128 B=8 T=50, 1 thread", "--peer", PEER)
    assert result.returncode == 0, result.stderr
    assert "fake: a peer 1.0" in result.stdout
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("train 1x128 B=8 T=50, 1 thread")]
    assert line.split()[-1] == "1000"


def test_bench_refuses_a_text_that_no_row_has():
    result = bench("--only", "no such row")
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr == 'lstmd: --only: no row\'s name contains "no such row"\n'


def test_bench_refuses_a_peer_without_a_command():
    result = bench("--peer", "pytorch", "--only", "step")
    assert result.returncode == 2
    assert "NAME=COMMAND" in result.stderr.splitlines()[-1]


def test_bench_fails_where_a_peer_ends():
    result = bench("--peer", "pytorch=echo hello; exit 3", "--only", "train 1x128 B=8 T=50, 1 thread")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == "lstmd: peer pytorch ended without an answer"


def test_bench_measures_openblas_beside_the_kernels_that_it_names():
    result = bench("--json", "--only", "train 1x128 B=8 T=50, 1 thread", "--kernels", "portable", "--products", "openblas",
                   "--repetitions", "1", "--peer", PEER)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    (row,) = report["rows"]
    assert report["machine"]["kernels"] == "portable" and report["machine"]["peers"]["products"].startswith("openblas ")
    assert row["peers"]["products"] > 0 and row["peers"]["fake"] == 1000
    refused = bench("--kernels", "sse9")
    assert refused.returncode == 2 and "--kernels: this machine cannot run \"sse9\"" in refused.stderr


def test_bench_reads_texts_with_both_products():
    result = bench("--json", "--only", "reading 1x128", "--products", "openblas", "--kernels", "portable")
    assert result.returncode == 0, result.stderr
    (row,) = json.loads(result.stdout)["rows"]
    assert row["value"] > 0 and row["limit"] > 0 and row["peers"]["products"] > 0
