"""Accuracy on corrupted test images: as a whole, per kind of corruption, per class."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edgec.core.errors import ConfigError, DataError
from edgec.core.measurement import Measurement, Stage
from edgec.core.progress import Progress
from edgec.core.samples import Images
from edgec.evaluate.accuracy import require_scores
from edgec.evaluate.corruptions.corrupt import KINDS, SEVERITIES, corrupt, require_kind, require_severity
from edgec.evaluate.intervals import lowest_share_interval, wilson_interval

if TYPE_CHECKING:
    from jaxtyping import Float, Int, UInt8

    Run = Callable[[UInt8[np.ndarray, "n h w c"]], Float[np.ndarray, "n class"]]

__all__ = ["corruption_measurements"]

_VALUES = 1 << 20
"""Of pixels that are drawn at once: a kind needs about ten arrays of as many floats."""


def corruption_measurements(
    run: Run,
    samples: Images,
    labels: Int[np.ndarray, " n"],
    classes: Sequence[str],
    *,
    severities: Sequence[int] = SEVERITIES,
    kinds: Sequence[str] = tuple(KINDS),
    groups: Mapping[str, Sequence[str]] | None = None,
    seed: int = 0,
    stage: Stage,
    where: str,
    progress: Progress,
) -> list[Measurement]:
    """Accuracy of one model on corrupted images.

    `corrupted_accuracy` (whole, then per class) is the mean over kinds and severities, each with the same say;
    `corrupted_worst_class_accuracy` is that of the class with the lowest; `accuracy_under_<kind>` is the mean over the
    severities of a kind, `accuracy_under_<group>_kinds` (whole, then per class) over the kinds of a group. n counts
    images, not drawings: what a model makes of the drawings of one image is not independent. Their mean, from 0 to 1,
    spreads at most as a yes or no with the same mean does, so Wilson's interval
    for n images is wide enough, and wider than it need be. A class without test images has no row.

    Args:
        run: Clean or corrupted pixels, a batch, to logits.
        samples: Clean test images.
        labels: Positions in `classes`.
        classes: Names in the order of the scores.
        severities: Out of 1 to 5.
        kinds: Names of `KINDS`.
        groups: Some of the kinds by the name of a group that has rows of its own, whole and per class.
        seed: Fixes the drawings.
        stage: The model that is run.
        where: The runtime and machine that run it.
        progress: Told what is drawn.

    Raises:
        ConfigError: No kind or no severity is asked for, or one that is not known.
        DataError: There are no images, labels are others, or a score is not finite.
    """
    _require_some(kinds, severities)
    if not len(samples) or len(samples) != len(labels):
        raise DataError(f"{len(samples)} test images and {len(labels)} labels: expected as many of both, and some")
    what = f"corrupting images for {stage.value}"
    right = np.zeros((len(kinds), len(labels)), dtype=np.int64)
    for part in progress.track(_parts(samples, kinds), total=_count(samples) * len(kinds), what=what, unit="batch"):
        truth = labels[part.place]
        for severity in severities:
            logits = run(corrupt(part.clean, kinds[part.kind], severity, seed=seed))
            require_scores(logits, truth, classes)
            right[part.kind, part.place] += logits.argmax(axis=1) == truth
    shares = right / len(severities)
    overall, common = shares.mean(axis=0), {"stage": stage, "where": where}
    members = {name: labels == i for i, name in enumerate(classes)}
    per_class = [
        _row("corrupted_accuracy", overall[mine], name, **common) for name, mine in members.items() if mine.any()
    ]
    worst = min(per_class, key=lambda measurement: measurement.value)
    return [
        _row("corrupted_accuracy", overall, **common),
        *per_class,
        _of_the_worst(worst, per_class),
        *(_row(f"accuracy_under_{kind}", part, **common) for kind, part in zip(kinds, shares, strict=True)),
        *(
            _row(f"accuracy_under_{group}_kinds", right[mine], name, **common)
            for group, right in _by_group(shares, kinds, groups or {})
            for name, mine in ((None, slice(None)), *members.items())
            if len(right[mine])
        ),
    ]


def _by_group(
    shares: Float[np.ndarray, "kind n"], kinds: Sequence[str], groups: Mapping[str, Sequence[str]]
) -> Iterator[tuple[str, Float[np.ndarray, " n"]]]:
    """Of each group, the mean over its kinds."""
    for group, members in groups.items():
        yield group, shares[[kind in members for kind in kinds]].mean(axis=0)


def _row(
    name: str, right: Float[np.ndarray, " n"], label: str | None = None, *, stage: Stage, where: str
) -> Measurement:
    """Over images, the mean share of drawings that the model gets right."""
    value, n = float(right.mean()), len(right)
    low, high = wilson_interval(round(value * n), n)
    return Measurement(
        stage=stage, name=name, label=label, value=value, unit="share", n=n, low=low, high=high, where=where
    )


def _of_the_worst(worst: Measurement, rows: Sequence[Measurement]) -> Measurement:
    """The lowest class's row as that of all classes."""
    images = np.array([row.n for row in rows])
    right = np.rint([row.value * row.n for row in rows]).astype(int)
    low, high = lowest_share_interval(right, images)
    update = {"label": None, "low": low, "high": max(high, worst.value)}
    return worst.model_copy(update={"name": "corrupted_worst_class_accuracy", **update})


def _require_some(kinds: Sequence[str], severities: Sequence[int]) -> None:
    if not kinds or not severities:
        raise ConfigError("no corruption to measure", hint=f"kinds: {', '.join(KINDS)}; severities: 1 to 5")
    for kind in kinds:
        require_kind(kind)
    for severity in severities:
        require_severity(severity)


class _Part(NamedTuple):
    """A batch of clean images, which of all they are, and the position of the kind that is to be drawn of it."""

    clean: UInt8[np.ndarray, "n h w c"]
    place: slice
    kind: int


def _parts(samples: Images, kinds: Sequence[str]) -> Iterator[_Part]:
    """Every batch is decoded once."""
    size = _batch(samples)
    for number, clean in enumerate(samples.batches(size)):
        for kind in range(len(kinds)):
            yield _Part(clean, slice(number * size, number * size + len(clean)), kind)


def _count(samples: Images) -> int:
    return -(-len(samples) // _batch(samples))


def _batch(samples: Images) -> int:
    """No more at once than memory is meant for; what is drawn does not depend on it."""
    return max(1, _VALUES // math.prod(samples.pixels.shape[1:]))
