"""A study as one picture: accuracy and worst class of every method and variant, with the deviation and every seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from edgec.evaluate.view import Axis
from edgec.study.findings import Findings, Measured
from edgec.study.page import format_share, format_spread, network
from edgec.study.table import Row, Spread, rows

__all__ = ["render_plot"]

_TEMPLATES = Path(__file__).parent / "templates"
_PANELS = {"accuracy": "Top-1 accuracy", "worst_class_accuracy": "Worst class"}
_TOP, _HEADING, _LANE, _GAP, _SCALE = 64, 30, 19, 9, 40
"""Pixels: of the page's head, a draw's heading, a lane, the space between methods, and the axis below a draw."""
_TICKS = 6


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A cell's figures in one panel.

    Attributes:
        spread: Mean and deviation over seeds.
        seeds: The value of every seed.
    """

    spread: Spread
    seeds: tuple[float, ...]

    @property
    def ends(self) -> tuple[float, float]:
        """One deviation to either side, inside 0 and 1."""
        deviation = self.spread.deviation or 0.0
        return max(0.0, self.spread.mean - deviation), min(1.0, self.spread.mean + deviation)

    @property
    def text(self) -> str:
        """The mean, to be written beside the lane."""
        return format_share(self.spread.mean)

    @property
    def title(self) -> str:
        """For a tooltip and a screen reader."""
        return f"{format_spread(self.spread)}; by seed {', '.join(map(format_share, self.seeds))}"


@dataclass(frozen=True, kw_only=True)
class Lane:
    """A cell's line through all panels.

    Attributes:
        y: Its middle, in pixels from the top.
        row: Its figures.
        opens: Whether it is the first of its method.
        marks: One a panel; none where the method does not apply.
    """

    y: float
    row: Row
    opens: bool
    marks: tuple[Mark, ...]


@dataclass(frozen=True, kw_only=True)
class Block:
    """The lanes of one draw.

    Attributes:
        title: The draw.
        top: Where its lanes begin, in pixels from the top.
        bottom: Where they end.
        lanes: In the order of the table.
    """

    title: str
    top: float
    bottom: float
    lanes: tuple[Lane, ...]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One measure of all cells, on one axis.

    Attributes:
        title: The measure.
        axis: Common to all draws.
        teacher: The teacher's value.
    """

    title: str
    axis: Axis
    teacher: float


def render_plot(findings: Findings) -> str:
    """The picture, as an SVG file that needs nothing else."""
    blocks = _blocks(findings)
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(share=format_share)
    return environment.get_template("plot.svg.j2").render(
        name=findings.study.plan.config.name,
        network=network(findings),
        seeds=len(findings.study.grid.seeds),
        blocks=blocks,
        panels=_panels(findings, blocks),
        height=blocks[-1].bottom + _SCALE,
    )


def _blocks(findings: Findings) -> list[Block]:
    """The table laid out from the top."""
    blocks: list[Block] = []
    y = float(_TOP)
    for title, group in groupby(rows(findings), key=lambda row: row.cell.draw):
        top = y = y + _HEADING
        lanes: list[Lane] = []
        for row in group:
            opens = not lanes or lanes[-1].row.cell.method != row.cell.method
            y += _GAP if opens and lanes else 0
            lanes.append(Lane(y=y + _LANE / 2, row=row, opens=opens, marks=_marks(findings, row)))
            y += _LANE
        blocks.append(Block(title=title, top=top, bottom=y, lanes=tuple(lanes)))
        y += _SCALE
    return blocks


def _marks(findings: Findings, row: Row) -> tuple[Mark, ...]:
    results = [o.result for o in findings.outcomes if o.cell == row.cell and isinstance(o.result, Measured)]
    return tuple(
        Mark(spread=row.spreads[name], seeds=tuple(getattr(result, name) for result in results))
        for name in _PANELS
        if name in row.spreads
    )


def _panels(findings: Findings, blocks: Sequence[Block]) -> list[Panel]:
    panels: list[Panel] = []
    for position, (name, title) in enumerate(_PANELS.items()):
        teacher = getattr(findings.teacher, name)
        marks = [lane.marks[position] for block in blocks for lane in block.lanes if lane.marks]
        lowest = min(min(mark.ends[0], *mark.seeds) for mark in marks) if marks else teacher
        panels.append(Panel(title=title, axis=_axis(min(lowest, teacher)), teacher=teacher))
    return panels


def _axis(lowest: float) -> Axis:
    """An axis that starts at the last tick below the lowest value, but shows at least 20 points."""
    tenths = min(8, math.floor(10 * lowest))
    step = 2 if 10 - tenths > _TICKS else 1
    first = tenths - tenths % step
    return Axis(start=first / 10, ticks=tuple(i / 10 for i in range(first, 11, step)))
