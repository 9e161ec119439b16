"""Where to clip a tensor, read from its histogram: percentile, least squared error, least divergence, worst class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from edgec.calibrate.grid import Grid
    from edgec.calibrate.histogram import Histogram

__all__ = ["clip_by_entropy", "clip_by_error", "clip_by_percentile", "clip_by_worst_class"]

_CANDIDATES = 256
"""Thresholds tried on a side: neighbours differ by 0.4 % of the widest, less than a scale step."""


def clip_by_percentile(histogram: Histogram, grid: Grid, percentile: float) -> tuple[float, float]:
    """The narrowest range that leaves out at most (100 - percentile) % of the mass at either end.

    On a symmetric grid the percentile is that of the absolute values. Ends are bin edges, or the extreme value
    where that is nearer to zero; zero is always inside.
    """
    spare = histogram.mass.sum() * (1 - percentile / 100)
    if grid.symmetric:
        return _within(histogram, *_mirrored(_edge(_folded(histogram.mass), spare) * histogram.width))
    low = _edge(histogram.mass[: histogram.bins][::-1], spare)
    high = _edge(histogram.mass[histogram.bins :], spare)
    return _within(histogram, -low * histogram.width, high * histogram.width)


def clip_by_error(histogram: Histogram, grid: Grid) -> tuple[float, float]:
    """The range whose rounding and clipping together lose least, in squared error.

    E(low, high) = sum_{x < low} m (low - x)^2 + sum_{x > high} m (x - high)^2 + s^2 / 12 sum_{inside, x != 0} m,
    with s the scale that the range gives. s^2 / 12 is the error of rounding values spread evenly over a step; zero is
    on the grid and loses nothing. Splitting the error so costs three cumulative sums and no rounding of bins.

    Reference: the decomposition of ACIQ (arXiv 1810.05723), over a histogram instead of a Laplace prior.
    """
    tried = _thresholds(histogram, grid)
    return _range(histogram, grid, tried, np.argmin(_errors(histogram.mass, histogram, grid, tried)))


def clip_by_worst_class(histogram: Histogram, grid: Grid) -> tuple[float, float]:
    """The range that serves best the class that it serves worst: min over ranges of max_c E_c / S_c.

    E_c is the error of `clip_by_error` over the values of class c alone and S_c = sum m x^2 over them, so that a
    class of small activations is not outvoted by one of large ones. Of ranges that are equally good to the worst
    class, the one with the least mean over classes. A class of zeros alone loses nothing, whatever the range.
    """
    tried = _thresholds(histogram, grid)
    worst = total = np.zeros([len(side) for side in tried])
    for mass, square in zip(histogram.masses, histogram.masses @ histogram.values**2, strict=True):
        if square > 0:
            error = _errors(mass, histogram, grid, tried) / square
            worst, total = np.maximum(worst, error), total + error
    # Equal errors that were summed in another order differ in the last bits.
    best = worst <= worst.min() * (1 + 1e-9)
    return _range(histogram, grid, tried, np.argmin(np.where(best, total, np.inf)))


def clip_by_entropy(histogram: Histogram, grid: Grid) -> tuple[float, float]:
    """The threshold on absolute values that loses least information when what lies inside is rounded to the grid.

    For each threshold T: P is the distribution of the bins inside, with the mass beyond T put into the last one; Q is
    the distribution inside, each of the grid's steps spread evenly over the bins of it that hold anything. T minimises
    KL(P || Q). The bin of zero is left out, since zero is on every grid and, after a ReLU, would outweigh the rest.

    Reference: S. Migacz, 8-bit inference with TensorRT, GTC 2017.
    """
    mass = _folded(histogram.mass)
    mass[0] = 0.0
    used = int(np.flatnonzero(mass)[-1]) + 1 if mass.any() else 0
    one_sided = not grid.symmetric and histogram.low >= 0
    levels = grid.steps if one_sided else grid.steps // 2
    candidates = np.unique(np.linspace(levels, used, _CANDIDATES // 2).astype(int)) if used > levels else [used]
    best = min(candidates, key=lambda bins: _divergence(mass, int(bins), levels))
    return _within(histogram, *_mirrored(float(best) * histogram.width))


def _folded(mass: np.ndarray) -> np.ndarray:
    """float64 [bins]: the mass of absolute values."""
    bins = len(mass) // 2
    return mass[bins:] + mass[:bins][::-1]


def _mirrored(threshold: float) -> tuple[float, float]:
    return -threshold, threshold


def _within(histogram: Histogram, low: float, high: float) -> tuple[float, float]:
    """No wider than what was seen, and zero inside."""
    return min(max(float(low), histogram.low), 0.0), max(min(float(high), histogram.high), 0.0)


def _edge(side: np.ndarray, spare: float) -> int:
    """The fewest bins from zero outwards beyond which no more than `spare` of the mass lies."""
    beyond = side.sum() - np.cumsum(side)
    # Summing in another order leaves a rest of about 1e-16 where nothing lies beyond.
    return 0 if side.sum() <= spare else int(np.argmax(beyond <= spare + 1e-12 * side.sum())) + 1


def _thresholds(histogram: Histogram, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Candidates for either end, in bins from zero outwards; a symmetric grid has none below."""
    mass = histogram.mass
    if grid.symmetric:
        return np.zeros(1, int), _spaced(_folded(mass))
    return _spaced(mass[: histogram.bins][::-1]), _spaced(mass[histogram.bins :])


