"""Few-sample draws: how many of each class, and which."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.core.errors import ConfigError, DataError
from edgec.core.inputs import InputSpec
from edgec.core.samples import Samples
from edgec.data import describe_draw, draw_few, imbalance_counts
from edgec.data.arrays import array_samples

NAMES = tuple("abcdefghij")


@pytest.fixture
def samples(noise) -> Samples:
    """60 images of each of ten classes."""
    labels = np.arange(600) % 10
    return array_samples(
        noise(600), labels, InputSpec(height=8, width=8), names=NAMES, classes=None, where="train images of 'x'"
    )


def slow_counts(weights: list[float], total: int) -> list[int]:
    """Reference: shares below 1 become 1 all at once, until none is left; then units go to the largest remainders."""
    counts = [0] * len(weights)
    fixed: set[int] = set()
    while True:
        free = [i for i in range(len(weights)) if i not in fixed]
        left = total - len(fixed)
        shares = {i: left * weights[i] / sum(weights[j] for j in free) for i in free}
        low = {i for i in free if shares[i] < 1} if total >= len(weights) else set()
        if not low:
            break
        fixed |= low
    for i in fixed:
        counts[i] = 1
    for i in free:
        counts[i] = int(shares[i])
    while sum(counts) < total:
        counts[max(free, key=lambda i: (shares[i] - counts[i], -i))] += 1
    return counts


@pytest.mark.parametrize("total", [1, 7, 10, 11, 20, 50, 99, 100, 1000])
@pytest.mark.parametrize("imbalance", [1, 2, 10, 37.5, 100])
def test_counts_agree_with_a_slow_reference(total: int, imbalance: float) -> None:
    exponential = [imbalance ** (-i / 9) for i in range(10)]
    step = [1.0] * 7 + [1 / imbalance] * 3
    assert imbalance_counts(10, total=total, imbalance=imbalance, profile="exponential").tolist() == slow_counts(
        exponential, total
    )
    assert imbalance_counts(10, total=total, imbalance=imbalance, profile="step", minority=3).tolist() == slow_counts(
        step, total
    )


def test_fifty_samples_of_ten_classes_at_imbalance_100() -> None:
    counts = imbalance_counts(10, total=50, imbalance=100, profile="exponential")
    assert counts.tolist() == [19, 12, 7, 4, 2, 2, 1, 1, 1, 1]
    assert counts.dtype == np.int64


def test_a_large_total_shows_the_ratio_itself() -> None:
    counts = imbalance_counts(10, total=12_406, imbalance=100, profile="exponential")  # 5,000 … 50
    assert counts[0] / counts[-1] == pytest.approx(100, rel=0.02)
    assert imbalance_counts(10, total=505 * 50, imbalance=100, profile="step").tolist() == [5000] * 5 + [50] * 5


def test_the_studys_linear_profile_is_the_exponential_one() -> None:
    for imbalance in (2, 10, 20, 50, 100):  # docs/methods.md §2: n_i = n_max ρ^(-i/(K-1))
        linear = imbalance_counts(10, total=5000, imbalance=imbalance, profile="linear")
        assert linear.tolist() == imbalance_counts(10, total=5000, imbalance=imbalance, profile="exponential").tolist()


@pytest.mark.parametrize("minority", [2, 5, 8])
def test_step_has_as_many_minority_classes_as_asked_for(minority: int) -> None:
    counts = imbalance_counts(10, total=1100, imbalance=10, profile="step", minority=minority)
    assert len(set(counts[-minority:])) <= 2
    assert counts[-minority:].max() * 8 < counts[: 10 - minority].min()


def test_fewer_samples_than_classes_leave_some_without() -> None:
    assert imbalance_counts(10, total=5, imbalance=100, profile="exponential").tolist() == [2, 1, 1, 1] + [0] * 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"total": 0}, "0 samples of 10 classes: expected one or more"),
        ({"imbalance": 0.5}, "imbalance 0.5: expected 1 (balanced) or more"),
        ({"imbalance": float("nan")}, "imbalance nan"),
        ({"imbalance": float("inf")}, "imbalance inf"),
        ({"minority": 10}, "minority of 10: expected 1 to 9 classes"),
    ],
)
def test_senseless_profiles_are_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        imbalance_counts(10, **({"total": 50, "imbalance": 100, "profile": "step"} | change))
    assert message in str(caught.value)
    assert caught.value.hint


def test_a_draw_has_the_counts_of_its_profile_in_some_order(samples: Samples) -> None:
    few = draw_few(samples, total=50, imbalance=100, profile="exponential", seed=0)
    assert sorted(few.counts.tolist(), reverse=True) == [19, 12, 7, 4, 2, 2, 1, 1, 1, 1]
    assert few.classes == samples.classes
    assert set(few.digests) <= set(samples.digests)
    assert len(set(few.digests)) == 50


def test_every_image_keeps_its_label(samples: Samples) -> None:
    few = draw_few(samples, total=50, imbalance=100, seed=3)
    label_of = dict(zip(samples.digests, samples.labels.tolist(), strict=True))
    assert [label_of[digest] for digest in few.digests] == few.labels.tolist()


def test_the_seed_decides_which_classes_are_rare(samples: Samples) -> None:
    most = {int(draw_few(samples, total=50, imbalance=100, seed=seed).counts.argmax()) for seed in range(20)}
    assert len(most) >= 5


def test_a_given_order_is_kept_whatever_the_seed(samples: Samples) -> None:
    order = list(reversed(NAMES))
    draws = [draw_few(samples, total=50, imbalance=100, seed=seed, order=order) for seed in (0, 1)]
    assert [draw.counts.tolist() for draw in draws] == [[1, 1, 1, 1, 2, 2, 4, 7, 12, 19]] * 2
    assert draws[0].digests != draws[1].digests


def test_the_same_seed_gives_the_same_samples(samples: Samples) -> None:
    first, second = (draw_few(samples, total=50, imbalance=10, profile="step", seed=4) for _ in range(2))
    assert first.digest == second.digest


def test_an_incomplete_order_is_refused(samples: Samples) -> None:
    with pytest.raises(ConfigError, match="order of classes: got a, b, expected each of a, b, c"):
        draw_few(samples, total=50, imbalance=100, seed=0, order=["a", "b"])


def test_a_class_with_too_few_images_is_named(samples: Samples) -> None:
    with pytest.raises(DataError) as caught:
        draw_few(samples, total=300, imbalance=100, seed=0, order=NAMES)
    assert str(caught.value) == (
        "train images of 'x': class 'a' has 60 images, 121 are needed for 300 samples at imbalance 100"
    )
    assert caught.value.hint == "ask for fewer samples or less imbalance, or add images of this class"


def test_rare_classes_may_stay_empty() -> None:
    counts = imbalance_counts(10, total=10, imbalance=100, profile="exponential", at_least=0)
    assert counts.tolist() == [4, 2, 2, 1, 1, 0, 0, 0, 0, 0]
    assert imbalance_counts(10, total=10, imbalance=100, profile="exponential").tolist() == [1] * 10


def test_a_draw_that_leaves_classes_empty_keeps_their_names(samples: Samples) -> None:
    few = draw_few(samples, total=10, imbalance=100, at_least=0, seed=0)
    assert few.classes == NAMES
    assert (few.counts == 0).sum() == 5


def test_what_a_draw_came_to_stands_beside_what_was_asked(samples: Samples) -> None:
    one = draw_few(samples, total=50, imbalance=100, seed=0)
    assert describe_draw(one, of=1000, imbalance=100) == (
        "50 of 1000 training images are used, because data.few.total = 50: 19 of the most frequent class and 1 of the "
        "rarest, imbalance 19, 100 was asked for"
    )
    none = draw_few(samples, total=10, imbalance=100, at_least=0, seed=0)
    assert describe_draw(none, of=1000, imbalance=100).endswith("imbalance 4, 100 was asked for; 5 classes have none")
