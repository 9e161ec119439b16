"""Activation ranges: one pass over the calibration set through onnxruntime, every tensor into its own observer."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgec.calibrate.graph import prepare
from edgec.calibrate.grid import activation_grid
from edgec.calibrate.observers import Observer, observer_for
from edgec.calibrate.placement import place
from edgec.core.errors import CalibrationError
from edgec.core.progress import Progress, Silent

if TYPE_CHECKING:
    from onnx import ModelProto

    from edgec.calibrate.recipe import Recipe
    from edgec.calibrate.sets import CalibrationSet
    from edgec.core.target import Target

__all__ = ["Ranges", "observe_ranges"]

_BATCH_BYTES = 128 << 20
"""Observed activations of a batch at most: small enough for any machine, large enough to keep its cores busy."""

_BATCH_LIMIT = 16
"""More images at once gain nothing here and leave the processor's caches."""


@dataclass(frozen=True, kw_only=True)
class Ranges:
    """The lowest and the highest value to represent, by tensor name."""

    bounds: Mapping[str, tuple[float, float]]

    def to_json(self) -> str:
        """JSON text that `from_json` reads back without loss."""
        return json.dumps({name: list(ends) for name, ends in self.bounds.items()}, indent=2, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Ranges:
        """The ranges that `to_json` wrote."""
        return cls(bounds={name: (low, high) for name, (low, high) in json.loads(text).items()})


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
    observers = {name: observer_for(recipe, grid) for name in placement.tensors}
    run, batch = _runner(graph, placement.tensors)
    batches = _batches(calibration, batch)
    total = math.ceil(len(calibration) / batch)
    for pixels, weights in (progress or Silent()).track(batches, total=total, what="observing activations"):
        for name, values in zip(placement.tensors, run(feed(pixels)), strict=True):
            _update(observers[name], name, values, weights)
    bounds = {name: observer.range() for name, observer in observers.items()}
    return Ranges(bounds=bounds | {name: bounds[other] for name, other in placement.shared.items()})


def _runner(model: ModelProto, names: tuple[str, ...]) -> tuple[Callable[[np.ndarray], list[np.ndarray]], int]:
    """A function from the model's input to the named tensors, and the batch size to call it with."""
    import onnx
    import onnxruntime

    source = model.graph.input[0]
    inner = [name for name in names if name != source.name]
    observed = onnx.ModelProto()
    observed.CopyFrom(model)
    outputs = {value.name for value in model.graph.output}
    observed.graph.output.extend(value for value in model.graph.value_info if value.name in set(inner) - outputs)

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(observed.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def run(images: np.ndarray) -> list[np.ndarray]:
        # An empty list of names would ask onnxruntime for every output.
        values = session.run(inner, {source.name: images}) if inner else []
        found = {source.name: images, **dict(zip(inner, values, strict=True))}
        return [found[name] for name in names]

    return run, _batch_size(observed)


def _batch_size(model: ModelProto) -> int:
    """The model's own batch size where it is fixed, else as many images as the memory bound allows."""
    fixed = _sizes(model.graph.input[0])[0]
    if fixed > 0:
        return fixed
    per_image = sum(4 * math.prod(max(size, 1) for size in _sizes(value)[1:]) for value in model.graph.output)
    return min(max(_BATCH_BYTES // per_image, 1), _BATCH_LIMIT)


def _sizes(value: Any) -> list[int]:
    """A tensor's dimensions; 0 for one that is not fixed."""
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim]


def _batches(calibration: CalibrationSet, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pixels and weights, always `size` of them: the last batch is filled up with images of weight 0."""
    for start in range(0, len(calibration), size):
        pixels, weights = (part[start : start + size] for part in (calibration.pixels, calibration.weights))
        missing = size - len(pixels)
        yield np.concatenate([pixels, pixels[:1].repeat(missing, axis=0)]), np.append(weights, np.zeros(missing))


def _update(observer: Observer, name: str, values: np.ndarray, weights: np.ndarray) -> None:
    if values.shape[:1] != weights.shape:
        # Attention folds images into other axes: then every value counts the same.
        values, weights = values[None], weights.mean(keepdims=True)
    try:
        observer.update(values, weights)
    except FloatingPointError as error:
        raise CalibrationError(
            f"tensor '{name}': {error} on the calibration images, expected finite activations",
            hint="check the model's weights and its input normalisation",
        ) from error