def _spaced(side: np.ndarray) -> np.ndarray:
    """0 to the last bin that holds anything."""
    used = int(np.flatnonzero(side)[-1]) + 1 if side.any() else 0
    return np.unique(np.linspace(0, used, min(used, _CANDIDATES) + 1).astype(int))


def _errors(mass: np.ndarray, histogram: Histogram, grid: Grid, tried: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """float64 [lows, highs]: clipping and rounding error of some mass under every candidate range."""
    lows, highs = tried
    values, width = histogram.values[histogram.bins :], histogram.width
    if grid.symmetric:
        side = _folded(mass)
        lost, beyond = _clipped(side, values, highs, width)
        return (lost + (highs * width / grid.high) ** 2 / 12 * (side.sum() - side[0] - beyond))[None]
    below, above = mass[: histogram.bins][::-1], mass[histogram.bins :]
    lost_low, beyond_low = _clipped(below, -histogram.values[: histogram.bins][::-1], lows, width)
    lost_high, beyond_high = _clipped(above, values, highs, width)
    inside = mass.sum() - above[0] - beyond_low[:, None] - beyond_high
    step = (lows[:, None] + highs) * width / grid.steps
    return lost_low[:, None] + lost_high + step**2 / 12 * inside


def _range(
    histogram: Histogram, grid: Grid, tried: tuple[np.ndarray, np.ndarray], best: np.intp
) -> tuple[float, float]:
    """The range at a flat position among the candidates."""
    lows, highs = tried
    row, column = divmod(int(best), len(highs))
    high = highs[column] * histogram.width
    return _within(histogram, *(_mirrored(high) if grid.symmetric else (-lows[row] * histogram.width, high)))


def _clipped(side: np.ndarray, values: np.ndarray, bins: np.ndarray, width: float) -> tuple[np.ndarray, np.ndarray]:
    """The squared error and the mass that each threshold on one side of zero clips.

    Args:
        side: float64 [bins], mass from zero outwards.
        values: float64 [bins], what the bins stand for, as distances from zero.
        bins: int [thresholds], from zero outwards.
        width: Width of a bin.
    """
    beyond = [np.append(np.cumsum((side * values**power)[::-1])[::-1], 0.0)[bins] for power in range(3)]
    thresholds = bins * width
    return beyond[2] - 2 * thresholds * beyond[1] + thresholds**2 * beyond[0], beyond[0]


def _divergence(mass: np.ndarray, bins: int, levels: int) -> float:
    """KL(P || Q) for clipping after `bins` bins; infinite where Q is 0 and P is not."""
    inside = mass[:bins]
    step = np.arange(bins) * levels // max(bins, 1)
    held = inside > 0
    spread = np.bincount(step, weights=inside) / np.maximum(np.bincount(step, weights=held), 1)
    p, q = inside.copy(), np.where(held, spread[step], 0.0)
    if bins:
        p[-1] += mass[bins:].sum()
    if q.sum() == 0 or np.any((p > 0) & (q == 0)):
        return 0.0 if p.sum() == 0 else float("inf")
    p, q = p[held] / p.sum(), q[held] / q.sum()
    return float(np.sum(p * np.log(p / q)))
