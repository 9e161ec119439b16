"""Class-imbalanced training sets (docs/methods.md §2): how many images of a class, and which."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from edgec.core.errors import DataError
from edgec.core.samples import Samples
from edgec.data.few import imbalance_counts

if TYPE_CHECKING:
    from jaxtyping import Int

__all__ = ["BALANCED", "Draw", "draw_counts", "draw_images", "draw_positions"]


@dataclass(frozen=True, kw_only=True)
class Draw:
    """A training set.

    Attributes:
        profile: How counts fall from class to class; None where they do not.
        imbalance: ρ, the most frequent class's images over the rarest's.
        minority: μ, classes in the minority of a step.
    """

    profile: Literal["step", "linear"] | None
    imbalance: float = 1.0
    minority: int | None = None

    @property
    def name(self) -> str:
        """For people, as in `step, 5 rare, imbalance 100`."""
        if self.profile is None:
            return "balanced"
        rare = f", {self.minority} rare" if self.minority else ""
        return f"{self.profile}{rare}, imbalance {self.imbalance:g}"


BALANCED = Draw(profile=None)


def draw_counts(classes: int, draw: Draw, *, most: int) -> Int[np.ndarray, " class"]:
    """Images of each class, the most frequent first.

    The largest set of the profile whose most frequent class has no more than `most` images. Where eq. 2 and 3 give
    whole numbers these are they; else they differ by one image at most, and no class is without one.

    Args:
        classes: How many there are.
        draw: Profile, ρ and μ.
        most: n_max of eq. 2 and 3, 1 or more.

    Raises:
        ConfigError: As many classes in the minority as there are, or more.
    """

    def counts(total: int) -> Int[np.ndarray, " class"]:
        if draw.profile is None:
            return imbalance_counts(classes, total=total, imbalance=1, profile="linear")
        return imbalance_counts(
            classes, total=total, imbalance=draw.imbalance, profile=draw.profile, minority=draw.minority
        )

    totals = range(classes, classes * most + 1)
    fitting = bisect_right(totals, most, key=lambda total: int(counts(total)[0]))
    return counts(totals[fitting - 1])


def draw_images(samples: Samples, draw: Draw, *, most: int | None, seed: int) -> Samples:
    """A training set of the profile: the images at `draw_positions`."""
    return samples.choose(draw_positions(samples, draw, most=most, seed=seed))


def draw_positions(samples: Samples, draw: Draw, *, most: int | None, seed: int) -> Int[np.ndarray, " drawn"]:
    """Which images make a training set of the profile, rising.

    The order of the classes, and of the images of a class, is drawn by the seed alone: what is in a small set is in a
    larger one of the same seed.

    Args:
        samples: Where to draw from.
        draw: Profile, ρ and μ.
        most: Images of the most frequent class; None for as many as the smallest class of `samples` has, so that
            each may be the most frequent one.
        seed: Fixes the images and which classes are rare.

    Raises:
        DataError: A class has fewer images than the most frequent one is to have.
        ConfigError: As `draw_counts`.
    """
    available = samples.counts
    least = int(available.argmin())
    if most is None:
        most = int(available[least])
    if not 0 < most <= available[least]:
        raise DataError(
            f"{samples.source}: class '{samples.classes[least]}' has {available[least]} images, {max(most, 1)} are "
            "needed so that each class may be the most frequent one",
            hint="ask for fewer with --samples, or add images of this class",
        )
    generator = np.random.default_rng(seed)
    ranking = generator.permutation(len(available))
    shuffled = [generator.permutation(np.flatnonzero(samples.labels == label)) for label in range(len(available))]
    counts = draw_counts(len(available), draw, most=most)
    chosen = [shuffled[label][:count] for label, count in zip(ranking, counts, strict=True)]
    return np.sort(np.concatenate(chosen))
