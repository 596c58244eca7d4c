"""Runs the commands of README.md, docs/ and the manual page as they are. Each document runs from top to bottom in one shell
and in a fresh tree. A daemon runs beside it, as with `make run`.

Four things differ from a reader's run. The daemon has a free port. Training is short. The test only looks `make TARGET` up in
the Makefile, because a test that makes the tests would never end. `build/lstmd serve` gets a free port and ends when it
listens. If a test cannot run a block, the block has the mark `<!-- not run: WHY -->`, and NOT_RUN gives the reason.
"""

import json
import os
import re
import shutil
import signal
import string
import subprocess
import sys

import pytest

from conftest import ADMIN, DEADLINE, PROGRAM, ROOT, Daemon

pytestmark = pytest.mark.skipif(not shutil.which("jq") or not shutil.which("curl"), reason="SKIPPED: curl and jq are not installed")

NOT_RUN = {
    "systemd": "it installs a package and changes the machine's services, as root",
    "container": "it needs a container engine; tests/container runs the image without one",
    "kubernetes": "it needs a cluster; tests/cli/test_deployments.py reads the manifests",
}
DOCUMENTS = sorted(str(path.relative_to(ROOT)) for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
BLOCK = re.compile(r"^(?:<!-- not run: (\w+) -->\n)?```(\w*)\n(.*?)^```$", re.M | re.S)
BUNDLED = ROOT / "model/pretrained/headlines"
MAKES = re.compile(r"^([a-z-]+):", re.M).findall((ROOT / "Makefile").read_text())

# Replaces build/lstmd: serve gets a free port and ends when it listens.
LSTMD = f"""#!{sys.executable}
import os, re, signal, subprocess, sys
program, arguments = {PROGRAM!r}, sys.argv[1:]
if arguments[:1] != ["serve"]:
    os.execv(program, [program, *arguments])
arguments = [argument for argument in arguments if not argument.startswith("server.port=")]
arguments = [argument for argument, following in zip(arguments, [*arguments[1:], ""]) if argument != "--set" or "=" in following]
daemon = subprocess.Popen([program, *arguments, "--set", "server.port=0"], stderr=subprocess.PIPE, text=True)
listens = any("event=listening" in line for line in daemon.stderr)
daemon.send_signal(signal.SIGTERM)
daemon.communicate()
print("listened" if listens else "did not listen")
sys.exit(daemon.returncode if listens else 1)
"""
MAKE = '#!/bin/sh\necho "make $*" >>"$0.calls"\necho made\n'


def blocks(document, language="sh"):
    """Returns the blocks of a document: [(mark or "", text)]."""
    return [(mark, text) for mark, kind, text in BLOCK.findall((ROOT / document).read_text()) if kind == language]


def script_of(document):
    """Makes the script of a document. It prints `##### N` before the output of each block, and `### SHOWS` before the output of
    each curl that shows its answer."""
    texts = [re.sub(r"^(?=curl (?!.*(?: -o |-X DELETE)))", "echo '### SHOWS'\n", text, flags=re.M) for mark, text in blocks(document) if not mark]
    return "".join(f"echo '##### {number}'\n{text}" for number, text in enumerate(texts))


def executable(path, text):
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def tree(tmp_path):
    for file in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("model/*/*.[ch]"), ROOT / "scripts/prose", *BUNDLED.iterdir()]:
        copy = tmp_path / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    for folder in "build", "bin":
        (tmp_path / folder).mkdir()
    executable(tmp_path / "build/lstmd", LSTMD)
    executable(tmp_path / "bin/make", MAKE)
    return tmp_path


@pytest.fixture
def daemon(tree):
    running = Daemon(BUNDLED, {"server.state_dir": tree / "state"})
    (tree / "state/admin.token").write_text(ADMIN + "\n")
    yield running
    running.close()


