"""Observers: they see a tensor's values batch by batch, in fixed memory, and name its range."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import numpy as np
from typing_extensions import assert_never

from edgec.calibrate.clipping import clip_by_entropy, clip_by_error, clip_by_percentile, clip_by_worst_class
from edgec.calibrate.histogram import Histogram, extremes

if TYPE_CHECKING:
    from edgec.calibrate.grid import Grid
    from edgec.calibrate.recipe import Recipe

__all__ = ["HistogramObserver", "MinMaxObserver", "MovingAverageObserver", "Observer", "observer_for"]

_BINS_OF_ALL_CLASSES = 1 << 18
"""Bins that `worst-class` may keep of a tensor, 2 MiB."""

_FEWEST_BINS = 128
"""On either side of zero: with fewer, thresholds would be further apart than 1 % of the range."""

Ends = tuple[np.ndarray, np.ndarray]
"""float32 [n] each: the smallest and the largest value of every image."""


class Observer(Protocol):
    """What reads a range from values.

    The split into batches does not change it, nor does the order, but for the moving average.
    """

    def update(
        self, values: np.ndarray, weights: np.ndarray, *, ends: Ends | None = None, classes: np.ndarray | None = None
    ) -> None:
        """Sees the values of n images.

        Args:
            values: float32 [n, ...]; all values of each image, or a sample of them.
            weights: float64 [n], not negative; an image of weight 0 is not seen.
            ends: The extremes of each image, where `values` may lack them.
            classes: int [n], the class of each image; all of one class where this is not given.

        Raises:
            FloatingPointError: A value is NaN or infinite.
        """
        ...

    def range(self) -> tuple[float, float]:
        """The lowest and the highest value to represent; zero lies between, (0, 0) where nothing was seen."""
        ...


def observer_for(recipe: Recipe, grid: Grid, *, classes: int = 1) -> Observer:
    """The observer that a recipe asks for, fitted to a grid.

    Args:
        recipe: Names the observer and its parameters.
        grid: What a range will be cut into.
        classes: How many classes the images are of; `worst-class` keeps them apart, in fewer bins where they are many.
    """
    if recipe.observer == "minmax":
        return MinMaxObserver()
    if recipe.observer == "moving-average":
        return MovingAverageObserver(recipe.momentum)
    if recipe.observer == "percentile":
        return HistogramObserver(recipe.bins, lambda seen: clip_by_percentile(seen, grid, recipe.percentile))
    if recipe.observer == "mse":
        return HistogramObserver(recipe.bins, lambda seen: clip_by_error(seen, grid))
    if recipe.observer == "entropy":
        return HistogramObserver(recipe.bins, lambda seen: clip_by_entropy(seen, grid))
    if recipe.observer == "worst-class":
        bins = _bins_for(classes, most=recipe.bins)
        return HistogramObserver(bins, lambda seen: clip_by_worst_class(seen, grid), classes=classes)
    assert_never(recipe.observer)


class MinMaxObserver:
    """The extreme values; weights matter only in being zero or not."""

    def __init__(self) -> None:
        self._low = 0.0
        self._high = 0.0

    def update(
        self, values: np.ndarray, weights: np.ndarray, *, ends: Ends | None = None, classes: np.ndarray | None = None
    ) -> None:
        """Widens the range to hold the values."""
        del classes
        lows, highs = _ends(values, weights, ends)
        if lows.size:
            self._low, self._high = min(self._low, float(lows.min())), max(self._high, float(highs.max()))

    def range(self) -> tuple[float, float]:
        """The extremes seen."""
        return self._low, self._high


class MovingAverageObserver:
    """The average of the images' extremes, in which what came earlier fades.

    After image i of weight w_i: low_i = sum_{j <= i} w_j momentum^(i - j) min_j / sum_{j <= i} w_j momentum^(i - j).
    An average over images instead of batches, so that the batch size has no part in it, and started without a bias.

    Args:
        momentum: What remains of earlier images with each further one.

    Reference: Jacob et al., eq. 11 f. (arXiv 1712.05877), which averages batches.
    """

    def __init__(self, momentum: float) -> None:
        self._momentum = momentum
        self._sums = np.zeros(3)

    def update(
        self, values: np.ndarray, weights: np.ndarray, *, ends: Ends | None = None, classes: np.ndarray | None = None
    ) -> None:
        """Takes the images in, one after the other."""
        del classes
        lows, highs = _ends(values, weights, ends)
        for low, high, weight in zip(lows, highs, weights[weights > 0], strict=True):
            self._sums = self._momentum * self._sums + weight * np.array([low, high, 1.0])

    def range(self) -> tuple[float, float]:
        """The averages, with zero between."""
        low, high, weight = self._sums
        return (min(float(low / weight), 0.0), max(float(high / weight), 0.0)) if weight else (0.0, 0.0)


class HistogramObserver:
    """A growing histogram, and a rule that clips it.

    Args:
        bins: Bins on either side of zero, a power of two.
        clip: From the histogram to the range.
        classes: How many classes are kept apart; 1 for all images together.
    """

    def __init__(self, bins: int, clip: Callable[[Histogram], tuple[float, float]], *, classes: int = 1) -> None:
        self._histogram = Histogram(bins, classes)
        self._clip = clip
        self._apart = classes > 1

    def update(
        self, values: np.ndarray, weights: np.ndarray, *, ends: Ends | None = None, classes: np.ndarray | None = None
    ) -> None:
        """Counts the values, each with the weight of its image."""
        seen = weights > 0
        if not (seen.any() and math.prod(values.shape[1:])):
            return
        lows, highs = _ends(values, weights, ends)
        self._histogram.add(
            _rows(values)[seen] if not seen.all() else _rows(values),
            weights[seen],
            ends=(float(lows.min()), float(highs.max())),
            classes=classes[seen] if self._apart and classes is not None else None,
        )

    def range(self) -> tuple[float, float]:
        """What the rule keeps."""
        return self._clip(self._histogram) if self._histogram.masses.any() else (0.0, 0.0)


def _ends(values: np.ndarray, weights: np.ndarray, ends: Ends | None) -> Ends:
    """The extremes of each image with a weight: as given, or those of its values.

    Raises:
        FloatingPointError: One is NaN or infinite.
    """
    rows = _rows(values)
    if ends is None:
        ends = (rows.min(axis=1), rows.max(axis=1)) if rows.size else (rows[:0, 0], rows[:0, 0])
    lows, highs = (side[weights > 0] if len(side) else side for side in ends)
    if lows.size:
        extremes(np.stack([lows, highs]))
    return lows, highs


def _rows(values: np.ndarray) -> np.ndarray:
    """float32 [n, values]."""
    return values.reshape(len(values), math.prod(values.shape[1:]))


def _bins_for(classes: int, *, most: int) -> int:
    """The largest power of two that keeps all classes within the bound."""
    fitting = 1 << int(math.log2(max(_BINS_OF_ALL_CLASSES // (2 * classes), 1)))
    return max(min(fitting, most), min(_FEWEST_BINS, most))
