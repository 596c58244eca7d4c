"""Compiles every Python file (syntax), parses every shell script (sh -n, bash -n), and compares the version that
openapi.yaml and CHANGELOG.md name with VERSION."""

import pathlib
import re
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


def main():
    files = [p for folder in FOLDERS for p in sorted((ROOT / folder).rglob("*")) if p.is_file()]
    paths = [p for p in files if p.stat().st_size < 1 << 20 and "__pycache__" not in p.parts]
    problems = [message for message in map(check, paths) if message] + list(wrong_versions())
    for message in problems:
        print(message, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
