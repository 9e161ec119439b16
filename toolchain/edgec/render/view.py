"""What the report page shows, computed from the report: rows, their order, and where marks stand on an axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgec.core.measurement import Measurement, Stage
from edgec.core.wording import STAGES, format_share
from edgec.evaluate.report import Report

__all__ = [
    "Axis",
    "Bar",
    "Cell",
    "ClassRow",
    "Confusion",
    "Mark",
    "SummaryRow",
    "axis_of",
    "calibration_bars",
    "class_order",
    "class_rows",
    "confusion_rows",
    "confusions_of",
    "grown_confusions",
    "lost_most",
    "stages_of",
    "summary_rows",
    "top_confusions",
]

_SUMMARY = (
    "accuracy",
    "worst_class_accuracy",
    "macro_f1",
    "head_accuracy",
    "medium_accuracy",
    "tail_accuracy",
    "accuracy_drop",
    "teacher_agreement",
    "calibration_error",
    "corrupted_accuracy",
    "corrupted_worst_class_accuracy",
    "accuracy_under_seen_kinds",
    "accuracy_under_related_kinds",
    "accuracy_under_unseen_kinds",
    "ood_auroc",
    "multiply_adds",
    "size_bytes",
)


_TICKS = 5
"""Tenths that have room on a phone."""


def stages_of(report: Report) -> tuple[Stage, ...]:
    """The stages whose accuracy was measured, in the order of the build."""
    return tuple(stage for stage in STAGES if report.find(stage, "accuracy"))


def class_order(report: Report) -> tuple[int, ...]:
    """Positions of the classes, most training images first; as they stand where these are not known."""
    counts = report.train_counts or (0,) * len(report.labels)
    return tuple(sorted(range(len(counts)), key=lambda i: -counts[i]))


@dataclass(frozen=True, kw_only=True)
class SummaryRow:
    """One measure of every stage.

    Attributes:
        notes: A word under each value: the worst class's name; else empty.
    """

    name: str
    cells: tuple[Measurement | None, ...]
    notes: tuple[str, ...]


def summary_rows(report: Report) -> list[SummaryRow]:
    """The measures of the whole, for those that any stage has."""
    stages = stages_of(report)
    worst = tuple(report.worst_class(stage) or "" for stage in stages)
    blank = ("",) * len(stages)
    rows = (
        SummaryRow(
            name=name,
            cells=tuple(report.find(stage, name) for stage in stages),
            notes=worst if name == "worst_class_accuracy" else blank,
        )
        for name in _SUMMARY
    )
    return [row for row in rows if any(row.cells)]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A horizontal axis of shares that ends at 1.

    Attributes:
        start: The share at its left end.
        ticks: Shares to write on it.
    """

    start: float
    ticks: tuple[float, ...]

    def place(self, share: float) -> float:
        """Distance from the left end, in percent of the axis."""
        return round(100 * (max(share, self.start) - self.start) / (1 - self.start), 2)

    def cuts(self, low: float) -> bool:
        """Whether an interval that begins at a share is longer than the axis shows; it gets an arrow then."""
        return low < self.start


def axis_of(rows: Sequence[ClassRow]) -> Axis:
    """An axis that starts at the last multiple of 10 % below the lowest value, but shows at least 20 points."""
    lowest = min((mark.value for row in rows for mark in row.marks), default=0.0)
    tenths = min(8, math.floor(lowest * 10))
    step = 2 if 10 - tenths > _TICKS else 1
    return Axis(start=tenths / 10, ticks=tuple(i / 10 for i in range(10, tenths - 1, -step))[::-1])


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A stage's accuracy in one class.

    Attributes:
        name: Whose it is; None for the stage's own name.
    """

    stage: Stage
    value: float
    low: float
    high: float
    name: str | None = None

    @property
    def text(self) -> str:
        """For a tooltip and a screen reader."""
        name = self.name or STAGES[self.stage][0]
        return f"{name} {format_share(self.value)} ({100 * self.low:.1f}–{100 * self.high:.1f})"


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """One class of the plot and of the table.

    Attributes:
        train: Training images; None where not known.
        test: Test images.
        marks: Accuracy by stage, for the stages that have one.
        drop: What the artifact lost against the teacher.
    """

    label: str
    train: int | None
    test: int
    marks: tuple[Mark, ...]
    drop: Measurement | None
    drop_p: Measurement | None

    def mark(self, stage: Stage) -> Mark | None:
        """The mark of a stage."""
        return next((mark for mark in self.marks if mark.stage is stage), None)


def class_rows(report: Report) -> list[ClassRow]:
    """Every class, in `class_order`."""
    accuracy = {stage: report.by_class(stage, "accuracy") for stage in stages_of(report)}
    drops = report.by_class(Stage.ARTIFACT, "accuracy_drop")
    tests = report.by_class(Stage.ARTIFACT, "accuracy_drop_p")
    return [
        ClassRow(
            label=label,
            train=report.train_counts[i] if report.train_counts else None,
            test=max((found[label].n for found in accuracy.values() if label in found), default=0),
            marks=tuple(_mark(stage, found[label]) for stage, found in accuracy.items() if label in found),
            drop=drops.get(label),
            drop_p=tests.get(label),
        )
        for i, label in ((i, report.labels[i]) for i in class_order(report))
    ]


def lost_most(rows: Sequence[ClassRow], *, most: int) -> list[ClassRow]:
    """The classes that lost most against the teacher; without a teacher those with the lowest accuracy."""

    def loss(row: ClassRow) -> float:
        mark = row.mark(Stage.ARTIFACT)
        return row.drop.value if row.drop else -mark.value if mark else -math.inf

    return sorted(rows, key=lambda row: -loss(row))[:most]


def _mark(stage: Stage, row: Measurement) -> Mark:
    return Mark(
        stage=stage,
        value=row.value,
        low=row.value if row.low is None else row.low,
        high=row.value if row.high is None else row.high,
    )


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Images of one true class that were given one class; `share` of the true class's images."""

    column: int
    count: int
    share: float
    right: bool

    @property
    def heat(self) -> float:
        """Strength of the cell's colour, 0 to 1; the root makes rare confusions visible."""
        return round(math.sqrt(self.share), 2)


