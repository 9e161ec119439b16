"""An imbalance study as one picture: macro F1 and gap of every compression, training set by training set."""

from __future__ import annotations

import math
from itertools import groupby

from edgec.study.imbalance.compression import Kind, parse_compression
from edgec.study.imbalance.findings import Findings
from edgec.study.imbalance.table import Row, rows
from edgec.study.plot import Axis, Group, Lane, Mark, Panel, Picture, Symbol, axis_from, render_picture
from edgec.study.wording import network_name

__all__ = ["render_plot"]

_SYMBOLS: dict[Kind, Symbol] = {"none": "cross", "pruned": "square", "quantised": "circle", "distilled": "circle"}
_TICKS = 6


def render_plot(findings: Findings) -> str:
    """The picture, as an SVG file that needs nothing else."""
    plan, seeds, table = findings.study.plan, len(findings.study.grid.seeds), rows(findings)
    groups = [_group(title, list(group)) for title, group in groupby(table, key=lambda row: row.cell.draw.name)]
    picture = Picture(
        title=f"{plan.config.name}: {network_name(plan.model.name)} trained on imbalanced classes",
        caption=f"In percent: mean over {seeds} seed{'s' * (seeds > 1)} with one deviation to either side. The dashed "
        "line is the uncompressed net; a gap to its right is larger.",
        label="Macro F1 and gap by training set and compression",
        reference="uncompressed",
        groups=groups,
        panels=[
            Panel(title="Macro F1", axis=axis_from(max(0.0, min(_ends(groups, 0), default=0.0)))),
            Panel(title="Gap Δ", axis=_axis_to(max(_ends(groups, 1), default=0.0))),
        ],
    )
    return render_picture(picture)


def _group(title: str, lines: list[Row]) -> Group:
    plain = next(row for row in lines if row.cell.compression == "none")
    return Group(
        title=title,
        references=(plain.spreads["macro_f1"].mean, plain.gap and plain.gap.mean),
        lanes=tuple(map(_lane, lines)),
    )


def _lane(row: Row) -> Lane:
    kind = parse_compression(row.cell.compression).kind
    marks = () if not row.scores else (Mark(spread=row.spreads["macro_f1"], seeds=row.scores), _gap_mark(row))
    return Lane(
        family={"none": "uncompressed"}.get(kind, kind),
        name=row.cell.compression,
        symbol=_SYMBOLS[kind],
        hollow=kind == "distilled",
        marks=marks,
    )


def _gap_mark(row: Row) -> Mark | None:
    return Mark(spread=row.gap, seeds=row.gaps) if row.gap else None


def _ends(groups: list[Group], position: int) -> list[float]:
    """What an axis must reach: the ends of all marks of a panel, and every seed."""
    marks = (lane.marks[position] for group in groups for lane in group.lanes if lane.marks)
    return [value for mark in marks if mark for value in (*mark.ends, *mark.seeds)]


def _axis_to(highest: float) -> Axis:
    """An axis from 0 to the first tick above the highest gap, but at least to 20 points."""
    tenths = min(10, max(2, math.ceil(10 * highest)))
    step = 2 if tenths > _TICKS else 1
    last = min(10, tenths + tenths % step)
    return Axis(start=0.0, end=last / 10, ticks=tuple(i / 10 for i in range(0, last + 1, step)))
