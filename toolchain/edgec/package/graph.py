"""Looks whether an ONNX graph reads other files, without the onnx package: it walks the protobuf as bytes.

onnxruntime follows a relative path below the current folder, so a graph could take its weights from a file that no
manifest names; and a node of a compiled engine is a program for the GPU. Field numbers: onnx/onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["foreign_part"]


class _Reads(NamedTuple):
    """What a field of a message tells: that a file is read, or which message to look into."""

    message: str = ""
    what: str = ""


_FIELDS: dict[str, dict[int, _Reads]] = {
    "model": {7: _Reads("graph"), 20: _Reads("training"), 25: _Reads("function")},
    "training": {1: _Reads("graph"), 2: _Reads("graph")},
    "function": {7: _Reads("node"), 11: _Reads("attribute")},
    "graph": {1: _Reads("node"), 5: _Reads("tensor"), 15: _Reads("sparse")},
    "node": {4: _Reads(what="compiled engine"), 5: _Reads("attribute")},
    "attribute": {
        **dict.fromkeys((5, 10), _Reads("tensor")),
        **dict.fromkeys((6, 11), _Reads("graph")),
        **dict.fromkeys((22, 23), _Reads("sparse")),
    },
    "sparse": {1: _Reads("tensor"), 2: _Reads("tensor")},
    "tensor": {13: _Reads(what="file of its own"), 14: _Reads(what="file of its own")},
}
_COMPILED = b"EPContext"
"""onnxruntime's operator that holds an engine, or the path of one."""
_MAX_DEPTH = 100
"""protobuf's own limit."""
_VARINT, _FIXED64, _BYTES, _GROUP, _GROUP_END, _FIXED32 = range(6)
_SKIPPED = {_FIXED64: 8, _FIXED32: 4}


def foreign_part(model: bytes) -> str | None:
    """What a graph must not have: weights in a `file of its own`, a `compiled engine`; None where it brings all along.

    Bytes that are no protobuf hold nothing: whatever runs them refuses them.
    """
    waiting = [("model", memoryview(model), 0)]
    while waiting:
        kind, data, depth = waiting.pop()
        if depth > _MAX_DEPTH:
            return "graph nested too deep"
        for number, value in _fields(data):
            found = _FIELDS[kind].get(number)
            if found is None:
                continue
            if found.message and isinstance(value, memoryview):
                waiting.append((found.message, value, depth + 1))
            elif found.what and _is_foreign(kind, value):
                return found.what
    return None


def _is_foreign(kind: str, value: memoryview | int) -> bool:
    """A tensor's list of places, or a place that is not the default; the operator's name."""
    return value == _COMPILED if kind == "node" else isinstance(value, memoryview) or value != 0


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Numbers and values of a message's fields, up to where it is no protobuf; fixed-width values stand as 0."""
    position, size = 0, len(data)
    while position < size:
        tag, position = _varint(data, position)
        number, wire = tag >> 3, tag & 7
        if position < 0 or not number:
            return
        if wire == _VARINT:
            value, position = _varint(data, position)
            if position < 0:
                return
            yield number, value
        elif wire == _BYTES:
            length, position = _varint(data, position)
            if position < 0 or length > size - position:
                return
            yield number, data[position : position + length]
            position += length
        elif wire in _SKIPPED:
            position += _SKIPPED[wire]
        elif wire not in (_GROUP, _GROUP_END):  # what stands in a group is looked at like what stands outside
            return


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    """A number and the place behind it; -1 where there is none."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            return 0, -1
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return value, position
    return 0, -1
