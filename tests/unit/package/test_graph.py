"""What a graph takes from elsewhere is found wherever ONNX lets it stand; graphs that bring everything pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf.descriptor import FieldDescriptor
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from edgec.core.errors import IntegrityError
from edgec.package import open_bundle
from edgec.package.foreign import _MESSAGES, foreign_part

WEIGHTS = numpy_helper.from_array(np.arange(6, dtype=np.float32), "w")


def elsewhere() -> TensorProto:
    """A tensor whose values lie in another file."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[6], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="weights.bin")
    return tensor


def sparse(tensor: TensorProto) -> onnx.SparseTensorProto:
    return onnx.SparseTensorProto(values=tensor, indices=numpy_helper.from_array(np.arange(6)), dims=[9])


def graph(nodes: list[NodeProto], weights: list[TensorProto]) -> onnx.GraphProto:
    return helper.make_graph(nodes, "g", [], [], weights)


def model(nodes: list[NodeProto] | None = None, weights: list[TensorProto] | None = None) -> ModelProto:
    return helper.make_model(graph(nodes or [], weights or []))


def constant(**attribute: Any) -> NodeProto:
    return helper.make_node("Constant", [], ["c"], **attribute)


def as_weight(tensor: TensorProto) -> ModelProto:
    return model(weights=[WEIGHTS, tensor])


def as_sparse_weight(tensor: TensorProto) -> ModelProto:
    made = model()
    made.graph.sparse_initializer.append(sparse(tensor))
    return made


def as_attribute(tensor: TensorProto) -> ModelProto:
    return model([constant(value=tensor)])


def as_one_of_many(tensor: TensorProto) -> ModelProto:
    return model([constant(values=[WEIGHTS, tensor])])


def as_sparse_attribute(tensor: TensorProto) -> ModelProto:
    return model([constant(sparse_value=sparse(tensor))])


def in_a_branch(tensor: TensorProto) -> ModelProto:
    branch = graph([constant(value=tensor)], [])
    return model([helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=graph([], []))])


def in_branches(tensor: TensorProto) -> ModelProto:
    return model([helper.make_node("X", [], [], branches=[graph([], []), graph([], [tensor])])])


def in_a_function(tensor: TensorProto) -> ModelProto:
    made = model()
    opsets = [helper.make_opsetid("", 18)]
    made.functions.append(helper.make_function("own", "f", [], ["c"], [constant(value=tensor)], opsets))
    return made


def in_training(tensor: TensorProto) -> ModelProto:
    made = model()
    made.training_info.add().algorithm.CopyFrom(graph([], [tensor]))
    return made


PLACES = (as_weight, as_sparse_weight, as_attribute, as_one_of_many, as_sparse_attribute, in_a_branch, in_branches)


@pytest.mark.parametrize("place", [*PLACES, in_a_function, in_training])
def test_weights_in_another_file_are_found(place: Callable[[TensorProto], ModelProto]) -> None:
    assert foreign_part(place(elsewhere()).SerializeToString()) == "file of its own"
    assert foreign_part(place(WEIGHTS).SerializeToString()) is None


def test_a_place_without_a_file_is_found() -> None:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[6], data_location=TensorProto.EXTERNAL)
    assert foreign_part(as_weight(tensor).SerializeToString()) == "file of its own"


def test_a_compiled_engine_is_found() -> None:
    node = helper.make_node("EPContext", [], ["y"], domain="com.microsoft", ep_cache_context="../engine")
    assert foreign_part(model([constant(value=WEIGHTS), node]).SerializeToString()) == "compiled engine"


def test_a_graph_may_mention_what_it_does_not_do() -> None:
    made = model([constant(value_string="EPContext")], [WEIGHTS])
    made.doc_string = "external_data: EPContext"
    assert foreign_part(made.SerializeToString()) is None


def test_branches_without_end_are_refused() -> None:
    inner = b""
    for _ in range(120):
        for number in (6, 5, 1):  # graph of an attribute, attribute of a node, node of a graph
            inner = bytes([number << 3 | 2]) + varint(len(inner)) + inner
    assert foreign_part(bytes([7 << 3 | 2]) + varint(len(inner)) + inner) == "graph nested too deep"


def varint(number: int) -> bytes:
    return bytes([number]) if number < 0x80 else bytes([number & 0x7F | 0x80]) + varint(number >> 7)


def field(tag: bytes, value: bytes) -> bytes:
    return tag + varint(len(value)) + value


def in_graph(weight: bytes, *, tag: bytes = b"\x2a") -> bytes:
    """A model whose only weight is given as bytes."""
    return b"\x08\x08" + field(b"\x3a", field(tag, weight))


LOCATION = field(b"\x0a", b"location") + field(b"\x12", b"weights.bin")
NAMED = field(b"\x42", b"w")
UNLIKE = "field that is not written as protobuf writes it"
GROUP = bytes([100 << 3 & 0x7F | 0x80 | 3, 6, 100 << 3 & 0x7F | 0x80 | 4, 6])
OVERLONG = b"\xea\x80\x80\x80\x10"
"""13, `external_data`, for protobuf in C++, which takes 32 bits of a tag."""


