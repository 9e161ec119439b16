"""What a model lost against the teacher on the same images: differences in pairs, with interval and exact test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgec.core.measurement import Measurement, Stage
from edgec.evaluate.accuracy import require_scores
from edgec.evaluate.intervals import PairedCounts, paired_interval, paired_p_value

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = ["drop_measurements"]


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
    the interval (Newcombe's) far narrower than that of two separate accuracies. `accuracy_drop_p` is the exact McNemar
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
    teacher = teacher_logits.argmax(axis=1) == labels
    model = logits.argmax(axis=1) == labels
    present = np.flatnonzero(np.bincount(labels, minlength=len(classes)))
    parts = [(None, np.ones(len(labels), dtype=bool)), *((classes[i], labels == i) for i in map(int, present))]
    return [
        row
        for label, part in parts
        for row in _rows(count_pairs(teacher[part], model[part]), label, stage=stage, where=where)
    ]


def count_pairs(first: Bool[np.ndarray, " n"], second: Bool[np.ndarray, " n"]) -> PairedCounts:
    """How often both of two models are right, only one is, or none."""
    return PairedCounts(
        both=int((first & second).sum()),
        first=int((first & ~second).sum()),
        second=int((~first & second).sum()),
        neither=int((~first & ~second).sum()),
    )


def _rows(counts: PairedCounts, label: str | None, *, stage: Stage, where: str) -> tuple[Measurement, Measurement]:
    """The difference, and the test."""
    n = sum(counts)
    low, high = paired_interval(counts)
    drop = Measurement(
        stage=stage,
        name="accuracy_drop",
        label=label,
        value=(counts.first - counts.second) / n,
        unit="share",
        n=n,
        low=low,
        high=high,
        where=where,
    )
    test = {"name": "accuracy_drop_p", "value": paired_p_value(counts), "unit": "probability"}
    return drop, drop.model_copy(update={**test, "low": None, "high": None})
