"""How often each image is drawn, so that every class has the same share of what the student learns from."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

__all__ = ["balanced_chances", "flattening_chances"]


def balanced_chances(labels: Int[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """Chances, summing to 1, under which each class that is there is drawn as often as any other."""
    chances = 1.0 / np.bincount(labels)[labels]
    return chances / chances.sum()


def flattening_chances(predicted: Float[np.ndarray, "n class"], *, rounds: int = 20) -> Float[np.ndarray, "n"]:
    """Chances, summing to 1, under which the teacher's predicted class mass is (nearly) flat.

    With p the predictions and w the chances, the rounds w_i <- w_i * mean over j of p_ij / (sum over l of w_l p_lj)
    are expectation maximisation for the mixture that is nearest to uniform in KL; each round brings the mass
    nearer, and few rounds keep the chances from gathering on a few images.

    Args:
        predicted: The teacher's probabilities, rows summing to 1.
        rounds: How far to go; 0 gives equal chances.
    """
    chances = np.full(len(predicted), 1 / len(predicted))
    for _ in range(rounds):
        mass = np.maximum(chances @ predicted, np.finfo(np.float64).tiny)
        chances = chances * (predicted / mass).mean(axis=1)
        chances = chances / chances.sum()
    return chances
