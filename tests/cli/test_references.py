"""tests/check_references: a small tree names a missing file once in each way."""

import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SECONDS = 60

TREE = {
    "server/http/loop.c": "int loop;\n",
    "tests/unit/http/test_loop.c": "int test;\n",
    "docs/serve.md": "How to serve.\n",
    "scripts/run": "#!/bin/sh\nexec true\n",
}


def check(tree, files):
    for name, text in {**TREE, **files}.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    done = subprocess.run([ROOT / "tests/check_references", tree], capture_output=True, text=True, timeout=SECONDS)
    return done.returncode, done.stderr


GOOD = [
    ("README.md", "See docs/serve.md, `loop.c`, http/loop.c:12, server/http/loop, tests/unit/*/test_*.c, test_NAME.c, {loop,test_loop}.c, scripts/.\n"),
    ("docs/faq.md", "Beside it is serve.md.\n"),
    ("README.md", "Not ours: /etc/lstmd/lstmd.yaml, https://example.com/a.md, build/x.c, corpus.txt, config.jsonl, text/html, ~/a.py, $DIR/b.py.\n"),
    ("base/a.c", 'const char *name = "gone.c"; int x; /* loop.c */\n#include "base/gone.h"\n'),
    ("tests/run.py", '"""Runs loop.c."""\nname = "gone.py"\n'),
    ("CHANGELOG.md", "We deleted gone.c.\n"),
]


@pytest.mark.parametrize("name, text", GOOD)
def test_names_of_files_that_exist_or_are_not_ours_pass(tmp_path, name, text):
    assert check(tmp_path, {name: text}) == (0, "")


BAD = [
    ("README.md", "One.\n\nSee `gone.md`.\n", 3, "gone.md"),
    ("README.md", "See http/gone.c.\n", 1, "http/gone.c"),
    ("README.md", "See unit/loop.c.\n", 1, "unit/loop.c"),
    ("README.md", "See tests/unit/https.\n", 1, "tests/unit/https"),
    ("README.md", "See gone_*.c.\n", 1, "gone_*.c"),
    ("README.md", "See loop.{c,h}.\n", 1, "loop.h"),
    ("base/a.c", "int x;\n/* Like\n * gone.c does. */\n", 3, "gone.c"),
    ("base/a.c", "int x; // gone.h:7\n", 1, "gone.h"),
    ("tests/run.py", 'def f():\n    """One.\n    See gone.py."""\n', 3, "gone.py"),
    ("tests/run.py", "x = 1  # tests/gone\n", 1, "tests/gone"),
    ("tests/tool", "#!/usr/bin/python3\n# gone.py\n", 2, "gone.py"),
    ("scripts/tool", "#!/bin/sh\ntrue # as scripts/gone does\n", 2, "scripts/gone"),
    ("Makefile", "# gone.yaml\n", 1, "gone.yaml"),
    ("docker/a.yaml", "a: b # gone.yaml\n", 1, "gone.yaml"),
]


@pytest.mark.parametrize("name, text, line, missing", BAD, ids=[f"{row[0]}:{row[3]}" for row in BAD])
def test_the_name_of_a_file_that_is_gone_is_found(tmp_path, name, text, line, missing):
    assert check(tmp_path, {name: text}) == (1, f"{name}:{line}: there is no {missing}\n")
