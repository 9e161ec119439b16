"""The teacher's class frequencies: where they come from, and what taking them out of logits does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgec.core.errors import ConfigError, DataError
from edgec.core.samples import Samples
from edgec.learn.prior import logit_shift, training_counts
from edgec.learn.prior_estimate import PriorEstimate
from edgec.models.config import ModelConfig

CLASSES = ("cat", "dog", "eel")


@pytest.fixture
def few() -> Samples:
    pixels = np.zeros((6, 2, 2, 3), np.uint8)
    labels = np.array([0, 0, 0, 1, 1, 2])
    return Samples(pixels=pixels, digests=tuple("abcdef"), source="here", labels=labels, classes=CLASSES)


def trained_on(value: Any) -> Any:
    """As a config has it."""
    return ModelConfig(name="resnet18", trained_on=value, input={"height": 2, "width": 2}).trained_on


@pytest.mark.parametrize(
    ("told", "counts"),
    [("few", [3, 2, 1]), ([900, 90, 9], [900, 90, 9]), ({"eel": 1, "cat": 5, "dog": 2}, [5, 2, 1])],
)
def test_counts_are_in_the_order_of_the_classes(few: Samples, told: Any, counts: list[int]) -> None:
    found = training_counts(trained_on(told), few)
    assert found is not None
    assert found.tolist() == counts


def test_a_folder_is_counted(few: Samples, tmp_path: Path) -> None:
    for name, count in (("cat", 3), ("dog", 2), ("eel", 1), (".cache", 1)):
        (tmp_path / name).mkdir()
        for number in range(count):
            Image.new("RGB", (2, 2)).save(tmp_path / name / f"{number}.png")
    (tmp_path / "cat" / "notes.txt").write_text("")
    (tmp_path / "empty").mkdir()
    found = training_counts(trained_on(str(tmp_path)), few)
    assert found is not None
    assert found.tolist() == [3, 2, 1]


def test_balanced_training_leaves_logits_alone(few: Samples) -> None:
    assert training_counts(trained_on("balanced"), few) is None


@pytest.mark.parametrize("used", [True, False])
def test_an_estimate_counts_where_it_is_used(few: Samples, used: bool) -> None:
    found = training_counts("estimate", few, PriorEstimate(counts=(5000, 2000, 1000), used=used, why="so it is"))
    assert (None if found is None else found.tolist()) == ([5000, 2000, 1000] if used else None)
    assert training_counts("estimate", few) is None


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ([3, 2], "model.trained_on: 2 counts, expected 3"),
        ({"cat": 1, "dog": 1}, "no count of class 'eel'"),
        ({"cat": 1, "dog": 1, "eel": 1, "fox": 1}, "'fox' is no class"),
    ],
)
def test_counts_that_do_not_fit_are_named(few: Samples, told: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        training_counts(trained_on(told), few)


def test_a_folder_that_is_not_there_is_named(few: Samples, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        training_counts(trained_on(str(tmp_path / "nowhere")), few)


def test_a_count_below_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        trained_on([3, -1, 2])


def test_the_shift_makes_bayes_decision_for_equal_classes() -> None:
    """By Bayes' rule: posteriors under the training prior, divided by it, are those under equal classes."""
    rng = np.random.default_rng(0)
    likelihood, counts = rng.random((50, 3)), np.array([80, 15, 5])
    tailed = np.log(likelihood * counts)
    equal = likelihood / likelihood.sum(axis=1, keepdims=True)
    shifted = np.exp(tailed + logit_shift(counts, strength=1.0))
    np.testing.assert_allclose(shifted / shifted.sum(axis=1, keepdims=True), equal, rtol=1e-12)


def test_strength_scales_and_a_class_without_images_is_finite() -> None:
    whole, half = (logit_shift([100, 1, 0], strength=strength) for strength in (1.0, 0.5))
    np.testing.assert_allclose(half, whole / 2)
    assert np.isfinite(whole).all()
    assert whole[1] == whole[2] > whole[0]
    assert whole.sum() == pytest.approx(0, abs=1e-12)
    assert not logit_shift([7, 7, 7], strength=1.0).any()
