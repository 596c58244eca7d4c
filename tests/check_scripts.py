"""Compiles every Python file (syntax) and parses every shell script (sh -n, bash -n). Compares the version in openapi.yaml and
CHANGELOG.md with VERSION, and the libraries that the Makefile links with the packages of scripts/deps."""

import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDERS = ["scripts", "tests", "docker", ".ci", "model"]


def check(path):
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None
    first = text.split("\n", 1)[0]
    if path.suffix == ".py" or (first.startswith("#!") and "python" in first):
        try:
            compile(text, str(path), "exec")
        except SyntaxError as error:
            return f"{path}:{error.lineno}: {error.msg}"
    elif first.startswith("#!") and first.rstrip().endswith("sh"):
        shell = "bash" if first.rstrip().endswith("bash") else "sh"
        result = subprocess.run([shell, "-n", str(path)], capture_output=True, text=True)
        return result.stderr.strip() or None
    return None


def wrong_versions():
    version = (ROOT / "VERSION").read_text().split("\n")[0]
    for name, pattern in {"openapi.yaml": r"^  version: (\S+)$", "CHANGELOG.md": r"^## (\d\S+)"}.items():
        found = re.search(pattern, (ROOT / name).read_text(encoding="utf-8"), re.M)
        if not found or found.group(1) != version:
            yield f"{name}: version {found and found.group(1)}, but VERSION says {version}"


def missing_packages():
    """If a library is only installed here by chance, the program does not build on a fresh machine."""
    modules = set(re.search(r"^PACKAGES := (.+)$", (ROOT / "Makefile").read_text(), re.M).group(1).split()) | {"hdf5"}
    deps = (ROOT / "scripts/deps").read_text()
    packages, named = (set(re.search(rf"^{name}='(.*)'$", deps, re.M).group(1).split()) for name in ("build", "build_modules"))
    if named != modules:
        yield f"scripts/deps: build_modules and the Makefile's PACKAGES differ by {' '.join(sorted(named ^ modules))}"
    if not shutil.which("dpkg-query"):
        return
    for module in sorted(modules):
        command = ["pkg-config", "--variable=pcfiledir", module]
        folder = subprocess.run(command, capture_output=True, text=True).stdout.strip()
        owner = subprocess.run(["dpkg-query", "-S", f"{folder}/{module}.pc"], capture_output=True, text=True)
        # The package makes the link hdf5.pc when it is installed, so no package owns it.
        package = owner.stdout.split(":")[0] if owner.returncode == 0 else f"lib{module}-dev"
        if package not in packages:
            yield f"scripts/deps: the set 'build' lacks {package}, from which {module}.pc comes"


def main():
    files = [p for folder in FOLDERS for p in sorted((ROOT / folder).rglob("*")) if p.is_file()]
    paths = [p for p in files if p.stat().st_size < 1 << 20 and "__pycache__" not in p.parts]
    problems = [message for message in map(check, paths) if message] + [*wrong_versions(), *missing_packages()]
    for message in problems:
        print(message, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
