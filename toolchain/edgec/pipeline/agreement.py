"""A model against the graph that was made of it, on real images, class by class: exporters can be silently wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edgec.core.classifier import Classifier
from edgec.core.errors import DataError, ExportMismatchError, UnsupportedError
from edgec.core.samples import Images
from edgec.runtime import Session

if TYPE_CHECKING:
    from edgec.models.onnx.given import Given

__all__ = ["Agreement", "require_agreement", "require_same_classes"]

TOLERANCE = 1e-3
"""Share of the logits' spread by which two correct float32 runs may differ. Sums of a few thousand products in
another order differ by about 1e-5 of it; a wrong attribute or a lost layer by far more than 1e-2."""

_BATCH = 256
_FEW = 6
_MOST_WRONG = 1e-3


class Agreement(NamedTuple):
    """How well a module and its graph agree.

    Attributes:
        images: How many were compared.
        same_class: Share of them that get the same class.
        max_difference: Of the logits, where both give logits.
    """

    images: int
    same_class: float
    max_difference: float | None = None


def require_agreement(classifier: Classifier, session: Session, images: Sequence[Images]) -> Agreement:
    """Runs both on the images and compares logits and classes.

    Raises:
        ExportMismatchError: Logits differ by more than the tolerance, or a class differs that was no near tie; the
            message names the class that suffers most.
    """
    from edgec.models.infer import logits_of

    wanted = np.concatenate([logits_of(classifier, part) for part in images])
    got = np.concatenate([session.logits(batch) for part in images for batch in part.batches(_BATCH)])
    bound = TOLERANCE * max(float(np.ptp(wanted)), 1.0)
    difference = np.abs(got - wanted).max(axis=1)
    classes = wanted.argmax(axis=1)
    ordered = np.sort(wanted, axis=1)
    tie = ordered[:, -1] - ordered[:, -2] < 2 * bound
    wrong = (difference > bound) | ((got.argmax(axis=1) != classes) & ~tie) | ~np.isfinite(got).all(axis=1)
    if wrong.any():
        counts = np.bincount(classes[wrong], minlength=len(classifier.labels))
        worst = int(counts.argmax())
        raise ExportMismatchError(
            f"the exported graph disagrees with the module on {int(wrong.sum())} of {len(wanted)} images, "
            f"most of class '{classifier.labels[worst]}' ({int(counts[worst])}); "
            f"logits differ by up to {difference.max():.3g}, expected at most {bound:.3g}",
            hint="the exporter has written a wrong graph: try another torch, or give the model as an .onnx file",
        )
    same = float((got.argmax(axis=1) == classes).mean())
    return Agreement(images=len(wanted), same_class=same, max_difference=float(f"{difference.max():.3g}"))


def require_same_classes(given: Given, session: Session, images: Sequence[Images]) -> Agreement:
    """Runs an ONNX file as it was given, and the graph that was made of it.

    Where onnxruntime has no kernels for the file's types, onnx's own evaluator runs it, on a few images.

    Near ties count as the same class.

    Raises:
        ExportMismatchError: More than a thousandth of the images get another class.
    """
    batches = [batch for part in images for batch in part.batches(_BATCH)]
    try:
        wanted = np.concatenate([given.classes(batch) for batch in batches])
    except (DataError, UnsupportedError):
        batches = [part.take(np.linspace(0, len(part) - 1, _FEW).astype(int)).decoded() for part in images]
        wanted = np.concatenate([given.classes_by_reference(batch) for batch in batches])
    logits = np.concatenate([session.logits(batch) for batch in batches])
    ordered = np.sort(logits, axis=1)
    tie = ordered[:, -1] - ordered[:, -2] < given.tie * max(float(np.ptp(logits)), 1e-6)
    wrong = (logits.argmax(axis=1) != wanted) & ~tie
    if wrong.mean() > _MOST_WRONG:
        raise ExportMismatchError(
            f"the graph that edgec made of the file gives {int(wrong.sum())} of {len(wanted)} images another class",
            hint="report it with the file; exported anew with opset 17 and float32 it may need fewer changes",
        )
    return Agreement(images=len(wanted), same_class=1 - float(wrong.mean()))
