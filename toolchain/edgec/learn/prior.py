"""The class frequencies that a teacher was trained on, and how to take them out of what it taught.

A net that was trained on frequent and rare classes answers with the frequent ones where it is in doubt, and a student
that mimics it does so too. Subtracting the logarithm of the training frequencies from the logits leaves what the image
says (eq. 9 of Menon et al., Long-Tail Learning via Logit Adjustment, ICLR 2021).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from edgec.core.errors import ConfigError, DataError
from edgec.core.images import image_files, is_hidden
from edgec.core.samples import Samples
from edgec.learn.prior_estimate import PriorEstimate
from edgec.models.config import TrainedOn

__all__ = ["logit_shift", "training_counts"]


def training_counts(
    told: TrainedOn, few: Samples, estimate: PriorEstimate | None = None, *, where: str = "model.trained_on"
) -> np.ndarray | None:
    """Training images of each class.

    Args:
        told: `balanced`; `few`, where the few samples were drawn from the same distribution; counts in the order of the
            labels, or by label; a folder with a folder of images for each class; `estimate`.
        few: The few samples.
        estimate: What was estimated, where that was asked for.
        where: The setting, for errors.

    Returns:
        int64 [class]; None for `balanced`, and for an estimate that is not used.

    Raises:
        ConfigError: There are not as many counts as classes, or a label is unknown or missing.
        DataError: The folder has no images of a class.
    """
    match told:
        case "balanced":
            return None
        case "few":
            return few.counts
        case "estimate":
            return np.array(estimate.counts, dtype=np.int64) if estimate is not None and estimate.used else None
        case Path():
            return _ordered(_counted(told, where), few.classes, where)
        case dict():
            return _ordered(told, few.classes, where)
        case tuple():
            if len(told) != len(few.classes):
                raise ConfigError(
                    f"{where}: {len(told)} counts, expected {len(few.classes)}: one for each class",
                    hint=f"in the order {', '.join(few.classes[:8])}{', …' if len(few.classes) > 8 else ''}",
                )
            return np.array(told, dtype=np.int64)


def logit_shift(counts: Sequence[int] | np.ndarray, *, strength: float) -> Float[np.ndarray, "class"]:
    """What to add to the logits: -τ log π, with the mean of all classes at 0.

    A class that was never trained on counts as one with a single image: its logarithm must be finite.

    Args:
        counts: Training images of each class.
        strength: τ; 1 takes all of the prior out, 0 nothing.
    """
    logs = np.log(np.maximum(np.asarray(counts, dtype=np.float64), 1))
    return -strength * (logs - logs.mean())


def _counted(folder: Path, where: str) -> dict[str, int]:
    """Image files of each class's folder."""
    if not folder.is_dir():
        raise DataError(f"{where}: no such folder '{folder}'", hint="'balanced', 'few', counts, or a folder")
    found = {path.name: len(image_files(path)[0]) for path in sorted(folder.iterdir()) if _is_class(path)}
    return {name: count for name, count in found.items() if count}


def _is_class(path: Path) -> bool:
    return path.is_dir() and not is_hidden(path.name)


def _ordered(counts: Mapping[str, int], classes: Sequence[str], where: str) -> np.ndarray:
    unknown, missing = sorted(counts.keys() - set(classes)), [name for name in classes if name not in counts]
    if unknown or missing:
        what = f"'{unknown[0]}' is no class" if unknown else f"no count of class '{missing[0]}'"
        raise ConfigError(f"{where}: {what}", hint=f"the classes are {', '.join(classes)}")
    return np.array([counts[name] for name in classes], dtype=np.int64)
