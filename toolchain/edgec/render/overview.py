"""Plots of more classes than have room for a row each: a column of a picture per class, as a few paths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgec.core.measurement import Stage
from edgec.render.view import Axis, Bar, Cell, ClassRow

__all__ = ["WIDTH", "Overview", "OverviewSeries", "bar_paths", "matrix_paths", "overview_of"]

WIDTH = 1000
"""Units of a picture from left to right; its height is 100."""
_TICKS = 6
_HEATS = 8
"""Strengths of colour that cells of the confusion matrix are rounded to."""


@dataclass(frozen=True, kw_only=True)
class OverviewSeries:
    """One stage: its mean over neighbouring classes, and where that line ends, from 0 at the top to 100."""

    stage: Stage
    line: str
    end: float


@dataclass(frozen=True, kw_only=True)
class Overview:
    """Accuracy of every class from the most frequent to the rarest.

    Attributes:
        axis: Of accuracies, 1 at the top.
        dots: The artifact's accuracies, a point per class.
        intervals: Their 95 % intervals, a vertical line per class.
        series: Means over neighbours, by stage.
        window: How many neighbours a mean takes.
        ticks: Places in percent of the width, the class's rank, and its training images where they are known.
    """

    axis: Axis
    dots: str
    intervals: str
    series: tuple[OverviewSeries, ...]
    window: int
    ticks: tuple[tuple[float, int, int | None], ...]

    def height(self, share: float) -> float:
        """Distance of a share from the top, in percent."""
        return _height(self.axis, share)


def overview_of(rows: Sequence[ClassRow], axis: Axis, stages: Sequence[Stage]) -> Overview:
    """The picture of classes in the order of their rows."""
    step = WIDTH / len(rows)
    dots, intervals = [], []
    for i, row in enumerate(rows):
        mark = row.mark(Stage.ARTIFACT)
        if mark is not None:
            x = f"M{step * (i + 0.5):.1f} "
            dots.append(f"{x}{_height(axis, mark.value):.1f}h0")
            intervals.append(f"{x}{_height(axis, mark.high):.1f}V{_height(axis, mark.low):.1f}")
    window = max(3, len(rows) // 20)
    ranks = np.unique(np.linspace(0, len(rows) - 1, _TICKS).round().astype(int)).tolist()
    return Overview(
        axis=axis,
        dots="".join(dots),
        intervals="".join(intervals),
        series=tuple(_series(stage, rows, axis, window) for stage in stages),
        window=window,
        ticks=tuple((round(100 * (i + 0.5) / len(rows), 2), i + 1, rows[i].train) for i in ranks),
    )


def _series(stage: Stage, rows: Sequence[ClassRow], axis: Axis, window: int) -> OverviewSeries:
    """The running mean at a hundred places, over as many neighbours as there are at the ends."""
    marks = [row.mark(stage) for row in rows]
    values = np.array([np.nan if mark is None else mark.value for mark in marks])
    places = np.unique(np.linspace(0, len(rows) - 1, 100).round().astype(int))
    means = [
        float(np.nanmean(part)) for part in (values[max(0, i - window // 2) : i + window // 2 + 1] for i in places)
    ]
    step = WIDTH / len(rows)
    points = [f"{step * (i + 0.5):.1f} {_height(axis, mean):.1f}" for i, mean in zip(places, means, strict=True)]
    return OverviewSeries(stage=stage, line="M" + "L".join(points), end=_height(axis, means[-1]))


def _height(axis: Axis, share: float) -> float:
    return round(100 - axis.place(share), 1)


def matrix_paths(rows: Sequence[tuple[str, Sequence[Cell]]]) -> list[tuple[bool, float, str]]:
    """A confusion matrix, a unit square per cell: whether right, strength of the colour, and the path of such cells."""
    paths: dict[tuple[bool, float], list[str]] = {}
    for y, (_, cells) in enumerate(rows):
        for cell in cells:
            if cell.count:
                heat = max(1, round(_HEATS * cell.heat)) / _HEATS
                paths.setdefault((cell.right, heat), []).append(f"M{cell.column} {y}h1v1h-1z")
    return [(right, heat, "".join(parts)) for (right, heat), parts in sorted(paths.items())]


def bar_paths(bars: Sequence[Bar]) -> tuple[str, str]:
    """Stacked bars over the whole width as two paths, 100 high at the tallest: those at the bottom, those on top."""
    most = max((bar.few + bar.ood for bar in bars), default=1) or 1
    step = WIDTH / max(1, len(bars))
    few, ood = [], []
    for i, bar in enumerate(bars):
        x, low, high = step * i, 100 * bar.few / most, 100 * bar.ood / most
        few.append(f"M{x:.1f} 100v{-low:.1f}h{step:.1f}v{low:.1f}z")
        ood.append(f"M{x:.1f} {100 - low:.1f}v{-high:.1f}h{step:.1f}v{high:.1f}z")
    return "".join(few), "".join(ood)
