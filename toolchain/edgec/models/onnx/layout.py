"""How a file takes its images, and a graph that takes them as float32 [batch, channel, height, width]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from edgec.core.errors import ConfigError
from edgec.core.inputs import InputSpec, normalise
from edgec.graph.view import readers
from edgec.models.onnx.read import graphs_of

__all__ = ["ANOTHER_INPUT", "INPUT", "Layout", "layout_of", "rename_", "take_images_"]

INPUT = "input"
ANOTHER_INPUT = "input_as_given"
"""What a tensor is called that has the name of the input."""
Axes = Literal["channels first", "channels last", "no channel axis", "flat"]
_FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}
_PIXELS = {TensorProto.UINT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64}
_ELEMENTWISE = {"Cast", "Identity", "Sub", "Add", "Mul", "Div", "QuantizeLinear", "DequantizeLinear"}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Of the one input of a file.

    Attributes:
        name: The input's.
        axes: What its axes are.
        kind: ONNX's number of its type.
        batch: The number of images that it is fixed to, if it is.
        shape: As the file has it, without the batch; None for a size that it leaves open.
        spec: The images that are fed.
    """

    name: str
    axes: Axes
    kind: int
    batch: int | None
    shape: tuple[int | None, ...]
    spec: InputSpec

    @property
    def raw(self) -> bool:
        """Whether it takes pixels from 0 to 255 and normalises them itself."""
        return self.kind in _PIXELS

    def feed(self, pixels: np.ndarray) -> np.ndarray:
        """What the file takes for uint8 [n, height, width, channels]."""
        planes = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)) if self.raw else normalise(pixels, self.spec)
        images = planes if self.axes == "channels first" else planes.transpose(0, 2, 3, 1)
        if self.axes not in ("channels first", "channels last"):
            images = images.reshape(len(images), *(self.plain[1:]))
        return np.ascontiguousarray(images).astype(helper.tensor_dtype_to_np_dtype(self.kind))

    @property
    def plain(self) -> tuple[int, ...]:
        """The shape of a batch of any size, as the file takes it."""
        height, width, channels = self.spec.height, self.spec.width, self.spec.channels
        return {
            "channels first": (-1, channels, height, width),
            "channels last": (-1, height, width, channels),
            "no channel axis": (-1, height, width),
            "flat": (-1, height * width * channels),
        }[self.axes]

    @property
    def told(self) -> str | None:
        """What becomes of it, in words; None where it is as the pipeline has it."""
        what = {
            "channels first": None,
            "channels last": "channels last (NHWC) to channels first",
            "no channel axis": "images without a channel axis",
            "flat": "flat images, read as rows of pixels with their channels side by side",
        }[self.axes]
        kind = TensorProto.DataType.Name(self.kind).lower()
        pixels = f"pixels in {kind}, which the graph normalises itself" if self.raw else None
        pinned = None
        if self.axes != "flat" and None in self.shape[-3:]:
            pinned = f"open image sizes set to {self.spec.height}x{self.spec.width}"
        return ", ".join(filter(None, (what, pixels, pinned))) or None


def layout_of(graph: GraphProto, spec: InputSpec, *, where: str) -> Layout:
    """How the file takes images of this size.

    Raises:
        ConfigError: Several inputs, or one that is no batch of such images.
    """
    if len(graph.input) != 1:
        names = ", ".join(f"'{value.name}'" for value in graph.input) or "none"
        raise ConfigError(
            f"{where}: {len(graph.input)} inputs ({names}), expected one, of images",
            hint="export it with images as its only input; give what else it takes as constants",
        )
    value = graph.input[0]
    taken = value.type.tensor_type
    sizes = [dim.dim_value or None for dim in taken.shape.dim] if taken.HasField("shape") else [None] * 4
    if taken.elem_type not in _FLOATS | _PIXELS:
        kind = TensorProto.DataType.Name(taken.elem_type).lower()
        raise ConfigError(
            f"{where}: takes {kind} {_shown(sizes[1:])}, expected floats or pixels as uint8",
            hint="export it so that it takes float32 images",
        )
    axes = _axes(sizes, spec, is_last=_begins_by_turning(graph, value))
    if axes is None:
        kind = TensorProto.DataType.Name(taken.elem_type).lower()
        raise ConfigError(
            f"{where}: takes {kind} {_shown(sizes[1:])} an image, expected {list(spec.shape)} as model.input says "
            "(channels, height, width), in any order",
            hint=_size_hint(sizes),
        )
    shape = tuple(sizes[1:])
    return Layout(name=value.name, axes=axes, kind=taken.elem_type, batch=sizes[0], shape=shape, spec=spec)


