"""A study's files: every run for machines, the table for people, and the plot."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgec import __version__
from edgec.core.files import require_writable, write_bytes, write_json
from edgec.core.host import describe_host
from edgec.study.findings import Findings, Outcome
from edgec.study.grid import Cell
from edgec.study.page import notes, render_page
from edgec.study.plot import render_plot
from edgec.study.table import MEASURES, Gain, Row, gains, rows

__all__ = ["CSV", "JSON", "PAGE", "PLOT", "require_folder", "write_study"]

JSON, CSV, PAGE, PLOT = "results.json", "results.csv", "results.md", "plot.svg"
SCHEMA = 1


def require_folder(folder: Path) -> None:
    """Says before anything runs whether the files could be written.

    Raises:
        ConfigError: The folder cannot be made or written to.
    """
    require_writable(folder / PAGE)


def write_study(findings: Findings, folder: Path) -> None:
    """Writes the four files, each whole or not at all; equal findings give equal bytes."""
    write_json(folder / JSON, _document(findings))
    write_bytes(folder / CSV, _lines(findings).encode())
    write_bytes(folder / PLOT, render_plot(findings).encode())
    write_bytes(folder / PAGE, render_page(findings, plot=PLOT).encode())


def _document(findings: Findings) -> dict[str, Any]:
    plan, table = findings.study.plan, rows(findings)
    return {
        "schema": SCHEMA,
        "study": "few-sample",
        "name": plan.config.name,
        "edgec": __version__,
        "machine": describe_host(),
        "model": plan.model.name,
        "labels": list(findings.labels),
        "grid": findings.study.grid.model_dump(mode="json"),
        "compress": plan.config.compress.model_dump(
            mode="json", exclude={"method", "rebalance", "baseline", "options"}
        ),
        "options": {run.cell.method: run.plan.config.compress.options for run in findings.study.runs},
        "teacher": findings.teacher.model_dump(mode="json"),
        "runs": [_run(outcome) for outcome in findings.outcomes],
        "rows": [_row(row) for row in table],
        "gains": [_gain(gain) for gain in gains(findings.outcomes)],
        "notes": list(notes(findings, table)),
    }


def _run(outcome: Outcome) -> dict[str, Any]:
    return {**_cell(outcome.cell), "seed": outcome.seed, **outcome.result.model_dump(mode="json")}


def _row(row: Row) -> dict[str, Any]:
    paper = asdict(row.paper) if row.paper else None
    return {**_cell(row.cell), **_spreads(row), "reason": row.reason, "paper": paper}


def _gain(gain: Gain) -> dict[str, Any]:
    return {**_cell(gain.cell), **_spreads(gain)}


def _spreads(row: Row | Gain) -> Mapping[str, Any]:
    return {name: asdict(spread) for name, spread in row.spreads.items()}


def _cell(cell: Cell) -> dict[str, Any]:
    return {
        "method": cell.method,
        "variant": cell.variant.kind,
        "without": cell.variant.without,
        "samples": cell.samples,
        "imbalance": cell.imbalance,
    }


def _lines(findings: Findings) -> str:
    """A line for each run; shares run from 0 to 1."""
    text = io.StringIO()
    fields = ("method", "variant", "without", "samples", "imbalance", "seed", *MEASURES, "images", "reason")
    writer = csv.DictWriter(text, fields, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(_run, findings.outcomes))
    return text.getvalue()
