"""A browser's EventSource reads our streams. Redocly's linter reads openapi.yaml."""

import json
import os
import subprocess

from conftest import ROOT


def node(npm, *command):
    environment = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    return subprocess.run(command, cwd=npm, capture_output=True, text=True, timeout=120, env=environment)


def read_events(npm, daemon, query):
    result = node(npm, "node", "eventsource.js", f"http://{daemon.address}:{daemon.port}/generate?{query}&stream=true")
    assert result.stdout, result.stderr
    return json.loads(result.stdout)


def test_event_source_reads_a_stream(daemon, npm):
    told = read_events(npm, daemon, "prompt=a&length=30&seed=3")
    assert (told["opened"], told["errors"]) == (1, [])
    assert "".join(event["delta"] for event in told["events"]) == daemon.generate(prompt="a", length=30, seed=3)["completion"]
    assert told["events"][-1]["finish_reason"] == "length"


def test_event_source_hears_of_a_failure_in_the_stream(start, npm):
    daemon = start("tiny", {"limits.request_timeout": 1, "limits.max_length": 10_000_000})
    told = read_events(npm, daemon, "prompt=a&length=10000000&seed=3")
    assert told["events"]
    problem = json.loads(told["errors"][0])
    assert problem["status"] == 503 and "limits.request_timeout" in problem["detail"]


def test_openai_client_does_not_send_again_what_takes_too_long(start, npm):
    daemon = start("tiny", {"limits.request_timeout": 1, "limits.max_length": 10_000_000})
    result = node(npm, "node", "openai.js", f"http://{daemon.address}:{daemon.port}/v1", "tiny", "10000000")
    assert json.loads(result.stdout)["status"] == 503, result.stderr
    assert sum("route=/v1/completions" in line for line in daemon.lines) == 1


def test_contract_has_no_faults_that_a_linter_finds(npm):
    rules = {"tag-description": "off", "no-required-schema-properties-undefined": "off"}
    rules["no-unused-components"] = "off"  # these schemas describe stream events; OpenAPI 3.1 cannot refer to them
    (npm / "redocly.yaml").write_text(json.dumps({"extends": ["recommended"], "rules": rules}))
    command = ["node_modules/.bin/redocly", "lint", str(ROOT / "openapi.yaml"), "--config", "redocly.yaml", "--format", "json"]
    result = node(npm, *command, "--max-problems", "1000")
    found = [
        problem
        for problem in json.loads(result.stdout)["problems"]
        # Some routes accept any request.
        if not (problem["ruleId"] == "operation-4xx-response" and "get" in problem["location"][0]["pointer"])
    ]
    assert not found, json.dumps(found, indent=1)
