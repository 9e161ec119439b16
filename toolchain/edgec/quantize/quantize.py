"""Post-training quantisation: from an FP32 graph and activation ranges to the graph that a target runs fast."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import assert_never

from edgec.calibrate import prepare
from edgec.core.files import write_bytes
from edgec.core.target import Scheme
from edgec.quantize.facts import QuantizationFacts, facts_of

if TYPE_CHECKING:
    from onnx import ModelProto

    from edgec.calibrate import Ranges
    from edgec.core.target import Target

__all__ = ["keep_model", "quantize_model"]


def quantize_model(
    model: Path, ranges: Ranges, target: Target, *, output: Path, metadata: Mapping[str, str] | None = None
) -> QuantizationFacts:
    """Writes the model in the target's scheme; equal inputs give equal bytes.

    The opset stays, but for int8 with the rest in float16, which needs opset 19.

    Args:
        model: FP32 ONNX.
        ranges: What `observe_ranges` read from this model for this target; empty for a floating-point scheme.
        target: Decides scheme, placement and granularity.
        output: The file to write; it appears whole or not at all.
        metadata: What the file says of itself, by name.

    Raises:
        CalibrationError: A tensor to be rounded has no range.
        UnsupportedError: The graph cannot be raised to the opset that float16 beside int8 needs.
    """
    from onnx import helper

    converted = _convert(model, ranges, target)
    helper.set_model_props(converted, dict(metadata or {}))
    data = converted.SerializeToString(deterministic=True)
    write_bytes(output, data)
    return facts_of(converted, target.quantization.scheme, data)


def keep_model(model: Path, target: Target, *, output: Path) -> QuantizationFacts:
    """Writes a model that ships with the numbers that it has; facts of what is in it."""
    import onnx

    data = model.read_bytes()
    write_bytes(output, data)
    return facts_of(onnx.load_from_string(data), target.quantization.scheme, data)


def _convert(model: Path, ranges: Ranges, target: Target) -> ModelProto:
    scheme = target.quantization.scheme
    if scheme is Scheme.FLOAT32:
        import onnx

        return onnx.load(model)
    if scheme is Scheme.FLOAT16:
        return _to_float16(model)
    if scheme is Scheme.S8S8 or scheme is Scheme.U8S8:
        from edgec.quantize.float_type import with_rest_in_float16
        from edgec.quantize.qdq import insert_qdq

        quantized = insert_qdq(model, ranges, target)
        return with_rest_in_float16(quantized) if target.quantization.computes_in_half else quantized
    assert_never(scheme)


def _to_float16(model: Path) -> ModelProto:
    """Weights and arithmetic in float16; input and logits stay float32."""
    from onnxruntime.quantization.onnx_model import ONNXModel
    from onnxruntime.transformers.float16 import convert_float_to_float16

    converted = convert_float_to_float16(prepare(model), keep_io_types=True)
    # The converter puts its casts at the end, where the ONNX checker does not accept them.
    ONNXModel(converted).topological_sort()
    del converted.graph.value_info[:]
    return converted