def confusion_rows(report: Report, stage: Stage) -> list[tuple[str, list[Cell]]]:
    """True classes with their cells, both in `class_order`; empty where the report has no matrix."""
    matrix = report.confusion.get(stage)
    if matrix is None:
        return []
    order = class_order(report)
    totals = [max(1, sum(row)) for row in matrix]
    return [
        (
            report.labels[i],
            [
                Cell(column=column, count=matrix[i][j], share=matrix[i][j] / totals[i], right=i == j)
                for column, j in enumerate(order)
            ],
        )
        for i in order
    ]


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """A class that was taken for another.

    Attributes:
        count: Images.
        before: What the model that it is compared with made of the same images; None where that is not known.
        share: Of the true class's images.
    """

    truth: str
    given: str
    count: int
    before: int | None
    share: float

    @property
    def more(self) -> int:
        """How many more images than before."""
        return self.count - (self.before or 0)


def top_confusions(report: Report, stage: Stage, *, most: int) -> list[Confusion]:
    """The most frequent confusions by share of the true class's images, beside the teacher's."""
    matrix = _matrix(report, stage)
    if matrix is None:
        return []
    shares = matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    return confusions_of(report.labels, matrix, _matrix(report, Stage.TEACHER), by=shares, most=most)


def grown_confusions(report: Report, stage: Stage, *, most: int) -> list[Confusion]:
    """The confusions that a stage has more of than the teacher, those first that grew by most images."""
    matrix, teacher = _matrix(report, stage), _matrix(report, Stage.TEACHER)
    if matrix is None or teacher is None:
        return []
    return confusions_of(report.labels, matrix, teacher, by=matrix - teacher, most=most)


def confusions_of(
    labels: Sequence[str], matrix: np.ndarray, before: np.ndarray | None, *, by: np.ndarray, most: int
) -> list[Confusion]:
    """The pairs of classes with the largest values above 0.

    Args:
        labels: Names of rows and columns.
        matrix: Images by true class (rows) and given class (columns).
        before: The same of another model.
        by: What orders them.
        most: Pairs to return.
    """
    values = by * ~np.eye(len(labels), dtype=bool)
    first: list[int] = np.argsort(-values, axis=None, kind="stable")[:most].tolist()
    pairs = [divmod(place, len(labels)) for place in first]
    totals = matrix.sum(axis=1)
    return [
        Confusion(
            truth=labels[i],
            given=labels[j],
            count=int(matrix[i, j]),
            before=None if before is None else int(before[i, j]),
            share=float(matrix[i, j] / max(1, totals[i])),
        )
        for i, j in pairs
        if values[i, j] > 0
    ]


def _matrix(report: Report, stage: Stage) -> np.ndarray | None:
    rows = report.confusion.get(stage)
    return None if rows is None else np.array(rows)


@dataclass(frozen=True, kw_only=True)
class Bar:
    """Calibration images of one class: labelled ones, and out-of-distribution ones on top."""

    label: str
    few: int
    ood: int


def calibration_bars(report: Report) -> list[Bar]:
    """The calibration set by class, in `class_order`; empty where there was none."""
    facts = report.calibration
    if facts is None:
        return []
    return [
        Bar(label=label, few=facts.few_per_class[label], ood=facts.ood_per_class[label])
        for label in (report.labels[i] for i in class_order(report))
    ]
