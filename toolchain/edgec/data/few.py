"""A few labelled samples, unevenly spread over the classes: what a user of this tool has.

Profiles of docs/methods.md §1 and §2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from typing_extensions import assert_never

from edgec.core.errors import ConfigError, DataError
from edgec.core.samples import Samples

__all__ = ["Profile", "describe_draw", "draw_few", "imbalance_counts"]

Profile = Literal["exponential", "step", "linear"]


def draw_few(
    samples: Samples,
    *,
    total: int,
    imbalance: float,
    profile: Profile = "exponential",
    at_least: int = 1,
    seed: int,
    order: Sequence[str] | None = None,
) -> Samples:
    """Draws samples at random, so many of each class as a profile says.

    Args:
        samples: Where to draw from.
        total: How many in all.
        imbalance: How many times as frequent as the rarest class the most frequent one is, >= 1.
        profile: How the counts fall between the two.
        at_least: Samples that every class gets, as far as there are enough; with 0 rare classes may stay empty.
        seed: Fixes the images, and the order of the classes where none is given.
        order: All class names, the most frequent first; None shuffles them, so that being rare does not go with
            being the last label.

    Returns:
        `total` samples in the order in which they stand in `samples`, with the same classes.

    Raises:
        ConfigError: `total`, `imbalance` or `order` make no sense.
        DataError: A class has fewer images than it should give.
    """
    generator = np.random.default_rng(seed)
    ranking = _ranking(samples.classes, order, generator)
    counts = np.empty(len(ranking), dtype=np.int64)
    counts[ranking] = imbalance_counts(
        len(ranking), total=total, imbalance=imbalance, profile=profile, at_least=at_least
    )
    lacking = np.flatnonzero(samples.counts < counts)
    if lacking.size:
        first = lacking[0]
        raise DataError(
            f"{samples.source}: class '{samples.classes[first]}' has {samples.counts[first]} images, {counts[first]} "
            f"are needed for {total} samples at imbalance {imbalance:g}",
            hint="ask for fewer samples or less imbalance, or add images of this class",
        )
    drawn = [
        generator.choice(np.flatnonzero(samples.labels == label), size=count, replace=False)
        for label, count in enumerate(counts)
    ]
    return samples.choose(np.sort(np.concatenate(drawn)))


def describe_draw(few: Samples, *, of: int, imbalance: float) -> str:
    """What a draw came to, beside what was asked: whole samples and a least count keep small draws from high ratios.

    Args:
        few: What was drawn.
        of: Images that were there.
        imbalance: What was asked for.
    """
    present = few.counts[few.counts > 0]
    reached = present.max() / present.min()
    empty = len(few.counts) - len(present)
    none = f"; {empty} {'class has' if empty == 1 else 'classes have'} none" if empty else ""
    return (
        f"{len(few)} of {of} training images are used, because data.few.total = {len(few)}: {present.max()} of the "
        f"most frequent class and {present.min()} of the rarest, imbalance {reached:.3g}, {imbalance:g} was asked "
        f"for{none}"
    )


def _ranking(classes: tuple[str, ...], order: Sequence[str] | None, generator: np.random.Generator) -> np.ndarray:
    """int64 [classes]: labels, the one that is to be most frequent first."""
    if order is None:
        return generator.permutation(len(classes))
    if sorted(order) != sorted(classes):
        raise ConfigError(
            f"order of classes: got {', '.join(order)}, expected each of {', '.join(classes)} once",
            hint="name every class once, the most frequent first",
        )
    return np.array([classes.index(name) for name in order], dtype=np.int64)


def imbalance_counts(
    classes: int, *, total: int, imbalance: float, profile: Profile, minority: int | None = None, at_least: int = 1
) -> np.ndarray:
    """Samples per class under an imbalance profile, the most frequent class first.

    Class i of K has a weight of ρ^(-i/(K-1)) for `exponential` and `linear`, and for `step` 1, or 1/ρ where it is one
    of the minority, the last classes. `linear` is the name that the study of docs/methods.md §2 gives the exponential
    profile (its eq. 3 with the sign put right); both are kept so that its grid can be written as it stands there.

    Shares of `total` by weight become whole numbers by largest remainder. A class whose share is below `at_least` gets
    that first, as long as there are enough samples, and the others divide the rest; so the counts' own ratio is at most
    about ρ, and less where the total is small: the rarest of 10 classes has 1 sample of 50, not a fifth. With 0, as
    OE-FSMC's authors draw, that class stays empty.

    Args:
        classes: K >= 1.
        total: Sum of the counts, >= 1.
        imbalance: ρ >= 1.
        profile: Shape of the fall.
        minority: Classes in the minority of `step`, from 1 to K - 1; None is half of them.
        at_least: Samples that no class goes below, where `total` has that many for all.

    Returns:
        int64 [classes], never rising, summing to `total`.

    Raises:
        ConfigError: An argument is out of its range.
    """
    if classes < 1 or total < 1:
        raise ConfigError(f"{total} samples of {classes} classes: expected one or more", hint="ask for more samples")
    if not 1 <= imbalance < float("inf"):
        raise ConfigError(f"imbalance {imbalance}: expected 1 (balanced) or more", hint="100 is the papers' ratio")
    if minority is not None and not 1 <= minority < classes:
        raise ConfigError(
            f"minority of {minority}: expected 1 to {classes - 1} classes", hint="leave some the majority"
        )
    weights = _weights(classes, imbalance, profile, minority=classes // 2 if minority is None else minority)
    if total < at_least * classes:
        return _largest_remainder(weights, total)
    counts = np.full(classes, at_least, dtype=np.int64)
    above = classes
    while above > 1 and (total - at_least * (classes - above)) * weights[above - 1] < at_least * weights[:above].sum():
        above -= 1
    counts[:above] = _largest_remainder(weights[:above], total - at_least * (classes - above))
    return counts


def _weights(classes: int, imbalance: float, profile: Profile, *, minority: int) -> np.ndarray:
    """float64 [classes], from 1 down to 1 / imbalance."""
    position = np.arange(classes)
    if profile in ("exponential", "linear"):
        return imbalance ** (-position / max(classes - 1, 1))
    if profile == "step":
        return np.where(position < classes - minority, 1.0, 1 / imbalance)
    assert_never(profile)


def _largest_remainder(weights: np.ndarray, total: int) -> np.ndarray:
    """Whole numbers in proportion to weights that sum to the total; of equal remainders the first gets more."""
    shares = weights / weights.sum() * total
    counts = np.floor(shares).astype(np.int64)
    order = np.argsort(counts - shares, kind="stable")
    counts[order[: total - counts.sum()]] += 1
    return counts
