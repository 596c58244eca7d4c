"""The commands that README.md and the manual page show for a running daemon (training: test_train.py)."""

import re
import shutil
import subprocess

import pytest

from conftest import DEADLINE, ROOT, Daemon

pytestmark = pytest.mark.skipif(not shutil.which("jq") or not shutil.which("curl"), reason="SKIPPED: curl and jq are not installed")
TOUR = re.search(r"^## A tour with curl\n.*?^```sh\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)[1].splitlines()
MANUAL = re.search(r"^curl (.*)$", (ROOT / "cli/lstmd.1").read_text(), re.M)[0].replace("\\-", "-")


@pytest.fixture(scope="module")
def bundled():
    running = Daemon(ROOT / "model/pretrained/headlines")
    yield running
    running.close()


def run(command, daemon):
    command, count = re.subn(r"localhost:\d+", f"{daemon.address}:{daemon.port}", command)
    assert count == 1
    return subprocess.run(["sh", "-euc", command], capture_output=True, text=True, timeout=DEADLINE)


@pytest.mark.parametrize("command", TOUR + [MANUAL], ids=range(len(TOUR) + 1))
def test_command_is_answered_as_it_says(bundled, command):
    result = run(command, bundled)
    assert result.returncode == 0 and result.stdout.strip(), result
    assert ('"status": 422' in result.stdout) == ('"promt"' in command)
    assert not re.search(r'"status": ?[45](?!22)', result.stdout), result.stdout


def test_greedy_is_always_the_same(bundled):
    (command,) = [command for command in TOUR if "always the same" in command]
    assert run(command, bundled).stdout == run(command, bundled).stdout
