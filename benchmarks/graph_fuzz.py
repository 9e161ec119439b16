"""Fuzzes the reader of graphs against protobuf: no graph that it lets pass may reach outside as protobuf reads it.

    python benchmarks/graph_fuzz.py [FOLDER …] [-max_total_time=3600] [-max_len=4096]

Coverage-guided, by atheris and libFuzzer, whose options these are. What reaches new code is kept in the first FOLDER;
`tests/corpus/graphs` is where to begin. It ends at the first finding, and writes it to a file. Half of the inputs are
disguised graphs of `support/mutants/graphs.py`, since chance alone seldom writes a model.
First: pip install 'edgec[build]' atheris
"""

from __future__ import annotations

import random
import sys

import onnx
from google.protobuf.message import DecodeError, Message

from edgec.package.foreign import foreign_part
from support.mutants.graphs import hidden

__all__ = ["fuzz", "reaches_outside", "read_by_cxx"]

UNREADABLE = (DecodeError, RuntimeError, ValueError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError)


def fuzz(data: bytes) -> None:
    """Raises AssertionError where the reader lets a graph pass that reaches outside."""
    if foreign_part(data) is None and (what := reaches_outside(data)):
        raise AssertionError(f"{what} in {data.hex()}")


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


def _mutated(data: bytes, most: int, seed: int) -> bytes:
    """LibFuzzer's own changes, or a disguise for what reaches outside."""
    import atheris

    rng = random.Random(seed)  # noqa: S311 - libFuzzer's seed
    try:
        disguised = hidden(data, rng) if rng.random() < 0.5 else b""
    except DecodeError:
        disguised = b""
    return atheris.Mutate(disguised or data, most)[:most]


def main() -> None:
    import atheris

    import edgec.package.foreign as reader

    for name in ("foreign_part", "_value", "_varint"):
        setattr(reader, name, atheris.instrument_func(getattr(reader, name)))
    reader._Reader.look_into = atheris.instrument_func(reader._Reader.look_into)  # noqa: SLF001
    atheris.Setup(sys.argv, fuzz, custom_mutator=_mutated)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
