"""A weighted histogram whose range grows by powers of two, so that memory is fixed and merging bins is exact."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["Histogram", "extremes"]

_SMALLEST_EXPONENT = -100
"""Keeps 2 ** -exponent a finite float32."""


class Histogram:
    """Mass on bins [k w, (k + 1) w), -bins <= k < bins, with w = 2 ** exponent the least that holds all values.

    Zero is an edge and w a power of two, so the bins of a wider histogram are unions of these: the result does not
    depend on the order in which values came.

    Args:
        bins: Bins on either side of zero, a power of two.
        classes: Rows of mass that are kept apart.

    Attributes:
        masses: float64 [classes, 2 * bins].
        low: Smallest value seen.
        high: Largest value seen.
    """

    def __init__(self, bins: int, classes: int = 1) -> None:
        self.bins = bins
        self.exponent = _SMALLEST_EXPONENT
        self.masses = np.zeros((classes, 2 * bins))
        self.low = math.inf
        self.high = -math.inf

    @property
    def mass(self) -> np.ndarray:
        """float64 [2 * bins]: of all classes together."""
        return self.masses[0] if len(self.masses) == 1 else self.masses.sum(axis=0)

    @property
    def width(self) -> float:
        """Width of a bin."""
        return math.ldexp(1.0, self.exponent)

    @property
    def values(self) -> np.ndarray:
        """float64 [2 * bins]: what a bin stands for: its middle, but exactly 0 for the bin that begins at 0.

        After a ReLU that bin holds zeros above all, and zero is the one value that a grid always represents.
        """
        middles = (np.arange(-self.bins, self.bins) + 0.5) * self.width
        middles[self.bins] = 0.0
        return middles

    def add(
        self,
        rows: np.ndarray,
        weights: np.ndarray,
        *,
        ends: tuple[float, float] | None = None,
        classes: np.ndarray | None = None,
    ) -> None:
        """Counts values.

        Args:
            rows: float32 [n, values].
            weights: float64 [n]: what each value of a row counts.
            ends: The smallest and the largest value, where `rows` are a sample that may lack them.
            classes: int [n], the row of mass that each row of values goes to; the first one where this is not given.

        Raises:
            FloatingPointError: A value is NaN or infinite.
        """
        low, high = extremes(rows) if ends is None else ends
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._widen(max(-low, high))
        scaled = rows * np.float32(math.ldexp(1.0, -self.exponent))
        # float32 to int32 is a vector instruction, to int64 it is not (three times slower in all).
        positions = np.floor(scaled, out=scaled).astype(np.int32)
        positions += self.bins
        counts = np.stack([np.bincount(row, minlength=2 * self.bins) for row in positions])
        for cls in (0,) if classes is None else np.unique(classes):
            own = slice(None) if classes is None else classes == cls
            self.masses[cls] += weights[own] @ counts[own]

    def _widen(self, reach: float) -> None:
        """Doubles the width until the bins hold `reach`; zeros fit whatever the width is."""
        if reach <= 0:
            return
        exponent = math.frexp(reach)[1] - int(math.log2(self.bins))
        if exponent <= self.exponent:
            return
        shift = min(exponent - self.exponent, 63)
        merged = (np.arange(-self.bins, self.bins) >> shift) + self.bins
        self.masses = np.stack([np.bincount(merged, weights=mass, minlength=2 * self.bins) for mass in self.masses])
        self.exponent = exponent


def extremes(values: np.ndarray) -> tuple[float, float]:
    """The smallest and the largest value.

    Raises:
        FloatingPointError: A value is NaN or infinite.
    """
    low, high = float(values.min()), float(values.max())
    # NaN and infinity both survive min and max.
    if not (math.isfinite(low) and math.isfinite(high)):
        raise FloatingPointError("a value is NaN or infinite")
    return low, high
