"""The threat model: every row names a place and a test that is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PLACES = ("build machine", "registry", "network", "device", "local user")
TABLE = [
    [cell.strip() for cell in line.strip("| ").split(" | ")]
    for line in (ROOT / "docs" / "security.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ")
]
ROWS = [row for row in TABLE if row[0] not in ("place", "---")]


def test_every_place_has_a_row() -> None:
    assert {row[0] for row in ROWS} == set(PLACES)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[1])
def test_a_row_names_its_test(row: list[str]) -> None:
    assert len(row) == 4
    found = re.fullmatch(r"`(tests/[\w/]+\.py)::(test_\w+)`", row[3])
    assert found, row[3]
    tree = ast.parse((ROOT / found[1]).read_text(encoding="utf-8"))
    assert found[2] in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
