"""Further teachers, and the class frequencies of all, as learning in a build takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgec.core.errors import ConfigError
from edgec.core.samples import Samples
from edgec.learn.prior import training_counts
from edgec.pipeline.sources import Sources

if TYPE_CHECKING:
    from edgec.learn.teachers import Teachers
    from edgec.models.config import TrainedOn

__all__ = ["teachers_of"]


def teachers_of(sources: Sources, few: Samples, counts: np.ndarray | None) -> Teachers:
    """The further teachers of a build.

    Args:
        sources: Plan and teachers.
        few: The few samples.
        counts: Training images of each class of the teacher that is compressed; None for all alike.
    """
    import torch

    from edgec.learn.teachers import Teachers

    model = sources.plan.model
    known = [counts]
    for number, (config, further) in enumerate(zip(model.also, sources.further, strict=True)):
        where = f"model.also[{number}].trained_on"
        told = _of_classes(config.trained_on, further.labels, few.classes, where)
        known.append(training_counts(told, few, where=where))
    shares = np.stack([_shares(each, len(few.classes)) for each in known])
    return Teachers(
        further=tuple(further.module for further in sources.further),
        frequencies=torch.from_numpy(shares).float(),
        weighing=model.teachers,
    )


def _of_classes(told: TrainedOn, own: tuple[str, ...], classes: tuple[str, ...], where: str) -> TrainedOn:
    """Counts in the order of a teacher's own labels, or by its labels, as counts by the labels of the model."""
    if isinstance(told, tuple):
        if len(told) != len(own):
            raise ConfigError(
                f"{where}: {len(told)} counts, expected {len(own)}: one for each of its classes",
                hint=f"in the order of its outputs: {', '.join(own[:8])}{', …' if len(own) > 8 else ''}",
            )
        told = dict(zip(own, told, strict=True))
    if isinstance(told, dict):
        return {name: count for name, count in told.items() if name in classes or name not in own}
    return told


def _shares(counts: np.ndarray | None, classes: int) -> np.ndarray:
    """float64 [class], summing to 1; a class that was never seen counts as one with a single image."""
    seen = np.ones(classes) if counts is None else np.maximum(counts, 1).astype(np.float64)
    return seen / seen.sum()
