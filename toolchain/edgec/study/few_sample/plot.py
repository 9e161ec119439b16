"""A few-sample study as one picture: accuracy and worst class of every method and variant."""

from __future__ import annotations

from itertools import groupby

from edgec.study.few_sample.findings import Findings, Measured
from edgec.study.few_sample.grid import VariantKind
from edgec.study.few_sample.table import Row, rows
from edgec.study.plot import Group, Lane, Mark, Panel, Picture, Symbol, axis_from, render_picture
from edgec.study.wording import network_name

__all__ = ["render_plot"]

_PANELS = {"accuracy": "Top-1 accuracy", "worst_class_accuracy": "Worst class"}
_SYMBOLS: dict[VariantKind, Symbol] = {"plain": "cross", "paper": "square", "few": "triangle", "ours": "circle"}


def render_plot(findings: Findings) -> str:
    """The picture, as an SVG file that needs nothing else."""
    plan, seeds = findings.study.plan, len(findings.study.grid.seeds)
    groups = [
        Group(title=title, references=_teacher(findings), lanes=tuple(_lane(findings, row) for row in group))
        for title, group in groupby(rows(findings), key=lambda row: row.cell.draw)
    ]
    picture = Picture(
        title=f"{plan.config.name}: few-sample compression of {network_name(plan.model.name)}",
        caption=f"Test accuracy in percent: mean over {seeds} seed{'s' * (seeds > 1)}, one deviation to either side, a "
        "dot for every seed. The dashed line is the teacher.",
        label="Accuracy and worst class by method and variant",
        reference="teacher",
        groups=groups,
        panels=_panels(findings, groups),
    )
    return render_picture(picture)


def _teacher(findings: Findings) -> tuple[float, ...]:
    return tuple(getattr(findings.teacher, name) for name in _PANELS)


def _lane(findings: Findings, row: Row) -> Lane:
    variant = row.cell.variant
    results = [o.result for o in findings.outcomes if o.cell == row.cell and isinstance(o.result, Measured)]
    marks = (
        Mark(spread=row.spreads[name], seeds=tuple(getattr(result, name) for result in results))
        for name in _PANELS
        if name in row.spreads
    )
    return Lane(
        family=row.cell.method,
        name=variant.name,
        symbol=_SYMBOLS[variant.kind],
        hollow=variant.without is not None,
        marks=tuple(marks),
    )


def _panels(findings: Findings, groups: list[Group]) -> list[Panel]:
    panels: list[Panel] = []
    for position, (title, teacher) in enumerate(zip(_PANELS.values(), _teacher(findings), strict=True)):
        marks = [lane.marks[position] for group in groups for lane in group.lanes if lane.marks]
        lowest = min((min(mark.ends[0], *mark.seeds) for mark in marks if mark), default=teacher)
        panels.append(Panel(title=title, axis=axis_from(max(0.0, min(lowest, teacher)))))
    return panels
