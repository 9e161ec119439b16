"""Activation ranges: one pass over the calibration set through onnxruntime, every tensor into its own observer."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgec.calibrate.grid import activation_grid
from edgec.calibrate.observers import observer_for
from edgec.calibrate.placement import place
from edgec.calibrate.watch import Seen, Watch
from edgec.core.errors import CalibrationError
from edgec.core.progress import Progress, Silent
from edgec.graph.preparing import prepare

if TYPE_CHECKING:
    from edgec.calibrate.recipe import Recipe
    from edgec.calibrate.sets import CalibrationSet
    from edgec.core.target import Target

__all__ = ["Ranges", "observe_ranges"]

_BY_EXTREMES = frozenset({"minmax", "moving-average"})
"""Observers that need no value between the extremes."""

_COUNTED_VALUES = 1 << 24
"""Values of a tensor that a histogram counts, from all images together; all of them where there are no more."""

_COUNTED_OF_IMAGE = 1 << 15
"""The least that it counts of an image that has as many, however many images there are."""


@dataclass(frozen=True, kw_only=True)
class Ranges:
    """What the integers stand for.

    Attributes:
        bounds: The lowest and the highest value to represent, by activation.
        weights: What the largest integer stands for, by weight: one value per output channel, or one in all. A weight
            that is not here reaches as far as its largest value does, channel by channel.
        floats: Names of operators that are to stay in floating point.
    """

    bounds: Mapping[str, tuple[float, float]]
    weights: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    floats: tuple[str, ...] = ()

    def to_json(self) -> str:
        """JSON text that `from_json` reads back without loss."""
        return json.dumps(asdict(self), indent=2, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Ranges:
        """The ranges that `to_json` wrote."""
        read = json.loads(text)
        return cls(
            bounds={name: (low, high) for name, (low, high) in read["bounds"].items()},
            weights={name: tuple(reach) for name, reach in read["weights"].items()},
            floats=tuple(read["floats"]),
        )


def observe_ranges(
    model: Path,
    calibration: CalibrationSet,
    recipe: Recipe,
    *,
    target: Target,
    feed: Callable[[np.ndarray], np.ndarray],
    progress: Progress | None = None,
) -> Ranges:
    """Reads the ranges of all activations that the target's scheme rounds; none for a floating-point scheme.

    Neither the order of the images nor batches change them. Histograms count 2^24 values of a tensor, or 2^15 of each
    image where that is more, at the same positions in every image, drawn once at random; all where there are no more.
    Extremes are always those of all values.

    Args:
        model: FP32 ONNX with one input.
        calibration: Images and the weight of each.
        recipe: Which observer reads a range.
        target: Its scheme and engine decide which tensors are rounded, and how.
        feed: From uint8 [n, height, width, channels] to what the model takes.
        progress: Told about every batch.

    Raises:
        CalibrationError: An activation is NaN or infinite.
    """
    grid = activation_grid(target)
    if grid is None:
        return Ranges(bounds={})
    graph = prepare(model)
    placement = place(graph, target)
    held, classes = np.unique(calibration.labels, return_inverse=True)
    observers = {name: observer_for(recipe, grid, classes=len(held)) for name in placement.tensors}
    sample = max(_COUNTED_OF_IMAGE, math.ceil(_COUNTED_VALUES / len(calibration)))
    watch = Watch(graph, placement.tensors, sample=0 if recipe.observer in _BY_EXTREMES else sample)
    batches = _batches(calibration, classes, watch.images)
    total = math.ceil(len(calibration) / watch.images)
    for pixels, weights, of_classes in (progress or Silent()).track(batches, total=total, what="observing activations"):
        for seen in watch(feed(pixels)):
            _require_finite(seen)
            ends = seen.lows, seen.highs
            observers[seen.name].update(seen.values, weights, ends=ends, classes=of_classes)
    bounds = {name: observer.range() for name, observer in observers.items()}
    return Ranges(bounds=bounds | {name: bounds[other] for name, other in placement.shared.items()})


def _batches(
    calibration: CalibrationSet, classes: np.ndarray, size: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Pixels, weights and classes, always `size` of them: the last batch is filled up with an image of weight 0.

    Images come in the order of their digests, which mixes the classes and does not depend on the set's own order.
    """
    order = np.argsort(calibration.digests, kind="stable")
    for start in range(0, len(order), size):
        taken = order[start : start + size]
        filled = np.append(taken, taken[:1].repeat(size - len(taken)))
        counted = np.arange(size) < len(taken)
        yield calibration.pixels[filled], calibration.weights[filled] * counted, classes[filled]


def _require_finite(seen: Seen) -> None:
    if not seen.finite:
        raise CalibrationError(
            f"tensor '{seen.name}': a value is NaN or infinite on the calibration images, expected finite activations",
            hint="check the model's weights and its input normalisation",
        )
