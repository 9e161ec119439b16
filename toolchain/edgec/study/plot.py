"""A study as one picture: every cell's measures side by side, with the deviation and every seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from edgec.core.plain import visible
from edgec.study.spread import Spread
from edgec.study.wording import format_share, format_spread

__all__ = ["Axis", "Group", "Lane", "Mark", "Panel", "Picture", "Symbol", "axis_from", "render_picture"]

_TEMPLATES = Path(__file__).parent / "templates"
_TOP, _HEADING, _LANE, _GAP, _SCALE = 64, 30, 19, 9, 40
"""Pixels: of the page's head, a group's heading, a lane, the space between families, and the axis below a group."""
_TICKS = 6

Symbol = Literal["cross", "square", "triangle", "circle"]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A horizontal axis of shares.

    Attributes:
        start: The share at its left end.
        end: At its right end.
        ticks: Shares to write on it.
    """

    start: float
    end: float
    ticks: tuple[float, ...]

    def place(self, share: float) -> float:
        """Distance from the left end, in percent of the axis; what lies beyond an end is drawn there."""
        inside = min(max(share, self.start), self.end)
        return round(100 * (inside - self.start) / (self.end - self.start), 2)


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
        """One deviation to either side, at most 1."""
        deviation = self.spread.deviation or 0.0
        return self.spread.mean - deviation, min(1.0, self.spread.mean + deviation)

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
        family: What is written once before the lanes that follow each other with it.
        name: The lane's own name.
        symbol: Tells kinds of cells apart.
        hollow: Whether the symbol is not filled.
        marks: One a panel, or None where it is not measured; none at all where the method does not apply.
    """

    family: str
    name: str
    symbol: Symbol
    hollow: bool = False
    marks: tuple[Mark | None, ...]


@dataclass(frozen=True, kw_only=True)
class Group:
    """The lanes that are compared with each other.

    Attributes:
        title: What they have in common.
        references: A dashed line in each panel; None for no line.
        lanes: In the order of the table.
    """

    title: str
    references: tuple[float | None, ...]
    lanes: tuple[Lane, ...]

    def shows(self, panel: int) -> bool:
        """Whether there is anything to draw in a panel; where no method applies, all of them are drawn empty."""
        marks = [lane.marks[panel] for lane in self.lanes if lane.marks]
        return not marks or any(marks)


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One measure of all cells, on one axis."""

    title: str
    axis: Axis


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What is to be drawn.

    Attributes:
        title: Of the whole.
        caption: How to read it.
        label: What it shows, for a screen reader.
        reference: What the dashed lines are, in a word.
        groups: From the top.
        panels: From the left: two.
    """

    title: str
    caption: str
    label: str
    reference: str
    groups: Sequence[Group]
    panels: Sequence[Panel]


@dataclass(frozen=True, kw_only=True)
class _Placed:
    """A lane, with its middle in pixels from the top."""

    y: float
    opens: bool
    lane: Lane


@dataclass(frozen=True, kw_only=True)
class _Block:
    """A group, with where its lanes begin and end."""

    top: float
    bottom: float
    group: Group
    lanes: tuple[_Placed, ...]


def render_picture(picture: Picture) -> str:
    """The picture, as an SVG file that needs nothing else."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: visible(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(share=format_share)
    blocks = _blocks(picture.groups)
    height = blocks[-1].bottom + _SCALE
    return environment.get_template("plot.svg.j2").render(picture=picture, blocks=blocks, height=height)


def _blocks(groups: Sequence[Group]) -> list[_Block]:
    """The table laid out from the top."""
    blocks: list[_Block] = []
    y = float(_TOP)
    for group in groups:
        top = y = y + _HEADING
        lanes: list[_Placed] = []
        for lane in group.lanes:
            opens = not lanes or lanes[-1].lane.family != lane.family
            y += _GAP if opens and lanes else 0
            lanes.append(_Placed(y=y + _LANE / 2, opens=opens, lane=lane))
            y += _LANE
        blocks.append(_Block(top=top, bottom=y, group=group, lanes=tuple(lanes)))
        y += _SCALE
    return blocks


def axis_from(lowest: float) -> Axis:
    """An axis up to 1 that starts at the last tick below the lowest value, but shows at least 20 points."""
    tenths = min(8, math.floor(10 * lowest))
    step = 2 if 10 - tenths > _TICKS else 1
    first = tenths - tenths % step
    return Axis(start=first / 10, end=1.0, ticks=tuple(i / 10 for i in range(first, 11, step)))
