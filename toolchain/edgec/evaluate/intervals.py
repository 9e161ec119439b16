"""95 % intervals: one proportion, the lowest of several, a mean, two paired proportions, a quantile."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = [
    "Z95",
    "Interval",
    "PairedCounts",
    "likeliest_second",
    "lowest_share_interval",
    "paired_interval",
    "paired_p_value",
    "paired_score",
    "quantile_ranks",
    "rare_event_margin",
    "score_interval",
    "wilson_interval",
]

Z95 = NormalDist().inv_cdf(0.975)
"""Standard deviations that a two-sided 95 % interval reaches to either side."""
_TAIL = 0.025


class Interval(NamedTuple):
    """Lower and upper end."""

    low: float
    high: float


class PairedCounts(NamedTuple):
    """What two models make of the same images: both right, only the first, only the second, neither."""

    both: int
    first: int
    second: int
    neither: int


def wilson_interval(successes: int, n: int) -> Interval:
    """Wilson's score interval for a proportion, without continuity correction.

    (p + z²/2n ± z √(p(1 - p)/n + z²/4n²)) / (1 + z²/n); never leaves [0, 1], and has a width at p = 0 and p = 1.

    Raises:
        ValueError: n < 1, or successes outside 0 … n.

    Reference: E. B. Wilson, JASA 22 (1927), 209.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}: expected n >= 1 and 0 <= successes <= n")
    share = successes / n
    shrink = 1 + Z95**2 / n
    centre = (share + Z95**2 / (2 * n)) / shrink
    half = Z95 * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2)) / shrink
    return Interval(
        low=max(0.0, centre - half) if successes else 0.0,
        high=min(1.0, centre + half) if successes < n else 1.0,
    )


def lowest_share_interval(successes: Int[np.ndarray, " share"], n: Int[np.ndarray, " share"]) -> Interval:
    """Of the lowest of several true shares, whichever it is: that of the class that came out lowest was picked for it.

    The lowest share is at least the least of Wilson's lower ends. It is at most every other share, so at most the
    least of the upper ends, each exact (Clopper and Pearson) at 2.5 % over the number of shares, after Bonferroni.

    Args:
        successes: Of each share.
        n: Trials of each, at least one.

    Reference: C. J. Clopper, E. S. Pearson, Biometrika 26 (1934), 404.
    """
    from scipy.special import betaincinv

    low = min(wilson_interval(int(count), int(of)).low for count, of in zip(successes, n, strict=True))
    short = successes < n
    upper = betaincinv(successes[short] + 1, (n - successes)[short], 1 - _TAIL / len(n))
    return Interval(low=low, high=float(min(upper, default=1.0)))


def score_interval(value: float, variance: float, n: float) -> Interval:
    """Of a mean of n values from 0 to 1: Wilson's interval with the variance that was found in place of p(1 - p)/n.

    For yes or no it is Wilson's at either end of the scale, and has a width where the values do not differ at all.
    Nearer to the middle than the value it does not begin: a variance below that of yes or no leaves the middle alone.

    Args:
        value: The mean.
        variance: Of the mean, not of the values.
        n: Values; of a weighted mean as many as would give an even one the same variance.
    """
    scale = 1 + Z95**2 / n
    inward = (2 * value - 1) * Z95**2 / (2 * n)
    half = Z95 * math.sqrt(max(0.0, variance) + Z95**2 / (4 * n**2))
    return Interval(
        low=max(0.0, value - (max(inward, 0.0) + half) / scale),
        high=min(1.0, value + (max(-inward, 0.0) + half) / scale),
    )


def rare_event_margin(n: float) -> float:
    """How likely, at most, is at 2.5 % what was seen in none of n trials: the far end of Wilson's interval."""
    return Z95**2 / (n + Z95**2)


@lru_cache(maxsize=4096)
def paired_interval(counts: PairedCounts) -> Interval:
    """Tango's score interval for the first model's accuracy minus the second's, on the same images.

    All differences that his score test does not refuse: those at which |z| of `paired_score` is at most 1.96. It has a
    width where the models differ on no image, that of Wilson's for a share that was never seen.

    Raises:
        ValueError: No image at all.

    Reference: T. Tango, Statistics in Medicine 17 (1998), 891.
    """
    n = sum(counts)
    if not n:
        raise ValueError("no pairs: expected at least one image")
    first, second = np.array(counts.first), np.array(counts.second)
    inside, outside = np.full(2, (counts.first - counts.second) / n), np.array([-1.0, 1.0])
    # The score falls as the difference grows, so halving finds both ends, to the last bit.
    for _ in range(52):
        middle = (inside + outside) / 2
        within = np.abs(paired_score(n, first, second, middle)) <= Z95
        inside, outside = np.where(within, middle, inside), np.where(within, outside, middle)
    return Interval(*map(float, inside))


def paired_score(
    n: int,
    first: Int[np.ndarray, "*counts"],
    second: Int[np.ndarray, "*counts"],
    difference: float | Float[np.ndarray, "*counts"],
) -> Float[np.ndarray, "*counts"]:
    """How far what was found lies from a difference D between two paired shares, in standard deviations.

        z = (b - c - n D) / √(n (2 q + D (1 - D)))

    with b and c the images that only the first and only the second model gets right, and q as in `likeliest_second`.
    """
    variance = n * (2 * likeliest_second(n, first, second, difference) + difference * (1 - difference))
    distance = first - second - n * difference
    certain = np.where(distance == 0, 0.0, np.copysign(np.inf, distance))
    return np.divide(distance, np.sqrt(np.maximum(variance, 0)), out=certain, where=variance > 0)


def likeliest_second(
    n: int,
    first: Int[np.ndarray, "*counts"],
    second: Int[np.ndarray, "*counts"],
    difference: float | Float[np.ndarray, "*counts"],
) -> Float[np.ndarray, "*counts"]:
    """The likeliest share of images that only the second model gets right, where the difference is as given."""
    half = (2 * n - first + second) * difference - first - second
    root = np.sqrt(np.maximum(half**2 + 8 * n * second * difference * (1 - difference), 0))
    return np.maximum((root - half) / (4 * n), np.maximum(0.0, -difference))


def paired_p_value(counts: PairedCounts) -> float:
    """Exact McNemar test that two models are right equally often: two-sided p of the images on which they disagree.

    2 Σ_{i ≤ min(b, c)} C(b + c, i) / 2^(b + c), at most 1, with b and c the images that only one gets right.
    """
    disagreements = counts.first + counts.second
    term = tail = 1
    for i in range(min(counts.first, counts.second)):
        term = term * (disagreements - i) // (i + 1)
        tail += term
    # Whole numbers divide without overflow whatever their size; floats above 2^1023 do not exist.
    return min(1.0, 2 * tail / (1 << disagreements))


def quantile_ranks(n: int, quantile: float) -> tuple[int | None, int | None]:
    """Positions in n sorted values between which the quantile lies with at least 95 % probability.

    Distribution-free: the number of values below a quantile q is binomial(n, q). A side has no rank (None) where
    n values are too few to bound it, as the upper side of the 99th percentile with 300 values.

    Returns:
        Positions from 0 for the lower and the upper end.
    """
    counts = np.arange(n + 1)
    log_choose = np.array([math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in counts])
    cumulative = np.cumsum(np.exp(log_choose + counts * math.log(quantile) + (n - counts) * math.log1p(-quantile)))
    low = int(np.searchsorted(cumulative, _TAIL, side="right"))
    high = int(np.searchsorted(cumulative, 1 - _TAIL, side="left"))
    return (low - 1 if low >= 1 else None), (high if high < n else None)
