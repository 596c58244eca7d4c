"""The files that `make install` and `make deb` install work from there."""

import errno
import gzip
import os
import pathlib
import re
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = pathlib.Path(os.environ.get("LSTMD") or os.environ.get("LSTMD_BIN") or ROOT / "build/lstmd")


def run(*command, **options):
    result = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, timeout=300, **options)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def build():
    """Makes a build directory in which make has nothing to build: it holds the program under test."""
    if PROGRAM != ROOT / "build/lstmd":
        pytest.skip("SKIPPED: another program than build/lstmd is tested, and make would install that one")
    return ROOT / "build"


def make(*arguments):
    # A make may have started these tests. This one is no part of it.
    environment = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    environment |= {"DEBFULLNAME": "Ada Lovelace", "DEBEMAIL": "ada@localhost"}
    return run("make", "--no-print-directory", *arguments, env=environment)


def test_installed_program_finds_its_configuration_and_model(build, tmp_path):
    prefix, etc = tmp_path / "usr", tmp_path / "etc"
    make("install", f"PREFIX={prefix}", f"SYSCONFDIR={etc}")
    config = etc / "lstmd/lstmd.yaml"
    assert f"path: {prefix}/share/lstmd/models/headlines" in config.read_text()
    shown = run(prefix / "bin/lstmd", "config", "--config", config)
    assert f"{prefix}/share/lstmd/models/headlines" in shown
    # The unit and the service's configuration agree.
    state = re.search(r"^StateDirectory=(\S+)$", (ROOT / "docker/lstmd.service").read_text(), re.M)[1]
    assert f"state_dir: /var/lib/{state}  # {config}:" in shown and str(config) in config.read_text().splitlines()[0]
    text = run(prefix / "bin/lstmd", "generate", "--model", prefix / "share/lstmd/models/headlines", "--length", "20")
    assert text.strip()
    manual = (prefix / "share/man/man1/lstmd.1").read_text()
    assert "@" not in manual and ".B lstmd serve" in manual
    assert f".I {config}\n" in manual and f".I {prefix}/share/lstmd/models/headlines\n" in manual
    assert f'"lstmd {(ROOT / "VERSION").read_text().splitlines()[0]}"' in manual
    unit = (prefix / "lib/systemd/system/lstmd.service").read_text()
    assert f"ExecStart={prefix}/bin/lstmd serve --config {config}" in unit
    if shutil.which("systemd-analyze"):
        run("systemd-analyze", "verify", "--man=no", prefix / "lib/systemd/system/lstmd.service")

    config.write_text(config.read_text().replace("port: 8080", "port: 9000"))
    make("install", f"PREFIX={prefix}", f"SYSCONFDIR={etc}")
    assert "port: 9000" in config.read_text(), "a configuration that somebody changed was overwritten"
    make("uninstall", f"PREFIX={prefix}", f"SYSCONFDIR={etc}")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [config]


def test_completion_offers_commands_flags_and_choices():
    script = """
        source cli/lstmd.bash-completion
        complete_words() { COMP_WORDS=("$@"); COMP_CWD=$(($# - 1)); _lstmd; echo "${COMPREPLY[*]}"; }
        complete_words "$PROGRAM" hea
        complete_words "$PROGRAM" train --optimi
        complete_words "$PROGRAM" train --cell g
    """
    shown = run("bash", "-c", script, env={**os.environ, "PROGRAM": str(PROGRAM)})
    assert shown.splitlines() == ["healthcheck", "--optimizer", "gru"]


@pytest.fixture(scope="module")
def package(build):
    for program in ("dpkg-deb", "dpkg-shlibdeps", "strip"):
        if not shutil.which(program):
            pytest.skip(f"SKIPPED: {program} is not installed")
    return ROOT / make("deb").splitlines()[-1]


def test_debian_package_holds_what_is_installed_and_names_its_libraries(package, tmp_path):
    fields = run("dpkg-deb", "--field", package)
    for library in ("libc6", "libmicrohttpd12", "libjansson4", "libyaml-0-2", "libseccomp2", "libsqlite3-0"):
        assert library in fields
    run("dpkg-deb", "--extract", package, tmp_path)
    assert (tmp_path / "etc/lstmd/lstmd.yaml").exists()
    assert (tmp_path / "usr/lib/systemd/system/lstmd.service").exists()
    assert (tmp_path / "usr/share/bash-completion/completions/lstmd").exists()
    assert b".TH LSTMD 1" in gzip.decompress((tmp_path / "usr/share/man/man1/lstmd.1.gz").read_bytes())
    changes = gzip.decompress((tmp_path / "usr/share/doc/lstmd/changelog.gz").read_bytes()).decode()
    version = re.search(r"^Version: (\S+)$", fields, re.M)[1]
    assert re.fullmatch(rf"lstmd \({version}\) \S+; urgency=\w+\n\n  \* .+\n\n -- .+ <.+>  .+ [+]0000\n", changes)
    model = tmp_path / "usr/share/lstmd/models/headlines"
    assert run(tmp_path / "usr/bin/lstmd", "generate", "--model", model, "--length", "20").strip()


