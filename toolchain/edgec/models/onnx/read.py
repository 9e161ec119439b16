"""An ONNX file with all that belongs to it, in memory: weights of other files are read into it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto

from edgec.core.errors import DataError, UnsupportedError
from edgec.models.onnx.outline import data_file
from edgec.models.recognise import Kind, foreign_kind, require_onnx

__all__ = ["graphs_of", "read_model", "tensors_of"]

_LIMIT = (1 << 31) - 1
"""Bytes of a protobuf at most."""


def read_model(path: Path) -> tuple[ModelProto, tuple[str, ...]]:
    """The model, and the names of the other files that it was read from.

    Raises:
        DataError: Not there, another kind of file, damaged, or its weights are not beside it.
        UnsupportedError: More than protobuf holds.
    """
    require_onnx(path)
    if path.stat().st_size > _LIMIT:
        raise _too_large(path, path.stat().st_size)
    model = ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise DataError(
            f"model '{path}': not a valid ONNX file ({path.stat().st_size:,} bytes): cut short, damaged, or not ONNX",
            hint="compare its size with the original's, and copy or export it again",
        ) from error
    if not model.graph.node:
        raise DataError(f"model '{path}': not a valid ONNX file: it holds no graph", hint="export it again")
    return model, _inlined_(model, path)


def _inlined_(model: ModelProto, path: Path) -> tuple[str, ...]:
    """Reads tensors of other files into the model."""
    outside = [tensor for tensor in tensors_of(model) if tensor.data_location == TensorProto.EXTERNAL]
    size = model.ByteSize() + sum(_size(tensor) for tensor in outside)
    if size > _LIMIT:
        raise _too_large(path, size)
    names = dict[str, None]()
    for tensor in outside:
        given = {entry.key: entry.value for entry in tensor.external_data}
        location = given.get("location", "")
        source = data_file(path, location)
        names[location] = None
        tensor.raw_data = _read(source, tensor, path, int(given.get("offset", 0)))
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
    return tuple(names)


def _read(source: Path, tensor: TensorProto, model: Path, offset: int) -> bytes:
    expected = _size(tensor)
    with source.open("rb") as file:
        file.seek(offset)
        data = file.read(expected)
    if len(data) == expected:
        return data
    kind = foreign_kind(source, what="weights") if source.stat().st_size < 1 << 10 else None
    kind = kind or Kind.other("cut short", "copy both files again: they belong together")
    raise DataError(
        f"model '{model}': the file '{source.name}' with its weights is {kind.what}: {source.stat().st_size:,} bytes, "
        f"tensor '{tensor.name}' ends at {offset + expected:,}",
        hint=kind.model,
    )


def _size(tensor: TensorProto) -> int:
    """Bytes of a tensor's numbers; those of fewer than 8 bits are packed."""
    name = TensorProto.DataType.Name(tensor.data_type)
    bits = next((bits for bits in (2, 4) if name in (f"INT{bits}", f"UINT{bits}") or name == f"FLOAT{bits}E2M1"), None)
    count = math.prod(tensor.dims)
    if bits is not None:
        return math.ceil(count * bits / 8)
    return count * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize


def _too_large(path: Path, size: int) -> UnsupportedError:
    return UnsupportedError(
        f"model '{path}': {size / 1e9:.1f} GB of weights, more than the 2.1 GB that an ONNX graph holds in one piece",
        hint="give a smaller model: no device of edgec's targets runs this one",
    )


def tensors_of(model: ModelProto) -> Iterator[TensorProto]:
    """Every constant, in graphs within graphs and in attributes as well."""
    for graph in graphs_of(model.graph):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
        for node in graph.node:
            yield from (attribute.t for attribute in node.attribute if attribute.type == AttributeProto.TENSOR)


def graphs_of(graph: GraphProto) -> Iterator[GraphProto]:
    """The graph and those within it, as branches and loops have them."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from graphs_of(attribute.g)
