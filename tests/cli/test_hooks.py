"""The pre-commit hook checks what is staged, and scripts/install-hooks replaces no other hook."""

import os
import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
CLEAN = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}


def run(repository, *command):
    return subprocess.run(command, cwd=repository, env=CLEAN, capture_output=True, text=True, timeout=60)


@pytest.fixture
def repository(tmp_path):
    for name in (".clang-format", "tests/check_layers", "scripts/install-hooks", "scripts/pre-commit", "base/size.h"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    assert run(tmp_path, "git", "init", "-q").returncode == 0
    for key, value in {"user.name": "A", "user.email": "a@example.org", "core.hooksPath": ".git/hooks"}.items():
        run(tmp_path, "git", "config", key, value)
    run(tmp_path, "git", "add", ".")
    assert run(tmp_path, "scripts/install-hooks").returncode == 0
    return tmp_path


def commit(repository, name, text):
    (repository / name).write_text(text)
    run(repository, "git", "add", name)
    return run(repository, "git", "commit", "-q", "-m", "change")


def test_hook_lets_a_good_file_pass(repository):
    done = commit(repository, "base/a.c", '#include "base/size.h"\n')
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not shutil.which("clang-format"), reason="no clang-format here")
def test_hook_refuses_a_file_that_is_badly_formatted(repository):
    done = commit(repository, "base/a.c", "int   a;\n")
    assert done.returncode != 0 and "base/a.c:1" in done.stderr


def test_hook_refuses_an_include_that_points_up(repository):
    done = commit(repository, "base/a.c", '#include "model/kernels/kernels.h"\n')
    assert done.returncode != 0 and "base/ may include" in done.stderr


def test_hook_looks_at_what_is_staged_alone(repository):
    (repository / "base/a.c").write_text('#include "server/http/http.h"\n')
    run(repository, "git", "add", "base/a.c")
    (repository / "base/a.c").write_text('#include "base/size.h"\n')
    assert run(repository, "git", "commit", "-q", "-m", "bad").returncode != 0
    run(repository, "git", "add", "base/a.c")
    (repository / "base/a.c").write_text('#include "server/http/http.h"\n')
    assert run(repository, "git", "commit", "-q", "-m", "good").returncode == 0


def test_install_hooks_replaces_no_other_hook(repository):
    hook = repository / ".git/hooks/pre-commit"
    hook.write_text("#!/bin/sh\nexit 0\n")
    assert run(repository, "scripts/install-hooks").returncode == 1
    assert hook.read_text() == "#!/bin/sh\nexit 0\n"
