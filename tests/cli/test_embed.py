"""The files that the program serves unchanged: the Makefile makes their list from the directory."""

import gzip
import hashlib
import os
import re
import shutil
import subprocess

import pytest

from test_install import ROOT


@pytest.fixture
def tree(tmp_path):
    """Makes a tree with a page of two files, and a directory with a chart library."""
    (tmp_path / "server/web").mkdir(parents=True)
    (tmp_path / "charts").mkdir()
    for name in ("Makefile", "VERSION", "openapi.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    for name in ("index.html", "app.js"):
        (tmp_path / "server/web" / name).write_text(name * 100)
    (tmp_path / "charts/dygraph.min.js").write_text("draw()\n//# sourceMappingURL=x.map")
    (tmp_path / "charts/dygraph.min.css").write_text("a{}\n/*# sourceMappingURL=x.map */")
    return tmp_path


def embed(tree, charts="charts"):
    """Returns the made list: path -> (content type, plain file, packed file, their tags); and what make said."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS", "LSTMD", "BUILD"))}
    command = ["make", f"DYGRAPHS={charts}", "build/web/files.c"]
    result = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=60)
    if result.returncode:
        return None, result.stderr
    text = (tree / "build/web/files.c").read_text()
    files = dict(re.findall(r'EMBED\((\w+), "(.*)"\);', text))
    found = {}
    for path, kind, plain, tag, packed, packed_tag in re.findall(
        r'\{"(.*?)", "(.*?)", \{embedded_(\w+), .*?"\\"(\w+)\\""\}, \{embedded_(\w+), .*?"\\"(\w+)\\""\}\}', text
    ):
        found[path] = kind, tree / files[plain], tree / files[packed], tag, packed_tag
    assert len(found) == int(re.search(r"embedded_file_count = (\d+)", text)[1])
    return found, result.stdout


def test_list_of_files_follows_the_directory(tree):
    always = {"/", "/openapi.yaml", "/web/app.js", "/web/dygraph.min.js", "/web/dygraph.min.css"}
    first, _ = embed(tree)
    assert set(first) == always
    for kind, plain, packed, *tags in first.values():
        assert gzip.decompress(packed.read_bytes()) == plain.read_bytes()
        assert tags == [hashlib.sha256(file.read_bytes()).hexdigest()[:32] for file in (plain, packed)]
    assert first["/web/dygraph.min.js"][1].read_text() == "draw()\n"
    assert "EMBED" not in embed(tree)[1], "nothing changed, nothing is made again"

    for name, path, kind in (
        ("plot.js", "/web/plot.js", "text/javascript; charset=utf-8"),
        ("plot.css", "/web/plot.css", "text/css; charset=utf-8"),
        ("plot.svg", "/web/plot.svg", "image/svg+xml"),
        ("plot.html", "/web/plot.html", "text/html; charset=utf-8"),
        ("client.js", "/client.js", "text/javascript; charset=utf-8"),
        ("client.d.ts", "/client.d.ts", "text/plain; charset=utf-8"),
    ):
        file = tree / "server/web" / name
        file.write_text("new")
        files, _ = embed(tree)
        assert set(files) == always | {path} and files[path][0] == kind and files[path][1] == file
        file.unlink()
        assert set(embed(tree)[0]) == always, "the file is gone"
    for name in ("plot.js~", ".#plot.js", "plot.c"):
        (tree / "server/web" / name).write_text("new")
    assert set(embed(tree)[0]) == always


def test_changed_file_is_embedded_again(tree):
    before, _ = embed(tree)
    (tree / "server/web/app.js").write_text("other")
    os.utime(tree / "server/web/app.js", (2**32 - 2, 2**32 - 2))
    after, _ = embed(tree)
    assert before["/web/app.js"][3:] != after["/web/app.js"][3:]
    assert gzip.decompress(after["/web/app.js"][2].read_bytes()) == b"other"


def test_missing_chart_library_names_its_package(tree):
    files, said = embed(tree, charts="nowhere")
    assert files is None and "nowhere/dygraph.min.js" in said and "libjs-dygraphs" in said
    assert not (tree / "build/web/files.c").exists()
    assert embed(tree)[0], "make goes on once the library is there"
