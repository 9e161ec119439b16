"""The reader of graphs against protobuf: no graph that it lets pass may reach outside as protobuf reads it.

Half of the inputs are disguised graphs of `support/mutants/graphs.py`, since chance alone seldom writes a model.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import onnx
from google.protobuf.message import DecodeError, Message

from edgec.package.foreign import foreign_part
from rows import ROOT
from support.mutants.graphs import hidden

__all__ = ["INSTRUMENTED", "check", "mutate", "reaches_outside", "read_by_cxx", "seeds"]

INSTRUMENTED = ("edgec.package.foreign",)

CORPUS = ROOT / "tests" / "corpus" / "graphs"
UNREADABLE = (DecodeError, RuntimeError, ValueError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError)


def check(data: bytes) -> bool:
    """Raises AssertionError where the reader lets a graph pass that reaches outside."""
    if foreign_part(data):
        return False
    if what := reaches_outside(data):
        raise AssertionError(f"{what} in {data.hex()}")
    return True


def reaches_outside(data: bytes) -> str | None:
    """What a graph has that it must not have, as protobuf in C++ or in Python reads it; None where neither can."""
    for read in (read_by_cxx, onnx.ModelProto.FromString):
        try:
            found = _foreign(read(data))
        except UNREADABLE:
            continue
        if found:
            return found
    return None


def read_by_cxx(data: bytes) -> onnx.ModelProto:
    """As onnxruntime reads it: the inference of shapes is done in C++, which takes bytes and gives some back."""
    return onnx.shape_inference.infer_shapes(data)


def _foreign(message: Message) -> str | None:
    """By the names of fields, wherever they stand."""
    for field, value in message.ListFields():
        if field.name == "external_data" or (field.name == "data_location" and value):
            return "file of its own"
        if field.full_name == "onnx.NodeProto.op_type" and value == "EPContext":
            return "compiled engine"
        if field.message_type:
            for each in value if field.is_repeated else (value,):
                if found := _foreign(each):
                    return found
    return None


def seeds() -> list[bytes]:
    """What an earlier campaign kept, as far as it is committed."""
    return [path.read_bytes() for path in sorted(CORPUS.iterdir())]


def mutate(data: bytes, most: int, seed: int, usual: Callable[[bytes, int], bytes]) -> bytes:
    """LibFuzzer's own changes, or a disguise for what reaches outside."""
    rng = random.Random(seed)  # noqa: S311 - libFuzzer's seed
    try:
        disguised = hidden(data, rng) if rng.random() < 0.5 else b""
    except DecodeError:
        disguised = b""
    return usual(disguised or data, most)[:most]
