"""The candidates of a search as one HTML page: latency against agreement, and every class of each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgec.core.wording import format_share
from edgec.render.page import render_template
from edgec.tuning.candidate import Candidate, Found, Tuned, front, nearest

__all__ = ["render_tuned"]

_TICKS = 6
_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Between shares on the axis."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A candidate on the page.

    Attributes:
        x: Its latency on the axis, in percent from the left.
        y: Its worst class's agreement, in percent from the top.
        state: `chosen`, `front` or `beaten`.
    """

    candidate: Candidate
    found: Found
    x: float
    y: float
    state: str

    @property
    def classes(self) -> list[tuple[str, float]]:
        """Every class and its agreement, the lowest first."""
        return sorted(self.found.agreement.items(), key=lambda item: item[1])


@dataclass(frozen=True, kw_only=True)
class Axes:
    """Latencies from 0 to the right, shares from the bottom to 1, both with a little room."""

    end_ms: float
    start: float
    step: float

    @classmethod
    def over(cls, built: Sequence[Found], agreement: float) -> Axes:
        """Axes that hold all candidates."""
        lowest = min([agreement, *(found.quality for found in built)])
        step = next((step for step in _STEPS if (1 - lowest) / step <= _TICKS), _STEPS[-1])
        end_ms = 1.08 * max((found.latency_ms for found in built), default=1.0)
        return cls(end_ms=end_ms, start=max(0.0, step * math.floor(lowest / step - 0.2)), step=step)

    def x(self, latency_ms: float) -> float:
        """In percent from the left."""
        return round(100 * latency_ms / self.end_ms, 2)

    def y(self, share: float) -> float:
        """In percent from the top."""
        return round(100 * (1 - share) / (1 - self.start), 2)

    @property
    def ticks_x(self) -> list[tuple[float, str]]:
        """1, 2 or 5 times a power of ten apart: places and texts."""
        power = 10.0 ** math.floor(math.log10(self.end_ms / 3))
        step = next(step * power for step in (1, 2, 5, 10) if self.end_ms / (step * power) <= _TICKS)
        return [(self.x(i * step), f"{i * step:g}") for i in range(int(self.end_ms / step) + 1)]

    @property
    def ticks_y(self) -> list[tuple[float, str]]:
        """Places and texts."""
        shares = [1 - i * self.step for i in range(round((1 - self.start) / self.step) + 1)]
        return [(self.y(share), f"{100 * share:.0f} %") for share in shares]


def render_tuned(tuned: Tuned) -> str:
    """Draws the page.

    Raises:
        MissingDependencyError: jinja2 is not installed.
    """
    best, close = {each.number for each in front(tuned)}, nearest(tuned)
    first = close and close.number if tuned.chosen is None else tuned.chosen
    required = 0.0 if tuned.required is None else tuned.required
    axes = Axes.over([found for _, found in tuned.built], required or 1.0)

    def state(candidate: Candidate) -> str:
        if candidate.number == tuned.chosen:
            return "chosen"
        return "front" if candidate.number in best else "beaten"

    shown = [
        Shown(candidate=each, found=found, x=axes.x(found.latency_ms), y=axes.y(found.quality), state=state(each))
        for each, found in sorted(tuned.built, key=lambda pair: (pair[1].latency_share, -pair[1].quality))
    ]
    return render_template(
        "tuned.html.j2",
        tuned=tuned,
        shown=shown,
        line=[each for each in shown if each.candidate.number in best],
        first=next((each for each in shown if each.candidate.number == first), None),
        failed=[each for each in tuned.candidates if each.found is None],
        axes=axes,
        required=required,
        gate=format_share(required),
    )
