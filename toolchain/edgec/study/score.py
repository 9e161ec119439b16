"""What a run of a study comes to: a classifier's accuracy on the test images, or why there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgec.core.classifier import Classifier
from edgec.core.frozen import Frozen
from edgec.core.measurement import Stage
from edgec.core.samples import Samples
from edgec.evaluate.accuracy import accuracy_measurements

if TYPE_CHECKING:
    import torch
    from jaxtyping import Int

__all__ = ["Inapplicable", "Score", "score_fields"]


class Score(Frozen):
    """What a classifier reaches on the test images, as shares from 0 to 1.

    Attributes:
        head_accuracy: Over the third of the classes with the most training samples; None where all have as many.
        medium_accuracy: Over those between.
        tail_accuracy: Over the third with the fewest.
        class_accuracy: By class, for those that have test images.
        images: Test images.
    """

    accuracy: float
    worst_class_accuracy: float
    macro_f1: float
    head_accuracy: float | None = None
    medium_accuracy: float | None = None
    tail_accuracy: float | None = None
    class_accuracy: dict[str, float]
    images: int


class Inapplicable(Frozen):
    """Why a method cannot compress this model."""

    reason: str


def score_fields(
    classifier: Classifier, test: Samples, *, counts: Int[np.ndarray, " class"] | None, device: torch.device
) -> dict[str, Any]:
    """The fields of a `Score`.

    Args:
        classifier: What is evaluated, in full precision.
        test: On which images.
        counts: Training samples by class, which tell head from tail; None for no such groups.
        device: Where.
    """
    from edgec.models.infer import logits_of

    logits = logits_of(classifier, test, device=device)
    rows = accuracy_measurements(
        logits, test.labels, classifier.labels, stage=Stage.COMPRESSED, where="", train_counts=counts
    )
    whole = {row.name: row.value for row in rows if row.label is None and row.name in Score.model_fields}
    return {**whole, "class_accuracy": {r.label: r.value for r in rows if r.label}, "images": len(test)}
