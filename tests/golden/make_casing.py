#!/usr/bin/python3
"""Writes tests/golden/data/casing.txt. Python's str.lower() lower-cases every character, alone and beside a capital sigma;
the file holds digests of the results. A line covers 4,096 code points: the first one, and the SHA-256 of all their lines
as UTF-8."""

import hashlib
import pathlib

BLOCK = 0x1000
CONTEXTS = ["{}", "{}\u03a3", "A{}\u03a3", "A\u03a3{}", "A\u03a3{}B", "A{}\u03a3{}B"]


def lines(first):
    for code in range(first, first + BLOCK):
        if 0xD800 <= code <= 0xDFFF:
            continue
        for context in CONTEXTS:
            yield context.replace("{}", chr(code)).lower() + "\n"


digests = (
    f"{first:06x} {hashlib.sha256(''.join(lines(first)).encode()).hexdigest()}\n" for first in range(0, 0x110000, BLOCK)
)
(pathlib.Path(__file__).parent / "data" / "casing.txt").write_text("".join(digests))
