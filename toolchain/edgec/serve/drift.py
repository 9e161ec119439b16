"""How far the classes that are predicted now lie from those predicted on the test images at the build.

The measure is Jensen and Shannon's divergence in bits (Lin, IEEE Trans. Inf. Theory 37(1), 1991): 0 for equal mixes, 1
for mixes without a class in common, and finite where a class is missing from one of them, unlike the population
stability index.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from edgec.package import Bundle, Manifest

__all__ = ["ClassMix", "Drift", "chance_level", "divergence_bits", "expected_mix"]

_NORMAL_95 = 1.6448536269514722
"""95th percentile of the standard normal distribution."""
_MALFORMED = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What a report that somebody wrote by hand may raise."""
_MOST = 1 << 40
"""Images of any test set."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassMix:
    """Images by class.

    Attributes:
        counts: Images of each class.
        of: Whose they are, in words.
    """

    counts: np.ndarray
    of: str

    @property
    def images(self) -> int:
        """All of them."""
        return int(self.counts.sum())


def expected_mix(bundle: Bundle) -> ClassMix | None:
    """What a bundle's model predicted on the test images, else the test images' own classes, else None."""
    labels = len(bundle.manifest.labels)
    predicted = _predicted(bundle)
    if predicted is not None and predicted.shape == (labels,) and predicted.sum() > 0:
        return ClassMix(counts=predicted, of="classes predicted on the test images")
    counts = _test_counts(bundle.manifest)
    if counts is not None and counts.shape == (labels,) and counts.sum() > 0:
        return ClassMix(counts=counts, of="classes of the test images")
    return None


def _predicted(bundle: Bundle) -> np.ndarray | None:
    """Sums over the true classes of the report's confusion matrix; None where the report has none that can be read."""
    if "report.json" not in bundle.manifest.files:
        return None
    with suppress(*_MALFORMED):
        confusion = json.loads(bundle.read_bytes("report.json"))["confusion"]["artifact"]
        return _counts(confusion, axes=2).sum(axis=0)
    return None


def _counts(values: object, *, axes: int) -> np.ndarray:
    """Raises one of `_MALFORMED` where they are none."""
    counts = np.array(values)
    if counts.dtype.kind not in "iu" or counts.ndim != axes or (counts < 0).any() or counts.sum() > _MOST:
        raise ValueError("no counts of images")
    return counts.astype(np.int64)


def _test_counts(manifest: Manifest) -> np.ndarray | None:
    splits = manifest.data.get("splits")
    for split in splits if isinstance(splits, list) else ():
        if isinstance(split, dict) and split.get("name") == "test":
            with suppress(*_MALFORMED):
                return _counts(split["counts"], axes=1)
    return None


class Drift:
    """The last predictions of a model against what is expected of it.

    Args:
        expected: The mix that it is held against.
        window: Predictions that are remembered.
    """

    def __init__(self, expected: ClassMix, *, window: int) -> None:
        self.expected = expected
        self._recent: deque[int] = deque()
        self._window = window
        self._counts = np.zeros(len(expected.counts), dtype=np.int64)

    def add(self, classes: Iterable[int]) -> None:
        """Remembers predictions and forgets the oldest ones."""
        for index in classes:
            self._recent.append(index)
            self._counts[index] += 1
            if len(self._recent) > self._window:
                self._counts[self._recent.popleft()] -= 1

    @property
    def images(self) -> int:
        """Predictions that are remembered."""
        return len(self._recent)

    @property
    def bits(self) -> float:
        """The divergence, from 0 to 1; 0 without a prediction."""
        return divergence_bits(self._counts, self.expected.counts) if self._recent else 0.0

    @property
    def by_chance(self) -> float:
        """What it stays below 19 times out of 20 where nothing drifts; 0 without a prediction."""
        classes = int(np.count_nonzero(self.expected.counts + self._counts))
        return chance_level(classes, self.images, self.expected.images) if self._recent else 0.0


def divergence_bits(first: np.ndarray, second: np.ndarray) -> float:
    """Jensen and Shannon's divergence of two mixes, counts or shares, each not all zero."""
    p, q = first / first.sum(), second / second.sum()
    middle = (p + q) / 2
    return max(0.0, (_relative_bits(p, middle) + _relative_bits(q, middle)) / 2)


def _relative_bits(p: np.ndarray, q: np.ndarray) -> float:
    """Kullback and Leibler's divergence; what p has, q has too."""
    there = p > 0
    return float((p[there] * np.log2(p[there] / q[there])).sum())


def chance_level(classes: int, first: int, second: int) -> float:
    """The 95th percentile of the divergence between two samples of one and the same mix.

    Near equality the divergence is Σ (p - q)² / p / (8 ln 2), and that sum is chi-square with one degree less than
    there are classes, times 1 / first + 1 / second. The percentile is Wilson and Hilferty's (PNAS 17, 1931).

    Args:
        classes: Classes that occur.
        first: Images of one sample.
        second: Images of the other.
    """
    degrees = classes - 1
    if degrees < 1:
        return 0.0
    spread = 2 / (9 * degrees)
    chi_square = degrees * (1 - spread + _NORMAL_95 * math.sqrt(spread)) ** 3
    return min(1.0, chi_square * (1 / first + 1 / second) / (8 * math.log(2)))
