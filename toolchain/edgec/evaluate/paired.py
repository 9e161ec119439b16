"""What a model lost against the teacher on the same images: differences in pairs, with interval and exact test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from typing_extensions import Self

from edgec.core.measurement import Measurement, Stage
from edgec.evaluate.accuracy import require_scores
from edgec.evaluate.intervals import PairedCounts, paired_interval, paired_p_value

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = ["Outcomes", "Pairs", "drop_measurements", "drop_row", "outcomes_by_class"]

Outcomes = Mapping[str | None, PairedCounts]
"""By class what two models made of its test images; by None what they made of all."""


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """The classes that two models gave to the same images.

    Attributes:
        truth: [n], positions in `classes`.
        first: [n], the class that the first gives; -1 stands for a class that is not among them.
        second: [n], the class that the second gives.
        classes: Names.
    """

    truth: Int[np.ndarray, " n"]
    first: Int[np.ndarray, " n"]
    second: Int[np.ndarray, " n"]
    classes: tuple[str, ...]

    def outcomes(self) -> Outcomes:
        """What each model gets right."""
        return outcomes_by_class(self.first == self.truth, self.second == self.truth, self.truth, self.classes)

    def of_classes(self, labels: Int[np.ndarray, " label"]) -> Self:
        """The images of some classes."""
        part = np.isin(self.truth, labels)
        return replace(self, truth=self.truth[part], first=self.first[part], second=self.second[part])


def drop_measurements(
    logits: Float[np.ndarray, "n class"],
    teacher_logits: Float[np.ndarray, "n class"],
    labels: Int[np.ndarray, " n"],
    classes: Sequence[str],
    *,
    stage: Stage,
    where: str,
) -> list[Measurement]:
    """Accuracy lost against the teacher, for the whole and for every class that has test images.

    `accuracy_drop` is the teacher's accuracy minus the model's, a share: positive where the model is worse. Pairs make
    the interval (Tango's) far narrower than that of two separate accuracies. `accuracy_drop_p` is the exact McNemar
    p-value that both are right equally often, not corrected for the number of classes.

    Args:
        logits: Scores of the model.
        teacher_logits: Scores of the teacher for the same images.
        labels: Positions in `classes`.
        classes: Names in the order of the scores.
        stage: The model.
        where: The runtime and machine that ran it.

    Raises:
        DataError: Shapes disagree, there are no images, a score is not finite or a label names no class.
    """
    require_scores(logits, labels, classes)
    require_scores(teacher_logits, labels, classes)
    outcomes = outcomes_by_class(
        teacher_logits.argmax(axis=1) == labels, logits.argmax(axis=1) == labels, labels, classes
    )
    return [row for label, counts in outcomes.items() for row in _rows(counts, label, stage=stage, where=where)]


def outcomes_by_class(
    first: Bool[np.ndarray, " n"], second: Bool[np.ndarray, " n"], labels: Int[np.ndarray, " n"], classes: Sequence[str]
) -> Outcomes:
    """What two models made of all images, then of those of each class that has any.

    Args:
        first: Which images the first model gets right.
        second: Which ones the second does.
        labels: Positions in `classes`.
        classes: Names.
    """
    counts: dict[str | None, PairedCounts] = {None: _count(first, second)}
    for label in map(int, np.unique(labels)):
        part = labels == label
        counts[classes[label]] = _count(first[part], second[part])
    return counts


def _count(first: Bool[np.ndarray, " n"], second: Bool[np.ndarray, " n"]) -> PairedCounts:
    return PairedCounts(
        both=int((first & second).sum()),
        first=int((first & ~second).sum()),
        second=int((~first & second).sum()),
        neither=int((~first & ~second).sum()),
    )


def drop_row(counts: PairedCounts, label: str | None, *, name: str, stage: Stage, where: str) -> Measurement:
    """The first model's accuracy minus the second's, a share, with Tango's interval."""
    low, high = paired_interval(counts)
    return Measurement(
        stage=stage,
        name=name,
        label=label,
        value=(counts.first - counts.second) / sum(counts),
        unit="share",
        n=sum(counts),
        low=low,
        high=high,
        where=where,
    )


def _rows(counts: PairedCounts, label: str | None, *, stage: Stage, where: str) -> tuple[Measurement, Measurement]:
    """The difference, and the test."""
    drop = drop_row(counts, label, name="accuracy_drop", stage=stage, where=where)
    test = {"name": "accuracy_drop_p", "value": paired_p_value(counts), "unit": "probability"}
    return drop, drop.model_copy(update={**test, "low": None, "high": None})
