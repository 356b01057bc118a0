"""Every test that the threat model names is there, and every line of it names one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "requestor" / "trust" / "THREAT_MODEL.md").read_text()
NAMED = sorted(set(re.findall(r"`((?:R|tests)/[a-z0-9_/]+\.py)::(test_[a-z0-9_]+)`", TEXT)))
LINES = [
    line
    for line in TEXT.splitlines()
    if line.startswith("| ") and not line.startswith(("| can", "|---"))
]


@pytest.mark.parametrize(("file", "name"), NAMED, ids=str)
def test_what_is_named_is_there(file: str, name: str) -> None:
    path = ROOT / file.replace("R/", "tests/requestor/", 1)
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = ast.walk(ast.parse(path.read_text()))
    assert name in {node.name for node in nodes if isinstance(node, functions)}


@pytest.mark.parametrize("line", LINES, ids=lambda line: str(line)[2:40])
def test_every_line_has_four_parts_and_names_its_tests_or_says_why_not(line: str) -> None:
    parts = [part.strip() for part in line.strip("|").split(" | ")]
    assert len(parts) == 4
    assert "::test_" in parts[3] or parts[3].startswith("none: ")


def test_there_is_something_to_look_at() -> None:
    assert len(NAMED) > 40
    assert len(LINES) > 25
