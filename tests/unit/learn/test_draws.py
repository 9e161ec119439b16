"""How often each image is drawn."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.learn.draws import balanced_chances, flattening_chances


@pytest.fixture
def predicted() -> np.ndarray:
    """float64 [200, 5], most of the mass on two classes."""
    logits = np.random.default_rng(0).normal(size=(200, 5)) * 2 + np.array([3, 2, 0, 0, -1])
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def distance(chances: np.ndarray, predicted: np.ndarray) -> float:
    """KL from the uniform distribution to the mass of what is drawn."""
    return float(np.mean(np.log(1 / predicted.shape[1]) - np.log(chances @ predicted)))


def test_each_class_that_is_there_is_drawn_as_often() -> None:
    labels = np.array([0, 0, 0, 2, 2, 4])
    chances = balanced_chances(labels)
    np.testing.assert_allclose([chances[labels == label].sum() for label in range(5)], [1 / 3, 0, 1 / 3, 0, 1 / 3])
    np.testing.assert_allclose(chances[:3], 1 / 9)


def test_one_round_agrees_with_a_loop(predicted: np.ndarray) -> None:
    n, classes = predicted.shape
    mass = [sum(predicted[i, j] for i in range(n)) / n for j in range(classes)]
    raw = [sum(predicted[i, j] / mass[j] for j in range(classes)) / classes / n for i in range(n)]
    np.testing.assert_allclose(flattening_chances(predicted, rounds=1), np.array(raw) / sum(raw))


def test_every_round_brings_the_mass_nearer_to_flat(predicted: np.ndarray) -> None:
    distances = [distance(flattening_chances(predicted, rounds=rounds), predicted) for rounds in range(40)]
    assert (np.diff(distances) < 0).all()


def test_the_default_flattens_the_mass(predicted: np.ndarray) -> None:
    chances = flattening_chances(predicted)
    assert chances.sum() == pytest.approx(1)
    assert predicted.mean(axis=0).max() > 0.45
    # What twenty rounds reach here; flat is 0.2.
    np.testing.assert_allclose(chances @ predicted, 0.2, atol=0.03)


def test_many_rounds_flatten_the_mass_altogether(predicted: np.ndarray) -> None:
    np.testing.assert_allclose(flattening_chances(predicted, rounds=2000) @ predicted, 0.2, atol=1e-3)


def test_no_round_draws_every_image_alike(predicted: np.ndarray) -> None:
    np.testing.assert_allclose(flattening_chances(predicted, rounds=0), np.full(200, 1 / 200))


def test_a_flat_mass_stays_as_it_is() -> None:
    np.testing.assert_allclose(flattening_chances(np.eye(4)), np.full(4, 0.25))


def test_a_class_that_is_never_predicted_does_no_harm() -> None:
    chances = flattening_chances(np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.9, 0.1, 0.0]]))
    assert np.isfinite(chances).all()
    assert chances.sum() == pytest.approx(1)
    assert chances[1] > chances[0]
    assert chances[0] == pytest.approx(chances[2])


def test_the_predictions_are_not_changed(predicted: np.ndarray) -> None:
    before = predicted.copy()
    flattening_chances(predicted)
    np.testing.assert_array_equal(predicted, before)
