"""What a model lost in means over classes, with an interval by the paired bootstrap, stratified by class.

Macro F1 and a mean over classes are no shares of images, so neither McNemar's test nor Tango's interval speaks of
them.

Reference: B. Efron, R. J. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13 (percentile interval).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edgec.core.measurement import Measurement, Stage
from edgec.evaluate.accuracy import group_classes
from edgec.evaluate.intervals import rare_event_margin
from edgec.evaluate.paired import Pairs

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = ["RESAMPLES", "Losses", "class_mean_rows", "resampled_losses"]

RESAMPLES = 2000
"""With them chance moves an end of the interval by √(0.025 · 0.975 / 2000) / φ(1.96) = 0.06 standard errors."""


class Losses(NamedTuple):
    """The first model's value minus the second's, in every resample.

    Attributes:
        macro_f1: Mean F1 over the classes that have images.
        recall: By class, in the order of the classes; NaN where a class has no images.
    """

    macro_f1: Float[np.ndarray, " resample"]
    recall: Float[np.ndarray, "class resample"]


def class_mean_rows(
    pairs: Pairs,
    *,
    what: str,
    train_counts: Int[np.ndarray, " class"] | None,
    stage: Stage,
    where: str,
    resamples: int = RESAMPLES,
) -> list[Measurement]:
    """`macro_f1_drop` and `tail_drop`: what the second model has less, in macro F1 and in the mean over tail classes.

    The interval is the percentile interval of the resamples, seeded: equal answers give equal rows. To its reach on
    either side comes, as the root of squares, what can happen to images of classes so small that none of them shows it:
    as much as Tango's interval has where two models differ on no image at all.

    Args:
        pairs: Both models' answers.
        what: The rows' last word, `drop` or `regression`.
        train_counts: Training images per class; without them, or where they are equal, no class is a tail class.
        stage: The second model.
        where: The runtime and machine that ran it.
        resamples: Draws of the test set.
    """
    found, drawn = _observed(pairs), resampled_losses(pairs, resamples=resamples, generator=np.random.default_rng(0))
    common = {"stage": stage, "where": where}
    rows = [_row(f"macro_f1_{what}", float(found.macro_f1[0]), drawn.macro_f1, pairs, **common)]
    for tail in _tail(pairs, train_counts):
        part = pairs.of_classes(tail)
        means = drawn.recall[tail].mean(axis=0)
        rows.append(_row(f"tail_{what}", float(found.recall[tail].mean()), means, part, **common))
    return rows


def _tail(pairs: Pairs, train_counts: Int[np.ndarray, " class"] | None) -> Iterator[Int[np.ndarray, " tail"]]:
    """The tail classes that have images, where there are such."""
    if train_counts is None or np.ptp(train_counts) == 0:
        return
    tail = np.intersect1d(group_classes(train_counts).tail, pairs.truth)
    if len(tail):
        yield tail


def _row(
    name: str, value: float, drawn: Float[np.ndarray, " resample"], pairs: Pairs, *, stage: Stage, where: str
) -> Measurement:
    images = np.unique(pairs.truth, return_counts=True)[1]
    margin = rare_event_margin(len(images) ** 2 / (1 / images).sum())
    low, high = map(float, np.quantile(drawn, (0.025, 0.975)))
    below, above = (math.hypot(max(reach, 0.0), margin) for reach in (value - low, high - value))
    return Measurement(
        stage=stage,
        name=name,
        value=value,
        unit="share",
        n=len(pairs.truth),
        low=max(-1.0, value - below),
        high=min(1.0, value + above),
        where=where,
    )


def resampled_losses(pairs: Pairs, *, resamples: int, generator: np.random.Generator) -> Losses:
    """Losses over test sets drawn from the given one with replacement, of every class one image less than it has.

    As many as it has would spread too little, by a factor of (n - 1)/n in variance: half where a class has two images.
    Images of a class to which both models gave the same pair of answers are alike, so a draw is multinomial over such
    pairs: the result is that of drawing images, and needs no image of its own.
    """
    size = len(pairs.classes)
    # A row more, for answers that are none of the classes.
    given = np.zeros((2, size + 1, resamples))
    right = np.zeros((2, size, resamples))
    for label in map(int, np.unique(pairs.truth)):
        part = pairs.truth == label
        kinds, counts = _answered(pairs.first[part], pairs.second[part], size)
        n = counts.sum()
        few = max(n - 1, 1)
        drawn = generator.multinomial(few, counts / n, size=resamples).T * (n / few)
        for kind, times in zip(kinds.tolist(), drawn, strict=True):
            for model, answer in enumerate(kind):
                given[model, answer] += times
                right[model, label] += times if answer == label else 0
    return _losses(given, right, np.bincount(pairs.truth, minlength=size))


def _answered(
    first: Int[np.ndarray, " n"], second: Int[np.ndarray, " n"], classes: int
) -> tuple[Int[np.ndarray, "kind 2"], Int[np.ndarray, " kind"]]:
    """The pairs of answers that were given, in order, and how often; as one number each, which sort far faster."""
    base = classes + 1
    kinds, counts = np.unique((first.astype(np.int64) + 1) * base + second + 1, return_counts=True)
    return np.stack(np.divmod(kinds, base), axis=1) - 1, counts


def _observed(pairs: Pairs) -> Losses:
    """Of the images as they are: one resample, that of every image once."""
    size = len(pairs.classes)
    answers = (pairs.first, pairs.second)
    given = np.stack([np.bincount(answer % (size + 1), minlength=size + 1) for answer in answers])
    right = np.stack([np.bincount(pairs.truth[answer == pairs.truth], minlength=size) for answer in answers])
    return _losses(given[..., None], right[..., None], np.bincount(pairs.truth, minlength=size))


def _losses(
    given: Float[np.ndarray, "2 class+1 resample"],
    right: Float[np.ndarray, "2 class resample"],
    images: Int[np.ndarray, " class"],
) -> Losses:
    """Of counts, whole or not: F1 of a class is 2 right / (images + given)."""
    present = images > 0
    totals = images[present, None] + given[:, :-1][:, present]
    f1 = (2 * right[:, present] / totals).mean(axis=1)
    recall = np.full(right.shape[1:], np.nan)
    recall[present] = (right[0, present] - right[1, present]) / images[present, None]
    return Losses(macro_f1=f1[0] - f1[1], recall=recall)
