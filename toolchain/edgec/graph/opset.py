"""Graphs in another ONNX operator set: raised by onnx's converter, lowered by what classifiers' operators changed."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import onnx
import onnx.inliner
import onnx.version_converter
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto

from edgec.core.errors import UnsupportedError

__all__ = ["opset_of", "raised", "to_opset"]

REDUCTIONS = frozenset({"ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL2"})
AXES_ARE_INPUTS = 18
"""The opset from which these take their axes as an input."""
_STANDARD = ("", "ai.onnx")


def opset_of(model: ModelProto) -> int:
    """Of the standard operators; 1 where the model has none."""
    return next((entry.version for entry in model.opset_import if entry.domain in _STANDARD), 1)


def raised(model: ModelProto, opset: int) -> ModelProto:
    """The model in this opset or the newer one that it has.

    Raises:
        UnsupportedError: onnx's converter does not know the way.
    """
    if opset_of(model) >= opset:
        return model
    try:
        return onnx.version_converter.convert_version(model, opset)
    except (RuntimeError, ValueError, onnx.version_converter.ConvertError) as error:
        raise UnsupportedError(
            f"the model cannot be raised from opset {opset_of(model)} to {opset}: onnx's converter says: "
            f"{_first_line(error)}",
            hint=f"export it again with opset_version={opset} or newer",
        ) from error


def to_opset(model: ModelProto, opset: int) -> ModelProto:
    """The model in an older opset; itself where it has that already.

    Downwards, onnx's own converter knows neither Pad nor ReduceMean with axes in an initialiser. The operators of
    classifiers changed little: reductions took their axes as an attribute before opset 18, Reshape had no `allowzero`
    before opset 14, operators that came later are written out where onnx defines them by older ones, attributes at
    their defaults are left out, and the rest must fit the older schema as it is, which onnx's checker decides.

    Raises:
        UnsupportedError: An operator cannot be written in that opset.
    """
    if opset_of(model) == opset:
        return model
    lowered = _written_out(copy.deepcopy(model), opset)
    for graph in _graphs(lowered.graph):
        for node in graph.node:
            if node.op_type in REDUCTIONS and len(node.input) == 2 and opset < AXES_ARE_INPUTS:
                _axes_to_attribute_(node, graph)
            if node.op_type == "Reshape" and opset < 14:
                _drop_allowzero_(node, graph)
            if node.op_type == "CastLike" and opset < 15:
                _cast_(node)
            _drop_defaults_(node, opset_of(model), opset)
    for entry in lowered.opset_import:
        if entry.domain in _STANDARD:
            entry.version = opset
    lowered.ir_version = onnx.helper.find_min_ir_version_for(lowered.opset_import, ignore_unknown=True)
    try:
        onnx.checker.check_model(lowered, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise UnsupportedError(
            f"the model cannot be written in opset {opset}: {_first_line(error)}",
            hint="choose a target with a newer runtime, or set runtime.opset in a profile of your own",
        ) from error
    return lowered


def _written_out(model: ModelProto, opset: int) -> ModelProto:
    """The model without operators that came after an opset, where their definition is made of older ones."""
    nodes = [node for graph in _graphs(model.graph) for node in graph.node if node.domain in _STANDARD]
    late = [node for node in nodes if _schema(node.op_type, opset) is None]
    if not late:
        return model
    for node in late:
        _give_defaults_(node, opset_of(model))
    later = {(node.domain, node.op_type) for node in late}
    return onnx.inliner.inline_selected_functions(model, sorted(later), inline_schema_functions=True)


def _give_defaults_(node: NodeProto, opset: int) -> None:
    """Writes out attributes that a definition by other operators refers to."""
    schema, given = _schema(node.op_type, opset), {each.name for each in node.attribute}
    for name, known in schema.attributes.items() if schema else ():
        if name not in given and known.default_value.type != AttributeProto.UNDEFINED:
            node.attribute.append(known.default_value)


def _schema(operator: str, opset: int) -> onnx.defs.OpSchema | None:
    try:
        return onnx.defs.get_schema(operator, opset)
    except onnx.defs.SchemaError:
        return None


def _drop_defaults_(node: NodeProto, newer: int, older: int) -> None:
    """Drops attributes that the older schema has not, where they say what was so before."""
    before, after = (_schema(node.op_type, version) for version in (older, newer))
    if node.domain not in _STANDARD or before is None or after is None:
        return
    keep = [each for each in node.attribute if each.name in before.attributes or not _is_default(each, after)]
    del node.attribute[:]
    node.attribute.extend(keep)


def _is_default(given: AttributeProto, schema: onnx.defs.OpSchema) -> bool:
    known = schema.attributes.get(given.name)
    if known is None or known.default_value.type == AttributeProto.UNDEFINED:
        return given.name == "dilations" and all(value == 1 for value in given.ints)
    return onnx.helper.get_attribute_value(given) == onnx.helper.get_attribute_value(known.default_value)


def _axes_to_attribute_(node: NodeProto, graph: GraphProto) -> None:
    axes = next((t for t in graph.initializer if t.name == node.input[1]), None)
    if axes is None:
        raise UnsupportedError(f"node '{node.name}': its axes are computed at run time", hint="use opset 18 or newer")
    keep = [attribute for attribute in node.attribute if attribute.name != "noop_with_empty_axes"]
    del node.attribute[:]
    node.attribute.extend(keep)
    node.attribute.append(onnx.helper.make_attribute("axes", onnx.numpy_helper.to_array(axes).tolist()))
    del node.input[1]
    if not any(axes.name in other.input for other in graph.node):
        graph.initializer.remove(axes)


def _cast_(node: NodeProto) -> None:
    """Definitions by older operators cast constants to the type of what they compute with, which is float here."""
    node.op_type = "Cast"
    del node.input[1]
    node.attribute.append(onnx.helper.make_attribute("to", onnx.TensorProto.FLOAT))


def _drop_allowzero_(node: NodeProto, graph: GraphProto) -> None:
    """`allowzero` says what a 0 in the shape means; without a 0 it says nothing."""
    shape = next((t for t in graph.initializer if t.name == node.input[1]), None)
    if shape is not None and onnx.numpy_helper.to_array(shape).all():
        del node.attribute[:]


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from _graphs(attribute.g)


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip()}".splitlines()[0]
