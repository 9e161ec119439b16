"""Laws of calibration: no order, no batches, weights that count like repetition, ranges that hold what was seen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgec.calibrate import Grid, Recipe, calibration_set, observer_for
from edgec.core.samples import Images, Samples

GRIDS = [
    Grid(low=0, high=255, symmetric=False),
    Grid(low=-128, high=127, symmetric=False),
    Grid(low=-127, high=127, symmetric=True),
]
KINDS = ("minmax", "percentile", "mse", "entropy", "worst-class")
"""The moving average depends on the order, by what it is."""
VALUES = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 9), st.integers(1, 40)),
    elements=st.floats(-1e6, 1e6, width=32).map(lambda x: 0.0 if abs(x) < 1e-6 else x),
)
cases = pytest.mark.parametrize("kind", KINDS)
grids = st.sampled_from(GRIDS)


def observed(kind, grid, *batches):
    observer = observer_for(Recipe(name="x", title="x", observer=kind, bins=512), grid)
    for values, weights in batches:
        observer.update(values, weights)
    return observer.range()


@cases
@given(values=VALUES, grid=grids, seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_neither_order_nor_batches_change_a_range(kind, values, grid, seed):
    rng = np.random.default_rng(seed)
    # Whole weights add up without rounding, so equal means equal.
    weights = rng.integers(1, 9, len(values)).astype(float)
    order = rng.permutation(len(values))
    cut = int(rng.integers(0, len(values) + 1))
    parts = [(values[part], weights[part]) for part in (order[:cut], order[cut:])]
    assert observed(kind, grid, (values, weights)) == observed(kind, grid, *parts)


@cases
@given(values=VALUES, grid=grids)
@settings(max_examples=25, deadline=None)
def test_image_twice_at_half_weight_is_the_image(kind, values, grid):
    weights = np.ones(len(values))
    twice = np.concatenate([values, values]), np.concatenate([weights, weights]) / 2
    assert observed(kind, grid, (values, weights)) == observed(kind, grid, twice)


@cases
@given(values=VALUES, grid=grids, factor=st.integers(1, 1000))
@settings(max_examples=30, deadline=None)
def test_only_the_proportion_of_weights_counts(kind, values, grid, factor):
    weights = np.ones(len(values))
    one, other = (observed(kind, grid, (values, weights * f)) for f in (1.0, float(2 ** factor.bit_length())))
    assert one == other


@pytest.mark.parametrize("kind", [*KINDS, "moving-average"])
@given(values=VALUES, grid=grids)
@settings(max_examples=25, deadline=None)
def test_range_holds_zero_and_nothing_beyond_what_was_seen(kind, values, grid):
    low, high = observed(kind, grid, (values, np.ones(len(values))))
    assert min(values.min(), 0) <= low <= 0 <= high <= max(values.max(), 0)


@given(
    few=st.lists(st.integers(0, 12), min_size=2, max_size=6).filter(any),
    ood=st.integers(0, 40),
    budget=st.integers(1, 60),
    share=st.floats(0, 1),
    balance=st.sampled_from(["balanced", "natural"]),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=60, deadline=None)
def test_set_keeps_budget_and_share_and_gives_every_class_the_same_say(few, ood, budget, share, balance, seed):
    labels = np.repeat(np.arange(len(few)), few)
    samples = Samples(
        pixels=np.zeros((len(labels), 1, 1, 3), np.uint8),
        digests=tuple(f"few{i}" for i in range(len(labels))),
        source="few",
        labels=labels,
        classes=tuple(map(str, range(len(few)))),
    )
    images = Images(
        pixels=np.zeros((ood, 1, 1, 3), np.uint8), digests=tuple(f"ood{i}" for i in range(ood)), source="ood"
    )
    assigned = np.random.default_rng(seed).integers(0, len(few), ood)
    recipe = Recipe(name="x", title="x", observer="minmax", budget=budget, ood_share=share, class_balance=balance)
    chosen = calibration_set(samples, images, assigned, recipe, seed=seed)

    assert len(set(chosen.digests)) == len(chosen) <= budget
    assert (~chosen.is_ood).sum() == min(budget, len(labels))
    # Whole images: half a one may be rounded up.
    assert chosen.is_ood.sum() <= share * len(chosen) + 0.5
    assert chosen.weights.sum() == pytest.approx(1)
    if balance == "balanced":
        say = np.bincount(chosen.labels, weights=chosen.weights, minlength=len(few))
        assert say[chosen.counts > 0] == pytest.approx(1 / np.sum(chosen.counts > 0))
