"""A graph in torch that rounds what the target will round, to the same numbers: to look into it, and to train it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from jaxtyping import Float
from onnx import numpy_helper
from onnxruntime.quantization.quant_utils import compute_scale_zp
from torch import Tensor, nn

from edgec.calibrate import Ranges, activation_grid, place
from edgec.core.errors import UnsupportedError
from edgec.graph.view import WEIGHTED
from edgec.quantize.operators import operator_of, torch_pads
from edgec.quantize.weights import channel_axis, least_error_reach, scaled_axis, weight_grid

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

    from edgec.calibrate import Grid
    from edgec.core.target import Target

__all__ = ["Layer", "Network", "Part", "on_grid"]

_BIAS_STEP = 1.0001 / ((1 << 31) - 1)
"""The least step of a bias in int32, as a share of its value: onnxruntime's quantiser leaves some room."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A weighted operator that computes in integers.

    Attributes:
        name: Of its node.
        operator: Its type.
        input: The activation that it reads.
        output: The tensor that it makes.
        weight: Its weight.
        bias: Its bias, where it has one.
        axis: The weight's axis that has scales of its own; None for one scale in all.
        transposed: Whether a row of a matrix makes an output, not a column.
        groups: Of a convolution.
        window: Of a convolution: padding as torch counts it, strides and dilations.
    """

    name: str
    operator: str
    input: str
    output: str
    weight: str
    bias: str | None
    axis: int | None
    transposed: bool
    groups: int
    window: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True, kw_only=True)
class Part:
    """What can be rounded alone, or be kept in floating point alone: a layer, or an activation that is no layer's.

    Attributes:
        name: The layer's, or the activation's.
        operator: The type of the layer, or of what makes the activation; `input` for that of the graph.
        floats: Names of the operators that must stay in floating point for it to stay there.
        is_layer: Which of the two it is.
    """

    name: str
    operator: str
    floats: tuple[str, ...]
    is_layer: bool


class Network(nn.Module):
    """A prepared graph with the roundings of a target.

    Parameters are the layers' weights and biases and, as logarithms of a factor, the steps of weights and activations;
    none of them learns until it is told to.

    Args:
        model: As `edgec.calibrate.prepare` makes it.
        ranges: What its activations reach, and perhaps its weights.
        target: Its scheme, an int8 one, and its engine.

    Attributes:
        model: As it was given.
        layers: The layers in integers, in the order of the graph.
        parts: All that is rounded: the layers, and activations that other operators round, in the order of the graph.
        output: Name of the logits.

    Raises:
        UnsupportedError: The graph has an operator that torch cannot run here, or a fixed batch size.
    """

    def __init__(self, model: ModelProto, ranges: Ranges, target: Target) -> None:
        super().__init__()
        _require_any_batch(model)
        grid = activation_grid(target)
        if grid is None:
            raise ValueError(f"scheme '{target.quantization.scheme.value}' rounds nothing")
        self.model, self._ranges, self._grid, self._weight_grid = model, ranges, grid, weight_grid(target)
        self._placement = place(model, target, floats=ranges.floats)
        self._rounds_biases = target.runtime.engine != "tensorrt"
        self._constants = {tensor.name: f"constant_{i}" for i, tensor in enumerate(model.graph.initializer)}
        for tensor in model.graph.initializer:
            self.register_buffer(self._constants[tensor.name], torch.from_numpy(numpy_helper.to_array(tensor).copy()))
        self._nodes = [_Node.of(node) for node in model.graph.node]
        self._last_use = {name: i for i, node in enumerate(self._nodes) for name in node.inputs}
        self._input, self.output = model.graph.input[0].name, model.graph.output[0].name
        excluded = set(self._placement.excluded)
        integers = [n for n in model.graph.node if n.op_type in WEIGHTED and n.name not in excluded]
        self.layers = tuple(_layer(node, target) for node in integers)
        self._by_node = {layer.name: layer for layer in self.layers}
        self.parts = tuple(self._parts())
        for name in {name for layer in self.layers for name in (layer.weight, layer.bias) if name is not None}:
            self._make_parameter(name)
        self._set_steps()

    def forward(self, images: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch class"]:
        """Logits with everything rounded."""
        return self.run(images)[self.output]

    def in_floating_point(self, images: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch class"]:
        """Logits with nothing rounded."""
        return self.run(images, only=())[self.output]

    def run(
        self,
        images: Float[Tensor, "batch channel height width"],
        *,
        only: Collection[str] | None = None,
        loose: Collection[str] = (),
        wanted: Collection[str] = (),
    ) -> dict[str, Tensor]:
        """The logits, and the tensors that are wanted, by name, as the operators made them and before they are rounded.

        Args:
            images: What the model takes.
            only: Names of the layers that are rounded, weight and activations; all of them where it is None, none of
                them where it is empty.
            loose: Names of activations that are rounded beside these layers.
            wanted: Names of tensors to give back.
        """
        rounded = self._chosen(only, loose)
        kept = {*wanted, self.output}
        found: dict[str, Tensor] = {}
        values = {self._input: self._rounded_if(self._input, images, rounded)}
        if self._input in kept:
            found[self._input] = images
        for i, node in enumerate(self._nodes):
            made = node.compute(*(self._read(name, node, values, only) for name in node.inputs))
            for name, value in zip(node.outputs, made if isinstance(made, tuple) else (made,), strict=True):
                if name in kept:
                    found[name] = value
                values[name] = self._rounded_if(name, value, rounded)
            for name in node.inputs:
                if self._last_use.get(name) == i:
                    values.pop(name, None)
        return found

    def alone(self, part: Part, images: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch class"]:
        """Logits with nothing rounded but one part."""
        only, loose = ((part.name,), ()) if part.is_layer else ((), (part.name,))
        return self.run(images, only=only, loose=loose)[self.output]

    def constant(self, name: str) -> Tensor:
        """A weight, a bias or another constant, as it is now and not rounded."""
        return getattr(self, self._constants[name])

    def rounded(self, name: str, value: Tensor) -> Tensor:
        """An activation on its grid; as it is where it has none."""
        position = self._positions.get(self._placement.shared.get(name, name))
        if position is None:
            return value
        return on_grid(value, self._step(name), self._zeros[position], (self._grid.low, self._grid.high))

    def rounded_weight(self, layer: Layer) -> Tensor:
        """A layer's weight on its grid."""
        high = self._weight_grid.high
        return on_grid(self.constant(layer.weight), self.weight_step(layer), 0, (-high, high))

    def weight_step(self, layer: Layer) -> Tensor:
        """A layer's scales, in a shape that broadcasts to its weight.

        Where a bias is stored in int32, they are at least as wide as it takes: onnxruntime's quantiser widens the
        weight's scale rather than clip the bias.
        """
        step = getattr(self, f"step_of_{self._constants[layer.weight]}")
        step = step * getattr(self, f"factor_of_{self._constants[layer.weight]}").exp()
        for other in self.layers if self._rounds_biases else ():
            if other.weight == layer.weight and other.bias is not None:
                least = _BIAS_STEP * self.constant(other.bias).abs() / self._step(other.input)
                step = torch.maximum(step, least.max() if layer.axis is None else least)
        shape = [1] * self.constant(layer.weight).ndim
        if layer.axis is not None:
            shape[layer.axis] = -1
        return step.reshape(shape)

    @property
    def highest_weight(self) -> int:
        """The largest integer that a weight may take."""
        return self._weight_grid.high

    @property
    def weights(self) -> list[nn.Parameter]:
        """Weights and biases of the layers."""
        return [p for name, p in self.named_parameters() if name.startswith("constant_")]

    @property
    def steps(self) -> list[nn.Parameter]:
        """What scales are multiplied with, as logarithms."""
        return [p for name, p in self.named_parameters() if not name.startswith("constant_")]

    def quantizable(self) -> tuple[ModelProto, Ranges]:
        """The graph with its weights as they are now, on their grids, and its ranges as they are now."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        rounded = {layer.weight: self.rounded_weight(layer) for layer in self.layers}
        for tensor in model.graph.initializer:
            if isinstance(value := self.constant(tensor.name), nn.Parameter):
                array = rounded.get(tensor.name, value).detach().cpu().numpy()
                tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        return model, Ranges(
            bounds={**self._ranges.bounds, **self._bounds()}, weights=self._reaches(), floats=self._ranges.floats
        )

    def _bounds(self) -> dict[str, tuple[float, float]]:
        steps = (self._steps * self.factors.exp()).tolist()
        own = {
            name: ((self._grid.low - zero) * step, (self._grid.high - zero) * step)
            for name, step, zero in zip(self._positions, steps, self._zeros, strict=True)
        }
        return own | {name: own[other] for name, other in self._placement.shared.items()}

    def _reaches(self) -> dict[str, tuple[float, ...]]:
        stored = self._weight_grid.stored
        return {layer.weight: tuple((stored * self.weight_step(layer)).flatten().tolist()) for layer in self.layers}

    def _make_parameter(self, name: str) -> None:
        value = self.constant(name)
        delattr(self, self._constants[name])
        self.register_parameter(self._constants[name], nn.Parameter(value, requires_grad=False))

    def _set_steps(self) -> None:
        """Steps and zero-points as onnxruntime's quantiser computes them, each with a factor of 1 that can learn."""
        names = self._placement.tensors
        self._positions = {name: i for i, name in enumerate(names)}
        found = [_scale_and_zero(self._ranges.bounds[name], self._grid) for name in names]
        self._zeros = [zero for _, zero in found]
        self._steps: Tensor
        self.register_buffer("_steps", torch.tensor([step for step, _ in found]))
        self.factors = nn.Parameter(torch.zeros(len(names)), requires_grad=False)
        for layer in self.layers:
            key, given = self._constants[layer.weight], self._ranges.weights.get(layer.weight)
            if given is None:
                reach = least_error_reach(self.constant(layer.weight).numpy(), layer.axis, self._weight_grid)
                step = reach / self._weight_grid.high
            else:
                step = np.asarray(given) / self._weight_grid.stored
            self.register_buffer(f"step_of_{key}", torch.tensor(step, dtype=torch.float32))
            self.register_parameter(f"factor_of_{key}", nn.Parameter(torch.zeros(len(step)), requires_grad=False))

    def _parts(self) -> Iterator[Part]:
        made = [("input", "", [self._input]), *((n.op_type, n.name, n.output) for n in self.model.graph.node)]
        for operator, node, outputs in made:
            if node in self._by_node:
                yield Part(name=node, operator=operator, floats=(node,), is_layer=True)
            for name in outputs:
                if (floats := self._placement.loose.get(name)) is not None:
                    yield Part(name=name, operator=operator, floats=floats, is_layer=False)

    def _chosen(self, only: Collection[str] | None, loose: Collection[str]) -> frozenset[str] | None:
        """The tensors that are rounded; None for all that can be."""
        if only is None:
            return None
        chosen = [self._by_node[name] for name in only]
        touched = {name for layer in chosen for name in (layer.input, layer.output)} | set(loose)
        return frozenset({self._placement.shared.get(name, name) for name in touched} | touched)

    def _rounded_if(self, name: str, value: Tensor, chosen: frozenset[str] | None) -> Tensor:
        return self.rounded(name, value) if chosen is None or name in chosen else value

    def _read(self, name: str, node: _Node, values: dict[str, Tensor], only: Collection[str] | None) -> Tensor | None:
        if not name:
            return None
        if name in values:
            return values[name]
        layer = self._by_node.get(node.name)
        if layer is not None and (only is None or node.name in only):
            if name == layer.weight:
                return self.rounded_weight(layer)
            if name == layer.bias and self._rounds_biases:
                return self._rounded_bias(layer)
        return self.constant(name)

    def _rounded_bias(self, layer: Layer) -> Tensor:
        """A layer's bias in int32, whose step is the product of its input's and its weight's."""
        bias = self.constant(layer.bias or "")
        step = (self._step(layer.input) * self.weight_step(layer)).reshape(-1).expand_as(bias)
        return on_grid(bias, step, 0, (-(1 << 31), (1 << 31) - 1))

    def _step(self, name: str) -> Tensor:
        """An activation's scale."""
        position = self._positions[self._placement.shared.get(name, name)]
        return self._steps[position] * self.factors[position].exp()


