"""Observers: they see a tensor's values batch by batch, in fixed memory, and name its range."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import numpy as np
from typing_extensions import assert_never

from edgec.calibrate.clipping import clip_by_entropy, clip_by_error, clip_by_percentile
from edgec.calibrate.histogram import Histogram, extremes

if TYPE_CHECKING:
    from edgec.calibrate.grid import Grid
    from edgec.calibrate.recipe import Recipe

__all__ = ["HistogramObserver", "MinMaxObserver", "Observer", "observer_for"]


class Observer(Protocol):
    """What reads a range from values. Neither the order nor the split into batches changes it."""

    def update(self, values: np.ndarray, weights: np.ndarray) -> None:
        """Sees the values of n images.

        Args:
            values: float32 [n, ...].
            weights: float64 [n], not negative; an image of weight 0 is not seen.

        Raises:
            FloatingPointError: A value is NaN or infinite.
        """
        ...

    def range(self) -> tuple[float, float]:
        """The lowest and the highest value to represent; zero lies between, (0, 0) where nothing was seen."""
        ...


def observer_for(recipe: Recipe, grid: Grid) -> Observer:
    """The observer that a recipe asks for, fitted to a grid."""
    if recipe.observer == "minmax":
        return MinMaxObserver()
    if recipe.observer == "percentile":
        return HistogramObserver(recipe.bins, lambda seen: clip_by_percentile(seen, grid, recipe.percentile))
    if recipe.observer == "mse":
        return HistogramObserver(recipe.bins, lambda seen: clip_by_error(seen, grid))
    if recipe.observer == "entropy":
        return HistogramObserver(recipe.bins, lambda seen: clip_by_entropy(seen, grid))
    assert_never(recipe.observer)


class MinMaxObserver:
    """The extreme values; weights matter only in being zero or not."""

    def __init__(self) -> None:
        self._low = 0.0
        self._high = 0.0

    def update(self, values: np.ndarray, weights: np.ndarray) -> None:
        """Widens the range to hold the values."""
        rows, _ = _seen(values, weights)
        if rows.size:
            low, high = extremes(rows)
            self._low, self._high = min(self._low, low), max(self._high, high)

    def range(self) -> tuple[float, float]:
        """The extremes seen."""
        return self._low, self._high


class HistogramObserver:
    """A growing histogram, and a rule that clips it.

    Args:
        bins: Bins on either side of zero, a power of two.
        clip: From the histogram to the range.
    """

    def __init__(self, bins: int, clip: Callable[[Histogram], tuple[float, float]]) -> None:
        self._histogram = Histogram(bins)
        self._clip = clip

    def update(self, values: np.ndarray, weights: np.ndarray) -> None:
        """Counts the values, each with the weight of its image."""
        rows, weights = _seen(values, weights)
        if rows.size:
            self._histogram.add(rows, weights)

    def range(self) -> tuple[float, float]:
        """What the rule keeps."""
        return self._clip(self._histogram) if self._histogram.mass.any() else (0.0, 0.0)


def _seen(values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float32 [m, values] of the images with a weight, and their weights."""
    rows = values.reshape(len(values), math.prod(values.shape[1:]))
    return (rows, weights) if weights.all() else (rows[weights > 0], weights[weights > 0])
