"""The linter's rules, one function each: what TensorRT asks of a quantised graph, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from onnx import NodeProto, TensorProto, numpy_helper

from edgec.core.facts import Finding
from edgec.export.limits import DLA_OPERATORS, builds_for_dla, newest_opset, refused_operators, version_of
from edgec.graph.quantized import QuantizedGraph
from edgec.graph.view import attribute

if TYPE_CHECKING:
    from edgec.core.target import Target

__all__ = ["RULES", "Case"]

_CLAMPS = ("Relu", "Clip")
_CONVOLUTIONS = ("Conv", "ConvTranspose")
_ROUNDINGS = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A graph for a target; `kept` names operators that stay in floating point on purpose."""

    graph: QuantizedGraph
    target: Target
    kept: frozenset[str]

    @property
    def version(self) -> tuple[int, int]:
        """TensorRT's, on the device."""
        return version_of(self.target.runtime.version)


def _zero_point(case: Case) -> Iterator[Finding]:
    """TensorRT refuses a zero-point that is not 0 or not known."""
    for node in case.graph.of_type(*_ROUNDINGS):
        if len(node.input) > 2 and node.input[2]:
            value = case.graph.value(node.input[2])
            if value is None or value.any():
                text = "computed at run time" if value is None else _text(value)
                what = f"zero-point {text}, expected 0"
                yield _error("zero-point", case, node, what, "quantise symmetrically: scheme s8s8")


def _integer_type(case: Case) -> Iterator[Finding]:
    """Int8 is the only integer between Q and DQ."""
    fixes = {
        "int32": "leave biases in floating point: QuantizeBias = False",
        "int16": "quantise activations in 8 bits",
        "uint8": "quantise symmetrically to int8: scheme s8s8",
    }
    for node in case.graph.of_type(*_ROUNDINGS):
        kind = _integer_of(case.graph, node)
        if kind not in ("int8", None):
            what = f"a bias in {kind}" if kind == "int32" else f"values in {kind}, expected int8"
            rule = "int32-bias" if kind == "int32" else "integer-type"
            yield _error(rule, case, node, what, fixes.get(kind, "store int8: scheme s8s8"))


def _scale(case: Case) -> Iterator[Finding]:
    """TensorRT refuses a scale of 0; a dead channel after pruning has one."""
    for node in case.graph.of_type(*_ROUNDINGS):
        value = case.graph.value(node.input[1])
        if value is None:
            yield _error("scale-constant", case, node, "a scale that is computed at run time", "calibrate ranges once")
        elif not np.isfinite(value).all():
            yield _error("scale-finite", case, node, "a scale that is not finite", "look for NaN in weights and ranges")
        elif not (value > 0).all():
            channel = int(np.flatnonzero(value.reshape(-1) <= 0)[0])
            what = f"scale {value.reshape(-1)[channel]:g} of channel {channel}, expected a positive number"
            yield _error("scale-positive", case, node, what, "give all-zero channels the widest channel's range")


def _activation_scale(case: Case) -> Iterator[Finding]:
    """The parser takes scales per channel for activations, and computes wrongly."""
    for node in case.graph.of_type(*_ROUNDINGS):
        value = case.graph.value(node.input[1])
        if value is not None and value.size > 1 and not case.graph.is_constant(node.input[0]):
            what = f"{value.size} scales for an activation, expected one"
            yield _error("activation-per-channel", case, node, what, "calibrate activations per tensor")


def _weight_axis(case: Case) -> Iterator[Finding]:
    """The parser takes weights with scales along any axis, and computes wrongly with all but the first."""
    for node in case.graph.of_type(*_ROUNDINGS):
        value, axis = case.graph.value(node.input[1]), attribute(node, "axis", 1)
        if value is not None and value.size > 1 and axis != 0 and case.graph.is_constant(node.input[0]):
            what = f"a weight with scales along axis {axis}, expected axis 0"
            yield _error("weight-axis", case, node, what, "scale along axis 0, or the whole weight by one scale")


def _pairs(case: Case) -> Iterator[Finding]:
    """What is rounded is read back, by the same scale, and not rounded again by another."""
    graph = case.graph
    for node in graph.of_type("QuantizeLinear"):
        for reader in graph.readers(node.output[0]):
            if reader.op_type != "DequantizeLinear":
                what = f"its integers go to {reader.op_type} '{graph.title(reader)}', expected DequantizeLinear"
                yield _error("unpaired", case, node, what, "let a DequantizeLinear follow every QuantizeLinear")
            elif not _same(graph, node, reader):
                what = f"'{graph.title(reader)}' reads its integers back by another scale"
                yield _error("unequal-pair", case, node, what, "give both nodes of a pair one scale")
        before = graph.maker(node.input[0])
        if before is not None and before.op_type == "DequantizeLinear" and not _same(graph, before, node):
            what = f"rounds again, by another scale, what '{graph.title(before)}' has rounded"
            yield _error("double-rounding", case, node, what, "round a tensor once")


