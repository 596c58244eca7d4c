"""The compiler and the linker made memory faults hard to exploit. The tests read that from the program itself."""

import os
import pathlib
import platform
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("LSTMD") or os.environ.get("LSTMD_BIN") or str(ROOT / "build/lstmd")

pytestmark = pytest.mark.skipif(os.environ.get("SANITIZE", "") != "", reason="instrumented builds are hardened otherwise")


def read(*flags):
    return subprocess.run(["readelf", "-W", *flags, PROGRAM], capture_output=True, text=True, check=True, timeout=60).stdout


def test_the_program_lies_anywhere():
    assert "DYN (Position-Independent Executable file)" in read("-h")


def test_what_the_loader_has_filled_in_is_read_only():
    assert "GNU_RELRO" in read("-l") and re.search(r"FLAGS.*BIND_NOW", read("-d"))


def test_no_memory_is_both_written_and_run():
    segments = re.findall(r"^\s+(LOAD|GNU_STACK)\s.*?\s([R ][W ][E ])\s", read("-l"), re.M)
    assert len(segments) >= 4 and not [s for s in segments if "W" in s[1] and "E" in s[1]]


def test_calls_of_the_c_library_are_checked():
    symbols = read("--dyn-syms")
    assert "__stack_chk_fail" in symbols and "__memcpy_chk" in symbols and "__snprintf_chk" in symbols


@pytest.mark.skipif(platform.machine() != "x86_64", reason="endbr64 is of x86-64")
def test_functions_of_ours_begin_with_a_landing_pad():
    """The functions that a pointer can reach: handlers and main()."""
    code = subprocess.run(["objdump", "-d", "--no-show-raw-insn", PROGRAM], capture_output=True, text=True, check=True, timeout=120)
    first = dict(re.findall(r"<(main|api_\w+|cmd_\w+)>:\n\s+[0-9a-f]+:\s+(\S+)", code.stdout))
    assert len(first) > 20 and set(first.values()) == {"endbr64"}
