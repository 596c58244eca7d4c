"""What documents say of the program is what the program says."""

import os
import pathlib
import re
import subprocess

import yaml

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


def test_links_in_documents_lead_to_files():
    for name in ("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "docker/OPERATING.md", "config/REFERENCE.md"):
        document = ROOT / name
        links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text())
        missing = [link for link in links if "://" not in link and not (document.parent / link).exists()]
        assert not missing, (name, missing)


def test_ingress_lets_through_what_needs_no_admin_token_and_nothing_else():
    contract = yaml.safe_load((ROOT / "openapi.yaml").read_text())
    documents = yaml.safe_load_all((ROOT / "docker/kubernetes/service.yaml").read_text())
    ingress = next(document for document in documents if document["kind"] == "Ingress")
    rules = [(rule["path"], rule["pathType"]) for rule in ingress["spec"]["rules"][0]["http"]["paths"]]

    def is_admins(operation):
        security = operation.get("security", contract["security"])
        return bool(security) and security[-1]["bearer"] == ["admin"]

    for path, item in contract["paths"].items():
        admins = any(is_admins(item[method]) for method in ("get", "post", "put", "delete") if method in item)
        inside = admins or path in ("/healthz", "/readyz", "/metrics")
        through = any(path == rule or (kind == "Prefix" and path.startswith(rule)) for rule, kind in rules)
        assert through != inside, path