def _inputs_in_int8(case: Case) -> Iterator[Finding]:
    """A convolution or matrix product is in int8 only where both of its inputs are."""
    if not case.target.quantization.scheme.is_int8:
        return
    for node in case.graph.weighted():
        rounded = [case.graph.dequantizer(name) is not None for name in node.input[:2]]
        if any(rounded) and not all(rounded):
            which = "input" if rounded[0] else "weight"
            what = f"{node.op_type} with its {which} in int8 alone, so it computes in floating point"
            yield _error("one-input", case, node, what, "quantise input and weight, or neither")
        elif not any(rounded) and node.name not in case.kept:
            what = f"{node.op_type} in floating point, which nothing asked for"
            yield _error("float-operator", case, node, what, "calibrate its input, or name it among those to keep")


def _fusion(case: Case) -> Iterator[Finding]:
    """A rounding between a convolution and what TensorRT would fuse into it splits one kernel into three."""
    graph = case.graph
    for node in graph.of_type(*_CLAMPS):
        before = graph.origin(node.input[0])
        if before != node.input[0] and _is_made_by(graph, before, "Conv", "ConvTranspose"):
            what = f"a rounding between it and the convolution that makes '{before}': they do not fuse"
            yield _warning("rounding-before-clamp", case, node, what, f"round the output of the {node.op_type} instead")


def _residual(case: Case) -> Iterator[Finding]:
    """Of an addition behind a convolution the other input is rounded: then the addition is part of that kernel."""
    graph = case.graph
    if not case.target.quantization.scheme.is_int8:
        return
    for node in graph.of_type("Add"):
        if node.name in case.kept or any(graph.is_constant(name) for name in node.input):
            continue
        origins = [graph.origin(name) for name in node.input]
        rounded = [name != origin for name, origin in zip(node.input, origins, strict=True)]
        straight = [
            graph.comes_straight_from(origin, "Conv") and _in_int8(graph, origin) and len(graph.readers(name)) == 1
            for name, origin in zip(node.input, origins, strict=True)
        ]
        if not any(straight):
            continue
        fix = "round the shortcut, and nothing else"
        if all(rounded) or not any(rounded):
            what = f"a residual addition with {'both inputs' if all(rounded) else 'no input'} in int8, expected one"
            yield _warning("residual", case, node, what, fix)
        elif straight[rounded.index(True)] and not straight[rounded.index(False)]:
            what = "a rounding between it and its convolution: they do not fuse"
            yield _warning("rounding-before-add", case, node, what, fix)


def _opset(case: Case) -> Iterator[Finding]:
    """Every TensorRT parses up to an opset."""
    opset = next(entry.version for entry in case.graph.model.opset_import if entry.domain in ("", "ai.onnx"))
    newest = newest_opset(case.version)
    if opset > newest:
        what = f"opset {opset}, TensorRT {_version(case)} parses up to {newest}"
        fix = f"set runtime.opset, or give a model, of {newest} or less"
        yield Finding(rule="opset", severity="error", node="the graph", what=what, fix=fix)


def _operators(case: Case) -> Iterator[Finding]:
    """Operators that its parser does not know."""
    refused = refused_operators(case.version)
    for node in case.graph.nodes:
        if node.op_type in refused or node.domain not in ("", "ai.onnx"):
            name = f"{node.domain}:{node.op_type}" if node.domain else node.op_type
            what = f"operator {name}, which TensorRT {_version(case)} does not parse"
            yield _error("operator", case, node, what, "write the model without it")
        elif node.op_type == "MaxPool" and len([name for name in node.output if name]) > 1:
            what = "MaxPool that also gives positions"
            yield _error("operator", case, node, what, "write the model without return_indices")


def _shapes(case: Case) -> Iterator[Finding]:
    """Only the batch is left open: everything else decides which kernels fit."""
    constants = {tensor.name for tensor in case.graph.proto.initializer}
    for value in case.graph.proto.input:
        shape = value.type.tensor_type.shape.dim
        if value.name in constants:
            continue
        for axis, size in enumerate(shape):
            if axis and not size.HasField("dim_value"):
                what = f"axis {axis} ('{size.dim_param}') of any length, expected the batch alone"
                yield Finding(
                    rule="dynamic-shape",
                    severity="error",
                    node=f"input '{value.name}'",
                    what=what,
                    fix="export the model for one image size",
                )


