"""A temperature that makes a student as sure as its teacher finds it right, without labels.

A student that learned features alone is less sure on images that it has not seen than on those that it learned from,
and all few samples are of the latter. So they are shown strongly changed: turned, scaled, sheared, moved
and with noise. Of these views those count that are as clear to the teacher as the few samples themselves are.

Temperature scaling is that of Guo et al., On Calibration of Modern Neural Networks, ICML 2017; there labelled images
fit it. Here the teacher's probability of the class that the student gives stands for whether that is right.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from edgec.core.inputs import InputSpec
from edgec.core.samples import Samples
from edgec.learn.draws import balanced_chances
from edgec.models.infer import to_tensor

__all__ = ["Run", "Views", "changed", "fit_temperature", "match_confidence", "probabilities", "view_count", "views_of"]

Run = Callable[[Tensor], np.ndarray]
"""Normalised images [n, channel, height, width] to logits [n, class]."""

VIEWS = 3000
"""At most."""
_LEAST_VIEWS, _OF_A_CLASS = 500, 40
_PIXELS = VIEWS * 128**2
"""Of all views together: larger images get fewer views, since both nets run on each."""
_BATCH = 100
_COLDEST, _HOTTEST = 0.25, 4.0
_STEPS = 40
"""Of bisection: more than the digits of a float32."""
_LEVELS = 5
"""Of the teacher's confidence, by which views are matched to the few samples."""
_TURN_DEGREES, _SCALE, _SHEAR, _SHIFT = 20.0, 0.2, 0.2, 0.15
_NOISE = 0.5
"""Standard deviation, of normalised values."""


@dataclass(frozen=True, kw_only=True)
class Views:
    """Changed few samples and what both nets make of them.

    Attributes:
        teacher: Logits.
        student: Logits.
        labels: Of the samples that they show, positions of classes.
        weights: What each view counts for, so that the teacher's confidence is spread as over the few samples.
    """

    teacher: Float[np.ndarray, "n class"]
    student: Float[np.ndarray, "n class"]
    labels: np.ndarray
    weights: Float[np.ndarray, "n"]


def fit_temperature(views: Views) -> float:
    """The number by which to divide the student's logits."""
    return match_confidence(views.student, _expected(views), views.weights)


def _expected(views: Views) -> float:
    """The mean probability that the teacher gives to the student's classes."""
    given = probabilities(views.teacher)[np.arange(len(views.student)), views.student.argmax(axis=1)]
    return float(np.average(given, weights=views.weights))


def match_confidence(logits: Float[np.ndarray, "n class"], wanted: float, weights: Float[np.ndarray, "n"]) -> float:
    """The temperature, from 1/4 to 4, at which the mean of the highest probability is as wanted, or nearest to it.

    The mean falls as the temperature rises, so bisection finds it.
    """
    low, high = np.log(_COLDEST), np.log(_HOTTEST)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        confidence = np.average(probabilities(logits / np.exp(middle)).max(axis=1), weights=weights)
        low, high = (middle, high) if confidence > wanted else (low, middle)
    return float(np.exp((low + high) / 2))


def views_of(few: Samples, spec: InputSpec, teacher: Run, student: Run, *, seed: int) -> Views:
    """Views of the few samples, every class alike, through both nets; 100 of them are in memory at a time."""
    generator = torch.Generator().manual_seed(seed)
    chances = balanced_chances(few.labels)
    count = view_count(spec, classes=len(few.classes))
    drawn = torch.multinomial(torch.as_tensor(chances), count, replacement=True, generator=generator)
    shown = np.unique(drawn.numpy())
    plain = np.concatenate([teacher(to_tensor(batch, spec)) for batch in few.choose(shown).batches(_BATCH)])
    given: list[np.ndarray] = []
    logits: list[np.ndarray] = []
    for positions in drawn.split(_BATCH):
        views = changed(to_tensor(few.pixels[positions.numpy()], spec), generator)
        given.append(teacher(views))
        logits.append(student(views))
    clear, samples = (probabilities(found.astype(np.float64)).max(axis=1) for found in (np.concatenate(given), plain))
    return Views(
        teacher=np.concatenate(given).astype(np.float64),
        student=np.concatenate(logits).astype(np.float64),
        labels=few.labels[drawn.numpy()],
        weights=_matching(clear, samples, chances[shown]),
    )


def view_count(spec: InputSpec, *, classes: int) -> int:
    """3,000 up to 128 x 128 pixels, fewer for larger images, but 500, and 40 of every class, where that is less."""
    return min(VIEWS, max(_LEAST_VIEWS, _OF_A_CLASS * classes, _PIXELS // (spec.height * spec.width)))


def changed(
    images: Float[Tensor, "n channel height width"], generator: torch.Generator, *, noise: float = _NOISE
) -> Float[Tensor, "n channel height width"]:
    """Each image turned, scaled, sheared, moved, and with noise of a standard deviation."""
    n = len(images)

    def spread(most: float) -> Tensor:
        return (2 * torch.rand(n, generator=generator) - 1) * most

    angle, shear = torch.deg2rad(spread(_TURN_DEGREES)), spread(_SHEAR)
    wide, high = torch.exp(spread(_SCALE)), torch.exp(spread(_SCALE))
    rows = (
        torch.stack([angle.cos() * wide, shear - angle.sin() * high, spread(_SHIFT)], dim=1),
        torch.stack([angle.sin() * wide, angle.cos() * high, spread(_SHIFT)], dim=1),
    )
    grid = F.affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    return moved + noise * torch.randn(images.shape, generator=generator)


def _matching(found: np.ndarray, wanted: np.ndarray, chances: np.ndarray) -> np.ndarray:
    """Weights of confidences that spread them over five levels as those that are wanted are spread."""
    edges = np.quantile(wanted, np.linspace(0, 1, _LEVELS + 1)[1:-1])
    level, aimed = np.digitize(found, edges), np.digitize(wanted, edges)
    mass = np.bincount(aimed, weights=chances, minlength=_LEVELS)
    share = mass / np.maximum(np.bincount(level, minlength=_LEVELS), 1)
    weights = share[level]
    return weights if weights.any() else np.ones(len(found))


def probabilities(logits: Float[np.ndarray, "n class"]) -> Float[np.ndarray, "n class"]:
    """Softmax of each row."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
