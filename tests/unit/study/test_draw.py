"""Training sets: counts by the paper's equations, nested images, and too few of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.core.errors import ConfigError, DataError
from edgec.core.samples import Samples
from edgec.study.draw import BALANCED, Draw, draw_counts, draw_images


def samples(*counts: int) -> Samples:
    labels = np.repeat(np.arange(len(counts)), counts)
    return Samples(
        pixels=np.zeros((len(labels), 2, 2, 1), dtype=np.uint8),
        digests=tuple(map(str, range(len(labels)))),
        source="here",
        labels=labels,
        classes=tuple(f"class {label}" for label in range(len(counts))),
    )


@pytest.mark.parametrize("imbalance", [2, 10, 20, 50, 100])
@pytest.mark.parametrize("minority", [2, 5, 8])
def test_a_step_on_cifar10_is_as_in_equation_2(imbalance: int, minority: int) -> None:
    draw = Draw(profile="step", minority=minority, imbalance=imbalance)
    expected = [5000] * (10 - minority) + [5000 // imbalance] * minority
    assert draw_counts(10, draw, most=5000).tolist() == expected


@pytest.mark.parametrize("imbalance", [2, 10, 20, 50, 100])
def test_linear_imbalance_on_cifar10_is_as_in_equation_3_with_its_sign_put_right(imbalance: int) -> None:
    counts = draw_counts(10, Draw(profile="linear", imbalance=imbalance), most=5000)
    exact = [5000 * imbalance ** (-i / 9) for i in range(10)]
    assert counts[0] == 5000
    assert np.abs(counts - exact).max() < 1  # whole images
    assert counts[0] / counts[-1] == pytest.approx(imbalance, rel=0.02)  # of the 50 rarest, one more or less


@settings(max_examples=60, deadline=None)
@given(
    classes=st.integers(2, 12),
    most=st.integers(1, 200),
    imbalance=st.floats(1.01, 500),
    profile=st.sampled_from(["step", "linear"]),
    data=st.data(),
)
def test_no_class_has_more_than_the_most_nor_is_one_without_images(
    classes: int, most: int, imbalance: float, profile: str, data: st.DataObject
) -> None:
    minority = data.draw(st.integers(1, classes - 1)) if profile == "step" else None
    draw = Draw(profile=profile, imbalance=imbalance, minority=minority)  # pyright: ignore[reportArgumentType]
    counts = draw_counts(classes, draw, most=most)
    assert counts.max() <= most
    assert counts.min() >= 1
    share = imbalance ** (-np.arange(classes) / (classes - 1)) if minority is None else 1 / imbalance
    weights = share if minority is None else np.where(np.arange(classes) < classes - minority, 1, share)
    assert np.abs(counts - np.maximum(most * weights, 1)).max() < 2  # whole images, and those that the ones took


def test_balanced_classes_all_have_the_most() -> None:
    assert draw_counts(7, BALANCED, most=13).tolist() == [13] * 7


def test_no_class_may_be_left_for_the_majority() -> None:
    with pytest.raises(ConfigError, match="minority of 10: expected 1 to 9 classes"):
        draw_counts(10, Draw(profile="step", minority=10, imbalance=2), most=5)


def test_a_smaller_set_lies_in_a_larger_one_of_the_same_seed() -> None:
    source = samples(30, 40, 50)
    draws = [BALANCED, Draw(profile="linear", imbalance=5), Draw(profile="linear", imbalance=30)]
    large, middle, small = (set(draw_images(source, draw, most=None, seed=3).digests) for draw in draws)
    assert small < middle < large
    assert len(large) == 90


def test_which_class_is_rare_is_drawn_by_the_seed() -> None:
    draw = Draw(profile="linear", imbalance=20)
    rare = {int(draw_images(samples(*[20] * 4), draw, most=None, seed=seed).counts.argmin()) for seed in range(20)}
    assert rare == {0, 1, 2, 3}


def test_equal_seeds_draw_equal_images() -> None:
    draw = Draw(profile="step", minority=1, imbalance=4)
    one, two = (draw_images(samples(9, 9, 9), draw, most=8, seed=1) for _ in range(2))
    assert one.digest == two.digest
    assert sorted(one.counts) == [2, 8, 8]


@pytest.mark.parametrize(("most", "needed"), [(10, 10), (None, 1)])
def test_too_few_images_of_a_class_are_named(most: int | None, needed: int) -> None:
    source = samples(20, 9 if most else 0, 20)
    with pytest.raises(DataError) as raised:
        draw_images(source, BALANCED, most=most, seed=0)
    assert str(raised.value) == (
        f"here: class 'class 1' has {source.counts[1]} images, {needed} are needed so that each class may be the "
        "most frequent one"
    )
