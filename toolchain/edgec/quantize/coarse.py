"""Where a quantised graph is too coarse: activations and weights whose channels drown in the steps they share."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import numpy_helper

from edgec.calibrate import Ranges, activation_grid, place, prepare

if TYPE_CHECKING:
    from edgec.calibrate import Grid
    from edgec.core.target import Target

__all__ = ["coarse_places"]

_DROWNED = 0.1
"""Error of rounding and clipping, as a share of a channel's variance, from which the channel tells little."""
_LOST = 0.05
"""Squared error of a weight, as a share of its square. Weights in four bits lose about 0.015, in eight 0.0001."""
_MEANT = 1e-10
"""Variance of a channel, as a share of the widest channel's square, below which float32 itself tells nothing."""

_SAMPLE = 256
"""Values of a channel and batch that are looked at."""


def coarse_places(
    model: Path, shipped: Path, ranges: Ranges, target: Target, images: Iterable[np.ndarray]
) -> tuple[str, ...]:
    """Activations and weights for which the file's integers are too coarse, the worst first, each with why.

    Those that are less than half as bad as the worst are left out. Where nothing is too coarse by itself, the
    activation that comes nearest is named: small errors add up, too.

    An activation is too coarse where rounding and clipping change more than a tenth of the variance of a channel; the
    more channels, the worse. A weight is where rounding takes more than a twentieth of its square.

    Args:
        model: The floating-point graph that was quantised.
        shipped: The file that came of it.
        ranges: By which it was.
        target: Its scheme and engine decide what was rounded.
        images: As the model takes them, batch by batch.
    """
    grid = activation_grid(target)
    if grid is None:
        return ()
    graph = prepare(model)
    placement = place(graph, target, floats=ranges.floats)
    kinds = {name: node.op_type for node in graph.graph.node for name in node.output}
    found = [*_weights(graph, onnx.load(shipped))]
    nearest: list[tuple[float, str]] = []
    for name, channels in _channels(graph, placement.tensors, images).items():
        low, high = ranges.bounds[name]
        step = _step(low, high, grid)
        error, variance = channels.lost(low, high) + step**2 / 12, channels.variance
        told = variance > _MEANT * channels.square.max()
        drowned = told & (error > _DROWNED * variance)
        what = f"'{name}' ({kinds.get(name, 'input')}) spans {low:.3g} to {high:.3g} in steps of {step:.2g}"
        if told.any():
            share = float((error[told] / variance[told]).max())
            much = f"which change {share:.1%} of a channel's variance, the most of all"
            nearest.append((share, f"{what}, {much}"))
        if drowned.any():
            fine = f"{drowned.sum()} of its {told.sum()} channels vary by {_text(variance[drowned])}"
            found.append((drowned.sum() / told.sum(), f"{what}, {fine}"))
    found = found or sorted(nearest)[-1:]
    worst = max((share for share, _ in found), default=0.0)
    return tuple(text for share, text in sorted(found, key=lambda place: -place[0]) if share > worst / 2)


def _step(low: float, high: float, grid: Grid) -> float:
    reach = 2 * max(-low, high) if grid.symmetric else high - low
    return reach / grid.steps


def _text(variance: np.ndarray) -> str:
    """Standard deviations of channels: one, or the range of them."""
    ends = [f"{end:.2g}" for end in (np.sqrt(variance.min()), np.sqrt(variance.max()))]
    return ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"


class _Channels:
    """Sums over the values of each channel, and the values themselves, of which there are few images."""

    def __init__(self, parts: list[np.ndarray]) -> None:
        self._values = np.concatenate(parts, axis=1).astype(np.float64)
        self.variance = self._values.var(axis=1)
        self.square = np.square(self._values).mean(axis=1)

    def lost(self, low: float, high: float) -> np.ndarray:
        """Mean squared error of clipping, by channel."""
        return np.square(self._values - np.clip(self._values, low, high)).mean(axis=1)


def _channels(graph: onnx.ModelProto, names: Collection[str], images: Iterable[np.ndarray]) -> dict[str, _Channels]:
    """Of each activation its values channel by channel."""
    import onnxruntime

    source = graph.graph.input[0].name
    wanted = [name for name in names if name != source]
    watched = onnx.ModelProto()
    watched.CopyFrom(graph)
    shown = {value.name for value in graph.graph.output}
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted if name not in shown)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    parts: dict[str, list[np.ndarray]] = {}
    for batch in images:
        fed = {source: batch}
        made: list[Any] = list(session.run(wanted, fed)) if wanted else []  # of no names it would give all outputs
        for name, value in (fed | dict(zip(wanted, made, strict=True))).items():
            if name in names:
                parts.setdefault(name, []).append(_by_channel(value))
    return {name: _Channels(found) for name, found in parts.items() if len({part.shape[0] for part in found}) == 1}


def _by_channel(value: np.ndarray) -> np.ndarray:
    """[channel, values], a sample of them: channels stand second in maps and rows, last in tokens."""
    if value.ndim < 2:
        return value.reshape(1, -1)
    axis = 1 if value.ndim in (2, 4) else value.ndim - 1
    rows = np.moveaxis(value, axis, 0).reshape(value.shape[axis], -1)
    return rows[:, np.random.default_rng(0).permutation(rows.shape[1])[:_SAMPLE]]


def _weights(graph: onnx.ModelProto, shipped: onnx.ModelProto) -> Iterator[tuple[float, str]]:
    """Weights that rounding takes much of, with how much."""
    stored = {tensor.name: tensor for tensor in shipped.graph.initializer}
    given = {tensor.name: tensor for tensor in graph.graph.initializer}
    for node in shipped.graph.node:
        name = node.output[0].removesuffix("_DequantizeLinear_Output")
        if node.op_type != "DequantizeLinear" or name not in given or node.input[0] not in stored:
            continue
        weight = numpy_helper.to_array(given[name]).astype(np.float64)
        integers, scale = (numpy_helper.to_array(stored[each]).astype(np.float64) for each in node.input[:2])
        if weight.ndim < 2 or integers.shape != weight.shape:
            continue
        axis = next((each.i for each in node.attribute if each.name == "axis"), 0)
        shape = [-1 if i == axis and scale.size > 1 else 1 for i in range(weight.ndim)]
        lost = np.square(weight - integers * scale.reshape(shape)).sum() / max(np.square(weight).sum(), 1e-300)
        if lost > _LOST:
            yield min(lost, 1.0), f"weight '{name}' loses {min(np.sqrt(lost), 1.0):.0%} of its size to rounding"
