"""make run makes a state directory and an admin token, and shows the token once."""

import os
import pathlib
import re
import subprocess
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("LSTMD") or str(ROOT / "build/lstmd")


def run(state, path, token):
    """Starts it, asks for the path and ends it. Returns its stdout and the status of the answer."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("LSTMD")}
    env["LSTMD_SERVER_STATE_DIR"] = str(state)
    command = [ROOT / "scripts/run", PROGRAM, "--set", "server.port=0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, cwd=ROOT)
    for line in process.stderr:
        port = re.search(r"event=listening.* port=(\d+)", line)
        if port:
            break
    else:
        raise AssertionError(f"it did not start: {process.wait()}")
    request = urllib.request.Request(f"http://127.0.0.1:{port[1]}{path}")
    request.add_header("Authorization", f"Bearer {token or (state / 'admin.token').read_text().strip()}")
    try:
        with urllib.request.urlopen(request) as answer:
            status = answer.status
    except urllib.error.HTTPError as error:
        status = error.code
    process.terminate()
    return process.communicate()[0], status


def test_the_token_is_made_and_shown_once(tmp_path):
    state = tmp_path / "state"
    output, status = run(state, "/datasets", None)
    token = re.fullmatch(r"Admin token, kept in (\S+) and not shown again: ([0-9a-f]{64})\n", output)
    assert token and status == 200
    assert (state / "admin.token").read_text() == token[2] + "\n"
    assert (state / "admin.token").stat().st_mode & 0o777 == 0o600
    assert token[1] == str(state / "admin.token")
    output, status = run(state, "/datasets", token[2])
    assert (output, status) == ("", 200)
    assert run(state, "/datasets", "another-token-of-somebody")[1] == 401