def _axes(sizes: Sequence[int | None], spec: InputSpec, *, is_last: bool) -> Axes | None:
    channels, height, width = spec.shape
    wanted: dict[Axes, tuple[int, ...]] = {
        "channels first": (channels, height, width),
        "channels last": (height, width, channels),
        "flat": (channels * height * width,),
    }
    if channels == 1:
        wanted["no channel axis"] = (height, width)
    fits: list[Axes] = [axes for axes, want in wanted.items() if _fits(sizes[1:], want)]
    if is_last and "channels last" in fits:
        return "channels last"
    return fits[0] if fits else None


def _fits(sizes: Sequence[int | None], wanted: Sequence[int]) -> bool:
    return len(sizes) == len(wanted) and all(got in (None, want) for got, want in zip(sizes, wanted, strict=True))


def _begins_by_turning(graph: GraphProto, value: ValueInfoProto) -> bool:
    """Whether the first thing that happens to the images, but arithmetic, is a transposition to channels first."""
    taken, name = readers(graph), value.name
    while len(taken[name]) == 1 and taken[name][0].op_type in _ELEMENTWISE:
        name = taken[name][0].output[0]
    return any(
        node.op_type == "Transpose" and [*each.ints] == [0, 3, 1, 2] for node in taken[name] for each in node.attribute
    )


def _shown(sizes: Sequence[int | None]) -> str:
    return f"[{', '.join('?' if size is None else str(size) for size in sizes)}]"


def _size_hint(sizes: Sequence[int | None]) -> str:
    """The setting that would fit, where one would."""
    plane = sizes[1:]
    if len(plane) == 3:
        for channels, height, width in (plane, (plane[2], *plane[:2])):
            if channels in (1, 3) and (height is None) == (width is None):
                size = f"height={height or 'PIXELS'},width={width or 'PIXELS'},channels={channels}"
                more = "" if channels == 3 else ",mean=[0.5],std=[0.5]"
                return f'--set "model.input={{{size}{more}}}", with the mean and std that it was trained with'
    return "set model.input to the images that it was trained with; edgec feeds images of 1 or 3 channels"


def take_images_(model: ModelProto, layout: Layout) -> None:
    """Gives the graph an input float32 [batch, channels, height, width] in front of the one that it has.

    A transposition in front cancels with that which channels-last exporters put behind: onnxruntime's own optimiser
    moves it through arithmetic until they meet, here and when a graph is prepared for quantising.
    """
    graph = model.graph
    old, first = graph.input[0].name, list[NodeProto]()
    if any(INPUT in (*node.input, *node.output) for node in graph.node):
        rename_(graph, INPUT, ANOTHER_INPUT)
        old = ANOTHER_INPUT if old == INPUT else old
    if layout.axes == "channels first":
        source = INPUT
    else:
        source = f"{INPUT}_last"
        first.append(helper.make_node("Transpose", [INPUT], [source], perm=[0, 2, 3, 1]))
        if layout.axes != "channels last":
            shape = np.array(layout.plain, np.int64)
            graph.initializer.append(numpy_helper.from_array(shape, f"{INPUT}_shape"))
            first.append(helper.make_node("Reshape", [source, f"{INPUT}_shape"], [f"{INPUT}_flat"]))
            source = f"{INPUT}_flat"
    if layout.raw:
        _pass_floats_(graph, old, source)
        first.append(helper.make_node("Cast", [source], [old], to=layout.kind))
    else:
        rename_(graph, old, source)
    value = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [layout.batch or "batch", *layout.spec.shape])
    del graph.input[:]
    graph.input.append(value)
    nodes = [*first, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _pass_floats_(graph: GraphProto, old: str, source: str) -> None:
    """Whole numbers that are cast to float32 first thing stay floats."""
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] == old and node.attribute[0].i == TensorProto.FLOAT:
            node.CopyFrom(onnx.helper.make_node("Identity", [source], node.output, name=node.name))


def rename_(graph: GraphProto, old: str, new: str) -> None:
    """Gives a tensor another name wherever it is made, read, or given."""
    for part in graphs_of(graph):
        for node in part.node:
            node.input[:] = [new if name == old else name for name in node.input]
            node.output[:] = [new if name == old else name for name in node.output]
    for value in (*graph.input, *graph.output, *graph.initializer):
        if value.name == old:
            value.name = new
