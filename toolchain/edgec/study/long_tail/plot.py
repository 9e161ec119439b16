"""A long-tail study as one picture: accuracy and tail of every loss, teacher by teacher."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby

from edgec.study.long_tail.findings import Findings
from edgec.study.long_tail.grid import ALONE
from edgec.study.long_tail.table import Row, rows
from edgec.study.plot import Group, Lane, Mark, Panel, Picture, Symbol, axis_from, render_picture
from edgec.study.wording import network_name

__all__ = ["render_plot"]

_PANELS = {"accuracy": "Top-1 accuracy", "tail_accuracy": "Tail"}
_SYMBOLS: Mapping[str, Symbol] = {"ltkd": "circle", "labels": "cross", "features": "cross", "teacher": "square"}
_TITLE = 31
"""Characters that fit before the first panel's title."""


def render_plot(findings: Findings) -> str:
    """The picture, as an SVG file that needs nothing else."""
    plan, seeds = findings.study.plan, len(findings.study.grid.seeds)
    groups = [_group(title, list(group)) for title, group in groupby(rows(findings), key=lambda row: row.group)]
    picture = Picture(
        title=f"{plan.config.name}: {network_name(plan.model.name)} and teachers that saw a long tail",
        caption=f"Test accuracy in percent: mean over {seeds} seed{'s' * (seeds > 1)}, one deviation to either side, a "
        "dot for every seed. The dashed line is the teacher.",
        label="Accuracy and tail by loss and adjustment",
        reference="teacher",
        groups=groups,
        panels=[Panel(title=title, axis=axis_from(_lowest(groups, at))) for at, title in enumerate(_PANELS.values())],
    )
    return render_picture(picture)


def _group(title: str, lines: list[Row]) -> Group:
    teacher = next(row.spreads for row in lines if row.cell.loss == "teacher")
    return Group(
        title=_fitted(title),
        references=tuple(teacher[name].mean if name in teacher else None for name in _PANELS),
        lanes=tuple(map(_lane, lines)),
    )


def _fitted(title: str) -> str:
    """The title with the imbalance, and as much of the nets before it as there is room for."""
    nets, imbalance = title.rsplit(", imbalance ", 1)
    room = _TITLE - len(f", ρ = {imbalance}")
    return f"{nets if len(nets) <= room else f'{nets[: room - 1]}…'}, ρ = {imbalance}"


def _lane(row: Row) -> Lane:
    marks = tuple(_mark(row, name) for name in _PANELS) if row.spreads else ()
    return Lane(
        family=row.cell.loss,
        name="" if row.cell.adjusted == "nothing" else f"adjusted {row.cell.adjusted}",
        symbol=_SYMBOLS.get(row.cell.loss.removesuffix(ALONE), "triangle"),
        hollow=row.cell.adjusted != "nothing",
        marks=marks,
    )


def _mark(row: Row, name: str) -> Mark | None:
    return Mark(spread=row.spreads[name], seeds=row.seeds[name]) if name in row.spreads else None


def _lowest(groups: list[Group], position: int) -> float:
    """What an axis must reach down to: the ends of all marks of a panel, and every seed."""
    marks = [lane.marks[position] for group in groups for lane in group.lanes if lane.marks]
    return max(0.0, min((value for mark in marks if mark for value in (*mark.ends, *mark.seeds)), default=0.0))
