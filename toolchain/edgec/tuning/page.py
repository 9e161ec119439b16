"""The candidates of a search as one HTML page: latency against agreement, and every class of each."""

from __future__ import annotations

from dataclasses import dataclass

from edgec.core.wording import format_share
from edgec.render.field import Axes
from edgec.render.page import render_template
from edgec.tuning.candidate import Candidate, Found, Tuned, front, nearest

__all__ = ["render_tuned"]


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


def render_tuned(tuned: Tuned) -> str:
    """Draws the page.

    Raises:
        MissingDependencyError: jinja2 is not installed.
    """
    best, close = {each.number for each in front(tuned)}, nearest(tuned)
    first = close and close.number if tuned.chosen is None else tuned.chosen
    required = 0.0 if tuned.required is None else tuned.required
    axes = Axes.over(
        [found.latency_ms for _, found in tuned.built],
        [required or 1.0, *(found.quality for _, found in tuned.built)],
    )

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
