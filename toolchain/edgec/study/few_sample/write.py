"""A few-sample study's files: every run for machines, the table for people, and the plot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgec.study.few_sample.findings import Findings, Outcome
from edgec.study.few_sample.grid import Cell
from edgec.study.few_sample.page import notes, render_page
from edgec.study.few_sample.plot import render_plot
from edgec.study.few_sample.table import MEASURES, Gain, Row, gains, rows
from edgec.study.files import PLOT, document_head, write_files

__all__ = ["write_study"]

_FIELDS = ("method", "variant", "without", "samples", "imbalance", "seed", *MEASURES, "images", "reason")


def write_study(findings: Findings, folder: Path) -> None:
    """Writes the four files, each whole or not at all; equal findings give equal bytes."""
    page, plot = render_page(findings, plot=PLOT), render_plot(findings)
    write_files(folder, _document(findings), fields=_FIELDS, page=page, plot=plot)


def _document(findings: Findings) -> dict[str, Any]:
    plan, table = findings.study.plan, rows(findings)
    return {
        **document_head("few-sample", plan.config.name),
        "model": plan.model.name,
        "labels": list(findings.labels),
        "grid": findings.study.grid.model_dump(mode="json"),
        "compress": plan.config.compress.model_dump(mode="json", exclude={"method", "variant", "compare", "options"}),
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
    ends = {name: spread.interval for name, spread in gain.spreads.items()}
    return {**_cell(gain.cell), "over": gain.over, **_spreads(gain), "intervals": ends}


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
