"""Observers against slow references that hold all values."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from edgec.calibrate import Grid, Recipe, observer_for
from edgec.calibrate.histogram import Histogram

UINT8 = Grid(low=0, high=255, symmetric=False)
INT8 = Grid(low=-127, high=127, symmetric=True)
KINDS = get_args(Recipe.model_fields["observer"].annotation)
HISTOGRAMS = ("percentile", "mse", "entropy", "worst-class")


def observer(kind, grid=UINT8, of=1, **fields):
    return observer_for(Recipe(name="x", title="x", observer=kind, **fields), grid, classes=of)


def observed(kind, values, grid=UINT8, weights=None, classes=None, **fields):
    seen = observer(kind, grid, of=1 if classes is None else classes.max() + 1, **fields)
    seen.update(values, np.ones(len(values)) if weights is None else weights, classes=classes)
    return seen.range()


def activations(name, n=64, seed=0):
    rng = np.random.default_rng(seed)
    values = {
        "relu": np.maximum(rng.normal(size=(n, 500)), 0),
        "normal": rng.normal(0.3, 1, size=(n, 500)),
        "outlier": np.append(rng.normal(size=(n, 499)), np.where(np.arange(n) == 3, 40, 0)[:, None], axis=1),
        "laplace": rng.laplace(size=(n, 500)),
        "positive": rng.uniform(2, 3, size=(n, 500)),
        "negative": -rng.exponential(size=(n, 500)),
    }
    return values[name].astype(np.float32)


def rounded(values, low, high, grid):
    """Reference: quantise and dequantise as ONNX defines it."""
    if grid.symmetric:
        scale, zero = max(-low, high) / grid.high, 0
    else:
        scale = (high - low) / grid.steps
        zero = round(grid.low - low / scale)
    return (np.clip(np.round(values / scale) + zero, grid.low, grid.high) - zero) * scale


def mean_square_error(values, low, high, grid):
    values = values.astype(np.float64)
    return np.mean((values - rounded(values, low, high, grid)) ** 2)


SHAPES = ("relu", "normal", "outlier", "laplace", "positive", "negative")


@pytest.mark.parametrize("shape", SHAPES)
def test_minmax_is_the_extremes_with_zero(shape):
    values = activations(shape)
    assert observed("minmax", values) == (min(values.min(), 0), max(values.max(), 0))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("percentile", [99.0, 99.9, 100.0])
def test_percentile_is_the_weighted_quantile_to_a_bin(shape, percentile):
    values = activations(shape)
    weights = np.random.default_rng(1).uniform(0.1, 2, len(values))
    low, high = observed("percentile", values, weights=weights, percentile=percentile)

    order = np.argsort(values.ravel())
    ordered, mass = values.ravel()[order], np.repeat(weights, values.shape[1])[order]
    beyond = np.cumsum(mass[::-1])[::-1] - mass
    spare = mass.sum() * (1 - percentile / 100) * (1 + 1e-9)
    expected_high = max(ordered[np.argmax(beyond <= spare)], 0)
    expected_low = min(ordered[len(ordered) - 1 - np.argmax((np.cumsum(mass) - mass)[::-1] <= spare)], 0)
    bin_width = float(2 * np.abs(values).max() / 2048)
    assert expected_high <= high + 1e-6
    assert high == pytest.approx(expected_high, abs=bin_width)
    assert low == pytest.approx(expected_low, abs=bin_width)


def test_symmetric_percentile_is_that_of_absolute_values():
    values = activations("normal")
    low, high = observed("percentile", values, INT8, percentile=99.0)
    assert max(-low, high) == pytest.approx(np.quantile(np.abs(values), 0.99), abs=0.01)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("grid", [UINT8, INT8], ids=["uint8", "int8"])
def test_mse_is_as_good_as_the_best_of_a_full_search(shape, grid):
    values = activations(shape)
    low, high = observed("mse", values, grid)

    reach = np.linspace(0.02, 1, 60)
    lows = reach * values.min() if values.min() < 0 else [0.0]
    highs = reach * values.max() if values.max() > 0 else [0.0]
    mirrored = [(-t, t) for t in reach * np.abs(values).max()]
    pairs = mirrored if grid.symmetric else [(a, b) for a in lows for b in highs]
    best = min(mean_square_error(values, a, b, grid) for a, b in pairs)
    # Values that share a step are not spread quite evenly over it, and the search has steps of its own: 3 % covers both.
    assert mean_square_error(values, low, high, grid) <= 1.03 * best


def slow_divergence(mass, bins, levels):
    """Reference: Migacz' KL for clipping after `bins` bins, in plain loops."""
    p = [float(m) for m in mass[:bins]]
    q = [0.0] * bins
    for level in range(levels):
        members = [i for i in range(bins) if i * levels // bins == level]
        held = [i for i in members if p[i] > 0]
        for i in held:
            q[i] = sum(p[j] for j in members) / len(held)
    p[-1] += float(mass[bins:].sum())
    total_p, total_q = sum(p), sum(q)
    divergence = 0.0
    for a, b in zip(p, q, strict=True):
        if a > 0 and b == 0:
            return np.inf
        if a > 0:
            divergence += a / total_p * np.log((a / total_p) / (b / total_q))
    return divergence


@pytest.mark.parametrize("shape", ["relu", "laplace", "outlier"])
def test_entropy_is_as_good_as_the_best_of_a_full_search(shape):
    values = activations(shape)
    histogram = Histogram(512)
    histogram.add(values, np.ones(len(values)))
    mass = histogram.mass[512:] + histogram.mass[:512][::-1]
    mass[0] = 0
    used = int(np.flatnonzero(mass)[-1]) + 1
    best = min(slow_divergence(mass, bins, 127) for bins in range(127, used + 1, 9))

    low, high = observed("entropy", values, INT8, bins=512)
    chosen = round(max(-low, high) / histogram.width + 0.49)
    # The reference looks at every ninth bin, the observer at up to 128 thresholds: neither sees all.
    assert slow_divergence(mass, chosen, 127) <= 1.1 * best + 1e-6


def test_clipping_observers_shrug_off_an_outlier():
    values = activations("outlier")
    for kind in ("percentile", "entropy"):
        assert observed(kind, values)[1] < 20 < observed("minmax", values)[1]


def test_mse_keeps_an_outlier_only_while_that_is_worth_its_steps():
    often, once = activations("outlier", n=64), activations("outlier", n=2048)
    assert observed("mse", often)[1] > observed("mse", once)[1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", ["relu", "positive"])
def test_range_of_values_that_are_not_negative_begins_at_zero(kind, shape):
    assert observed(kind, activations(shape))[0] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_image_of_weight_zero_is_not_seen(kind):
    values = activations("normal")
    values[5] = np.nan
    weights = np.where(np.arange(len(values)) == 5, 0.0, 1.0)
    assert observed(kind, values, weights=weights) == observed(kind, np.delete(values, 5, axis=0))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_value_that_is_not_finite_is_refused(kind, bad):
    values = activations("normal")
    values[2, 7] = bad
    with pytest.raises(FloatingPointError):
        observer(kind).update(values, np.ones(len(values)))


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_or_only_zeros_give_an_empty_range(kind):
    assert observer(kind).range() == (0, 0)
    assert observed(kind, np.zeros((4, 10), np.float32)) == (0, 0)


@pytest.mark.parametrize("kind", HISTOGRAMS)
def test_memory_does_not_grow_with_images(kind):
    seen = observer(kind)
    sizes = set()
    for seed in range(5):
        seen.update(activations("laplace", seed=seed) * 10**seed, np.ones(64))
        sizes.add(seen._histogram.masses.nbytes)
    assert sizes == {2 * 2048 * 8}


def test_weight_moves_a_percentile():
    values = np.concatenate([np.full((1, 1000), 1.0), np.full((1, 1000), 2.0)]).astype(np.float32)
    even = observed("percentile", values, percentile=60, weights=np.array([1.0, 1.0]))
    tilted = observed("percentile", values, percentile=60, weights=np.array([9.0, 1.0]))
    assert even[1] == pytest.approx(2, abs=0.01)
    assert tilted[1] == pytest.approx(1, abs=0.01)


def faded(values, weights, momentum):
    """Reference: the weighted average of the images' extremes, all weights written out."""
    fading = weights * momentum ** np.arange(len(values))[::-1]
    return tuple(np.sum(fading * ends) / fading.sum() for ends in (values.min(1), values.max(1)))


@pytest.mark.parametrize("momentum", [0.0, 0.9, 0.99])
def test_moving_average_is_the_faded_mean_of_the_extremes(momentum):
    values, weights = activations("normal"), np.random.default_rng(1).uniform(0.1, 2, 64)
    found = observed("moving-average", values, weights=weights, momentum=momentum)
    np.testing.assert_allclose(found, faded(values.astype(float), weights, momentum), rtol=1e-12)


def test_moving_average_depends_on_the_order_but_not_on_batches():
    values, weights = activations("outlier"), np.ones(64)
    split = observer("moving-average")
    for start in range(0, 64, 5):
        split.update(values[start : start + 5], weights[start : start + 5])
    assert split.range() == observed("moving-average", values)
    assert split.range() != observed("moving-average", values[::-1])


def two_classes():
    """A class of 60 images of small values, and one of 4 whose values are ten times as large."""
    classes = np.repeat([0, 1], [60, 4])
    return activations("laplace") * np.where(classes == 0, 1, 10).astype(np.float32)[:, None], classes


def relative_errors(values, classes, low, high, grid):
    """Reference: each class's rounding error over its mean square."""
    return [
        mean_square_error(own, low, high, grid) / np.mean(own.astype(float) ** 2)
        for own in (values[classes == cls] for cls in np.unique(classes))
    ]


@pytest.mark.parametrize("grid", [UINT8, INT8], ids=["uint8", "int8"])
def test_worst_class_is_served_as_well_as_by_the_best_of_a_full_search(grid):
    values, classes = two_classes()
    low, high = observed("worst-class", values, grid, classes=classes)
    reach = np.abs(values).max() * np.linspace(0.02, 1, 80)
    best = min(max(relative_errors(values, classes, -t, t, grid)) for t in reach)
    # As for `mse`: 3 % for values that are not spread quite evenly over a step, and for the steps of the search.
    assert max(relative_errors(values, classes, low, high, grid)) <= 1.03 * best


def test_worst_class_serves_the_class_that_mse_neglects():
    values, classes = two_classes()
    ours, plain = (
        max(relative_errors(values, classes, *observed(kind, values, INT8, classes=classes), INT8))
        for kind in ("worst-class", "mse")
    )
    assert ours < plain


def test_worst_class_of_one_class_is_mse():
    values = activations("normal")
    assert observed("worst-class", values) == observed("mse", values)


@pytest.mark.parametrize("grid", [UINT8, INT8], ids=["uint8", "int8"])
def test_weight_of_a_class_does_not_move_worst_class(grid):
    values, classes = two_classes()
    even, tilted = (
        observed("worst-class", values, grid, classes=classes, weights=weights)
        for weights in (np.ones(64), np.where(classes == 0, 1.0, 8.0))
    )
    assert even == tilted


def test_weight_within_a_class_moves_worst_class():
    values = np.concatenate([activations("laplace", n=8), 10 * activations("laplace", n=8)])
    classes = np.zeros(16, int)
    small, large = (np.where(np.arange(16) < 8, *pair) for pair in ((1e4, 1e-4), (1e-4, 1e4)))
    tight, wide = (
        observed("worst-class", values, classes=np.append(classes, 1), weights=np.append(weights, 0.0))[1]
        for values, weights in ((np.append(values, values[:1], axis=0), w) for w in (small, large))
    )
    assert tight < wide


@pytest.mark.parametrize(("classes", "bins"), [(2, 2048), (64, 2048), (65, 1024), (1000, 128), (5000, 128)])
def test_many_classes_share_a_bounded_number_of_bins(classes, bins):
    seen = observer("worst-class", of=classes)
    assert seen._histogram.masses.shape == (classes, 2 * bins)


@pytest.mark.parametrize("kind", KINDS)
def test_extremes_that_a_sample_lacks_count_as_seen(kind):
    values = activations("normal")
    lows, highs = np.full(64, -50, np.float32), np.full(64, 60, np.float32)
    seen = observer(kind, percentile=100)
    seen.update(values, np.ones(64), ends=(lows, highs))
    low, high = seen.range()
    assert -50 - 1e-9 <= low < 0 < high <= 60 + 1e-9
    if kind in {"minmax", "moving-average"}:
        assert (low, high) == pytest.approx((-50, 60))
