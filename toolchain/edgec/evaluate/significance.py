"""What test images prove about a limit: exact and score tests, Holm's correction, how many images would settle it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from edgec.core.measurement import Measurement
from edgec.evaluate.intervals import PairedCounts, likeliest_second, paired_score

__all__ = [
    "ALPHA",
    "POWER",
    "Proof",
    "binomial_tails",
    "drop_tails",
    "holm",
    "images_for_drop",
    "images_for_interval",
    "images_for_share",
    "prove_by_interval",
    "prove_ceiling_of_drop",
    "prove_exactly",
    "prove_floor",
    "worst_of",
]

ALPHA = 0.05
"""Chance of proving what is not so, over all classes of a gate together."""
POWER = 0.8
"""Chance of settling a question with the number of images that is named for it."""
_NORMAL = NormalDist()
_TAIL = 0.025
_EQUAL = 1e-9
"""Scores that are equal but for rounding."""
_ROUNDING = 1e-6
"""Of an image: a share times a number of images is that near to a whole number, where it is one."""


class Proof(NamedTuple):
    """What speaks for and against a limit that holds.

    Attributes:
        holds: One-sided p-value: small where it is proven that the limit is kept.
        breach: One-sided p-value: small where it is proven that it is not.
        images: How many test images would probably settle it; None where no number would.
        is_blind: Whether nothing tells how far chance moves the number.
    """

    holds: float
    breach: float
    images: int | None = None
    is_blind: bool = False


def prove_floor(row: Measurement, floor: float) -> Proof:
    """That a share of images reaches a floor.

    A mean of shares, such as an accuracy over several corruptions of each image, spreads at most as a share of images
    does; where it is no whole number of images, each side gets the one that proves less.
    """
    right = row.value * row.n
    below, _ = binomial_tails(math.ceil(right - _ROUNDING), row.n, floor)
    _, above = binomial_tails(math.floor(right + _ROUNDING), row.n, floor)
    return Proof(holds=above, breach=below, images=images_for_share(row.value, floor))


def prove_ceiling_of_drop(counts: PairedCounts, limit: float) -> Proof:
    """That the second of two models loses no more than a limit against the first."""
    less, more = drop_tails(counts, limit)
    return Proof(holds=less, breach=more, images=images_for_drop(counts, limit))


def prove_by_interval(row: Measurement, limit: float, *, floor: bool) -> Proof:
    """By a measurement's 95 % interval, whose ends are bounds at 2.5 %; without an interval nothing is proven."""
    low, high = (row.low, row.high) if floor else (row.high, row.low)
    sign = 1 if floor else -1
    holds = low is not None and sign * low >= sign * limit
    breach = high is not None and sign * high < sign * limit
    images = images_for_interval(row, limit)
    is_blind = low is None and high is None
    return Proof(holds=_TAIL if holds else 1.0, breach=_TAIL if breach else 1.0, images=images, is_blind=is_blind)


def prove_exactly(*, holds: bool) -> Proof:
    """Of a number that chance does not move, such as a size."""
    return Proof(holds=float(not holds), breach=float(holds))


def worst_of(proofs: Sequence[Proof]) -> Proof:
    """That all of several limits hold, or that one of them does not."""
    open_ones = [proof.images for proof in proofs if proof.images and proof.holds > ALPHA]
    return Proof(
        holds=max(proof.holds for proof in proofs),
        breach=min(holm([proof.breach for proof in proofs])),
        images=max(open_ones, default=None),
    )


@lru_cache(maxsize=4096)
def binomial_tails(successes: int, n: int, share: float) -> tuple[float, float]:
    """How likely so few successes, and so many, are where the true share is at the limit.

    P(X ≤ successes) and P(X ≥ successes) for X ~ binomial(n, share): exact, so neither proves too much.

    Returns:
        p of "below the limit", p of "above the limit", each one-sided.
    """
    if n < 1:
        return 1.0, 1.0
    if share in (0.0, 1.0):
        return float(successes >= n * share), float(successes <= n * share)
    counts = np.arange(n + 1)
    log_factorials = _log_factorials(n)
    log_chances = log_factorials[n] - log_factorials[counts] - log_factorials[n - counts]
    chances = np.exp(log_chances + counts * math.log(share) + (n - counts) * math.log1p(-share))
    few, many = chances[: successes + 1].sum(), chances[successes:].sum()
    return min(1.0, float(few)), min(1.0, float(many))


