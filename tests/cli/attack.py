"""Plays a parser that an attacker has taken over. A preloaded library replaces the function with which `lstmd import`
inflates an archive. Its code tries what an intruder would try, and prints on stderr which attempts worked."""

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
    """Compiles the library. Returns the environment that loads it into a process. The library tries to make a file in
    `directory`, which belongs to the attacked process."""
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
    """Like environment(), for a library that does not return from the statement."""
    return {"LD_PRELOAD": str(build(directory, ENDS % statement))}


def write_archive(path):
    """Writes a .keras file with compressed entries. Keras itself does not compress them."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.9.2"}) + 1000 * " ")
        archive.writestr("config.json", "{}" + 1000 * " ")
        archive.writestr("model.weights.h5", 1000 * b"x")
    return path


def results(text):
    """Reads what the library printed: {attempt: whether it worked}."""
    lines = [line.split() for line in text.splitlines() if line.startswith("attack: ")]
    return {what: outcome == "WORKED" for _, what, outcome in lines}
