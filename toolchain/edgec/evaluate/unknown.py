"""When a model should say that a picture is of none of its classes: a threshold on its confidence.

The score is the maximum softmax. On the digits the energy, log Σ exp l_j, told test images from others worse than
chance (area under the ROC curve 0.26 against 0.70), and so did the highest logit (0.30).

References: D. Hendrycks, K. Gimpel, A Baseline for Detecting Misclassified and Out-of-Distribution Examples, ICLR 2017;
W. Liu et al., Energy-based Out-of-distribution Detection, NeurIPS 2020.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgec.core.measurement import Measurement, Stage
from edgec.evaluate.intervals import wilson_interval

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["fit_threshold", "unknown_measurements"]


def fit_threshold(
    confidence: Float[np.ndarray, " n"], labels: Int[np.ndarray, " n"], weights: Float[np.ndarray, " n"], *, most: float
) -> float:
    """The highest threshold below which no class has more than a share of its images.

    A rare class, of which a model is less sure, bounds it for all. A class without images bounds nothing.

    Args:
        confidence: Of images of the classes.
        labels: Their classes.
        weights: What each counts for.
        most: The share, from 0 to 1.
    """
    bounds = [
        _quantile(confidence[chosen], weights[chosen], most)
        for label in np.unique(labels)
        if weights[chosen := labels == label].any()
    ]
    return min(bounds, default=0.0)


def _quantile(values: Float[np.ndarray, " n"], weights: Float[np.ndarray, " n"], share: float) -> float:
    """The largest value that has at most a share of the weight below it."""
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weights[order]) - weights[order]
    within = below <= share * weights.sum() * (1 + 1e-12)  # the sum's own rounding
    return float(values[order[np.flatnonzero(within)[-1]]])


def unknown_measurements(
    known: Float[np.ndarray, "n class"],
    labels: Int[np.ndarray, " n"],
    others: Float[np.ndarray, "m class"],
    classes: Sequence[str],
    *,
    threshold: float,
    where: str,
) -> Iterator[Measurement]:
    """`unknown_rate`, of the test images as a whole and per class, and `ood_unknown_rate`, of other images.

    Args:
        known: Logits of the test images.
        labels: Their classes.
        others: Logits of out-of-distribution images; there may be none.
        classes: Names in the order of the logits.
        threshold: Confidence below which an image is unknown.
        where: The runtime and machine that gave the logits.
    """
    from edgec.runtime.session import softmax

    rejected, foreign = (softmax(logits).max(axis=1) < threshold for logits in (known, others))

    def row(name: str, chosen: np.ndarray, label: str | None = None) -> Measurement:
        count, n = int(chosen.sum()), len(chosen)
        low, high = wilson_interval(count, n)
        found = {"name": name, "label": label, "value": count / n, "unit": "share", "n": n, "low": low, "high": high}
        return Measurement(stage=Stage.ARTIFACT, where=where, **found)

    yield row("unknown_rate", rejected)
    for label in map(int, np.unique(labels)):
        yield row("unknown_rate", rejected[labels == label], classes[label])
    if len(others):
        yield row("ood_unknown_rate", foreign)
