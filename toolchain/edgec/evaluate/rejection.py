"""How well a model's confidence tells the images it was made for from others: the area under the ROC curve.

The area is the chance that a test image gets a higher maximum softmax than an out-of-distribution image, with half of
the ties: the Mann-Whitney statistic.

Reference: D. Hendrycks, K. Gimpel, A Baseline for Detecting Misclassified and Out-of-Distribution Examples, ICLR 2017.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edgec.core.errors import DataError
from edgec.core.measurement import Measurement, Stage
from edgec.evaluate.intervals import Z95, Interval, wilson_interval

if TYPE_CHECKING:
    from jaxtyping import Float

__all__ = ["RankedArea", "ranked_area", "rejection_measurement"]


class RankedArea(NamedTuple):
    """An area under a ROC curve, with its 95 % interval."""

    value: float
    interval: Interval


def rejection_measurement(
    logits_in: Float[np.ndarray, "m class"], logits_out: Float[np.ndarray, "n class"], *, stage: Stage, where: str
) -> Measurement:
    """`ood_auroc`: 1 where every test image is surer than every out-of-distribution image, 0.5 where chance decides.

    Whether a test image is classified rightly is not asked. `n` counts both kinds of images; the value is no share of
    them, so a limit is proven by the interval.

    Args:
        logits_in: Of test images.
        logits_out: Of out-of-distribution images that neither training nor recovery has seen.
        stage: The model that was run.
        where: The runtime and machine that ran it.

    Raises:
        DataError: No images of a kind, fewer than two classes, other classes, or a score is not finite.
    """
    _require_logits(logits_in, logits_out)
    value, (low, high) = ranked_area(-_doubts(logits_in), -_doubts(logits_out))
    n = len(logits_in) + len(logits_out)
    return Measurement(stage=stage, name="ood_auroc", value=value, unit="share", n=n, low=low, high=high, where=where)


def _require_logits(logits_in: Float[np.ndarray, "m class"], logits_out: Float[np.ndarray, "n class"]) -> None:
    for logits, what in ((logits_in, "test"), (logits_out, "out-of-distribution")):
        if logits.ndim != 2 or logits.shape[1] < 2 or logits.shape[1] != logits_in.shape[1]:
            raise DataError(
                f"logits {logits.shape} of {what} images: expected a row per image, and scores of the same classes"
            )
        if not len(logits):
            raise DataError(f"no {what} images to tell apart", hint="give at least one")
        if not np.isfinite(logits).all():
            raise DataError(f"{what} images have scores that are NaN or infinite", hint="look for such weights")


def _doubts(logits: Float[np.ndarray, "n class"]) -> Float[np.ndarray, " n"]:
    """Σ exp(l_j - max l) over the other classes: d where the maximum softmax is 1 / (1 + d).

    Orders images as the maximum softmax does, and does not end at 1.0, where the surest images would tie.
    """
    ordered = np.sort(logits.astype(np.float64), axis=1)
    return np.exp(ordered[:, :-1] - ordered[:, -1:]).sum(axis=1)


def ranked_area(inside: Float[np.ndarray, " m"], outside: Float[np.ndarray, " n"]) -> RankedArea:
    """Area under the ROC curve of scores that should be higher inside, with DeLong's variance.

    With v_i the share of the outside scores below the i-th inside one (ties count half) and w_j its counterpart, the
    area A is the mean of v and has the variance s_v² / m + s_w² / n. The interval is symmetric for log(A / (1 - A)),
    where it covers better near 1 and stays within [0, 1].

    Where the scores show no spread, as when they do not overlap, the area counts as a share of min(m, n) pairs that
    have no image in common, and the interval is Wilson's.

    Args:
        inside: Scores of images that belong, m >= 1.
        outside: Scores of images that do not, n >= 1.

    References: E. R. DeLong et al., Biometrics 44 (1988), 837; on the scale of the logit G. Qin, L. Hotilovac,
    Statistical Methods in Medical Research 17 (2008), 207.
    """
    above, below = _shares_below(inside, outside), 1 - _shares_below(outside, inside)
    area = float(above.mean())
    pairs = min(len(inside), len(outside))
    variance = above.var(ddof=1) / len(above) + below.var(ddof=1) / len(below) if pairs > 1 else 0.0
    if variance <= 0 or not 0 < area < 1:
        fewest, most = (wilson_interval(count, pairs) for count in (math.floor(area * pairs), math.ceil(area * pairs)))
        return RankedArea(area, Interval(low=fewest.low, high=most.high))
    half = Z95 * math.sqrt(variance) / (area * (1 - area))
    middle = math.log(area / (1 - area))
    return RankedArea(area, Interval(low=_expit(middle - half), high=_expit(middle + half)))


def _shares_below(scores: Float[np.ndarray, " m"], others: Float[np.ndarray, " n"]) -> Float[np.ndarray, " m"]:
    """For each score the share of the others below it, those that are equal by half."""
    ordered = np.sort(others)
    below, up_to = (np.searchsorted(ordered, scores, side=side) for side in ("left", "right"))
    return (below + up_to) / (2 * len(others))


def _expit(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > 0 else math.exp(x) / (1 + math.exp(x))
