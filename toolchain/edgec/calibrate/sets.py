"""The calibration set: class-balanced few-sample and out-of-distribution images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgec.core.digest import digest_value
from edgec.core.errors import ConfigError, DataError
from edgec.core.facts import CalibrationFacts

if TYPE_CHECKING:
    from edgec.calibrate.recipe import Recipe
    from edgec.core.samples import Images, Samples

__all__ = ["CalibrationSet", "calibration_set"]


@dataclass(frozen=True, kw_only=True)
class CalibrationSet:
    """The images that activation ranges are read from.

    Attributes:
        pixels: uint8 [n, height, width, channels].
        labels: int64 [n]; of an out-of-distribution image the class that it stands for.
        weights: float64 [n], sum 1.
        is_ood: bool [n].
        digests: SHA-256 of each image.
        classes: Class names.
        recipe: The recipe's name.
        sources: Where the images came from.
    """

    pixels: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    is_ood: np.ndarray
    digests: tuple[str, ...]
    classes: tuple[str, ...]
    recipe: str
    sources: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.digests)

    @property
    def digest(self) -> str:
        """One digest over all that ranges depend on: images, classes and weights."""
        return digest_value([self.digests, self.labels.tolist(), self.weights.tolist()])

    @property
    def counts(self) -> np.ndarray:
        """int64 [classes]: images per class, zeros included."""
        return np.bincount(self.labels, minlength=len(self.classes))

    def facts(self, recipe: Recipe) -> CalibrationFacts:
        """What the manifest and the report say about this set, and about how a recipe reads ranges from it."""

        def by_class(values: np.ndarray) -> dict:
            return dict(zip(self.classes, values.tolist(), strict=True))

        n = len(self.classes)
        return CalibrationFacts(
            recipe=self.recipe,
            observer=recipe.observer,
            ood_labels=recipe.ood_labels,
            images=len(self),
            digest=digest_value(self.digests),
            sources=self.sources,
            few_per_class=by_class(np.bincount(self.labels[~self.is_ood], minlength=n)),
            ood_per_class=by_class(np.bincount(self.labels[self.is_ood], minlength=n)),
            weight_per_class=by_class(np.bincount(self.labels, weights=self.weights, minlength=n)),
        )


def calibration_set(few: Samples, ood: Images, ood_labels: np.ndarray, recipe: Recipe, *, seed: int) -> CalibrationSet:
    """Draws the calibration set within the recipe's budget.

    The labelled images come first, all of them where they fit; out-of-distribution images fill up, as many as the
    recipe's share allows. A balanced recipe takes next, at each step, an image of the class that is furthest below
    its say, and weighs the images of class j with s_j / n_j, s_j being
    the share of class j in what the classes that have any image count: 1 / K where the recipe weighs no class.

    Args:
        few: The labelled few samples.
        ood: Out-of-distribution images, of the same size; may be none.
        ood_labels: int [len(ood)], the classes that they stand for.
        recipe: Budget, balance and share.
        seed: Decides which images of a class are drawn, unless the recipe fixes its own seed.

    Raises:
        ConfigError: The recipe weighs a class that is not there, or none that is.
        DataError: No labelled image, or images of two sizes.
    """
    _check(few, ood, ood_labels)
    say = recipe.say_of(few.classes)
    rng = np.random.default_rng(seed if recipe.seed is None else recipe.seed)
    balanced = recipe.class_balance == "balanced"
    none = np.zeros(len(few.classes), dtype=np.int64)
    few_indices = _draw(few.labels, recipe.budget, taken=none, say=say, balanced=balanced, rng=rng)
    taken = np.bincount(few.labels[few_indices], minlength=len(few.classes))
    room = _room(len(few_indices), recipe)
    ood_indices = _draw(ood_labels, room, taken=taken, say=say, balanced=balanced, rng=rng)
    _require_images(few, few_indices, recipe)

    parts = [few.take(few_indices), *([ood.take(ood_indices)] if len(ood_indices) else [])]
    labels = np.concatenate([few.labels[few_indices], ood_labels[ood_indices]]).astype(np.int64)
    is_ood = np.arange(len(labels)) >= len(few_indices)
    by_class = balanced and recipe.sample_weights == "by-class"
    return CalibrationSet(
        pixels=np.concatenate([part.decoded() for part in parts]),
        labels=labels,
        weights=_weights(labels, np.where(is_ood, recipe.ood_weight, 1.0), say if by_class else None),
        is_ood=is_ood,
        digests=tuple(digest for part in parts for digest in part.digests),
        classes=few.classes,
        recipe=recipe.name,
        sources=tuple(part.source for part in parts),
    )


def _check(few: Samples, ood: Images, ood_labels: np.ndarray) -> None:
    if len(few) == 0:
        raise DataError("calibration: no labelled image at all, expected at least one", hint="check --train")
    if len(ood_labels) != len(ood):
        raise ValueError(f"{len(ood_labels)} labels for {len(ood)} out-of-distribution images")
    if len(ood) and few.pixels.shape[1:] != ood.pixels.shape[1:]:
        raise DataError(
            f"calibration: labelled images are {few.pixels.shape[1:]}, out-of-distribution images "
            f"{ood.pixels.shape[1:]} (height, width, channels)",
            hint="resize one of the two",
        )


def _require_images(few: Samples, drawn: np.ndarray, recipe: Recipe) -> None:
    if len(drawn) == 0:
        there = ", ".join(few.classes[cls] for cls in np.unique(few.labels))
        raise ConfigError(
            f"calibration recipe '{recipe.name}', class_weights: 0 for every class with labelled images ({there})",
            hint="give one of them a weight",
        )


def _room(labelled: int, recipe: Recipe) -> int:
    """How many out-of-distribution images budget and share leave room for."""
    room = recipe.budget - labelled
    if recipe.ood_share < 1:
        room = min(room, round(labelled * recipe.ood_share / (1 - recipe.ood_share)))
    return room


def _draw(
    labels: np.ndarray, count: int, *, taken: np.ndarray, say: np.ndarray, balanced: bool, rng: np.random.Generator
) -> np.ndarray:
    """Positions of `count` images, ascending; balanced: so that `taken` plus the drawn comes closest to `say`."""
    order = rng.permutation(len(labels))
    order = order[say[labels[order]] > 0]
    if balanced:
        # The level that its class would reach with this image; the lowest levels first is filling from below. Half an
        # image is what rounds to the nearest share (Sainte-Laguë).
        level = np.empty(len(labels))
        for cls in np.unique(labels[order]):
            of_class = order[labels[order] == cls]
            level[of_class] = (taken[cls] + np.arange(len(of_class)) + 0.5) / say[cls]
        order = order[np.argsort(level[order], kind="stable")]
    return np.sort(order[:count])


def _weights(labels: np.ndarray, counts: np.ndarray, say: np.ndarray | None) -> np.ndarray:
    """float64 [n], sum 1: what each image counts, in all its class's share of `say` where there is one.

    Args:
        labels: int64 [n].
        counts: float64 [n]: what an image counts beside the others of its class.
        say: float64 [classes], or None where images are not weighed by class.
    """
    if say is not None:
        counts = counts * say[labels] / np.bincount(labels, weights=counts)[labels]
    return counts / counts.sum()
