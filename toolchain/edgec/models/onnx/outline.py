"""What a plan must know of an ONNX file before anything heavy is imported: its operators, types and other files.

It walks the protobuf as bytes, passes over what it does not look for, and takes what it cannot read for the end: to say
what is wrong with a file is the loader's part. Field numbers: onnx/onnx.proto.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgec.core.errors import DataError
from edgec.core.target import Scheme

__all__ = ["Outline", "data_file", "outline_of"]

_INSIDE: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "function": {7: "node"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {4: "operator", 5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {2: "type", 13: "entry"},
    "entry": {1: "key", 2: "value"},
}
"""By message and field: what is found there."""
_UINT8 = 2
_ROUNDS = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"})
_NO_NET = ("TreeEnsemble", "SVM")


@dataclass(frozen=True, kw_only=True)
class Outline:
    """Of one file.

    Attributes:
        operators: Types of its nodes, of any domain.
        uint8: Whether a tensor of it holds uint8, as zero points do.
        locations: Names of other files that hold its weights, as it has them.
    """

    operators: frozenset[str]
    uint8: bool
    locations: tuple[str, ...]

    @property
    def given_scheme(self) -> Scheme | None:
        """The number format that the file ships in as it is; None where it is a net in floating point, to quantise."""
        if any(name in _ROUNDS or name.startswith("QLinear") for name in self.operators):
            return Scheme.U8S8 if self.uint8 or "DynamicQuantizeLinear" in self.operators else Scheme.S8S8
        return Scheme.FLOAT32 if any(name.startswith(_NO_NET) for name in self.operators) else None


def outline_of(path: Path) -> Outline:
    """Reads a file, as far as it can be read."""
    operators, locations, types = set[str](), dict[str, None](), set[int]()
    with path.open("rb") as file:
        size = path.stat().st_size
        if size:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as data:
                for what, value in _found("model", data):
                    if what == "operator" and not isinstance(value, int):
                        operators.add(value)
                    elif what == "location" and not isinstance(value, int):
                        locations[value] = None
                    elif isinstance(value, int):
                        types.add(value)
    return Outline(operators=frozenset(operators), uint8=_UINT8 in types, locations=tuple(locations))


def data_file(model: Path, location: str) -> Path:
    """The file beside a model that holds weights of it: in the model's folder, whatever its name or a link says.

    Raises:
        DataError: It is not there, or elsewhere.
    """
    path = model.parent / location
    folders = (model.parent.resolve(), model.resolve().parent)
    if Path(location).is_absolute() or not any(path.resolve().is_relative_to(folder) for folder in folders):
        raise DataError(
            f"model '{model}': its weights are to be read from '{location}', outside of its folder",
            hint="put both files into one folder and save the model anew, or export it into one file",
        )
    if not path.is_file():
        raise DataError(
            f"model '{model}': the file '{location}', which holds its weights, is not beside it",
            hint="copy both files, or export the model into one file",
        )
    return path


def _found(message: str, data: memoryview) -> Iterator[tuple[str, str | int]]:
    inside, entry = _INSIDE[message], dict[str, str]()
    for number, value in _fields(data):
        what = inside.get(number)
        if what in _INSIDE and isinstance(value, memoryview):
            with value:
                yield from _found(what, value)
        elif what == "operator" and isinstance(value, memoryview):
            yield what, bytes(value).decode(errors="replace")
        elif what == "type" and isinstance(value, int):
            yield what, value
        elif message == "entry" and what is not None and isinstance(value, memoryview):
            entry[what] = bytes(value).decode(errors="replace")
    if entry.get("key") == "location":
        yield "location", entry.get("value", "")


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Number and value of each field, up to the first that cannot be read."""
    position, end = 0, len(data)
    try:
        while position < end:
            tag, position = _varint(data, position)
            wire, number = tag & 7, tag >> 3
            if wire == 0:
                value, position = _varint(data, position)
                yield number, value
            elif wire == 2:
                length, position = _varint(data, position)
                yield number, data[position : position + length]
                position += length
            elif wire in (1, 5):
                position += 8 if wire == 1 else 4
            else:
                return
    except IndexError:
        return


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position
