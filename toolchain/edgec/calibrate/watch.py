"""A graph that tells of its activations: extremes and samples are taken where they arise, little is fetched."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["Seen", "Watch"]

_BATCH_BYTES = 256 << 20
"""Watched activations of a batch at most: small enough for any machine, large enough to keep its cores busy."""

_BATCH_LIMIT = 16
"""More images at once gain nothing here and leave the processor's caches."""

_PROBES = (7, 11)
"""Numbers of images that no other axis has both of."""

_AXES_ARE_INPUTS = 18
"""The opset from which reductions take their axes as an input."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a batch showed of one tensor.

    Attributes:
        name: The tensor's.
        lows: float32 [n], the smallest value of each image; 0 where none can be negative.
        highs: float32 [n], the largest.
        finite: Whether all values are.
        values: float32 [n, values], all of them or a sample, always the same positions; none where not asked for.
    """

    name: str
    lows: np.ndarray
    highs: np.ndarray
    finite: bool
    values: np.ndarray


class Watch:
    """Runs a model and tells what its tensors hold.

    Tensors whose first axis is not that of the images, as within attention, are known image by image only where
    images come one by one: then they do.

    Args:
        model: With one input and known shapes; left as it is.
        names: Tensors to watch.
        sample: Values of an image and tensor that are fetched at most; 0 for the extremes alone.

    Attributes:
        images: How many images each call takes.
    """

    def __init__(self, model: ModelProto, names: tuple[str, ...], *, sample: int) -> None:
        import onnx

        source = model.graph.input[0]
        fixed = source.type.tensor_type.shape.dim[0].dim_value
        shapes = _shapes_by_image(model, names)
        by_image = shapes is not None
        if shapes is None:
            shapes = _shapes(_for_batch(model, fixed or 1), names)
        self.images = (fixed or _batch_size(shapes)) if by_image else 1
        self._filled = fixed or self.images
        self._input = source.name
        self._names = names
        watched = onnx.ModelProto()
        watched.CopyFrom(model)
        del watched.graph.output[:]
        eyes = _Eyes(watched, images=self.images)
        for name, (first, *rest) in shapes.items():
            size = math.prod(rest) if by_image else math.prod((first, *rest))
            eyes.add(name, size=size, sample=sample, is_map=by_image and len(rest) == 3)
        self._outputs = [value.name for value in watched.graph.output]
        self._session = _session(watched) if names else None

    def __call__(self, images: np.ndarray) -> Iterator[Seen]:
        """What each tensor holds, in order.

        Args:
            images: float32 [images, ...], as the model takes them.
        """
        if self._session is None:
            return
        # One image in a model of a fixed, larger batch is shown as often as that: its values are the same.
        fed = images if len(images) == self._filled else images.repeat(self._filled, axis=0)
        none = np.zeros((self.images, 1), np.float32)
        found = dict(zip(self._outputs, self._session.run(self._outputs, {self._input: fed}), strict=True))
        for name in self._names:
            lows, highs, means = (
                found[_eye(name, what)].reshape(self.images, -1) if _eye(name, what) in found else none
                for what in ("low", "high", "mean")
            )
            values = found.get(_eye(name, "sample"), found.get(_eye(name, "rows"), none[:, :0]))
            # Minimum and maximum may pass over a NaN; a mean does not.
            finite = all(np.isfinite(part).all() for part in (lows, highs, means))
            yield Seen(name=name, lows=lows.min(axis=1), highs=highs.max(axis=1), finite=finite, values=values)


