"""A library that has gone over to whoever made the file: what `lstmd import` calls to inflate an archive is replaced by code that
tries what an intruder would, and prints on stderr which of it worked. It stands for a memory error in a parser."""

import json
import os
import subprocess
import zipfile

SOURCE = r"""
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

static void tell(const char *what, int worked) { dprintf(2, "attack: %s %s\n", what, worked ? "WORKED" : "failed"); }

int inflateInit2_(z_streamp stream, int bits, const char *version, int size)
{
    (void)stream, (void)bits, (void)version, (void)size;
    const char *spoil = getenv("ATTACK_FILE");
    char *const arguments[] = {"touch", (char *)spoil, NULL};
    tell("reading", open("/etc/passwd", O_RDONLY) >= 0);
    tell("writing", open(spoil, O_WRONLY | O_CREAT, 0644) >= 0);
    tell("network", socket(AF_INET, SOCK_STREAM, 0) >= 0);
    tell("signals", kill(getppid(), 0) == 0);
    tell("code", mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
    pid_t child = fork();
    if (child == 0) _exit(0);
    if (child > 0) waitpid(child, NULL, 0);
    tell("process", child >= 0);
    execv("/usr/bin/touch", arguments);
    tell("program", 0);
    return Z_MEM_ERROR;
}
"""
ATTEMPTS = ["reading", "writing", "network", "signals", "code", "process", "program"]


def build(directory, source):
    (directory / "attack.c").write_text(source)
    library = directory / "attack.so"
    subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", "-o", library, directory / "attack.c"], check=True, timeout=60)
    return library


def environment(directory):
    """Compiles it; what a process must find in its environment to be attacked. The file that it tries to make is in
    `directory`, which belongs to the attacked."""
    return {"LD_PRELOAD": str(build(directory, SOURCE)), "ATTACK_FILE": str(directory / "spoiled")}


ENDS = r"""
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

static volatile int count;

int inflateInit2_(z_streamp stream, int bits, const char *version, int size)
{
    (void)stream, (void)bits, (void)version, (void)size;
    %s;
    return count;
}
"""


def ending(directory, statement):
    """The same for a library that does not come back from the statement."""
    return {"LD_PRELOAD": str(build(directory, ENDS % statement))}


def write_archive(path):
    """A .keras file whose entries are compressed, which Keras's own are not."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.9.2"}) + 1000 * " ")
        archive.writestr("config.json", "{}" + 1000 * " ")
        archive.writestr("model.weights.h5", 1000 * b"x")
    return path


def results(text):
    """{attempt: whether it worked} as printed."""
    lines = [line.split() for line in text.splitlines() if line.startswith("attack: ")]
    return {what: outcome == "WORKED" for _, what, outcome in lines}
