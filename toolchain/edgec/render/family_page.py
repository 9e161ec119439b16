"""The members of a family as one HTML page: size against the worst class, and every class over all members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgec.core.errors import ContractError
from edgec.core.measurement import Machine, Measurement, Stage
from edgec.evaluate.report import Report
from edgec.render.field import Axes
from edgec.render.page import render_template

__all__ = ["render_family"]

_APART = 5.0
"""Percent of the plot by which marks differ that can be told apart."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A member on the page.

    Attributes:
        target: Name of its device profile, and of its folder.
        report: What was measured of it.
    """

    target: str
    report: Report

    @property
    def size(self) -> Measurement:
        """Bytes of the file that ships."""
        return self._shipped("size_bytes")

    @property
    def accuracy(self) -> Measurement:
        """Of the file that ships."""
        return self._shipped("accuracy")

    @property
    def worst(self) -> Measurement:
        """The accuracy of the worst class."""
        return self._shipped("worst_class_accuracy")

    @property
    def latency(self) -> Measurement | None:
        """Measured on the device or predicted for it; another machine's says nothing of it."""
        found = self.report.find(Stage.ARTIFACT, "latency_ms_p50")
        return found if found is not None and found.machine is not Machine.OTHER else None

    def of_class(self, label: str) -> Measurement | None:
        """The accuracy of one class."""
        return self.report.find(Stage.ARTIFACT, "accuracy", label)

    def _shipped(self, name: str) -> Measurement:
        found = self.report.find(Stage.ARTIFACT, name)
        if found is None:
            raise ContractError(f"the report of '{self.target}' lacks the {name} of what ships")
        return found


@dataclass(frozen=True, kw_only=True)
class Spot:
    """A mark of the plot; members that would hide each other share one.

    Attributes:
        x: Size, in percent from the left.
        y: Accuracy of the worst class, in percent from the top.
        text: Numbers of the members.
    """

    x: float
    y: float
    text: str


def render_family(name: str, reports: Mapping[str, Report]) -> str:
    """Draws the page.

    Args:
        name: What all members are called.
        reports: Each target's.

    Raises:
        MissingDependencyError: jinja2 is not installed.
    """
    members = [Shown(target=target, report=report) for target, report in reports.items()]
    first = members[0].report
    teacher = {label: first.find(Stage.TEACHER, "accuracy", label) for label in first.labels}
    axes = Axes.over([each.size.value / 1000 for each in members], [each.worst.value for each in members])
    return render_template(
        "family.html.j2",
        title=name,
        members=members,
        teacher=teacher,
        worst_of_teacher=first.find(Stage.TEACHER, "worst_class_accuracy"),
        classes=sorted(first.labels, key=lambda label: min(_value(each.of_class(label)) for each in members)),
        lowest=min(members, key=lambda each: each.worst.value),
        axes=axes,
        spots=_spots(members, axes),
        edgec=first.tools.get("edgec", ""),
    )


def _spots(members: Sequence[Shown], axes: Axes) -> list[Spot]:
    """The marks, the first of those that are near each other standing for all of them."""
    near: list[tuple[float, float, list[str]]] = []
    for number, each in enumerate(members, start=1):
        x, y = axes.x(each.size.value / 1000), axes.y(each.worst.value)
        close = next((names for a, b, names in near if abs(a - x) < _APART and abs(b - y) < _APART), None)
        if close is None:
            near.append((x, y, [str(number)]))
        else:
            close.append(str(number))
    return [Spot(x=x, y=y, text=", ".join(names)) for x, y, names in near]


def _value(found: Measurement | None) -> float:
    return 1.0 if found is None else found.value
