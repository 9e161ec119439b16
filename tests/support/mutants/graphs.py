"""Graphs that one parser reads otherwise than another, so that what reaches outside is hidden from one of them."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from random import Random

import onnx
import onnxruntime

from support.mutants.specimen import Mutant, Specimen, kind, written

__all__ = ["disguised", "field", "hidden"]

GROUP = b"\xa3\x06\xa4\x06"
"""Group 100, begun and ended."""
LOCATION, VALUE = b"location", b"mine.txt"


@kind("graphs that parsers read in two ways")
def _(specimen: Specimen, place: Path, rng: Random) -> Mutant:
    data = hidden(specimen.files["model.onnx"], rng)
    return written(specimen.fitting({"model.onnx": data}), place, archive=rng.random() < 0.5, fits=True)


@kind("graphs in onnxruntime's own format")
def _(specimen: Specimen, place: Path, rng: Random) -> Mutant:
    data = _own_format(specimen.files["model.onnx"])
    if rng.random() < 0.5:  # a text that protobuf skips, so long that the header behind it lies at its place
        data = field(2, b"..") + data[4:]
    return written(specimen.fitting({"model.onnx": data}), place, archive=rng.random() < 0.5, fits=True)


def hidden(model: bytes, rng: Random) -> bytes:
    """The model with weights in a file, or a compiled engine, written as protobuf's writer does not write it."""
    own = onnx.load_from_string(model)
    graph = own.graph.SerializeToString()
    own.ClearField("graph")
    inner = rng.choice((_weight, _constant, _engine))(rng)
    parts = [graph, inner]
    rng.shuffle(parts)
    head = own.SerializeToString()
    return rng.choice(
        (
            head + disguised(7, b"".join(parts), rng),
            head + field(7, graph) + disguised(7, inner, rng),
            field(7, graph) + head + disguised(7, inner, rng),
            GROUP + head + field(7, b"".join(parts)),
        )
    )


def _weight(rng: Random) -> bytes:
    entry = field(1, LOCATION) + field(2, VALUE)
    return disguised(5, b"\x08\x01\x10\x01" + field(8, b"w") + disguised(13, entry, rng) + b"\x70\x01", rng)


def _constant(rng: Random) -> bytes:
    """The weights in an attribute of a node."""
    tensor = _weight(rng)
    value = disguised(5, field(1, b"value") + tensor + b"\xa0\x01\x04", rng)
    return disguised(1, field(2, b"evil") + field(4, b"Constant") + value, rng)


def _engine(rng: Random) -> bytes:
    return disguised(1, field(2, b"evil") + disguised(4, b"EPContext", rng) + field(7, b"com.microsoft"), rng)


def field(number: int, value: bytes) -> bytes:
    """A field of bytes as protobuf writes it."""
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def disguised(number: int, value: bytes, rng: Random) -> bytes:
    """The field for parsers that take 32 bits of a tag, or zeros behind a number; sometimes with a group before it."""
    tag = number << 3 | 2
    written = (
        _varint(tag | rng.choice((1, 2, 6)) << 32) if rng.random() < 0.5 else _varint(tag, longer=rng.randrange(4))
    )
    before = GROUP if rng.random() < 0.2 else b""
    return before + written + _varint(len(value), longer=rng.randrange(3)) + value


def _varint(number: int, *, longer: int = 0) -> bytes:
    if number >= 0x80 or longer:
        return bytes([number & 0x7F | 0x80]) + _varint(number >> 7, longer=longer - (number < 0x80))
    return bytes([number])


@cache
def _own_format(model: bytes) -> bytes:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.save_model_format", "ORT")
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = f"{folder}/model.ort"
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return Path(folder, "model.ort").read_bytes()
