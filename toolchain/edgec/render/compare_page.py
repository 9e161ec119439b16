"""Two bundles as one HTML page: what got worse, what got better, what else is different."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgec.core.facts import Split
from edgec.core.measurement import Kind, Measurement, Stage
from edgec.core.wording import format_fact
from edgec.evaluate.report import Report
from edgec.render import view
from edgec.render.comparison import BEFORE, Comparison, Side, changed_images, compare
from edgec.render.page import FEW_CLASSES, render_template

__all__ = ["render_comparison"]

_CONFUSIONS = 12
_ROWS = 200
"""Classes that the plot has room for; of more, those that changed most."""
_IMAGES = 24
_SHARES = ("accuracy", "worst_class_accuracy", "macro_f1", "head_accuracy", "medium_accuracy", "tail_accuracy")
_COSTS = ("size_bytes", "peak_memory_mb")


def render_comparison(before: Side, after: Side) -> str:
    """Draws the page.

    Args:
        before: The bundle that is deployed, or was built first.
        after: The one that may take its place.

    Raises:
        DataError: They have no class in common.
        MissingDependencyError: jinja2 is not installed.
    """
    found = compare(before, after)
    changes = found.classes
    if len(changes) > _ROWS:
        strongest = sorted(changes, key=lambda change: -abs(change.gain[0]))[:_ROWS]
        changes = tuple(change for change in found.classes if change in strongest)
    rows = [change.row for change in changes]
    lost, won = changed_images(before, after)
    shown: dict[str, Any] = {
        "found": found,
        "changes": changes,
        "rows": rows,
        "axis": view.axis_of(rows),
        "stages": (BEFORE, Stage.ARTIFACT),
        "few_classes": len(rows) <= FEW_CLASSES,
        "shares": list(_shares(before.report, after.report)),
        "costs": list(_costs(before.report, after.report)),
        "lost": lost[:_IMAGES],
        "won": won[:_IMAGES],
        "grown": _grown(found),
        "steps": list(_steps(before.report, after.report)),
        "splits": list(_splits(before.report, after.report)),
        "tools": _differing(before.report.tools, after.report.tools),
    }
    return render_template("compare.html.j2", **shown)


@dataclass(frozen=True, kw_only=True)
class Figures:
    """A measure of both; one of them may lack it."""

    before: Measurement | None
    after: Measurement | None

    @property
    def either(self) -> Measurement:
        """For name and unit."""
        row = self.after or self.before
        if row is None:
            raise ValueError("neither has the figure")
        return row

    @property
    def change(self) -> float | None:
        """The difference."""
        return self.after.value - self.before.value if self.before and self.after else None

    @property
    def times(self) -> float | None:
        """The quotient."""
        return self.after.value / self.before.value if self.before and self.after and self.before.value else None


def _shares(before: Report, after: Report) -> Iterator[Figures]:
    for name in _SHARES:
        rows = [report.find(Stage.ARTIFACT, name) for report in (before, after)]
        if any(rows):
            yield Figures(before=rows[0], after=rows[1])


def _costs(before: Report, after: Report) -> Iterator[Figures]:
    """Sizes, memory and latencies; two latencies stand beside each other where place and kind are the same."""

    def by_place(report: Report) -> dict[tuple[str, str, Kind], Measurement]:
        rows = (row for row in report.measurements if row.stage is Stage.ARTIFACT and row.label is None)
        return {
            (row.name, row.where, row.kind): row for row in rows if row.name in _COSTS or row.name.startswith("latency")
        }

    first, second = by_place(before), by_place(after)
    for key in sorted({**first, **second}, key=lambda key: (key[0].startswith("latency"), key[1], key[0])):
        yield Figures(before=first.get(key), after=second.get(key))


def _grown(found: Comparison) -> list[view.Confusion]:
    """Confusions that the second has more of; only where both counted the same images."""
    first, second = (side.report.confusion.get(Stage.ARTIFACT) for side in (found.before, found.after))
    labels = found.after.report.labels
    n = len(found.after.predictions.images)
    if first is None or second is None or labels != found.before.report.labels:
        return []
    if not found.shared == n == len(found.before.predictions.images):
        return []
    matrix, earlier = np.array(second), np.array(first)
    return view.confusions_of(labels, matrix, earlier, by=matrix - earlier, most=_CONFUSIONS)


@dataclass(frozen=True, kw_only=True)
class Step:
    """A stage of both builds, and the facts that differ."""

    name: str
    is_same: bool
    facts: Sequence[tuple[str, str, str]]


def _steps(before: Report, after: Report) -> Iterator[Step]:
    first, second = ({step.name: step for step in report.lineage} for report in (before, after))
    for name in {**first, **second}:
        one, two = first.get(name), second.get(name)
        facts = _differing(_flat(one.facts if one else {}), _flat(two.facts if two else {}))
        yield Step(name=name, is_same=bool(one and two and one.config == two.config), facts=facts)


def _flat(facts: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Facts inside facts, by dotted names."""
    flat: dict[str, Any] = {}
    facts = {name: fact for name, fact in facts.items() if name != "sha256"}  # of another file it is always another
    for name, fact in facts.items():
        flat |= _flat(fact, f"{prefix}{name}.") if isinstance(fact, Mapping) else {f"{prefix}{name}": fact}
    return flat


def _differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Name and both values, as text, of what is not the same."""

    def told(side: Mapping[str, Any], name: str) -> str:
        return format_fact(side[name]) if name in side else "–"

    differing = (name for name in {**before, **after} if before.get(name) != after.get(name))
    return [(name, told(before, name), told(after, name)) for name in differing]


def _splits(before: Report, after: Report) -> Iterator[tuple[str, str, str, bool]]:
    """A set's name, its images in both, and whether they are the same."""

    def told(split: Split | None) -> str:
        return f"{split.n:,} · {split.digest[:12]}" if split else "–"

    first, second = ({split.name: split for split in report.data.splits} for report in (before, after))
    for name in {**first, **second}:
        one, two = first.get(name), second.get(name)
        yield name, told(one), told(two), bool(one and two and one.digest == two.digest)
