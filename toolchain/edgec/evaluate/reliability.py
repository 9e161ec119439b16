"""How far a classifier's confidence lies from its accuracy: the calibration error, without what chance adds to it."""

from __future__ import annotations

import math
from functools import cache
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from edgec.core.facts import ReliabilityBin
from edgec.evaluate.intervals import Interval, score_interval

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

__all__ = ["calibration_error", "reliability_bins"]

_BINS = 15
"""Of confidence, equally wide."""
_DRAWS = 2000
"""Of chance alone: its 97.5th percentile is off by 0.06 standard deviations."""
_CDF = NormalDist().cdf


def calibration_error(confidence: Float[np.ndarray, " n"], right: Bool[np.ndarray, " n"]) -> tuple[float, Interval]:
    """Σ_b |s_b| over bins of confidence, with s_b the mean over all images of right - confidence, of those in the bin.

    The sum of absolute values S of the sample is too large: a perfectly calibrated model has an error of chance alone.
    The estimate takes off Σ_b E|N(S_b, v_b)| - |S_b|, what chance would add once more to the error that was found. The
    variance v_b is the larger of what was found and what a calibrated model has, so that equal answers have one.

    The interval's lower end is S less the 97.5th percentile of Σ_b |N(0, v_b)|, since |S - Σ|s_b|| is at most that by
    the triangle inequality. Its upper end is that of the mean of ±(right - confidence) with the signs of s_b, which S
    is never below. Both hold whatever the true errors are, and are wide for few images.

    Args:
        confidence: Of the class that was given, from 0 to 1.
        right: Whether it is the true one.

    Returns:
        The error, and its 95 % interval.

    References: Guo et al., ICML 2017 (the error); A. Kumar et al., Verified Uncertainty Calibration, NeurIPS 2019,
    section 4 and appendix (debiasing, there for bins' accuracies alone).
    """
    # In one order, whatever that of the images is: sums of floats depend on it.
    order = np.lexsort((right, confidence))
    confidence, right = confidence[order], right[order]
    excess, n = right - confidence, len(right)
    bins = _bin_of(confidence)
    sums = np.abs(np.bincount(bins, weights=excess, minlength=_BINS)) / n
    chance = np.maximum(excess**2, confidence * (1 - confidence))
    spread = np.sqrt(np.bincount(bins, weights=chance, minlength=_BINS)) / n
    found = float(sums.sum())
    bias = sum(_folded_mean(error, by) - error for error, by in zip(sums.tolist(), spread.tolist(), strict=True))
    noise = _half_normal() @ spread
    variance = (float(np.mean(excess**2)) - found**2) / n
    interval = Interval(
        low=max(0.0, found - float(np.quantile(noise, 0.975))), high=score_interval(found, variance, n).high
    )
    return max(0.0, found - bias), interval


def reliability_bins(confidence: Float[np.ndarray, " n"], right: Bool[np.ndarray, " n"]) -> tuple[ReliabilityBin, ...]:
    """The bins of `calibration_error` that have images, from the least confidence to the most.

    Args:
        confidence: Of the class that was given, from 0 to 1.
        right: Whether it is the true one.
    """
    bins = _bin_of(confidence)
    return tuple(
        ReliabilityBin(
            n=int((bins == each).sum()),
            confidence=min(1.0, round(float(confidence[bins == each].mean()), 6)),
            accuracy=float(right[bins == each].mean()),
        )
        for each in np.unique(bins)
    )


def _bin_of(confidence: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    return np.clip(np.ceil(confidence * _BINS).astype(int) - 1, 0, _BINS - 1)


@cache
def _half_normal() -> Float[np.ndarray, "draw bin"]:
    return np.abs(np.random.default_rng(0).standard_normal((_DRAWS, _BINS)))


def _folded_mean(mean: float, deviation: float) -> float:
    """E|N(mean, deviation²)|."""
    if deviation == 0:
        return abs(mean)
    z = mean / deviation
    return deviation * math.sqrt(2 / math.pi) * math.exp(-(z**2) / 2) + mean * (1 - 2 * _CDF(-z))
