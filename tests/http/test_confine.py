"""At its start the daemon gives up its user, paths and system calls. A library plays the intruder: the daemon loads it before
jansson, and it tries what an intruder would try while the daemon parses a body."""

import grp
import os
import pathlib
import pwd
import re
import subprocess
import sys

import pytest

from conftest import PROGRAM, Daemon

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "cli"))
import attack  # noqa: E402
import kernel  # noqa: E402

pytestmark = pytest.mark.skipif(os.environ.get("SANITIZE", "") != "", reason="builds with sanitizers have no sandbox")
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")

INTRUDER = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void tell(const char *what, int worked) { dprintf(2, "attack: %s %s\n", what, worked ? "WORKED" : "failed"); }

json_t *json_loadb(const char *text, size_t size, size_t flags, json_error_t *error)
{
    char inside[4096];
    json_t *(*parse)(const char *, size_t, size_t, json_error_t *) = dlsym(RTLD_NEXT, "json_loadb");
    if (!memmem(text, size, "break in", 8)) return parse(text, size, flags, error);
    snprintf(inside, sizeof inside, "%s/inside", getenv("ATTACK_INSIDE"));
    tell("reading", open("/etc/passwd", O_RDONLY) >= 0);
    tell("writing", open(getenv("ATTACK_FILE"), O_WRONLY | O_CREAT, 0644) >= 0);
    tell("network", socket(AF_INET, SOCK_STREAM, 0) >= 0);
    tell("tracing", ptrace(PTRACE_SEIZE, getppid(), NULL, NULL) == 0);
    tell("code", mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
    tell("mode", chmod(getenv("ATTACK_OTHER"), 0777) == 0);
    tell("times", utimensat(AT_FDCWD, getenv("ATTACK_OTHER"), NULL, 0) == 0);
    tell("link", symlink("/etc/passwd", inside) == 0);
    tell("priority", setpriority(PRIO_PROCESS, 0, -20) == 0 || errno == EACCES);
    tell("signals", syscall(SYS_tgkill, getppid(), getppid(), 0) == 0);
    pid_t child = vfork();
    if (child == 0) {
        execl("/usr/bin/touch", "touch", getenv("ATTACK_FILE"), NULL);
        _exit(errno == EACCES ? 77 : 0);
    }
    int status = 0;
    if (child > 0) waitpid(child, &status, 0);
    tell("program", !(WIFEXITED(status) && WEXITSTATUS(status) == 77));
    tell("inside", open(inside, O_WRONLY | O_CREAT, 0644) >= 0);
    return NULL;
}
"""
ATTEMPTS = {"reading", "writing", "network", "tracing", "code", "mode", "times", "link", "priority", "signals", "program"}


def status_of(daemon):
    text = pathlib.Path(f"/proc/{daemon.process.pid}/status").read_text()
    return dict(re.findall(r"^(\w+):\s*(.*)$", text, re.M))


def intrude(models, tmp_path, settings=()):
    library = attack.build(tmp_path, INTRUDER)
    state = tmp_path / "state"
    environment = {"LD_PRELOAD": str(library), "ATTACK_FILE": str(tmp_path / "spoiled"), "ATTACK_INSIDE": str(state),
                   "ATTACK_OTHER": str(tmp_path / "other")}
    (tmp_path / "other").write_text("another's")
    (tmp_path / "other").chmod(0o600)
    daemon = Daemon(models["tiny"], {"server.state_dir": state, **dict(settings)}, environment=environment)
    daemon.post("/tokenize", {"text": "break in"})
    daemon.close()
    lines = "\n".join(line for line in daemon.lines if line)
    if "not fully confined" in lines:
        pytest.skip("NOT TESTED: this kernel grants no complete sandbox")
    return attack.results(lines)


def test_an_intruder_reaches_nothing_but_the_state_directory(models, tmp_path):
    results = intrude(models, tmp_path)
    assert {what for what, worked in results.items() if worked} == {"inside"}
    assert set(results) == ATTEMPTS | {"inside"} and not (tmp_path / "spoiled").exists()


def test_the_attack_is_one_where_there_is_no_sandbox(models, tmp_path):
    results = intrude(models, tmp_path, {"server.sandbox": "off"})
    assert {"reading", "writing", "network", "code", "mode", "times", "link", "program"} <= {what for what, worked in results.items() if worked}


def test_every_thread_is_confined(start, tmp_path):
    daemon = start(settings={"server.state_dir": tmp_path / "state"})
    tasks = list(pathlib.Path(f"/proc/{daemon.process.pid}/task").iterdir())
    assert len(tasks) > 3
    for task in tasks:
        status = (task / "status").read_text()
        assert re.search(r"^Seccomp:\s*2$", status, re.M) and re.search(r"^NoNewPrivs:\s*1$", status, re.M), status


def test_a_model_outside_of_what_was_named_is_not_read(models, tmp_path):
    """After the start, the model's path leads to another place."""
    outside = tmp_path / "outside" / "deep"
    outside.parent.mkdir()
    subprocess.run(["cp", "-r", models["tiny"], outside], check=True)
    for sandbox, good in (("require", False), ("off", True)):
        named = tmp_path / sandbox / "named"
        named.parent.mkdir()
        subprocess.run(["cp", "-r", models["ending"], named], check=True)
        daemon = Daemon(named, {"server.state_dir": tmp_path / f"state-{sandbox}", "server.sandbox": sandbox})
        named.rename(tmp_path / sandbox / "away")
        named.symlink_to(outside)
        answer = daemon.admin("POST", "/models/named/load")
        daemon.close()
        assert (answer.status == 200) == good, answer.body


@pytest.mark.parametrize("what, calls", [("Landlock", kernel.LANDLOCK), ("seccomp", kernel.SECCOMP)])
def test_what_the_kernel_lacks_is_said_or_refused(models, tmp_path, what, calls):
    daemon = Daemon(models["tiny"], preexec_fn=kernel.without(calls))
    line = daemon.wait_log("not fully confined")
    reason = re.search(f"{what}: (Function not implemented|Operation not supported)", line)
    assert reason, line
    daemon.generate(length=3)
    daemon.close()
    command = [PROGRAM, "serve", "--model", models["tiny"], "--set", "server.port=0", "--set", "server.sandbox=require"]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60, preexec_fn=kernel.without(calls))
    assert refused.returncode == 1
    assert refused.stderr == f"lstmd: server.sandbox is require, and {reason[0]}\n"


