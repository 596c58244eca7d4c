"""Drives tests/fault/inject.c: a call of the daemon fails or kills it."""

import contextlib
import errno
import mmap
import os
import pathlib
import re
import struct
import subprocess

from conftest import PROGRAM, Daemon

LIBRARY = pathlib.Path(PROGRAM).resolve().parent / "tests/fault/inject.so"
KINDS = "memory map open read write sync name remove send receive accept event thread lock stat".split()
CHANGES = ("write", "sync", "name", "remove")  # these change files
SHORT, KILL, KILL_HALF_WAY = -1, -2, -3
FOR_EVER = 2**60

# The faults of each kind of call. A socket moves less than asked only if an event follows. So there is no such fault for
# sockets here.
FAILURES = {
    "memory": [errno.ENOMEM],
    "map": [errno.ENOMEM],
    "open": [errno.EMFILE, errno.EIO],
    "read": [errno.EIO, errno.EINTR, SHORT],
    "write": [errno.ENOSPC, errno.EIO, errno.EINTR, SHORT],
    "sync": [errno.EIO, errno.ENOSPC],
    "name": [errno.ENOSPC, errno.EIO],
    "remove": [errno.EIO],
    "send": [errno.EPIPE, errno.EINTR],
    "receive": [errno.ECONNRESET, errno.EINTR],
    "accept": [errno.EMFILE, errno.ECONNABORTED, errno.EINTR],
    "event": [errno.EMFILE, errno.ENOMEM],
    "thread": [errno.EAGAIN],
    "lock": [errno.ENOLCK],
    "stat": [errno.EIO],
}


def cases():
    """Returns tuples: (kind, mode, number of consecutive calls)."""
    return [(kind, mode, 1) for kind, modes in FAILURES.items() for mode in modes] + [("memory", errno.ENOMEM, FOR_EVER)]


def mode_name(mode):
    names = {SHORT: "short", KILL: "killed", KILL_HALF_WAY: "killed half way"}
    return names.get(mode) or errno.errorcode[mode]


def sanitizers():
    """Returns the libraries that must come before ours. With them, only a sanitizer sees allocations, and none fails."""
    if not os.environ.get("SANITIZE"):
        return []
    listed = subprocess.run(["ldd", PROGRAM], capture_output=True, text=True, check=True).stdout
    return re.findall(r"=> (\S+/lib[at]san\.so\S*)", listed)


class Injector:
    """Controls the faults of a daemon that was started with environment()."""

    def __init__(self, directory):
        self.path = pathlib.Path(directory) / "inject"
        self.path.write_bytes(bytes(4096))
        with open(self.path, "r+b") as file:
            self.memory = mmap.mmap(file.fileno(), 4096)

    def environment(self):
        return {"LD_PRELOAD": " ".join([*sanitizers(), str(LIBRARY)]), "FAULT_CONTROL": str(self.path)}

    def _put(self, index, value):
        struct.pack_into("<q", self.memory, 8 * index, value)

    def _get(self, index):
        return struct.unpack_from("<q", self.memory, 8 * index)[0]

    def arm(self, kinds, n, mode, times=1):
        """From now on the n-th call of these kinds gets the fault, and the calls after it, `times` in all."""
        kinds = [kinds] if isinstance(kinds, str) else kinds
        self._put(3, 0)
        self._put(0, sum(1 << KINDS.index(kind) for kind in kinds))
        self._put(1, mode)
        self._put(2, times)
        self._put(4, 0)
        self._put(3, n)

    def disarm(self):
        """Ends the faults. Returns how many calls got one."""
        self._put(0, 0)  # no kind: a thread inside a call may still write the countdown
        self._put(3, 0)
        return self._get(4)

    def counts(self):
        return {kind: self._get(5 + i) for i, kind in enumerate(KINDS)}

    @contextlib.contextmanager
    def counting(self):
        """Yields a dictionary. At the end it holds the number of calls of each kind."""
        before, made = self.counts(), {}
        yield made
        made.update({kind: count - before[kind] for kind, count in self.counts().items()})


def try_to_start(model, settings, environment):
    """Starts a daemon that may fail: returns (daemon, None) or (None, its output)."""
    daemon = object.__new__(Daemon)
    try:
        Daemon.__init__(daemon, model, settings, environment)
        return daemon, None
    except AssertionError:
        try:
            code = daemon.wait()
        except subprocess.TimeoutExpired:
            daemon.process.kill()
            raise
        lines = [line for line in daemon.lines if line]
        daemon.process.stderr.close()
        assert code == 1, (code, lines)
        return None, lines
