"""Labels for images that have none, drawn so that the class prior becomes flat (OE-FSMC eq. 4)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from edgec.core.errors import DataError

__all__ = ["assign_labels", "complementary_rates", "draw_labels"]


def complementary_rates(counts: Int[np.ndarray, "class"]) -> Float[np.ndarray, "class"]:
    """Label rates for OOD images that pull the class prior towards uniform.

    Rate of class j: (alpha - beta_j) / (K * alpha - 1), with beta the class shares
    and alpha = max(beta) + min(beta); rates sum to 1, and are 1/K when balanced.

    Args:
        counts: Labelled samples per class, K >= 2, not all zero; a class may have none.

    Returns:
        K rates in [0, 1].

    Raises:
        DataError: No labelled sample at all, or fewer than two classes.

    Reference: OE-FSMC eq. 4 (arXiv 2502.05832); alpha as in Open-Sampling's code.
    """
    if len(counts) < 2:
        raise DataError(f"{len(counts)} class, expected two or more", hint="a classifier needs a choice")
    if counts.sum() == 0:
        raise DataError("no labelled sample in any class", hint="give at least one sample per class")
    shares = counts / counts.sum()
    alpha = shares.max() + shares.min()
    return (alpha - shares) / (len(counts) * alpha - 1)


def assign_labels(counts: Int[np.ndarray, "class"], n: int, rng: np.random.Generator) -> Int[np.ndarray, "n"]:
    """Labels for n OOD images: counts by largest remainder of `n * complementary_rates`, in random order.

    Largest remainder is steadier than independent draws when n is small: every count is within 1 of its rate's share.
    """
    exact = n * complementary_rates(counts)
    whole = np.floor(exact).astype(int)
    remainder = exact - whole
    whole[np.argsort(-remainder, kind="stable")[: n - whole.sum()]] += 1
    return rng.permutation(np.repeat(np.arange(len(counts)), whole))


def draw_labels(counts: Int[np.ndarray, "class"], n: int, rng: np.random.Generator) -> Int[np.ndarray, "n"]:
    """Labels for n OOD images, drawn independently at `complementary_rates`, as the paper has it."""
    return rng.choice(len(counts), size=n, p=complementary_rates(counts))