class _Eyes:
    """Adds to a graph what watches its tensors."""

    def __init__(self, model: ModelProto, *, images: int) -> None:
        import onnx

        self._onnx = onnx
        self._graph = model.graph
        opset = next(each.version for each in model.opset_import if each.domain == "")
        self._not_negative = {node.output[0] for node in model.graph.node if node.op_type == "Relu"}
        self._constant("rows", [images, -1], np.int64)
        self._axes: dict[str, Any] = {"axes": [1]}
        self._axis_input: list[str] = []
        if opset >= _AXES_ARE_INPUTS:
            self._axes, self._axis_input = {}, [self._constant("axes", [1], np.int64)]

    def add(self, name: str, *, size: int, sample: int, is_map: bool) -> None:
        """Shows extremes and mean of each image, and `sample` of its `size` values: all where there are no more.

        Feature maps, images by channels by plane, are pooled, which takes them in the layout that convolutions leave
        them in. What a ReLU made has no minimum to look for.
        """
        low = () if name in self._not_negative else (("ReduceMin", "low"),)
        reduced = low if is_map else (("ReduceMax", "high"), ("ReduceMean", "mean"), *low)
        if is_map:
            self._show(self._node("GlobalMaxPool", [name], _eye(name, "high")), 4)
            self._show(self._node("GlobalAveragePool", [name], _eye(name, "mean")), 4)
        if not (reduced or sample):
            return
        rows = self._node("Reshape", [name, _eye("", "rows")], _eye(name, "rows"))
        for operator, what in reduced:
            self._show(self._node(operator, [rows, *self._axis_input], _eye(name, what), keepdims=0, **self._axes), 1)
        if sample and size > sample:
            positions = np.sort(np.random.default_rng(0).choice(size, sample, replace=False))
            taken = self._constant(name + "/positions", positions, np.int32)
            self._show(self._node("Gather", [rows, taken], _eye(name, "sample"), axis=1), 2)
        elif sample:
            self._show(rows, 2)

    def _node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self._graph.node.append(self._onnx.helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def _constant(self, what: str, values: Any, kind: type) -> str:
        name = _eye("", what)
        self._graph.initializer.append(self._onnx.numpy_helper.from_array(np.asarray(values, dtype=kind), name))
        return name

    def _show(self, name: str, rank: int) -> None:
        shape = [None] * rank
        self._graph.output.append(self._onnx.helper.make_tensor_value_info(name, self._onnx.TensorProto.FLOAT, shape))


def _eye(name: str, what: str) -> str:
    """The name of what tells about a tensor."""
    return f"edgec.watch/{what}/{name}"


def _shapes_by_image(model: ModelProto, names: tuple[str, ...]) -> dict[str, list[int]] | None:
    """Sizes of tensors whose first axis is that of the images; None where one has another first axis.

    Where the axis lost its name on the way, shapes for two numbers of images tell.
    """
    known = {v.name: v for v in (*model.graph.input, *model.graph.value_info, *model.graph.output)}
    lead = model.graph.input[0].type.tensor_type.shape.dim[0]
    firsts = [known[name].type.tensor_type.shape.dim[:1] for name in names]
    if (lead.dim_param or lead.dim_value) and all(len(first) == 1 and first[0] == lead for first in firsts):
        return _shapes(model, names)
    probes = (lead.dim_value,) if lead.dim_value else _PROBES
    sized = {images: _shapes(_for_batch(model, images), names) for images in probes}
    is_led = all(shape[0] == images for images, shapes in sized.items() for shape in shapes.values())
    return sized[probes[0]] if is_led else None


def _shapes(model: ModelProto, names: tuple[str, ...]) -> dict[str, list[int]]:
    """Sizes by tensor; 0 for one that is not known."""
    known = {v.name: v for v in (*model.graph.input, *model.graph.value_info, *model.graph.output)}
    return {name: [dim.dim_value for dim in known[name].type.tensor_type.shape.dim] or [0] for name in names}


def _for_batch(model: ModelProto, images: int) -> ModelProto:
    """The model with its shapes for so many images."""
    import onnx

    sized = onnx.ModelProto()
    sized.CopyFrom(model)
    kinds = {v.name: v.type.tensor_type.elem_type for v in sized.graph.value_info}
    del sized.graph.value_info[:]
    # Of each tensor at least the type: those that inference does not reach stay without a shape.
    sized.graph.value_info.extend(onnx.helper.make_tensor_value_info(name, kind, None) for name, kind in kinds.items())
    first = sized.graph.input[0].type.tensor_type.shape.dim[0]
    first.Clear()
    first.dim_value = images
    return onnx.shape_inference.infer_shapes(sized, data_prop=True)


def _batch_size(shapes: dict[str, list[int]]) -> int:
    """As many images as the memory bound allows."""
    per_image = sum(4 * math.prod(max(size, 1) for size in shape[1:]) for shape in shapes.values())
    return min(max(_BATCH_BYTES // max(per_image, 1), 1), _BATCH_LIMIT)


def _session(model: ModelProto) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