@lru_cache(maxsize=4096)
def drop_tails(counts: PairedCounts, limit: float) -> tuple[float, float]:
    """How likely so small a drop, and so large a one, are where the true drop is at the limit.

    With b and c the images that only the first and only the second model gets right, at a limit of 0 the exact
    McNemar test, X ~ binomial(b + c, 1/2); elsewhere Tango's score test (`paired_score`). How likely a score is follows
    from the trinomial distribution of b and c at the likeliest shares under the limit: the normal distribution, which
    Tango takes, calls up to three times too many of 100 classes worse, where each is tried at a hundredth of 5 %.

    Returns:
        p of "drops less than the limit", p of "drops more than the limit", each one-sided.

    References: T. Tango, Statistics in Medicine 17 (1998), 891; C. J. Lloyd, Biometrics 64 (2008), 716 (the estimated
    p-value).
    """
    if limit == 0:
        return binomial_tails(counts.first, counts.first + counts.second, 0.5)
    n, b, c = sum(counts), counts.first, counts.second
    q = float(likeliest_second(n, np.array(b), np.array(c), limit))
    # b and c whose chances add up to 1 but for 1e-12.
    firsts, seconds = _likely(n, q + limit)[:, None], _likely(n, q)
    chances = _trinomial(n, firsts, seconds, q + limit, q)
    z, here = paired_score(n, firsts, seconds, limit), float(paired_score(n, np.array(b), np.array(c), limit))
    less, more = chances[z <= here + _EQUAL].sum(), chances[z >= here - _EQUAL].sum()
    return min(1.0, float(less)), min(1.0, float(more))


def _likely(n: int, share: float) -> np.ndarray:
    """Counts out of n that are not out of the question: within eight deviations, and a few more of rare events."""
    reach = 8 * math.sqrt(n * share * (1 - share)) + 16
    return np.arange(max(0, math.floor(n * share - reach)), min(n, math.ceil(n * share + reach)) + 1)


def _trinomial(n: int, b: np.ndarray, c: np.ndarray, share_b: float, share_c: float) -> np.ndarray:
    rest = n - b - c
    logs = _log_factorials(n)
    told = logs[n] - logs[b] - logs[c] - logs[np.maximum(rest, 0)]
    for count, share in ((b, share_b), (c, share_c), (rest, max(1 - share_b - share_c, 0.0))):
        told = told + (count * math.log(share) if share > 0 else np.where(count == 0, 0.0, -np.inf))
    return np.where(rest >= 0, np.exp(np.where(rest >= 0, told, -np.inf)), 0.0)


@lru_cache(maxsize=64)
def _log_factorials(n: int) -> np.ndarray:
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected so that, over all of them, the chance of one false proof is what each one's would be.

    In rising order p_i becomes max_{j ≤ i} (m - j + 1) p_j, at most 1.

    Reference: S. Holm, Scandinavian Journal of Statistics 6 (1979), 65.
    """
    order = np.argsort(p_values, kind="stable")
    raised = np.asarray(p_values, dtype=float)[order] * np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(raised))
    return corrected.tolist()


def images_for_share(share: float, limit: float, *, alpha: float = ALPHA) -> int | None:
    """How many images tell a share from a limit, where it is what was found; None where it lies on the limit.

    ((z_α √(L(1 - L)) + z_β √(p(1 - p))) / (p - L))², the normal approximation.
    """
    spread = _reach(1 - alpha) * _deviation(limit) + _reach(POWER) * _deviation(share)
    return _squared(spread, share - limit)


def images_for_drop(counts: PairedCounts, limit: float, *, alpha: float = ALPHA) -> int | None:
    """How many pairs tell a drop from a limit, where it is what was found; None where it lies on the limit."""
    n = sum(counts)
    drop = (counts.first - counts.second) / n
    # At least one image that changed sides: without any, none would ever be needed.
    spread = math.sqrt(max(counts.first + counts.second, 1) / n - min(drop**2, limit**2))
    return _squared((_reach(1 - alpha) + _reach(POWER)) * spread, drop - limit)


def images_for_interval(row: Measurement, limit: float) -> int | None:
    """How many images, or runs, tell a measurement from a limit, where it is what was found.

    None where it lies on the limit, or has no two-sided interval. An interval's width falls with the root of n.
    """
    if row.low is None or row.high is None:
        return None
    deviation = (row.high - row.low) / (2 * _reach(1 - _TAIL)) * math.sqrt(row.n)
    return _squared((_reach(1 - _TAIL) + _reach(POWER)) * deviation, row.value - limit)


def _reach(share: float) -> float:
    return _NORMAL.inv_cdf(share)


def _deviation(share: float) -> float:
    return math.sqrt(share * (1 - share))


def _squared(spread: float, distance: float) -> int | None:
    return math.ceil((spread / distance) ** 2) if abs(distance) > 1e-12 else None