def run(script, tree, daemon):
    """Runs the script. Returns the output of each block."""
    script = re.sub(r"\blocalhost:\d+\b", f"{daemon.address}:{daemon.port}", script)
    script = script.replace("--preset tiny", "--preset tiny --max-minutes 0.03")
    script = script.replace('"preset": "tiny"', '"preset": "tiny", "max_minutes": 0.03')
    environment = {key: value for key, value in os.environ.items() if not key.startswith("LSTMD")}
    environment["PATH"] = f"{tree}/bin:{environment['PATH']}"
    command = ["bash", "-euo", "pipefail", "-c", script]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tree, env=environment, start_new_session=True)
    try:
        out, err = process.communicate(timeout=2 * DEADLINE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == 0, (out[-2000:], err[-2000:])
    return re.split(r"^##### \d+\n", out, flags=re.M)[1:]


# ---- needs and results of each document's commands ----


def headlines_again(daemon):
    assert daemon.generate(length=1)["model"] == "headlines"


def after_train(tree, daemon, outputs):
    trained, jobs, back, looked = outputs
    assert trained.startswith("models/mine nats_per_char=") and "\nThe " in trained and trained.endswith("listened\n")
    lines = (tree / "build/text.txt").read_text().splitlines()
    assert len(lines) > 500
    odd = [line for line in lines if "  " in line or re.search(r"[*/`|{}<>=_]", line) or not re.fullmatch("[A-Z].*[.?]", line)]
    assert not odd, "sentences alone"
    assert int(jobs.splitlines()[0]) == sum(map(len, lines))
    assert '"state": "succeeded"' in jobs and "\nevent: validation\n" in jobs and jobs.splitlines()[-1].startswith("The ")
    assert (tree / "build/loss.csv").read_text().startswith("step,")
    assert "perplexity" in looked
    headlines_again(daemon)


def before_import(tree, daemon):
    golden = ROOT / "tests/golden/data"
    expected = json.loads((golden / "torch/expected.json").read_text())
    shutil.copy(golden / "torch/checkpoint_char2int.pt", tree / "model.pt")
    shutil.copy(golden / "torch/lstm_protocol_2.pt", tree / "model.pth")
    shutil.copy(golden / "import/logits.h5", tree / "model.h5")
    shutil.copy(golden / "import/tokenizer_chars_minus1.json", tree / "tokenizer.json")
    (tree / "corpus.txt").write_text(string.ascii_lowercase[: len(expected["lstm_protocol_2"]["probabilities"])])
    shutil.copytree(BUNDLED, tree / "models/mine")


def after_import(tree, daemon, outputs):
    assert daemon.get("/models/imported").json()["name"] == "imported"
    assert (tree / "models/imported/config.json").exists()
    assert (tree / "build/mine.safetensors").exists() and (tree / "build/mine.h5").exists()


def before_serve(tree, daemon):
    shutil.copytree(BUNDLED, tree / "state/models/titles")  # docs/train.md makes this model


def after_serve(tree, daemon, outputs):
    _, _, many, more, look, _, datasets, chat, blend, vector = outputs
    assert re.search(r"^Oil .*\nGold ", many, re.M | re.S) and many.count("\n[null,-") == 2, many
    assert '["O",' in look and '["s",' in look and "\n300\n" in look and '"property":"capital"' in look
    assert "nats_per_char" in more and "# HELP" in (tree / "build/metrics.txt").read_text()
    assert (tree / "build/openapi.yaml").read_text() == (ROOT / "openapi.yaml").read_text()
    assert not (tree / "state/models/titles").exists()
    assert '"news"' in datasets
    assert chat.startswith("Oil ") and chat.count("\n") == 2 and len(blend) > 5
    assert vector.endswith("days\n") and vector.count("Rain stops play for") == 3
    headlines_again(daemon)


def after_deploy(tree, daemon, outputs):
    assert "listen" in outputs[0] and "server.port" in outputs[0] and outputs[1] == "listened\n"
    assert (tree / "build/admin.token").stat().st_mode & 0o777 == 0o600


def nothing(*_):
    pass


@pytest.mark.parametrize("document", [document for document in DOCUMENTS if script_of(document)])
def test_commands_of_a_document_do_what_it_says(document, tree, daemon):
    name = document.removeprefix("docs/").removesuffix(".md")
    globals().get(f"before_{name}", nothing)(tree, daemon)
    script = script_of(document)
    outputs = run(script, tree, daemon)
    said = "".join(outputs)
    assert not re.search(r"^### SHOWS\n(?:#|\Z)", said, re.M), "an answer without a body"
    assert said.count('"status": 422') == script.count('"promt"')
    assert not re.search(r'"status": ?[45](?!22)', said), said
    globals().get(f"after_{name}", nothing)(tree, daemon, outputs)
    calls = tree / "bin/make.calls"
    wrong = [call for call in calls.read_text().split() if re.fullmatch(r"[a-z-]+", call) and call not in ["make", *MAKES]] if calls.exists() else []
    assert not wrong, "targets that the Makefile does not have"


def test_every_block_is_run_or_has_a_mark_with_a_reason():
    marks = [mark for document in DOCUMENTS for mark, _ in blocks(document) if mark]
    assert set(marks) == set(NOT_RUN)
    for document in DOCUMENTS:
        openings = re.findall(r"^( *)```(\w*)$", (ROOT / document).read_text(), re.M)[::2]
        scripts = {"html", "js", "jsx", "svelte"} if document == "docs/frontend.md" else set()  # test_client.py runs these blocks
        assert {kind for _, kind in openings} <= {"sh", "python", "yaml", "c", *scripts}, document
        assert len(blocks(document)) == sum(kind == "sh" for _, kind in openings), f"{document}: an indented block is not run"


def test_greedy_is_always_the_same(tree, daemon):
    (command,) = re.findall(r"^curl .*always the same$", script_of("README.md"), re.M)
    assert run("echo '##### 0'\n" + command, tree, daemon) == run("echo '##### 0'\n" + command, tree, daemon)


def test_command_of_the_manual_page_is_answered(tree, daemon):
    command = re.search(r"^curl (.*)$", (ROOT / "cli/lstmd.1").read_text(), re.M)[0].replace("\\-", "-")
    (said,) = run("echo '##### 0'\n" + command, tree, daemon)
    assert said.strip() and '"status"' not in said
