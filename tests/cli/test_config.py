"""`lstmd config` refuses what `lstmd serve` refuses, with the same words, and changes nothing."""

import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = os.path.abspath(os.environ.get("LSTMD") or os.environ.get("LSTMD_BIN") or ROOT / "build/lstmd")
CLEAN = {key: value for key, value in os.environ.items() if not key.startswith("LSTMD")}


def lstmd(*arguments, cwd=ROOT):
    return subprocess.run([PROGRAM, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=60, env=CLEAN)


REFUSED = [
    "server.listen=localhost.",
    "server.listen=unix:",
    "admin.listen=nowhere",
    "server.socket_mode=999",
    "server.trusted_proxies=abc",
    "server.hosts=http://x",
    "server.cors_origins=https://app.example.org/path",
    "server.user=nobody-of-this-name",
    "server.user=root",
    "engine.kernel=neon",
    "auth.admin_tokens=short",
    "auth.generate_tokens=short",
    "auth.admin_token_file=none.txt",
    "auth.generate_token_file=empty.txt",
    "model.path=none",
    "model.path=damaged",
]


@pytest.mark.parametrize("setting", REFUSED)
def test_config_refuses_what_serve_refuses(setting, tmp_path):
    (tmp_path / "empty.txt").write_text("# nothing\n")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged/config.json").write_text('{"format": ')
    files = sorted(tmp_path.rglob("*"))
    flags = ["--set", f"model.path={ROOT}/model/pretrained/headlines"] if "model.path" not in setting else []
    if setting.endswith("=neon") and os.uname().machine == "aarch64":
        setting = "engine.kernel=avx2"
    served = lstmd("serve", "--set", "server.port=0", "--set", "server.sandbox=off", *flags, "--set", setting, cwd=tmp_path)
    checked = lstmd("config", *flags, "--set", setting, cwd=tmp_path)
    assert served.returncode == checked.returncode == 1
    assert checked.stderr == served.stderr and setting.split("=")[0] in checked.stderr
    assert "# --set" in checked.stdout, "what is in effect is printed all the same"
    assert sorted(tmp_path.rglob("*")) == files


def test_config_names_every_problem():
    shown = lstmd("config", "--set", "server.hosts=a/b", "--set", "auth.admin_tokens=short", "--set", "model.path=none")
    assert shown.returncode == 1
    assert [line.split(":")[1].strip() for line in shown.stderr.splitlines()] == ["server.hosts", "auth.admin_tokens", "model.path"]


def test_config_takes_what_serve_takes(tmp_path):
    """With a state directory, the bundled model may be missing. Any other model may, if the directory names a default."""
    assert lstmd("config").returncode == 0
    assert lstmd("config", "--set", f"server.state_dir={tmp_path}/state", cwd=tmp_path).returncode == 0
    assert not list(tmp_path.iterdir()), "nothing is made"
    missing = ["config", "--set", f"server.state_dir={tmp_path}", "--set", "model.path=none"]
    assert lstmd(*missing).returncode == 1
    (tmp_path / "default").write_text("titles\n")
    assert lstmd(*missing).returncode == 0


def test_a_missing_model_is_named_with_the_setting_that_wanted_it(tmp_path):
    for command in ("serve", "config"):
        default = lstmd(command, cwd=tmp_path)
        assert default.returncode == 1 and "the default, relative to the working directory" in default.stderr
    assert lstmd("serve", "--model", "none").stderr.startswith("lstmd: --model: none: ")


@pytest.mark.parametrize("arguments, part", [
    (["config", "--config"], "--config: has no value"),
    (["generate", "--prompt"], "--prompt: has no value"),
    (["generate", "models/mine"], "a model is named by --model"),
    (["serve", "--port", "9000"], "did you mean --set server.port=VALUE?"),
    (["config", "--max-body", "1MiB"], "did you mean --set limits.max_body=VALUE?"),
    (["serve", "--gpu"], "the processor alone"),
    (["help", "trian"], 'did you mean "train"'),
])
def test_wrong_usage_says_what_would_be_right(arguments, part):
    done = lstmd(*arguments)
    assert done.returncode == 2 and part in done.stderr and not done.stdout


def test_help_of_a_command_is_what_its_flag_prints():
    assert lstmd("help", "train").stdout == lstmd("train", "--help").stdout != lstmd("help").stdout


def test_files_in_forms_that_editors_write_are_explained(tmp_path):
    (tmp_path / "tab.yaml").write_text("server:\n\tport: 80\n")
    assert "tab.yaml:2:1: " in (told := lstmd("config", "--config", tmp_path / "tab.yaml").stderr) and "tab cannot indent" in told
    (tmp_path / "token").write_bytes(("a" * 32).encode("utf-16"))
    assert "save it as UTF-8" in lstmd("config", "--set", f"auth.admin_token_file={tmp_path}/token").stderr
