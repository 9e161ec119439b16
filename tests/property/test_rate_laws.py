"""Laws of OE-FSMC's labels, weights and draws: eq. 4, 5, 6 and the flattening of what is drawn."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgec.compress.config import ClassWeights
from edgec.compress.importance import class_weights
from edgec.learn.draws import balanced_chances, flattening_chances
from edgec.learn.labels import assign_labels, complementary_rates

counts = st.lists(st.integers(0, 10_000), min_size=2, max_size=120).filter(any).map(np.array)
small_counts = st.lists(st.integers(0, 50), min_size=2, max_size=12).filter(any).map(np.array)
seeds = st.integers(0, 2**32 - 1)


@given(counts)
def test_rates_are_shares_that_sum_to_one(few: np.ndarray) -> None:
    rates = complementary_rates(few)
    assert rates.min() >= 0
    assert rates.max() <= 1 + 1e-12
    np.testing.assert_allclose(rates.sum(), 1)


@given(counts, seeds)
def test_permuting_classes_permutes_rates(few: np.ndarray, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(few))
    np.testing.assert_allclose(complementary_rates(few[order]), complementary_rates(few)[order])


@given(counts, st.integers(1, 50))
def test_only_the_shares_count(few: np.ndarray, factor: int) -> None:
    np.testing.assert_allclose(complementary_rates(factor * few), complementary_rates(few), atol=1e-12)


@given(counts)
def test_a_class_with_fewer_samples_gets_no_smaller_rate(few: np.ndarray) -> None:
    rates = complementary_rates(few)[np.argsort(few, kind="stable")]
    assert (np.diff(rates) <= 1e-12).all()


@given(small_counts, st.integers(0, 500), seeds)
def test_labels_are_within_one_of_their_rates_share(few: np.ndarray, n: int, seed: int) -> None:
    labels = assign_labels(few, n, np.random.default_rng(seed))
    assert labels.shape == (n,)
    exact = n * complementary_rates(few)
    assert (np.abs(np.bincount(labels, minlength=len(few)) - exact) < 1 + 1e-9).all()


@given(small_counts, st.integers(0, 500))
def test_what_is_left_over_goes_to_the_largest_remainders(few: np.ndarray, n: int) -> None:
    exact = n * complementary_rates(few)
    got = np.bincount(assign_labels(few, n, np.random.default_rng(0)), minlength=len(few))
    whole = np.floor(exact + 1e-9)  # a share that is whole but for rounding has no remainder
    remainder = exact - whole
    more, less = remainder[got > whole], remainder[got <= whole]
    if len(more) and len(less):
        assert more.min() >= less.max() - 1e-9


@given(small_counts)
def test_labels_without_end_make_the_classes_flat_only_as_far_as_alpha_lets_them(few: np.ndarray) -> None:
    """Shares of few samples and rates add up to alpha times a constant: (alpha - beta) + beta."""
    shares = few / few.sum()
    alpha = shares.max() + shares.min()
    together = shares + (len(few) * alpha - 1) * complementary_rates(few)
    np.testing.assert_allclose(together, alpha)


@given(small_counts, st.sampled_from(ClassWeights), seeds)
def test_class_weights_are_shares_and_follow_a_permutation(few: np.ndarray, reading: ClassWeights, seed: int) -> None:
    rng = np.random.default_rng(seed)
    auxiliary, order = rng.integers(0, 20, len(few)), rng.permutation(len(few))
    weights = class_weights(reading, few, auxiliary)
    assert weights.min() >= 0
    np.testing.assert_allclose(weights.sum(), 1)
    np.testing.assert_allclose(class_weights(reading, few[order], auxiliary[order]), weights[order], atol=1e-12)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60).map(np.array))
def test_balanced_chances_give_every_class_that_is_there_the_same_mass(labels: np.ndarray) -> None:
    mass = np.bincount(labels, weights=balanced_chances(labels))
    np.testing.assert_allclose(mass[mass > 0], 1 / len(np.unique(labels)))
    np.testing.assert_allclose(mass.sum(), 1)


logits = arrays.arrays(
    np.float64, st.tuples(st.integers(1, 30), st.integers(2, 8)), elements=st.floats(-30, 30, allow_nan=False)
)


@given(logits, st.integers(0, 30))
def test_each_round_of_flattening_keeps_a_distribution_and_is_never_further_from_flat(
    rows: np.ndarray, rounds: int
) -> None:
    predicted = np.exp(rows - rows.max(axis=1, keepdims=True))
    predicted /= predicted.sum(axis=1, keepdims=True)
    chances, next_ones = (flattening_chances(predicted, rounds=n) for n in (rounds, rounds + 1))
    assert chances.min() >= 0
    np.testing.assert_allclose(chances.sum(), 1)
    before, after = (-np.log(w @ predicted).mean() for w in (chances, next_ones))
    assert after <= before + 1e-9


@given(logits, seeds)
def test_flattening_does_not_depend_on_the_order_of_images_or_classes(rows: np.ndarray, seed: int) -> None:
    predicted = np.exp(rows - rows.max(axis=1, keepdims=True))
    predicted /= predicted.sum(axis=1, keepdims=True)
    rng = np.random.default_rng(seed)
    images, classes = rng.permutation(rows.shape[0]), rng.permutation(rows.shape[1])
    shuffled = flattening_chances(predicted[images][:, classes])
    np.testing.assert_allclose(shuffled, flattening_chances(predicted)[images], atol=1e-9)
