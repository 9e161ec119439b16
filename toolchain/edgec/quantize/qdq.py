"""Explicit Q/DQ: onnxruntime's quantiser, fed with our ranges and told where the target wants its roundings."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorData, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import add_infer_metadata

from edgec.calibrate import Placement, Ranges, activation_grid, place, prepare
from edgec.core.errors import CalibrationError
from edgec.graph.view import WEIGHTED
from edgec.quantize.weights import LEAST_REACH, scaled_axis

if TYPE_CHECKING:
    from edgec.core.target import Target

__all__ = ["insert_qdq"]


def insert_qdq(model: Path, ranges: Ranges, target: Target) -> ModelProto:
    """The model with weights in int8 and activations rounded by pairs of QuantizeLinear and DequantizeLinear.

    Raises:
        CalibrationError: A tensor to be rounded has no range.
    """
    prepared = prepare(model)
    placement = place(prepared, target, floats=ranges.floats)
    rounded = (*placement.tensors, *placement.shared)
    missing = [name for name in rounded if name not in ranges.bounds]
    if missing:
        raise CalibrationError(
            f"tensor '{missing[0]}' has no range, nor have {len(missing) - 1} others of the {len(rounded)} to round",
            hint="observe the ranges on this very model and target",
        )
    add_infer_metadata(prepared)
    with _root_logger_untouched():
        quantizer = _Quantizer(prepared, ranges, target, placement)
        for name in placement.shortcuts:
            quantizer.quantize_activation_tensor(name)
        quantized = quantizer.quantize_model()
        quantizer.model.topological_sort()
    quantized.ClearField("metadata_props")
    del quantized.graph.value_info[:]
    return quantized


class _Quantizer(QDQQuantizer):
    """onnxruntime's quantiser with what its options cannot say: tensors that stay in floating point, and the axis."""

    def __init__(self, model: ModelProto, ranges: Ranges, target: Target, placement: Placement) -> None:
        self._kept = placement.kept
        self._only_axis_0 = target.runtime.engine == "tensorrt"
        super().__init__(
            model,
            target.quantization.per_channel,
            target.quantization.reduce_range,
            QuantType.QInt8,
            _activation_type(target),
            _tensors_data(ranges),
            [],
            placement.excluded,
            placement.operators,
            _options(model, ranges, target, placement),
        )

    def quantize_activation_tensor(self, tensor_name: str) -> None:
        """Marks a tensor for rounding, unless it is to stay."""
        if tensor_name not in self._kept:
            super().quantize_activation_tensor(tensor_name)

    def quantize_output_same_as_input(self, output_name: str, input_name: str, node_name: str) -> None:
        """Marks a tensor that only moves values, unless it is to stay."""
        if output_name not in self._kept:
            super().quantize_output_same_as_input(output_name, input_name, node_name)

    def is_tensor_per_channel(
        self, tensor_name: str, default_axis: int, op_type: str | None = None
    ) -> tuple[bool, int | None]:
        """TensorRT computes wrongly, without a word, with scales along another axis than 0 (docs/targets.md §3)."""
        per_channel, axis = super().is_tensor_per_channel(tensor_name, default_axis, op_type)
        return (False, None) if self._only_axis_0 and axis != 0 else (per_channel, axis)


def _activation_type(target: Target) -> QuantType:
    grid = activation_grid(target)
    return QuantType.QUInt8 if grid is not None and grid.low == 0 else QuantType.QInt8


def _tensors_data(ranges: Ranges) -> TensorsData:
    bounds: dict[str, TensorData | tuple] = {
        name: TensorData(lowest=np.float32(low), highest=np.float32(high))
        for name, (low, high) in ranges.bounds.items()
    }
    return TensorsData(CalibrationMethod.MinMax, bounds)


def _options(model: ModelProto, ranges: Ranges, target: Target, placement: Placement) -> dict[str, Any]:
    grid = activation_grid(target)
    int32_bias = target.runtime.engine != "tensorrt"
    return {
        "ActivationSymmetric": grid is not None and grid.symmetric,
        "WeightSymmetric": True,
        # onnxruntime's int8 kernels add an int32 bias; TensorRT refuses one behind a DequantizeLinear.
        "QuantizeBias": int32_bias,
        "QDQDisableWeightAdjustForInt32Bias": not int32_bias,
        "OpTypesToExcludeOutputQuantization": [] if placement.rounds_outputs else sorted(placement.operators),
        "TensorQuantOverrides": {**_dead_channels(model, target), **_given(model, ranges, target)},
    }


def _dead_channels(model: ModelProto, target: Target) -> dict[str, list[dict[str, Any]]]:
    """Ranges for the all-zero channels that pruning leaves: that of the weight's widest channel.

    Their own would give a scale of 0, which TensorRT rejects, or the 1 that onnxruntime puts in its place, with which
    the step of the int32 bias, the product of both scales, is far too coarse.
    """
    overrides = {}
    for node, tensor in _weights(model):
        axis = scaled_axis(node, target)
        if axis is not None:
            weight = numpy_helper.to_array(tensor)
            reach = np.abs(np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)).max(axis=1)
            dead = reach < LEAST_REACH
            if dead.any() and not dead.all():
                # Of every channel: onnxruntime takes none where the first has a range and another has not.
                overrides[tensor.name] = _override(axis, np.where(dead, reach.max(), reach))
    return overrides


def _given(model: ModelProto, ranges: Ranges, target: Target) -> dict[str, list[dict[str, Any]]]:
    """Ranges of weights that do not follow from their largest values."""
    return {
        tensor.name: _override(scaled_axis(node, target), ranges.weights[tensor.name])
        for node, tensor in _weights(model)
        if tensor.name in ranges.weights
    }


def _weights(model: ModelProto) -> Iterator[tuple[NodeProto, TensorProto]]:
    """The weighted operators whose weight is constant, each with it."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in WEIGHTED and node.input[1] in constants:
            yield node, constants[node.input[1]]


def _override(axis: int | None, reaches: Iterable[float]) -> list[dict[str, Any]]:
    """As onnxruntime wants it, a table per channel."""
    where = {} if axis is None else {"axis": axis}
    return [{**where, "rmin": np.float32(-reach), "rmax": np.float32(reach)} for reach in reaches]


@contextmanager
def _root_logger_untouched() -> Iterator[None]:
    """onnxruntime.quantization logs to the root logger, and where that has no handler, installs one for good."""
    root = logging.getLogger()
    handler = logging.NullHandler()

    def is_foreign(record: logging.LogRecord) -> bool:
        return "onnxruntime" not in record.pathname

    root.addHandler(handler)
    root.addFilter(is_foreign)
    try:
        yield
    finally:
        root.removeFilter(is_foreign)
        root.removeHandler(handler)
