"""/metrics, read with the parser of Prometheus' own Python client."""

import re
import shutil
import subprocess
import time

import pytest
import yaml

import training
from conftest import DEADLINE, ROOT

parser = pytest.importorskip("prometheus_client.parser", reason="SKIPPED: python3-prometheus-client is not installed")


def families(daemon):
    answer = daemon.get("/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    text = answer.body.decode()
    found = {}
    for family in parser.text_string_to_metric_families(text):
        assert family.name not in found, "samples of a metric must stand together"
        assert family.documentation.endswith(".") and family.type in ("counter", "gauge", "histogram"), family
        found[family.name] = family
    return found


def value(found, sample, **labels):
    for family in found.values():
        for one in family.samples:
            if one.name == sample and one.labels == labels:
                return one.value
    return None


def check_histogram(family):
    """Buckets grow with their bounds, the last one is +Inf and is the count."""
    series = {}
    for sample in family.samples:
        labels = {key: text for key, text in sample.labels.items() if key != "le"}
        one = series.setdefault(tuple(sorted(labels.items())), {"buckets": []})
        if sample.name.endswith("_bucket"):
            one["buckets"].append((float(sample.labels["le"]), sample.value))
        else:
            one[sample.name.rsplit("_", 1)[1]] = sample.value
    for one in series.values():
        bounds, counts = zip(*one["buckets"])
        assert list(bounds) == sorted(bounds) and bounds[-1] == float("inf")
        assert list(counts) == sorted(counts) and counts[-1] == one["count"]
        assert (one["sum"] > 0) == (one["count"] > 0)


def test_metrics_are_well_formed_and_named_by_the_rules(start):
    daemon = start()
    daemon.generate(prompt="a", length=5)
    daemon.get("/nowhere")
    found = families(daemon)
    for family in found.values():
        assert re.fullmatch(r"(lstmd|process)_[a-z0-9_]+", family.name)
        if family.type == "histogram":
            check_histogram(family)
        if family.type == "counter":
            assert all(sample.name.endswith("_total") for sample in family.samples)
    info = found["lstmd_build_info"].samples[0]
    assert info.value == 1 and set(info.labels) == {"version", "revision"}
    assert value(found, "process_resident_memory_bytes") > 1e6
    assert value(found, "process_open_fds") > 3
    assert value(found, "process_start_time_seconds") > 1.7e9


def test_metrics_count_what_was_done(start):
    daemon = start("tiny", {"limits.queue": 8})
    before = families(daemon)
    assert value(before, "lstmd_completion_tokens_total") == 0
    daemon.generate(prompt="abc", length=7, n=2, seed=1)
    daemon.generate(prompt="abc", length=7, seed=1)
    assert daemon.post("/generate", {"length": 0}).status == 422
    daemon.post("/score", {"text": "abcd"})
    daemon.generate(prompt="a", length=3, session="s")
    after = families(daemon)
    assert value(after, "lstmd_completion_tokens_total") == 24
    assert value(after, "lstmd_prompt_tokens_total") == 14
    assert value(after, "lstmd_cached_tokens_total") > 0
    assert value(after, "lstmd_scored_tokens_total") == 5
    assert value(after, "lstmd_generations_total", end="length") == 4
    assert value(after, "lstmd_http_requests_total", route="/generate", code="200") == 3
    assert value(after, "lstmd_http_requests_total", route="/generate", code="422") == 1
    assert value(after, "lstmd_http_requests_total", route="/metrics", code="200") == 1
    assert value(after, "lstmd_http_request_seconds_count", route="/generate") == 4
    for name in ("queue", "time_to_first_token", "time_per_token", "generation"):
        assert value(after, f"lstmd_{name}_seconds_count") == 4
    assert value(after, "lstmd_sessions") == 1
    assert value(after, "lstmd_cache_states") > 0 and value(after, "lstmd_cache_bytes") > 0
    model = daemon.get("/models").json()["models"][0]["name"]
    assert value(after, "lstmd_sequences", model=model) == 0
    steps = value(after, "lstmd_engine_steps_total", model=model)
    assert 0 < steps <= value(after, "lstmd_engine_step_sequences_total", model=model) < 100


def test_a_token_costs_one_step_wherever_it_stands(start):
    """Nothing is computed twice: not the prompt for each new token, not a session's past for its next request."""
    daemon = start("tiny", {"cache.max_bytes": 0})
    model = daemon.get("/models").json()["models"][0]["name"]

    def steps_of(**fields):
        before = value(families(daemon), "lstmd_engine_step_sequences_total", model=model)
        usage = daemon.generate(**fields)["usage"]
        end = time.monotonic() + DEADLINE
        while value(found := families(daemon), "lstmd_sequences", model=model) != 0:
            assert time.monotonic() < end, "the sequence does not end"
        return value(found, "lstmd_engine_step_sequences_total", model=model) - before, usage

    # <eos> and the prompt are fed, and every new token but the last.
    assert steps_of(prompt="a" * 1000, length=1)[0] == 1001
    assert steps_of(prompt="a" * 10, length=5000)[0] == 11 + 5000 - 1
    assert steps_of(prompt="a" * 1000, length=5000, session="s")[0] == 1001 + 5000 - 1
    # The last token of the request before, which was not fed then.
    steps, usage = steps_of(prompt="bc", length=100, session="s")
    assert steps == 3 + 100 - 1 and usage["prompt_tokens"] == 3


def test_metrics_show_what_runs_what_waits_and_what_was_refused(start):
    daemon = start("tiny", {"engine.threads": 1, "engine.max_batch": 1, "limits.queue": 1, "limits.max_length": 10_000_000})
    connections = [daemon.send_generate(length=10_000_000) for _ in range(2)]
    model = daemon.get("/models").json()["models"][0]["name"]
    end = time.monotonic() + DEADLINE
    while [value(found := families(daemon), f"lstmd_{name}", model=model) for name in ("sequences", "queue_depth")] != [1, 1]:
        assert time.monotonic() < end, "one that runs and one that waits are not shown"
    assert value(found, "lstmd_open_requests") == 3
    assert value(found, "lstmd_refused_total") == 0
    assert daemon.query(length=1).status == 503
    assert value(families(daemon), "lstmd_refused_total") == 1
    for connection in connections:
        connection.close()


def test_times_are_those_of_the_answer(start):
    daemon = start()
    timings = daemon.generate(prompt="abc", length=2000, seed=1)["timings"]
    found = families(daemon)
    queue, first, token, generation = (
        value(found, f"lstmd_{name}_seconds_sum") for name in ("queue", "time_to_first_token", "time_per_token", "generation")
    )
    assert queue == pytest.approx(timings["queue_ms"] / 1e3, abs=2e-6)
    assert token * 1999 == pytest.approx(generation - first, abs=2100e-9)  # a nanosecond each, cut off
    parts = [timings[f"{name}_ms"] / 1e3 for name in ("queue", "prompt", "generate")]
    assert sum(parts[:2]) - 2e-6 <= first < generation
    assert sum(parts) - 2e-6 <= generation <= value(found, "lstmd_http_request_seconds_sum", route="/generate")


def test_cache_hits_and_misses(start):
    daemon = start()

    def told(**fields):
        daemon.generate(length=5, **fields)
        found = families(daemon)
        return [value(found, f"lstmd_cache_{name}_total") for name in ("hits", "misses")]

    assert told(prompt="abc") == [0, 1]
    assert told(prompt="abc") == [1, 1]
    assert told(prompt="cab") == [1, 2]
    assert told(prompt="abc", cache_prompt=False) == [1, 2]


def test_bytes_are_those_of_the_bodies(start):
    daemon = start()
    before = [value(families(daemon), f"lstmd_http_{name}_bytes_total") for name in ("received", "sent")]
    answer = daemon.get("/metrics")
    post = daemon.post("/generate", {"length": 1})
    after = families(daemon)
    assert value(after, "lstmd_http_received_bytes_total") - before[0] == len(b'{"length": 1}')
    assert value(after, "lstmd_http_sent_bytes_total") - before[1] > len(answer.body) + len(post.body)


def test_metrics_show_no_text(start):
    daemon = start()
    daemon.generate(prompt="SECRETPROMPT", length=5, session="SECRETSESSION")
    daemon.get("/SECRETPATH")
    assert b"SECRET" not in daemon.get("/metrics").body


def test_metrics_show_jobs_that_train(start, tmp_path):
    daemon = start("tiny", {"server.state_dir": tmp_path / "state"})
    assert value(families(daemon), "lstmd_train_running_jobs") == 0
    id = training.submit(daemon, "titles", **{**training.ENDLESS, "validate_every": 20})
    labels = {"train_job": id, "model": "titles"}
    end = time.monotonic() + DEADLINE
    while not all(value(found := families(daemon), "lstmd_train_loss_nats", **labels, data=data) for data in ("train", "validation")):
        assert time.monotonic() < end, "no loss of both is shown"
    assert value(found, "lstmd_train_running_jobs") == 1
    assert 0 < value(found, "lstmd_train_loss_nats", **labels, data="train") < 10
    assert 0 < value(found, "lstmd_train_loss_nats", **labels, data="validation") < 10
    assert value(found, "lstmd_train_tokens_per_second", **labels) > 0
    assert value(found, "lstmd_train_eta_seconds", **labels) > 0
    assert 0 <= value(found, "lstmd_train_progress_ratio", **labels) < 1
    training.act(daemon, id, "cancel")
    while value(found := families(daemon), "lstmd_train_running_jobs") != 0:
        assert time.monotonic() < end, "a job that ended is still shown"
    assert value(found, "lstmd_train_tokens_per_second", **labels) is None


PROMTOOL = shutil.which("promtool")


@pytest.mark.skipif(not PROMTOOL, reason="SKIPPED: promtool is not installed (Debian's package prometheus)")
def test_promtool_finds_nothing_to_mend(start, tmp_path):
    daemon = start("tiny", {"server.state_dir": tmp_path / "state"})
    training.wait_end(daemon, training.submit(daemon, "titles"))
    daemon.generate(prompt="a", length=5)
    result = subprocess.run([PROMTOOL, "check", "metrics"], input=daemon.get("/metrics").body, capture_output=True)
    assert (result.returncode, result.stdout + result.stderr) == (0, b"")
    result = subprocess.run([PROMTOOL, "check", "rules", ROOT / "docker/alerts.yaml"], capture_output=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_dashboard_and_alerts_ask_for_metrics_that_exist(start, tmp_path):
    daemon = start("tiny", {"server.state_dir": tmp_path / "state"})
    daemon.generate(prompt="a", length=2)
    found = families(daemon).values()
    samples = {family.name for family in found} | {sample.name for family in found for sample in family.samples}
    asked = set()
    for name in ("grafana.json", "alerts.yaml", "kubernetes/autoscale.yaml"):
        asked |= set(re.findall(r"\b(?:lstmd|process)_[a-z_]+\b", (ROOT / "docker" / name).read_text()))
    assert len(asked) > 15
    assert not asked - samples, asked - samples


# What each alert is for: the labels that it carries beside its severity, and series by the minute.
TROUBLE = {
    "LstmdDown": ({"job": "lstmd"}, {'up{job="lstmd",instance="a"}': "0+0x40"}),
    "LstmdRefuses": ({}, {'lstmd_refused_total{instance="a"}': "0+12x40"}),
    "LstmdTimeouts": ({"end": "timeout"}, {'lstmd_generations_total{end="timeout",instance="a"}': "0+1x40"}),
    "LstmdSlowFirstToken": (
        {},
        {
            'lstmd_time_to_first_token_seconds_bucket{le="1",instance="a"}': "0+98x40",
            'lstmd_time_to_first_token_seconds_bucket{le="3",instance="a"}': "0+100x40",
            'lstmd_time_to_first_token_seconds_bucket{le="+Inf",instance="a"}': "0+100x40",
        },
    ),
    "LstmdErrors": (
        {},
        {
            'lstmd_http_requests_total{route="/generate",code="503",instance="a"}': "0+6x40",
            'lstmd_http_requests_total{route="/generate",code="200",instance="a"}': "0+94x40",
        },
    ),
    "LstmdOutOfFiles": (
        {"job": "lstmd"},
        {'process_open_fds{job="lstmd",instance="a"}': "91+0x40", 'process_max_fds{job="lstmd",instance="a"}': "100+0x40"},
    ),
}
HEALTH = {
    'up{job="lstmd",instance="a"}': "1+0x40",
    'lstmd_refused_total{instance="a"}': "0+3x40",
    'lstmd_generations_total{end="timeout",instance="a"}': "0+0x40",
    'lstmd_time_to_first_token_seconds_bucket{le="1",instance="a"}': "0+100x40",
    'lstmd_time_to_first_token_seconds_bucket{le="+Inf",instance="a"}': "0+100x40",
    'lstmd_http_requests_total{route="/generate",code="503",instance="a"}': "0+4x40",
    'lstmd_http_requests_total{route="/generate",code="200",instance="a"}': "0+96x40",
    'process_open_fds{job="lstmd",instance="a"}': "89+0x40",
    'process_max_fds{job="lstmd",instance="a"}': "100+0x40",
}


@pytest.mark.skipif(not PROMTOOL, reason="SKIPPED: promtool is not installed (Debian's package prometheus)")
def test_alerts_are_raised_by_what_they_are_for_and_by_nothing_else(tmp_path):
    rules = {rule["alert"]: rule for rule in yaml.safe_load((ROOT / "docker/alerts.yaml").read_text())["groups"][0]["rules"]}
    assert set(rules) == set(TROUBLE)

    def test_of(series, name, alerts):
        told = [{"series": key, "values": values} for key, values in series.items()]
        expected = [{"eval_time": "35m", "alertname": name, "exp_alerts": alerts}]
        return {"interval": "1m", "input_series": told, "alert_rule_test": expected}

    tests = [test_of(HEALTH, name, []) for name in rules]
    for name, (labels, series) in TROUBLE.items():
        labels = {**labels, **rules[name]["labels"], "instance": "a"}
        notes = {key: text.replace("{{ $labels.instance }}", "a") for key, text in rules[name]["annotations"].items()}
        tests.append(test_of(series, name, [{"exp_labels": labels, "exp_annotations": notes}]))
    document = {"rule_files": [str(ROOT / "docker/alerts.yaml")], "evaluation_interval": "1m", "tests": tests}
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(document))
    result = subprocess.run([PROMTOOL, "test", "rules", tmp_path / "tests.yaml"], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