def _constants(case: Case) -> Iterator[Finding]:
    """A weight or bias that is not finite, in float32: what float16 cannot hold is told by the classes that lose it."""
    for tensor in case.graph.proto.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            readers = case.graph.readers(tensor.name)
            scale = any(n.op_type in _ROUNDINGS and n.input[1] == tensor.name for n in readers)
            clamp = any(n.op_type == "Clip" for n in readers)
            if readers and not scale and not clamp and not np.isfinite(numpy_helper.to_array(tensor)).all():
                what = f"constant '{tensor.name}' is not finite"
                yield _error("constant-finite", case, readers[0], what, "look for NaN in the model as given")


def _accelerator(case: Case) -> Iterator[Finding]:
    """What the accelerator (DLA) cannot take, where a profile asks for it."""
    if not case.target.rules.dla:
        return
    restored = case.target.gpu and case.target.gpu.dla_restored
    if not builds_for_dla(case.target.runtime.version, restored):
        again = f", {restored} is the first that does again on this device" if restored else ""
        what = f"TensorRT {_version(case)} builds nothing for it: 10.7 was the last that did{again}"
        yield Finding(rule="dla", severity="error", node="the DLA", what=what, fix="leave rules.dla out")
    for value in case.graph.proto.input:
        if any(not size.HasField("dim_value") for size in value.type.tensor_type.shape.dim):
            yield Finding(
                rule="dla",
                severity="warning",
                node=f"input '{value.name}'",
                what="a batch of any size, which the DLA does not take",
                fix="build the engine for one batch size: equal min, opt and max shapes",
            )
    for node in case.graph.nodes:
        if node.op_type not in DLA_OPERATORS:
            what = f"operator {node.op_type}, which runs on the GPU instead"
            yield _warning("dla", case, node, what, "allow GPU fallback, or write the model without it")
        elif node.op_type in _CONVOLUTIONS:
            yield from _convolution_on_accelerator(case, node)


def _convolution_on_accelerator(case: Case, node: NodeProto) -> Iterator[Finding]:
    kernel, strides, pads = (_list_attribute(node, name) for name in ("kernel_shape", "strides", "pads"))
    groups = attribute(node, "group", 1)
    if any(not 1 <= size <= 32 for size in kernel) or any(not 1 <= step <= 8 for step in strides):
        what = f"kernel {kernel} at stride {strides}: the DLA takes kernels up to 32 and strides up to 8"
        yield _warning("dla", case, node, what, "allow GPU fallback")
    elif node.op_type == "ConvTranspose" and (groups > 1 or any(pads)):
        what = "a transposed convolution with groups or padding"
        yield _warning("dla", case, node, what, "allow GPU fallback")


RULES: tuple[Callable[[Case], Iterator[Finding]], ...] = (
    *(_opset, _operators, _shapes, _constants),
    *(_integer_type, _zero_point, _scale, _activation_scale, _weight_axis, _pairs),
    *(_inputs_in_int8, _fusion, _residual, _accelerator),
)


def _error(rule: str, case: Case, node: NodeProto, what: str, fix: str) -> Finding:
    return Finding(rule=rule, severity="error", node=_node(case, node), what=what, fix=fix)


def _warning(rule: str, case: Case, node: NodeProto, what: str, fix: str) -> Finding:
    return Finding(rule=rule, severity="warning", node=_node(case, node), what=what, fix=fix)


def _node(case: Case, node: NodeProto) -> str:
    return f"node '{node.name}'" if node.name else case.graph.title(node)


def _version(case: Case) -> str:
    return ".".join(map(str, case.version))


def _text(value: np.ndarray) -> str:
    return str(value.reshape(-1)[np.flatnonzero(value.reshape(-1))[0]])


def _list_attribute(node: NodeProto, name: str) -> list[int]:
    return next((list(attribute.ints) for attribute in node.attribute if attribute.name == name), [])


def _integer_of(graph: QuantizedGraph, node: NodeProto) -> str | None:
    """The integer type on the quantised side of a rounding; None where it is known from nothing here."""
    names = [node.input[2]] if len(node.input) > 2 and node.input[2] else []
    if node.op_type == "DequantizeLinear":
        names.append(node.input[0])
    elif not names:
        return "uint8"  # ONNX's default
    for name in names:
        tensor = graph.constant(name)
        if tensor is not None:
            return TensorProto.DataType.Name(tensor.data_type).lower()
    return None


def _same(graph: QuantizedGraph, one: NodeProto, other: NodeProto) -> bool:
    first, second = graph.value(one.input[1]), graph.value(other.input[1])
    return first is None or second is None or np.array_equal(first, second)


def _is_made_by(graph: QuantizedGraph, name: str, *types: str) -> bool:
    maker = graph.maker(name)
    return maker is not None and maker.op_type in types


def _in_int8(graph: QuantizedGraph, name: str) -> bool:
    maker = graph.maker(name)
    return maker is not None and all(graph.dequantizer(each) is not None for each in maker.input[:2])
