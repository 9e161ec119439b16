"""What is judged of many images: some of them, of every class alike, which count for all."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from edgec.core.samples import Images, even_positions

__all__ = ["balanced_positions", "sampled", "weighed_subset"]


def sampled(images: Images, most: int, *, seed: int) -> Images:
    """The images, or so many of them, drawn at random."""
    if len(images) <= most:
        return images
    return images.choose(balanced_positions(np.zeros(len(images), dtype=np.int64), most, seed=seed))


def weighed_subset(
    images: Images,
    shares: Float[np.ndarray, "n"],
    most: int,
    *,
    labels: Int[np.ndarray, "labelled"] | None = None,
    seed: int,
) -> tuple[Images, Float[np.ndarray, "m"]]:
    """The images and their shares, or so many of them: of every class alike, and of those without a label as of one.

    Shares are raised so that every class counts for what it counted.

    Args:
        images: All of them.
        shares: What each counts.
        most: How many to keep.
        labels: Of the first of the images; None where none has a label.
        seed: Of the draw.
    """
    if len(images) <= most:
        return images, shares
    known = np.empty(0, dtype=np.int64) if labels is None else labels
    groups = np.append(known, np.full(len(images) - len(known), known.max(initial=-1) + 1))
    kept = balanced_positions(groups, most, seed=seed)
    whole, left = np.bincount(groups, shares), np.bincount(groups[kept], shares[kept])
    raised = np.divide(whole, left, out=np.zeros_like(whole), where=left > 0)  # a class may count for nothing
    return images.choose(kept), shares[kept] * raised[groups[kept]]


def balanced_positions(labels: Int[np.ndarray, "n"], most: int, *, seed: int) -> Int[np.ndarray, "m"]:
    """Positions of at most so many images, ascending: all of them, or some of every class alike, drawn at random."""
    if len(labels) <= most:
        return np.arange(len(labels))
    order = np.random.default_rng(seed).permutation(len(labels))
    return np.sort(order[even_positions(labels[order], most)])