@dataclass(frozen=True, kw_only=True)
class _Node:
    name: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    compute: Callable[..., Any]

    @classmethod
    def of(cls, node: NodeProto) -> _Node:
        return cls(name=node.name, inputs=tuple(node.input), outputs=tuple(node.output), compute=operator_of(node))


def on_grid(value: Tensor, step: Tensor, zero_point: int, ends: tuple[int, int]) -> Tensor:
    """Rounded and clipped as QuantizeLinear and DequantizeLinear do it.

    Gradients pass the rounding as if it were not there: to the value where it is not clipped, and to the step as in LSQ
    (Esser et al., arXiv 1902.08153).
    """
    scaled = value / step
    integers = scaled + (scaled.round() - scaled).detach()
    return (integers.clamp(ends[0] - zero_point, ends[1] - zero_point)) * step


def _require_any_batch(model: ModelProto) -> None:
    batch = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value
    if batch:
        raise UnsupportedError(
            f"the graph takes {batch} image{'s' * (batch > 1)} at a time, expected any number to refine it",
            hint="export it with a batch axis of any size, or leave [quantize] as it is by default",
        )


def _scale_and_zero(bounds: tuple[float, float], grid: Grid) -> tuple[float, int]:
    low, high = (np.float32(end) for end in bounds)
    ends = np.array(grid.low, dtype=np.int64), np.array(grid.high, dtype=np.int64)
    zero, scale = compute_scale_zp(low, high, *ends, symmetric=grid.symmetric)
    return float(scale), int(zero)


def _layer(node: NodeProto, target: Target) -> Layer:
    given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    dims = len(given.get("kernel_shape", (1, 1)))
    pads = given.get("pads", [0] * 2 * dims)
    return Layer(
        name=node.name,
        operator=node.op_type,
        input=node.input[0],
        output=node.output[0],
        weight=node.input[1],
        bias=node.input[2] if len(node.input) > 2 and node.input[2] else None,
        axis=scaled_axis(node, target),
        transposed=channel_axis(node) == 0,
        groups=given.get("group", 1),
        window=(
            tuple(torch_pads(pads[:dims], pads[dims:])),
            tuple(given.get("strides", [1] * dims)),
            tuple(given.get("dilations", [1] * dims)),
        ),
    )
