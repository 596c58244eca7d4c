"""Starts processes to which the kernel refuses some system calls, as an older kernel or a container does."""

import ctypes
import errno

import pytest

ALLOW, ERRNO = 0x7FFF0000, 0x00050000  # of seccomp.h
EQUAL = 4
PR_SET_SECCOMP = 22


class Comparison(ctypes.Structure):
    """struct scmp_arg_cmp"""

    _fields_ = [("argument", ctypes.c_uint), ("operation", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


LANDLOCK = [("landlock_create_ruleset", None)]
SECCOMP = [("seccomp", None), ("prctl", PR_SET_SECCOMP)]


def without(calls):
    """For preexec_fn. calls: {name: the first argument with which the call is refused, or None for always}."""
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        pytest.skip("NOT TESTED: what happens without a whole sandbox (libseccomp.so.2 is missing)")
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_load.argtypes = [ctypes.c_void_p]
    library.seccomp_rule_add_array.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p]
    rules = library.seccomp_init(ALLOW)
    for name, argument in calls:
        number = library.seccomp_syscall_resolve_name(name.encode())
        comparison = Comparison(0, EQUAL, argument or 0, 0)
        count = 0 if argument is None else 1
        assert library.seccomp_rule_add_array(rules, ERRNO | errno.ENOSYS, number, count, ctypes.byref(comparison)) == 0

    def refuse():
        if library.seccomp_load(rules) != 0:
            raise OSError("no filter of system calls could be set")

    return refuse