@root_only
def test_root_becomes_the_user_that_is_named(models, tmp_path):
    nobody = pwd.getpwnam("nobody")
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:3]:
        parent.chmod(0o755)
    state, path = tmp_path / "state", tmp_path / "socket"
    secret = tmp_path / "tokens"
    secret.write_text("a-token-that-root-alone-may-read\n")
    secret.chmod(0o600)
    model = tmp_path / "model"
    subprocess.run(["cp", "-r", models["tiny"], model], check=True)
    daemon = Daemon(model, {"server.user": "nobody", "server.state_dir": state, "admin.listen": f"unix:{path}",
                            "auth.admin_token_file": secret, "auth.generate_token_file": secret})
    status = status_of(daemon)
    assert status["Uid"].split() == [str(nobody.pw_uid)] * 4 and status["Gid"].split() == [str(nobody.pw_gid)] * 4
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    assert {int(group) for group in status["Groups"].split()} == set(os.getgrouplist("nobody", nobody.pw_gid))
    assert all(file.stat().st_uid == nobody.pw_uid for file in [state, path, *state.rglob("*")])
    assert daemon.post("/generate", {"length": 3}, token="a-token-that-root-alone-may-read").status == 200
    daemon.close()


@root_only
def test_a_user_that_cannot_be_is_refused(models):
    for user, reason in (("no-such-user", 'there is no user "no-such-user"'), ("root", 'the user "root" is root')):
        command = [PROGRAM, "serve", "--model", models["tiny"], "--set", "server.port=0", "--set", f"server.user={user}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (1, f"lstmd: server.user: {reason}\n")


@root_only
def test_who_is_not_root_becomes_nobody_else(models):
    nobody = pwd.getpwnam("nobody")
    command = [PROGRAM, "serve", "--model", models["tiny"], "--set", "server.port=0", "--set", "server.user=daemon"]
    program = pathlib.Path(PROGRAM).read_bytes()
    copy = pathlib.Path("/tmp") / f"lstmd-{os.getpid()}"
    try:
        copy.write_bytes(program)
        copy.chmod(0o755)
        done = subprocess.run([copy, *command[1:]], capture_output=True, text=True, timeout=60, cwd="/", user=nobody.pw_uid,
                              group=grp.getgrgid(nobody.pw_gid).gr_gid)
    finally:
        copy.unlink()
    assert (done.returncode, done.stderr) == (1, 'lstmd: server.user: only root can become "daemon"; start it as root or as that user\n')
