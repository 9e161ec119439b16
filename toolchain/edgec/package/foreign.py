"""Looks whether an ONNX graph reads other files, without the onnx package: it walks the protobuf as bytes.

onnxruntime follows a relative path below the current folder, so a graph could take its weights from a file that no
manifest names; and a node of a compiled engine is a program for the GPU. Parsers of protobuf take much that no writer
writes, each in its own way: numbers too long, fields out of order, groups, wire types that do not fit. What one passes
over, another may read as the name of a file. So a graph is taken only in the one form that protobuf's writer gives it,
and with the fields that ONNX has: `foreign_part` could write each byte that it passes over. Field numbers:
onnx/onnx.proto, IR version 14.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["foreign_part"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}


class _Field(NamedTuple):
    """What a message may hold under a number.

    Attributes:
        wire: How its value is written.
        many: Whether it may stand more than once.
        message: Which message to look into.
        file: Whether any value but the default says that a file is read.
    """

    wire: int
    many: bool = False
    message: str = ""
    file: bool = False


_NUMBER, _TEXT, _TEXTS = _Field(_VARINT), _Field(_BYTES), _Field(_BYTES, many=True)


def _one(message: str) -> _Field:
    return _Field(_BYTES, message=message)


def _many(message: str) -> _Field:
    return _Field(_BYTES, many=True, message=message)


def _fields(
    named: dict[int, _Field], *, number: tuple[int, ...] = (), text: tuple[int, ...] = (), texts: tuple[int, ...] = ()
) -> dict[int, _Field]:
    """Fields by number. A message without tensors, such as a type, is a text here: its length is all that matters."""
    return {**dict.fromkeys(number, _NUMBER), **dict.fromkeys(text, _TEXT), **dict.fromkeys(texts, _TEXTS), **named}


_MESSAGES: dict[str, dict[int, _Field]] = {
    "model": _fields(
        {7: _one("graph"), 20: _many("training"), 25: _many("function")},
        number=(1, 5),
        text=(2, 3, 4, 6),
        texts=(8, 14, 26),
    ),
    "training": _fields({1: _one("graph"), 2: _one("graph")}, texts=(3, 4)),
    "function": _fields({7: _many("node"), 11: _many("attribute")}, text=(1, 8, 10, 13), texts=(4, 5, 6, 9, 12, 14)),
    "graph": _fields(
        {1: _many("node"), 5: _many("tensor"), 15: _many("sparse")}, text=(2, 10), texts=(11, 12, 13, 14, 16)
    ),
    "node": _fields({5: _many("attribute")}, text=(3, 4, 6, 7, 8), texts=(1, 2, 9, 10)),
    "attribute": _fields(
        {
            2: _Field(_FIXED32),
            5: _one("tensor"),
            6: _one("graph"),
            7: _Field(_FIXED32, many=True),
            8: _Field(_VARINT, many=True),
            10: _many("tensor"),
            11: _many("graph"),
            22: _one("sparse"),
            23: _many("sparse"),
        },
        number=(3, 20),
        text=(1, 4, 13, 14, 21),
        texts=(9, 15),
    ),
    "sparse": _fields({1: _one("tensor"), 2: _one("tensor"), 3: _Field(_VARINT, many=True)}),
    "tensor": _fields(
        {
            1: _Field(_VARINT, many=True),
            13: _Field(_BYTES, many=True, file=True),
            14: _Field(_VARINT, file=True),
        },
        number=(2,),
        text=(3, 4, 5, 7, 8, 9, 10, 11, 12),  # 4, 5, 7, 10 and 11 are packed
        texts=(6, 16),
    ),
}
_OPERATOR = 4
"""The field of a node that says what it does."""
_COMPILED = b"EPContext"
"""onnxruntime's operator that holds an engine, or the path of one."""
_OTHER_FORMAT = b"ORTM"
"""Where these bytes stand at 4, onnxruntime takes the file for one of its own format, and reads another graph."""
_MAX_DEPTH = 100
"""protobuf's own limit."""
_MAX_FIELDS = 4_000_000
"""A graph of 100,000 nodes has half of that; they are looked through in some seconds."""
_MAX_NUMBER = (1 << 64) - 1
_MAX_BITS = 70
_MALFORMED = "field that is not written as protobuf writes it"


class _Found(Exception):  # noqa: N818 - not an error here
    """What a graph must not have."""


def foreign_part(model: bytes) -> str | None:
    """What a graph must not have; None where it brings all along.

    Such as weights in a `file of its own`, a `compiled engine`, or bytes that some parser could read otherwise.
    """
    if model[4:8] == _OTHER_FORMAT:
        return "header of another format"
    try:
        _Reader().look_into("model", memoryview(model), depth=0)
    except _Found as found:
        return str(found)
    return None


class _Reader:
    """Looks through messages, as many fields in all as a graph may have."""

    def __init__(self) -> None:
        self._left = _MAX_FIELDS

    def look_into(self, message: str, data: memoryview, *, depth: int) -> None:
        """Raises `_Found` at the first field of a message that a graph must not have."""
        if depth > _MAX_DEPTH:
            raise _Found("graph nested too deep")
        fields, position, last = _MESSAGES[message], 0, 0
        while position < len(data):
            self._left -= 1
            if self._left < 0:
                raise _Found(f"list of more than {_MAX_FIELDS} fields")
            tag, position = _varint(data, position)
            number, field = tag >> 3, fields.get(tag >> 3)
            if field is None or field.wire != tag & 7:
                raise _Found(f"field {number} in a {message} that ONNX does not know")
            if number < last or (number == last and not field.many):
                raise _Found(_MALFORMED)
            value, position = _value(data, position, field.wire)
            if field.message and isinstance(value, memoryview):
                self.look_into(field.message, value, depth=depth + 1)
            elif field.file and value != 0:
                raise _Found("file of its own")
            elif message == "node" and number == _OPERATOR and value == _COMPILED:
                raise _Found("compiled engine")
            last = number


def _value(data: memoryview, position: int, wire: int) -> tuple[memoryview | int, int]:
    """A field's value and the place behind it; one of fixed width stands as 0."""
    if wire == _VARINT:
        return _varint(data, position)
    value, length = 0, _FIXED.get(wire, 0)
    if wire == _BYTES:
        length, position = _varint(data, position)
        value = data[position : position + length]
    if length > len(data) - position:
        raise _Found(_MALFORMED)
    return value, position + length


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    """A number, in as few bytes as it takes, and the place behind it."""
    value = shift = 0
    while position < len(data) and shift < _MAX_BITS:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            if value > _MAX_NUMBER or (not byte and shift > 7):
                break
            return value, position
    raise _Found(_MALFORMED)
