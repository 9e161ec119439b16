"""The plot of latencies: how measured runs are spread, what is predicted, on one logarithmic axis."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgec.core.facts import LatencyCurve
from edgec.core.measurement import Kind, Measurement, Stage
from edgec.core.wording import STAGES, format_amount
from edgec.evaluate.report import Report

__all__ = ["LatencyLane", "LatencyMark", "LatencyPlot", "latency_plot"]

_BINS = 72
"""Of the histogram, over the whole axis."""
_TALL = 26.0
"""Height of a histogram's highest bin."""
_NAME_WIDTH = 9.0
"""Percent of the axis that a percentile's name takes on a phone."""
_NAMES = {"latency_ms_p50": "p50", "latency_ms_p90": "p90", "latency_ms_p95": "p95", "latency_ms_p99": "p99"}


@dataclass(frozen=True, kw_only=True)
class LatencyMark:
    """A percentile, its place on the axis in percent, and those of its interval's ends.

    Attributes:
        level: How far down its name stands: names that would meet stand under each other.
    """

    name: str
    place: float
    low: float
    high: float
    text: str
    level: int = 0


@dataclass(frozen=True, kw_only=True)
class LatencyLane:
    """One model in one place.

    Attributes:
        hills: The histogram as a path, 100 wide and 26 high; empty where only percentiles are known.
        marks: Percentiles.
    """

    title: str
    where: str
    kind: Kind
    stage: Stage
    hills: str
    marks: tuple[LatencyMark, ...]

    @property
    def levels(self) -> int:
        """Lines of names besides the first."""
        return max((mark.level for mark in self.marks), default=0)

    @property
    def text(self) -> str:
        """For a screen reader."""
        return f"{self.title}, {self.kind.value}, {self.where}: {'; '.join(mark.text for mark in self.marks)}"


@dataclass(frozen=True, kw_only=True)
class LatencyPlot:
    """Lanes under each other.

    Attributes:
        ticks: Places in percent, and what stands there.
    """

    lanes: tuple[LatencyLane, ...]
    ticks: tuple[tuple[float, str], ...]


def latency_plot(report: Report) -> LatencyPlot | None:
    """The plot of a report; None where it has no latency."""
    rows = [row for row in report.measurements if row.name in _NAMES and row.value > 0]
    if not rows:
        return None
    groups: dict[tuple[Kind, str, Stage], list[Measurement]] = {}
    for row in sorted(rows, key=lambda row: (row.kind is Kind.MEASURED, row.where)):
        groups.setdefault((row.kind, row.where, row.stage), []).append(row)
    curves = {(curve.where, curve.stage): curve for curve in report.curves}
    axis = _Axis.over(rows, report.curves)
    return LatencyPlot(
        lanes=tuple(
            LatencyLane(
                title=STAGES[stage][0],
                where=where,
                kind=kind,
                stage=stage,
                hills=_hills(curves.get((where, stage)) if kind is Kind.MEASURED else None, axis),
                marks=_apart([_mark(row, axis) for row in sorted(group, key=lambda row: row.name)]),
            )
            for (kind, where, stage), group in groups.items()
        ),
        ticks=axis.ticks,
    )


@dataclass(frozen=True, kw_only=True)
class _Axis:
    """From one latency to another, both above 0, in ms."""

    start: float
    end: float

    @classmethod
    def over(cls, rows: Iterable[Measurement], curves: Iterable[LatencyCurve]) -> _Axis:
        """One that holds all that is drawn on it, with a little room at both ends."""
        values = [value for row in rows for value in (row.value, row.low, row.high) if value]
        # The very longest run says more about the machine than about the model: the axis ends at the 99th percentile.
        values += [value for curve in curves for value in curve.quantiles_ms[:-1] if value > 0]
        return cls(start=min(values) / 1.15, end=max(values) * 1.15)

    def place(self, ms: float) -> float:
        """In percent of the axis, kept on it."""
        share = math.log(max(ms, self.start) / self.start) / math.log(self.end / self.start)
        return round(100 * min(1.0, share), 2)

    @property
    def ticks(self) -> tuple[tuple[float, str], ...]:
        """1, 2 and 5 times the powers of ten; the powers alone where these would be too many."""
        low, high = math.floor(math.log10(self.start)), math.ceil(math.log10(self.end))
        steps = (1, 2, 5) if high - low <= 2 else (1,)
        values = [step * 10.0**power for power in range(low, high + 1) for step in steps]
        inside = [value for value in values if self.start <= value <= self.end]
        return tuple((self.place(value), f"{value:g}") for value in inside)


def _apart(marks: Sequence[LatencyMark]) -> tuple[LatencyMark, ...]:
    """Marks from left to right, each name on the first line where it does not meet the one before."""
    ends: list[float] = []
    placed = []
    for mark in marks:
        level = next((i for i, end in enumerate(ends) if mark.place - end >= _NAME_WIDTH), len(ends))
        ends[level : level + 1] = [mark.place]
        placed.append(replace(mark, level=level))
    return tuple(placed)


def _mark(row: Measurement, axis: _Axis) -> LatencyMark:
    low, high = (row.value if end is None else end for end in (row.low, row.high))
    name = _NAMES[row.name]
    text = f"{name} {format_amount(row.name, row.value)}"
    return LatencyMark(name=name, place=axis.place(row.value), low=axis.place(low), high=axis.place(high), text=text)


def _hills(curve: LatencyCurve | None, axis: _Axis) -> str:
    """Shares of the runs in equally wide bins of the axis, as a path that starts and ends at the bottom."""
    if curve is None:
        return ""
    places = [axis.place(value) for value in curve.quantiles_ms]
    below = np.interp(np.linspace(0, 100, _BINS + 1), *_rising(places), left=0, right=1)
    shares = np.diff(below)
    width = 100 / _BINS
    heights = _TALL * shares / max(shares.max(), 1e-9)
    steps = "".join(f"V{_TALL - height:.1f}h{width:.2f}" for height in heights)
    return f"M0 {_TALL:g}{steps}V{_TALL:g}z"


def _rising(places: Sequence[float]) -> tuple[list[float], list[float]]:
    """Places and the shares of runs at or below them, each place once."""
    last = len(places) - 1
    shares = {place: i / last for i, place in enumerate(places)}
    return list(shares), list(shares.values())
