"""An imbalance study's files: every run for machines, the table for people, and the plot."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgec.study.files import PLOT, document_head, write_files
from edgec.study.imbalance.findings import Findings, Outcome
from edgec.study.imbalance.grid import Cell
from edgec.study.imbalance.page import notes, render_page
from edgec.study.imbalance.plot import render_plot
from edgec.study.imbalance.table import MEASURES, Row, rows

__all__ = ["write_study"]

_FIELDS = ("profile", "minority", "imbalance", "compression", "seed", *MEASURES, "images", "reason")


def write_study(findings: Findings, folder: Path) -> None:
    """Writes the four files, each whole or not at all; equal findings give equal bytes."""
    page, plot = render_page(findings, plot=PLOT), render_plot(findings)
    write_files(folder, _document(findings), fields=_FIELDS, page=page, plot=plot)


def _document(findings: Findings) -> dict[str, Any]:
    plan = findings.study.plan
    return {
        **document_head("imbalance", plan.config.name),
        "model": plan.model.name,
        "labels": list(findings.labels),
        "grid": findings.study.grid.model_dump(mode="json"),
        "runs": [_run(outcome) for outcome in findings.outcomes],
        "rows": [_row(row) for row in rows(findings)],
        "notes": list(notes(findings)),
    }


def _run(outcome: Outcome) -> dict[str, Any]:
    return {**_cell(outcome.cell), "seed": outcome.seed, **outcome.result.model_dump(mode="json")}


def _row(row: Row) -> dict[str, Any]:
    return {
        **_cell(row.cell),
        **{name: asdict(spread) for name, spread in row.spreads.items()},
        "gap": row.gap and asdict(row.gap),
        "excess": row.excess and {**asdict(row.excess), "interval": row.excess.interval},
        "ratio": row.ratio,
        "robust": row.robust,
        "reason": row.reason,
    }


def _cell(cell: Cell) -> dict[str, Any]:
    draw = cell.draw
    return {
        "profile": draw.profile or "balanced",
        "minority": draw.minority,
        "imbalance": draw.imbalance,
        "compression": cell.compression,
    }
