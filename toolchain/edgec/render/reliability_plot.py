"""The reliability diagram: how often answers are right, by how sure the model was of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgec.core.facts import ReliabilityBin
from edgec.core.measurement import Stage
from edgec.core.wording import STAGES, format_share
from edgec.evaluate.intervals import wilson_interval
from edgec.evaluate.report import Report

__all__ = ["ReliabilityMark", "ReliabilityPlot", "ReliabilitySeries", "reliability_plot"]

_SHOWN = (Stage.TEACHER, Stage.ARTIFACT)


@dataclass(frozen=True, kw_only=True)
class ReliabilityMark:
    """A group of images, with places in percent of the plot from its left and upper edges.

    Attributes:
        n: Images.
        right: Of the left edge: the mean confidence.
        down: Of the upper edge: one less the accuracy.
        low: The lower end of the accuracy's 95 % interval, from the upper edge.
        high: The upper end.
        bar: Share of all images, in percent of the largest group's.
        confidence: Mean confidence, for people.
        accuracy: Accuracy, for people.
    """

    n: int
    right: float
    down: float
    low: float
    high: float
    bar: float
    confidence: str
    accuracy: str

    @property
    def text(self) -> str:
        """For a tooltip and a screen reader."""
        return f"confidence {self.confidence}: {self.accuracy} of {self.n:,} images right"


@dataclass(frozen=True, kw_only=True)
class ReliabilitySeries:
    """One model.

    Attributes:
        marks: From the least confidence to the most.
    """

    stage: Stage
    marks: tuple[ReliabilityMark, ...]

    @property
    def text(self) -> str:
        """For a screen reader."""
        return f"{STAGES[self.stage][0]}: {'; '.join(mark.text for mark in self.marks)}"


@dataclass(frozen=True, kw_only=True)
class ReliabilityPlot:
    """The teacher and the artifact, as far as they are known."""

    series: tuple[ReliabilitySeries, ...]

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Whose series there are."""
        return tuple(each.stage for each in self.series)

    @property
    def last(self) -> ReliabilitySeries:
        """The artifact's, where it is there: it has intervals, bars and a table."""
        return self.series[-1]


def reliability_plot(report: Report) -> ReliabilityPlot | None:
    """The diagram of a report; None where it has no confidences."""
    series = [
        ReliabilitySeries(stage=stage, marks=_marks(report.reliability[stage]))
        for stage in _SHOWN
        if report.reliability.get(stage)
    ]
    return ReliabilityPlot(series=tuple(series)) if series else None


def _marks(bins: Sequence[ReliabilityBin]) -> tuple[ReliabilityMark, ...]:
    most = max(each.n for each in bins)
    return tuple(_mark(each, most) for each in bins)


def _mark(found: ReliabilityBin, most: int) -> ReliabilityMark:
    interval = wilson_interval(round(found.accuracy * found.n), found.n)
    down, low, high = (round(100 * (1 - share), 2) for share in (found.accuracy, interval.low, interval.high))
    return ReliabilityMark(
        n=found.n,
        right=round(100 * found.confidence, 2),
        down=down,
        low=low,
        high=high,
        bar=round(100 * found.n / most, 2),
        confidence=format_share(found.confidence),
        accuracy=format_share(found.accuracy),
    )