@pytest.mark.parametrize(
    ("data", "found"),
    [
        pytest.param(in_graph(NAMED + field(OVERLONG, LOCATION)), "field 536870925 in a tensor", id="33 bits of a tag"),
        pytest.param(in_graph(NAMED + field(b"\xea\x00", LOCATION)), UNLIKE, id="a tag with a zero behind it"),
        pytest.param(in_graph(NAMED, tag=b"\xaa\x80\x00"), UNLIKE, id="a long tag of a tensor"),
        pytest.param(in_graph(NAMED + b"\x6a\x9d\x00" + LOCATION), UNLIKE, id="a length with a zero behind it"),
        pytest.param(in_graph(b"\x10\x81\x00"), UNLIKE, id="a number with a zero behind it"),
        pytest.param(in_graph(b"\x10" + b"\xff" * 9 + b"\x02"), UNLIKE, id="a number of 65 bits"),
        pytest.param(in_graph(b"\x10" + b"\xff" * 10 + b"\x01"), UNLIKE, id="a number of eleven bytes"),
        pytest.param(in_graph(b"\x10"), UNLIKE, id="a tag with nothing behind it"),
        pytest.param(in_graph(NAMED + b"\x6a\x7f" + LOCATION), UNLIKE, id="a length beyond the end"),
        pytest.param(in_graph(b"\x10\x01\x10\x01"), UNLIKE, id="one number twice"),
        pytest.param(in_graph(NAMED + b"\x10\x01"), UNLIKE, id="out of order"),
        pytest.param(b"\x3a\x00" + b"\x3a\x00", UNLIKE, id="two graphs, which protobuf merges"),
        pytest.param(in_graph(NAMED + b"\x68\x01"), "field 13 in a tensor", id="another wire type"),
        pytest.param(in_graph(b"\x0a\x01\x05"), "field 1 in a tensor", id="packed where protobuf does not pack"),
        pytest.param(in_graph(b"\x28\x05"), "field 5 in a tensor", id="not packed where protobuf packs"),
        pytest.param(GROUP + in_graph(NAMED), "field 100 in a model", id="a group"),
        pytest.param(in_graph(NAMED) + field(b"\x82\x06", b""), "field 96 in a model", id="a field of another version"),
        pytest.param(b"\x3e\x00", "field 7 in a model", id="wire type 6"),
        pytest.param(b"\x02\x00", "field 0 in a model", id="field 0"),
        pytest.param(b"\x12\x06..ORTM" + in_graph(NAMED), "header of another format", id="onnxruntime's own format"),
    ],
)
def test_what_parsers_could_read_in_two_ways_is_refused(data: bytes, found: str) -> None:
    assert (foreign_part(data) or "").startswith(found)


def test_protobuf_reads_the_name_of_a_file_where_a_tag_is_too_long() -> None:
    """The attack that such tags are for."""
    data = in_graph(NAMED + field(OVERLONG, LOCATION))
    [weight] = onnx.shape_inference.infer_shapes(data).graph.initializer  # in C++, as onnxruntime does
    assert [entry.value for entry in weight.external_data] == ["weights.bin"]
    assert foreign_part(data)


def test_a_list_of_more_fields_than_any_graph_has_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgec.package.foreign._MAX_FIELDS", 100)
    assert foreign_part(in_graph(b"\x08\x01" * 99)) == "list of more than 100 fields"
    assert foreign_part(in_graph(b"\x08\x01" * 90)) is None


MESSAGES = {
    "model": "ModelProto",
    "training": "TrainingInfoProto",
    "function": "FunctionProto",
    "graph": "GraphProto",
    "node": "NodeProto",
    "attribute": "AttributeProto",
    "sparse": "SparseTensorProto",
    "tensor": "TensorProto",
}
WIRES = {FieldDescriptor.TYPE_FLOAT: 5, FieldDescriptor.TYPE_DOUBLE: 1} | dict.fromkeys(
    (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_MESSAGE), 2
)


@pytest.mark.parametrize("message", MESSAGES)
def test_the_fields_are_those_of_onnx(message: str) -> None:
    """A newer onnx may have more; then they belong here, and what may hold a tensor is to be looked into."""
    kinds = {name: kind for kind, name in MESSAGES.items()}
    expected = {}
    for each in getattr(onnx, MESSAGES[message]).DESCRIPTOR.fields:
        inner = kinds.get(each.message_type.name, "") if each.message_type else ""
        wire = 2 if each.is_packed else WIRES.get(each.type, 0)
        file = message == "tensor" and each.name in ("external_data", "data_location")
        expected[each.number] = (wire, each.is_repeated and not each.is_packed, inner, file)
    ours = {number: tuple(found) for number, found in _MESSAGES[message].items()}
    assert {number: found for number, found in ours.items() if number in expected} == expected
    assert set(ours) - set(expected) <= ({8} if message == "model" else set())


def test_a_bundle_with_weights_elsewhere_is_refused(make_bundle: Callable[..., Path]) -> None:
    bundle = make_bundle(files={"model.onnx": as_weight(elsewhere()).SerializeToString()})
    with pytest.raises(IntegrityError, match=r"'model.onnx' has a file of its own, expected a graph that brings every"):
        open_bundle(bundle).verify()