def test_documents_of_the_debian_package_lead_to_what_is_installed(package, tmp_path):
    run("dpkg-deb", "--extract", package, tmp_path)
    documents = tmp_path / "usr/share/doc/lstmd"
    names = {"README.md", *(path.name for path in (ROOT / "docs").glob("*.md"))}
    for name in names:
        text = (documents / name).read_text()
        assert "![" not in text and len(text) > 1000
        links = [link for link in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in link]
        assert not [link for link in links if not (documents / link).is_file()], name
        assert name != "README.md" or names - {"README.md"} <= set(links)


@pytest.mark.parametrize("arguments, runs, restarts", [
    (["configure", "0.0.9"], True, True),
    (["configure", "0.0.9"], False, False),
    (["configure", ""], True, False),
    (["configure"], True, False),
    (["abort-upgrade", "0.0.9"], True, False),
])
def test_debian_package_restarts_a_running_service_when_it_is_upgraded(package, tmp_path, arguments, runs, restarts):
    run("dpkg-deb", "--control", package, tmp_path / "control")
    calls = tmp_path / "calls"
    for name in ("systemctl", "deb-systemd-invoke"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        # If a called command fails, the installation goes on.
        program.write_text(f'#!/bin/sh\n[ "$1" != is-active ] || exit {0 if runs else 3}\necho {name} "$@" >>{calls}\nexit 1\n')
        program.chmod(0o755)
    script = tmp_path / "control/postinst"
    script.write_text(script.read_text().replace("/run/systemd/system", str(tmp_path)))
    run(script, *arguments, env={**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"})
    told = calls.read_text().splitlines()
    assert told[0] == "systemctl daemon-reload"
    assert told[1:] == (["deb-systemd-invoke restart lstmd.service"] if restarts else [])


def test_maintainer_of_the_debian_package_is_whoever_builds_it(package):
    assert run("dpkg-deb", "--field", package, "Maintainer").strip() == "Ada Lovelace <ada@localhost>"


def test_messages_that_operators_look_up_are_those_of_the_program():
    text = (ROOT / "docs/operate.md").read_text()
    table = text[text.index("| it says |") :]
    sources = "".join(path.read_text() for room in ("base", "config", "server", "model", "cli") for path in (ROOT / room).rglob("*.[ch]"))
    sources = sources.replace('"\n', "").replace('"', "")  # texts that continue on the next line
    messages = [part for line in table.splitlines()[2:] if line.startswith("|") for part in line.split("|")[1].split("`")[1::2]]
    assert len(messages) > 10
    of_the_system = [os.strerror(number) for number in (errno.EADDRINUSE, errno.ENOSPC, errno.EFBIG)]
    missing = [message for message in messages if message not in sources and message not in of_the_system]
    assert not missing


def test_settings_that_deployments_name_exist_and_are_accepted():
    named = {}
    docker = ROOT / "docker"
    kubernetes = [str(file.relative_to(docker)) for file in sorted((docker / "kubernetes").rglob("*.yaml"))]
    for file in ["compose.yaml", "lstmd.service", "Dockerfile", "../README.md", "../docs/deploy.md", "../docs/operate.md"] + kubernetes:
        text = (docker / file).read_text()
        for name, value in re.findall(r"(?:name: )?\b(LSTMD_[A-Z_]+)(?:, value: |: |=)\"?([^\s\"}]+)", text):
            # These are no settings: make's variables, and the name of a file.
            if name not in ("LSTMD_REVISION", "LSTMD_CONFIG"):
                named[file, name] = value.replace("%d", "/run/credentials")
    assert len(named) > 6
    clean = {key: value for key, value in os.environ.items() if not key.startswith("LSTMD")}
    for (file, name), value in named.items():
        result = subprocess.run([PROGRAM, "config"], cwd=ROOT, env={**clean, name: value}, capture_output=True, text=True)
        # The settings name files of containers. They may be missing here.
        missing = [line for line in result.stderr.splitlines() if line.endswith("No such file or directory")]
        assert result.stdout and result.stderr.splitlines() == missing, (file, result.stderr)
