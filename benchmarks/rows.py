"""Benchmark results: a table for people, and one line of JSON for machines."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table

from edgec.core.host import describe_host

__all__ = ["Row", "arguments", "show"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure: what, how much of what, over how many, with its spread, and against what peer or limit."""

    what: str
    value: float
    unit: str
    n: int
    low: float | None = None
    high: float | None = None
    against: str | None = None
    ratio: float | None = None


def arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser with the flags that every benchmark has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object on the last line")
    parser.add_argument("--quick", action="store_true", help="fewer runs")
    return parser


def show(rows: Sequence[Row], *, as_json: bool) -> None:
    """Prints the rows."""
    table = Table("what", "value", "unit", "n", "from", "to", "against", "ratio", title=describe_host())
    for row in rows:
        table.add_row(*(_cell(value) for value in asdict(row).values()))
    Console().print(table)
    if as_json:
        print(json.dumps({"rows": [asdict(row) for row in rows], "machine": describe_host()}))


def _cell(value: str | float | None) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
