"""What documents say of the program is what the program says."""

import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("LSTMD") or os.environ.get("LSTMD_BIN") or str(ROOT / "build/lstmd")


def test_reference_of_settings_is_the_program_s():
    page = subprocess.run(["scripts/reference", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert page.count("\n| `limits.") > 10
    assert (ROOT / "config/REFERENCE.md").read_text() == page, "`make reference` writes it anew"
