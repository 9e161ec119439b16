"""A long-tail study's files: every run for machines, the tables for people, and the plot."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgec.study.files import PLOT, document_head, write_files
from edgec.study.long_tail.findings import Findings, Outcome
from edgec.study.long_tail.page import notes, render_page
from edgec.study.long_tail.plot import render_plot
from edgec.study.long_tail.published import IMBALANCE, PAPER
from edgec.study.long_tail.table import MEASURES, Gain, Row, cell_record, gains, rows

__all__ = ["write_study"]

_FIELDS = ("data", "teacher", "student", "imbalance", "loss", "adjusted", "seed", *MEASURES, "images", "reason")


def write_study(findings: Findings, folder: Path) -> None:
    """Writes the four files, each whole or not at all; equal findings give equal bytes."""
    page, plot = render_page(findings, plot=PLOT), render_plot(findings)
    write_files(folder, _document(findings), fields=_FIELDS, page=page, plot=plot)


def _document(findings: Findings) -> dict[str, Any]:
    plan = findings.study.plan
    return {
        **document_head("long-tail", plan.config.name),
        "model": plan.model.name,
        "labels": list(findings.labels),
        "grid": findings.study.grid.model_dump(mode="json"),
        "compress": plan.config.compress.model_dump(mode="json"),
        "runs": [_run(outcome) for outcome in findings.outcomes],
        "rows": [{**cell_record(row.cell), **_spreads(row), "reason": row.reason} for row in rows(findings)],
        "gains": [_gain(gain) for gain in gains(findings)],
        "paper": {"imbalance": IMBALANCE, "rows": [asdict(row) for row in PAPER]},
        "notes": list(notes(findings)),
    }


def _run(outcome: Outcome) -> dict[str, Any]:
    return {**cell_record(outcome.cell), "seed": outcome.seed, **outcome.result.model_dump(mode="json")}


def _gain(gain: Gain) -> dict[str, Any]:
    over = {"loss": gain.over.loss, "adjusted": gain.over.adjusted}
    return {**cell_record(gain.cell), "over": over, **_spreads(gain)}


def _spreads(row: Row | Gain) -> dict[str, Any]:
    """Mean, deviation, n and Student's 95 % interval of each measure."""
    return {name: {**asdict(spread), "interval": spread.interval} for name, spread in row.spreads.items()}
