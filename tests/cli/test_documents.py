"""The documents agree with the program."""

import os
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("LSTMD") or os.environ.get("LSTMD_BIN") or str(ROOT / "build/lstmd")


DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


def test_page_of_settings_is_the_program_s():
    page = subprocess.run(["scripts/reference", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert page.count("\n| `limits.") > 10
    assert (ROOT / "docs/settings.md").read_text() == page, "`make reference` writes it anew"


def test_table_of_limits_is_the_program_s():
    page = (ROOT / "docs/settings.md").read_text()
    program = re.findall(r"^\| `(limits\.\w+)` .* \| `(\w+)` \|$", page, re.M)
    table = re.findall(r"^\| `(limits\.\w+)` \| (\w+) \|", (ROOT / "docs/limits.md").read_text(), re.M)
    assert len(program) > 10 and sorted(table) == sorted(program)


def test_figures_are_those_of_the_log(tmp_path):
    subprocess.run(["scripts/benchmarks", tmp_path], cwd=ROOT, check=True)
    for name in ("README.md", "docs/benchmarks.md", "docs/benchmarks.svg"):
        assert (ROOT / name).read_text() == (tmp_path / name).read_text(), f"{name}: `make benchmarks` writes it anew"
    assert len(re.findall("<rect ", (tmp_path / "docs/benchmarks.svg").read_text())) > 10
    assert (tmp_path / "README.md").read_text().count(" MB") >= 2


@pytest.mark.parametrize("name", ["README.md", "docs/train.md"])
def test_documents_explain_their_terms_where_they_first_stand(name):
    """The explanation is in the same paragraph or before it. A reader from the top meets no unexplained term."""
    paragraphs = (ROOT / name).read_text().split("\n\n")
    for term, explanation in {"nats per character": "-ln p", "Perplexity": "equally likely", "bptt": "carried back"}.items():
        first = next((text for text in paragraphs if term in text), None)
        assert first is None and name == "README.md" or explanation in first, term


def test_glossary_has_one_sentence_for_each_term():
    lines = re.findall(r"^- .*(?:\n  .*)*", (ROOT / "docs/glossary.md").read_text(), re.M)
    assert len(lines) > 40
    for line in lines:
        assert re.fullmatch(r"- \*\*[^*]+\*\*: [^.]*(?:\.\d[^.]*)*\.", line.replace("server.state_dir", "")), line
    terms = " ".join(re.findall(r"\*\*([^*]+)\*\*", " ".join(lines))).split()
    assert {"nats", "perplexity", "bptt", "hidden", "epoch", "temperature", "top-p"} <= {term.strip(",") for term in terms}


def test_readme_fits_on_one_screen_and_pictures_are_small():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 70
    sizes = [file.stat().st_size for file in (ROOT / "docs").glob("*.png")]
    assert len(sizes) == 9 and 10_000 < min(sizes) and max(sizes) < 150_000


def anchors(document):
    """Returns the anchors that GitHub makes from headings."""
    text = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.M | re.S)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in re.findall(r"^#+ (.*)$", text, re.M)}


def test_links_in_documents_lead_to_files_and_headings():
    checked = 0
    for document in DOCUMENTS:
        for file, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", document.read_text()):
            if "://" in file:
                continue
            target = document.parent / file if file else document
            assert target.exists(), (document.name, file)
            assert not anchor or anchor in anchors(target), (document.name, file, anchor)
            checked += 1
    assert checked > 60


def test_every_document_can_be_found_from_the_readme():
    seen, found = set(), {ROOT / "README.md"}
    while found - seen:
        document = (found - seen).pop()
        seen.add(document)
        links = re.findall(r"\]\(([^)#\s]+\.md)(?:#[^)]*)?\)", document.read_text())
        found |= {(document.parent / link).resolve() for link in links if "://" not in link}
    assert set(DOCUMENTS) <= found


def test_tests_and_files_that_security_md_names_exist():
    text = (ROOT / "SECURITY.md").read_text()
    named = re.findall(r"(tests/[\w/]+\.(?:py|c))::(\w+)", text)
    assert len(named) > 25
    missing = [(file, name) for file, name in named if not re.search(rf"^(?:def|static void) {name}\(", (ROOT / file).read_text(), re.M)]
    assert not missing
    files = re.findall(r"`((?:base|model|server|docker|tests)/[\w/.]+)`", text)
    assert len(files) > 15 and not [file for file in files if not (ROOT / file).exists()]
    rows = [line for line in text[text.index("| promise |") :].splitlines() if line.startswith("| ")][2:]
    assert len(rows) > 25 and all("::test_" in row for row in rows), "every promise has a test that tries to break it"


def test_the_first_token_reaches_the_service_as_the_document_says(tmp_path):
    text = (ROOT / "docs/deploy.md").read_text()
    change, file = re.search(r"^sudo (sed -i '.*') (/etc/lstmd/lstmd.yaml)$", text, re.M).groups()
    (tmp_path / "lstmd.yaml").write_text((ROOT / "config/lstmd.yaml").read_text())
    subprocess.run(["sh", "-euc", f"{change} {tmp_path}/lstmd.yaml"], check=True)
    clean = {key: value for key, value in os.environ.items() if not key.startswith("LSTMD")}
    shown = subprocess.run([PROGRAM, "config", "--config", tmp_path / "lstmd.yaml"], capture_output=True, text=True, env=clean).stdout
    credential = re.search(r"LoadCredential=([\w-]+):", text)[1]
    assert f"  admin_token_file: /run/credentials/lstmd.service/{credential}  #" in shown
