"""A temperature is fitted to the teacher without a label, and views that the teacher finds unclear do not count."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgec.core.classifier import Classifier
from edgec.core.inputs import InputSpec
from edgec.core.samples import Samples
from edgec.learn.temperature import (
    Views,
    changed,
    fit_temperature,
    match_confidence,
    probabilities,
    view_count,
    views_of,
)


def logits(n: int = 400, *, seed: int = 0) -> np.ndarray:
    return 3 * np.random.default_rng(seed).normal(size=(n, 5))


def views(teacher: np.ndarray, student: np.ndarray) -> Views:
    return Views(
        teacher=teacher, student=student, labels=teacher.argmax(axis=1), weights=np.ones(len(teacher)) / len(teacher)
    )


@given(st.floats(0.3, 3.5))
def test_a_student_that_differs_by_a_factor_gets_that_factor(factor: float) -> None:
    teacher = logits()
    assert fit_temperature(views(teacher, teacher * factor)) == pytest.approx(factor, rel=1e-6)


def test_the_student_becomes_as_sure_as_the_teacher_finds_it_right() -> None:
    teacher = logits()
    student = 0.4 * (teacher + 2 * np.random.default_rng(1).normal(size=teacher.shape))
    scaled = probabilities(student / fit_temperature(views(teacher, student)))
    approval = probabilities(teacher)[np.arange(len(teacher)), student.argmax(axis=1)]
    assert scaled.max(axis=1).mean() == pytest.approx(approval.mean(), abs=1e-6)


def test_disagreement_with_the_teacher_makes_it_less_sure() -> None:
    teacher = logits()
    agreeing = fit_temperature(views(teacher, teacher))
    assert fit_temperature(views(teacher, np.roll(teacher, 1, axis=0))) > agreeing == pytest.approx(1)


def test_a_temperature_stays_within_a_factor_of_four() -> None:
    weights = np.ones(400)
    assert match_confidence(logits(), 1.0, weights) == pytest.approx(0.25)
    assert match_confidence(logits(), 0.0, weights) == pytest.approx(4)


def test_views_without_weight_change_nothing() -> None:
    teacher = logits()
    student = teacher * 2
    student[:200] *= 7
    weights = np.repeat([0.0, 1.0], 200)
    shown = Views(teacher=teacher, student=student, labels=teacher.argmax(axis=1), weights=weights)
    assert fit_temperature(shown) == pytest.approx(2, rel=1e-6)


def test_views_are_as_clear_to_the_teacher_as_the_samples(teacher: Classifier, few: Samples) -> None:
    def run(batch: torch.Tensor) -> np.ndarray:
        with torch.inference_mode():
            return teacher.module(batch).numpy()

    shown = views_of(few, teacher.input, run, run, seed=0)
    again = views_of(few, teacher.input, run, run, seed=0)
    np.testing.assert_array_equal(shown.teacher, again.teacher)
    clear = probabilities(shown.teacher).max(axis=1)
    from edgec.models.infer import logits_of

    plain = np.average(
        probabilities(logits_of(teacher, few).astype(float)).max(axis=1), weights=1 / few.counts[few.labels]
    )
    assert clear.mean() < plain - 0.2  # many views are of nothing that it knows
    assert np.average(clear, weights=shown.weights) == pytest.approx(plain, abs=0.05)
    assert fit_temperature(shown) == pytest.approx(1, abs=0.2)  # its own confidence, but where it errs


def test_every_class_is_shown_as_often_as_any_other(teacher: Classifier, few: Samples) -> None:
    def run(batch: torch.Tensor) -> np.ndarray:
        return np.zeros((len(batch), 10), np.float32)

    shares = np.bincount(views_of(few, teacher.input, run, run, seed=0).labels, minlength=10) / 3000
    np.testing.assert_allclose(shares, 0.1, atol=0.03)  # five standard deviations of a share of 3,000 draws


def test_a_view_has_the_shape_of_its_image_and_differs_from_it() -> None:
    images = torch.rand(4, 3, 12, 9)
    made = changed(images, torch.Generator().manual_seed(0))
    assert made.shape == images.shape
    assert (made - images).abs().mean() > 0.1


@pytest.mark.parametrize(
    ("side", "classes", "views"),
    [(8, 10, 3000), (128, 10, 3000), (224, 10, 979), (512, 10, 500), (224, 50, 2000), (224, 1000, 3000)],
)
def test_larger_images_are_shown_less_often(side: int, classes: int, views: int) -> None:
    assert view_count(InputSpec(height=side, width=side), classes=classes) == views
