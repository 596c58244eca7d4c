"""What documents say of the program is what the program says."""

import os
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("LSTMD") or os.environ.get("LSTMD_BIN") or str(ROOT / "build/lstmd")


def test_reference_of_settings_is_the_program_s():
    page = subprocess.run(["scripts/reference", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert page.count("\n| `limits.") > 10
    assert (ROOT / "config/REFERENCE.md").read_text() == page, "`make reference` writes it anew"


def test_limits_in_the_readme_are_those_of_the_program():
    page = (ROOT / "config/REFERENCE.md").read_text()
    program = re.findall(r"^\| `(limits\.\w+)` .* \| `(\w+)` \|$", page, re.M)
    readme = re.findall(r"^\| `(limits\.\w+)` \| (\w+) \|", (ROOT / "README.md").read_text(), re.M)
    assert len(program) > 10 and sorted(readme) == sorted(program)


def test_readme_explains_its_terms_where_they_first_stand():
    """In the paragraph, or before it: nobody who reads from the top meets a word that was not explained."""
    paragraphs = (ROOT / "README.md").read_text().split("\n\n")
    for term, explanation in {"nats per character": "-ln p", "Perplexity": "equally likely", "bptt": "carried back"}.items():
        first = next(i for i, text in enumerate(paragraphs) if term in text)
        assert explanation in paragraphs[first], term


def test_links_in_documents_lead_to_files():
    for name in ("README.md", "SECURITY.md", "ARCHITECTURE.md", "CHANGELOG.md", "docker/OPERATING.md", "config/REFERENCE.md"):
        document = ROOT / name
        links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text())
        missing = [link for link in links if "://" not in link and not (document.parent / link).exists()]
        assert not missing, (name, missing)


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


def test_the_first_token_reaches_the_service_as_operating_says(tmp_path):
    text = (ROOT / "docker/OPERATING.md").read_text()
    change, file = re.search(r"^sudo (sed -i '.*') (/etc/lstmd/lstmd.yaml)$", text, re.M).groups()
    (tmp_path / "lstmd.yaml").write_text((ROOT / "config/lstmd.yaml").read_text())
    subprocess.run(["sh", "-euc", f"{change} {tmp_path}/lstmd.yaml"], check=True)
    clean = {key: value for key, value in os.environ.items() if not key.startswith("LSTMD")}
    shown = subprocess.run([PROGRAM, "config", "--config", tmp_path / "lstmd.yaml"], capture_output=True, text=True, env=clean).stdout
    credential = re.search(r"LoadCredential=([\w-]+):", text)[1]
    assert f"  admin_token_file: /run/credentials/lstmd.service/{credential}  #" in shown
