"""Labels for OOD images: the rates of OE-FSMC eq. 4 and counts by largest remainder."""

from __future__ import annotations

import re
from fractions import Fraction

import numpy as np
import pytest

from edgec.core.errors import DataError
from edgec.learn.labels import assign_labels, complementary_rates, draw_labels


def exact_rates(counts: list[int]) -> list[Fraction]:
    """Eq. 4 as it stands in the paper, in exact arithmetic."""
    shares = [Fraction(count, sum(counts)) for count in counts]
    alpha = max(shares) + min(shares)
    return [(alpha - share) / (len(counts) * alpha - 1) for share in shares]


@pytest.mark.parametrize(
    "counts", [[3, 1], [5, 3, 2], [1, 0], [9, 0, 0], [17, 11, 7, 4, 3, 2, 2, 2, 1, 1], [100, 1], [7, 7, 7]]
)
def test_rates_are_those_of_equation_4(counts: list[int]) -> None:
    np.testing.assert_allclose(complementary_rates(np.array(counts)), [float(r) for r in exact_rates(counts)])


def test_a_worked_example() -> None:
    # beta = 0.6, 0.3, 0.1; alpha = 0.7; K alpha - 1 = 1.1.
    np.testing.assert_allclose(complementary_rates(np.array([6, 3, 1])), [0.1 / 1.1, 0.4 / 1.1, 0.6 / 1.1])


def test_classes_without_a_sample_share_the_largest_rate() -> None:
    rates = complementary_rates(np.array([5, 0, 3, 0]))
    assert rates[1] == rates[3] == rates.max()


def test_the_largest_class_gets_no_label_where_another_has_no_sample() -> None:
    assert complementary_rates(np.array([5, 0, 3]))[0] == 0


def test_balanced_classes_get_equal_rates() -> None:
    np.testing.assert_allclose(complementary_rates(np.full(7, 3)), np.full(7, 1 / 7))


@pytest.mark.parametrize(
    ("counts", "message", "hint"),
    [
        ([4], "1 class, expected two or more", "a classifier needs a choice"),
        ([], "0 class, expected two or more", "a classifier needs a choice"),
        ([0, 0, 0], "no labelled sample in any class", "give at least one sample per class"),
    ],
)
def test_too_few_classes_or_samples_are_refused(counts: list[int], message: str, hint: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        complementary_rates(np.array(counts, dtype=int))
    assert caught.value.hint == hint


def test_labels_follow_the_rates_by_largest_remainder() -> None:
    # Exactly 10 times 1/11, 4/11, 6/11: 0.91, 3.64, 5.45; the two left over go to the remainders .91 and .64.
    labels = assign_labels(np.array([6, 3, 1]), 10, np.random.default_rng(0))
    assert np.bincount(labels).tolist() == [1, 4, 5]


def test_the_seed_orders_the_labels_and_does_not_choose_their_counts() -> None:
    one, two = (assign_labels(np.array([6, 3, 1]), 50, np.random.default_rng(seed)) for seed in (0, 1))
    assert not np.array_equal(one, two)
    assert np.array_equal(np.sort(one), np.sort(two))
    assert np.array_equal(one, assign_labels(np.array([6, 3, 1]), 50, np.random.default_rng(0)))


def test_no_image_needs_no_label() -> None:
    assert assign_labels(np.array([2, 1]), 0, np.random.default_rng(0)).tolist() == []


def test_drawn_labels_come_at_equation_4s_rates() -> None:
    counts = np.array([6, 3, 1])
    drawn = np.bincount(draw_labels(counts, 20_000, np.random.default_rng(0)), minlength=3) / 20_000
    np.testing.assert_allclose(drawn, [0.1 / 1.1, 0.4 / 1.1, 0.6 / 1.1], atol=0.02)  # six deviations


def test_drawn_labels_may_stray_further_than_assigned_ones() -> None:
    counts = np.array([6, 3, 1])
    assigned, drawn = (
        [np.bincount(labels(counts, 11, np.random.default_rng(seed)), minlength=3).tolist() for seed in range(20)]
        for labels in (assign_labels, draw_labels)
    )
    assert {tuple(row) for row in assigned} == {(1, 4, 6)}
    assert len({tuple(row) for row in drawn}) > 1
