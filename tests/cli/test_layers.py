"""Tests of the checks. A small tree breaks each rule of tests/check_layers once. tests/check_circles finds a circle.
scripts/rooms notices that its picture is old."""

import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SECONDS = 60


def check(tree):
    done = subprocess.run([ROOT / "tests/check_layers", tree], capture_output=True, text=True, timeout=SECONDS)
    return done.returncode, done.stderr


def write(tree, name, text):
    path = tree / name
    path.parent.mkdir(parents=True, exist_ok=True)
    guard = "LSTMD_" + name.upper().replace("/", "_").replace(".", "_")
    path.write_text(f"#ifndef {guard}\n#define {guard}\n{text}\n#endif\n" if name.endswith(".h") else text + "\n")


GOOD = {
    "model/train/trainer.c": '#include "model/network/network.h"\n#include "model/train/pass.h"\n#include "base/error.h"',
    "server/api/train.c": '#include "server/jobs/jobs.h"\n#include "model/train/trainer.h"\n#include <jansson.h>',
    "server/daemon.c": '#include "server/api/api.h"',
    "cli/cmd_train.c": '#include "model/train/trainer.h"',
    "tests/unit/train/test_pass.c": '#include "model/train/pass.h"',
}


def test_a_tree_that_keeps_the_rules_passes(tmp_path):
    for name, text in GOOD.items():
        write(tmp_path, name, text)
    assert check(tmp_path) == (0, "")


BROKEN = [
    ("model/network/network.c", '\n#include "model/train/learner.h"', 2, "model/train is above model/network: a lower room does not know an upper one"),
    ("server/engine/engine.c", '#include "server/api/api.h"', 1, "server/api is above server/engine"),
    ("server/jobs/jobs.c", '#include "server/daemon.h"', 1, "server/ is above server/jobs"),
    ("model/interop/import.h", '#include "model/train/pass.h"', 3, "is private to model/train: other rooms include trainer.h"),
    ("server/api/train.c", '#include "model/kernels/tables.h"', 1, "is private to model/kernels: other rooms include kernels.h, blas.h, half.h only"),
    ("cli/cmd_serve.c", '#include "server/http/pool.h"', 1, "is private to server/http"),
    ("model/text/csv.c", '#include "server/http/http.h"', 1, "model/ may include base, model only"),
    ("model/text/csv.c", '#include "csv.h"', 1, "own headers are named from the top"),
    ("model/attic/old.c", "int x;", 1, "model/attic is no room"),
    ("model/loose.c", "int x;", 1, "model/ is no room"),
    ("server/api/train.c", "#include <sqlite3.h>", 1, "<sqlite3.h>: only"),
    ("model/train/pass.c", '#include "base/clock.h"', 1, "the model room neither logs nor reads a clock"),
    ("model/train/pass.c", "int f(void)\n{\n    return rand();\n}", 3, "rand(: the model room reads neither"),
    ("server/api/train.c", "void f(void)\n{\n    exit(1);\n}", 3, "nothing but main() exits"),
    ("base/file.c", "/* TODO */", 1, "finish it or delete it"),
    ("base/file.c", "\n" * 600, 601, "a file has at most 600 lines"),
    ("tests/http/test_life.py", "\n" * 600, 601, "a file has at most 600 lines"),
]


@pytest.mark.parametrize("name, text, line, rule", BROKEN, ids=[f"{row[0]}:{row[3][:30]}" for row in BROKEN])
def test_each_rule_is_enforced(tmp_path, name, text, line, rule):
    write(tmp_path, name, text)
    code, said = check(tmp_path)
    assert code == 1 and said.startswith(f"{name}:{line}: ") and rule in said and said.count("\n") == 1


def test_an_include_guard_names_its_file(tmp_path):
    write(tmp_path, "base/file.h", "")
    shutil.move(tmp_path / "base/file.h", tmp_path / "base/other.h")
    assert check(tmp_path) == (1, "base/other.h:1: include guard should be LSTMD_BASE_OTHER_H\n")


def circles(build, sources):
    for name, text in sources.items():
        path = build / "base" / f"{name}.o"
        path.parent.mkdir(exist_ok=True)
        path.with_suffix(".c").write_text(text)
        subprocess.run(["cc", "-c", "-o", path, path.with_suffix(".c")], check=True, timeout=SECONDS)
    done = subprocess.run([ROOT / "tests/check_circles", build, build], capture_output=True, text=True, timeout=SECONDS)
    return done.returncode, done.stderr


def test_files_that_call_each_other_in_a_circle_are_named(tmp_path):
    one_way = {"a": "void b(void); void a(void) { b(); }", "b": "void c(void); void b(void) { c(); }", "c": "void c(void) {}"}
    assert circles(tmp_path, one_way) == (0, "")
    code, said = circles(tmp_path, {"c": "void a(void); void c(void) { a(); }"})
    assert code == 1 and said.startswith("these files call each other in a circle: base/a, base/b, base/c\n")
    assert "  base/c.c calls base/a.c: a\n" in said
    (tmp_path / "base/c.c").unlink()  # an old build directory keeps the object
    assert circles(tmp_path, {}) == (0, "")


def test_an_old_picture_of_the_rooms_is_noticed(tmp_path):
    for name in ("scripts/rooms", "tests/check_layers"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for name, text in GOOD.items():
        write(tmp_path, name, text)

    def rooms(*arguments):
        return subprocess.run([tmp_path / "scripts/rooms", *arguments], capture_output=True, text=True, timeout=SECONDS)

    assert rooms("--check").returncode == 1
    assert rooms().returncode == 0 and rooms("--check").returncode == 0
    write(tmp_path, "server/store/store.c", '#include "server/http/query.h"')
    assert rooms("--check").stderr == "docs/rooms.svg is not current: run scripts/rooms\n"
