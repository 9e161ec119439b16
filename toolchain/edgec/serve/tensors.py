"""Open Inference Protocol v2: requests to pixels and scores to answers, as JSON or as binary tensors.

https://github.com/kserve/open-inference-protocol (specification/protocol/inference_rest.md); binary tensors and the
classification parameter as in Triton's extensions of it.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgec.core.errors import DataError
from edgec.core.inputs import InputSpec

__all__ = ["HEADER_LENGTH", "PIXELS", "Answer", "Asked", "Query", "Shape", "json_length", "read_query", "write_answer"]

HEADER_LENGTH = "inference-header-content-length"
"""The header that says how many bytes of a body are JSON; binary tensors follow."""
PIXELS = "pixels"
SCORES, LABELS = "scores", "labels"
_TYPES = {"UINT8": np.dtype(np.uint8), "FP32": np.dtype("<f4")}
_TO_BINARY = "application/octet-stream"
_TO_JSON = "application/json"
_NAME_LENGTH = 256
"""Of names that clients give: what is wrong with them is said with them."""
_AXES, _MOST = 8, 1 << 40
_VALUES_PER_NUMBER, _OTHER_VALUES = 3, 1024
"""A list for each pixel of one channel, and one for each of a row; what describes the tensor and the outputs."""
_BYTES_PER_VALUE, _OTHER_BYTES = 24, 64 << 10
"""`-0.10000000149011612, ` is a float32 as Python writes it; names and spaces."""
_SIGNS = (b",", b"[", b"{", b":")
"""What each value of a JSON text stands behind, but for the first."""


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class _TensorParameters(_Message):
    binary_data_size: int | None = Field(default=None, ge=0, lt=_MOST)


class _Tensor(_Message):
    name: str = Field(max_length=_NAME_LENGTH)
    shape: tuple[Annotated[int, Field(lt=_MOST)], ...] = Field(max_length=_AXES)
    datatype: str = Field(max_length=_NAME_LENGTH)
    parameters: _TensorParameters = _TensorParameters()
    data: Any = None


class _OutputParameters(_Message):
    binary_data: bool | None = None
    classification: int | None = Field(default=None, ge=1, lt=_MOST)


class _Output(_Message):
    name: str = Field(max_length=_NAME_LENGTH)
    parameters: _OutputParameters = _OutputParameters()


class _RequestParameters(_Message):
    binary_data_output: bool = False


class _Request(_Message):
    id: str | None = Field(default=None, max_length=_NAME_LENGTH)
    parameters: _RequestParameters = _RequestParameters()
    inputs: tuple[_Tensor, ...]
    outputs: tuple[_Output, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a model takes and gives, as far as the protocol needs it.

    Attributes:
        spec: The images that it takes.
        tensor: Name of the input that takes prepared values, float32 [n, channels, height, width].
        labels: Its classes, in the order of the scores.
        images: Most images in a request.
        json_values: Most values in its JSON, however many images a request may have.
        pixels: Most pixels of an image file.
    """

    spec: InputSpec
    tensor: str
    labels: tuple[str, ...]
    images: int
    json_values: int
    pixels: int

    @property
    def most_values(self) -> int:
        """Values in the JSON of a request: as many images as may be, each number of them in a list of its own."""
        numbers = self.images * math.prod(self.spec.shape)
        return min(self.json_values, _VALUES_PER_NUMBER * numbers + _OTHER_VALUES)

    @property
    def json_bytes(self) -> int:
        """Of that JSON: no name in it is long, so what is longer is no request."""
        return self.most_values * _BYTES_PER_VALUE + _OTHER_BYTES

    def of(self, name: str) -> tuple[str, tuple[int, ...]]:
        """Type of an input, and its shape without the batch.

        Raises:
            DataError: There is no such input.
        """
        if name == PIXELS:
            return "UINT8", (self.spec.height, self.spec.width, self.spec.channels)
        if name == self.tensor:
            return "FP32", self.spec.shape
        raise DataError(f"input '{name}': expected '{PIXELS}' (UINT8, NHWC) or '{self.tensor}' (FP32, NCHW)")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """An output that a client wants.

    Attributes:
        name: `scores` or `labels`.
        binary: Whether it comes behind the JSON.
        best: How many classes to name in place of the scores; None gives all scores.
    """

    name: str
    binary: bool = False
    best: int | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Query:
    """A request, understood.

    Attributes:
        tensor: uint8 [n, height, width, channels], or prepared float32 [n, channels, height, width].
        asked: What the answer is to hold.
        id: The client's name for it.
    """

    tensor: np.ndarray
    asked: tuple[Asked, ...] = (Asked(name=SCORES), Asked(name=LABELS))
    id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A response's body and the headers that go with it."""

    body: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    status: int = 200


def read_query(body: bytes | bytearray, header_length: str | None, shape: Shape) -> Query:
    """Reads the body of an inference request.

    Args:
        body: JSON, and binary tensors behind it; pixels alone where the length is 0.
        header_length: `Inference-Header-Content-Length`; None where all of it is JSON.
        shape: What the model takes.

    Raises:
        DataError: It is not what the protocol or the model asks for.
    """
    length = json_length(header_length, len(body))
    if header_length is not None and length == 0:
        return Query(tensor=_shaped(np.frombuffer(body, np.uint8), (-1, *shape.of(PIXELS)[1]), shape))
    header = body if length == len(body) else body[:length]
    _require_few_values(header, shape)
    try:
        request = _Request.model_validate_json(header)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise DataError(f"{where or 'the body'}: {first['msg']}") from error
    if len(request.inputs) != 1:
        raise DataError(f"{len(request.inputs)} inputs: expected one")
    return Query(
        tensor=_tensor(request.inputs[0], memoryview(body)[length:], shape),
        asked=_asked(request),
        id=request.id,
    )


def json_length(text: str | None, most: int) -> int:
    """Bytes of JSON in a body of so many, by its `Inference-Header-Content-Length`; all where it has none.

    Raises:
        DataError: That is no number up to the body's bytes.
    """
    if text is None:
        return most
    if not (text.isascii() and text.isdigit() and len(text) < 16) or int(text) > most:
        raise DataError(f"Inference-Header-Content-Length '{text}': expected a number up to the body's {most} bytes")
    return int(text)


def _require_few_values(header: bytes | bytearray, shape: Shape) -> None:
    """Counts them before the parser makes objects of them, of which each takes up to 100 times the bytes."""
    if sum(map(header.count, _SIGNS)) > shape.most_values:
        raise DataError(
            f"the JSON holds more than {shape.most_values} values",
            hint="send tensors as binary data, with Inference-Header-Content-Length",
        )


def _asked(request: _Request) -> tuple[Asked, ...]:
    usual = request.parameters.binary_data_output
    wanted = request.outputs or (_Output(name=SCORES), _Output(name=LABELS))
    if len({output.name for output in wanted}) < len(wanted):
        raise DataError("outputs: one of them is asked for twice")
    for output in wanted:
        if output.name not in (SCORES, LABELS):
            raise DataError(f"output '{output.name}': expected '{SCORES}' or '{LABELS}'")
    return tuple(
        Asked(
            name=output.name,
            binary=usual if output.parameters.binary_data is None else output.parameters.binary_data,
            best=output.parameters.classification if output.name == SCORES else None,
        )
        for output in wanted
    )


def _tensor(tensor: _Tensor, binary: memoryview, shape: Shape) -> np.ndarray:
    datatype, plane = shape.of(tensor.name)
    if tensor.datatype != datatype:
        raise DataError(f"input '{tensor.name}': datatype '{tensor.datatype}', expected '{datatype}'")
    if tensor.shape[1:] != plane or not 0 < tensor.shape[0] <= shape.images:
        expected = f"[1 to {shape.images}, {', '.join(map(str, plane))}]"
        raise DataError(f"input '{tensor.name}': shape {list(tensor.shape)}, expected {expected}")
    size_bytes = tensor.parameters.binary_data_size
    if size_bytes is None:
        if len(binary):
            raise DataError(f"{len(binary)} bytes follow the JSON, and no input has a binary_data_size")
        return _from_json(tensor, _TYPES[datatype])
    expected_bytes = math.prod(tensor.shape) * _TYPES[datatype].itemsize
    if not size_bytes == len(binary) == expected_bytes:
        raise DataError(
            f"input '{tensor.name}': binary_data_size {size_bytes} and {len(binary)} bytes, expected {expected_bytes}"
        )
    return _finite(np.frombuffer(binary, _TYPES[datatype]).reshape(tensor.shape), tensor.name)


def _from_json(tensor: _Tensor, dtype: np.dtype) -> np.ndarray:
    wants = "numbers" if dtype.kind == "f" else "whole numbers from 0 to 255"
    wrong = DataError(f"input '{tensor.name}': data is not {math.prod(tensor.shape)} {wants}")
    kinds = (int, float) if dtype.kind == "f" else (int,)
    if not _are_numbers(tensor.data, kinds):  # of anything else NumPy would make texts, all as long as the longest
        raise wrong
    try:
        values = np.array(tensor.data)
    except (ValueError, OverflowError) as error:  # rows of different lengths, a number of a thousand digits
        raise wrong from error
    if values.dtype.kind not in "iuf" or values.size != math.prod(tensor.shape):
        raise wrong
    if dtype.kind == "u" and (values.min() < 0 or values.max() > np.iinfo(dtype).max):
        raise wrong
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused as such
        return _finite(values.reshape(tensor.shape).astype(dtype), tensor.name)


def _are_numbers(data: object, kinds: tuple[type, ...]) -> bool:
    """Whether nested lists hold numbers and nothing else."""
    waiting = [data]
    while waiting:
        item = waiting.pop()
        if not isinstance(item, list):
            return False
        waiting += [inner for inner in item if type(inner) not in kinds]
    return True


def _finite(values: np.ndarray, name: str) -> np.ndarray:
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise DataError(f"input '{name}': a value is not finite")
    return values


def _shaped(values: np.ndarray, wanted: tuple[int, ...], shape: Shape) -> np.ndarray:
    """Raw pixels of as many images as the bytes hold."""
    each = math.prod(wanted[1:])
    count, rest = divmod(values.size, each)
    if rest or not 0 < count <= shape.images:
        raise DataError(f"{values.size} bytes of pixels: expected 1 to {shape.images} times {each}")
    return values.reshape(wanted)


def write_answer(
    scores: np.ndarray, query: Query, *, labels: Sequence[str], named: Sequence[str], name: str, version: str
) -> Answer:
    """The response to a query.

    Args:
        scores: float32 [n, classes].
        query: What was asked.
        labels: The classes.
        named: What each image is called.
        name: The model's, as clients call it.
        version: Which of its versions answered.
    """
    described, behind = [], []
    for asked in query.asked:
        entry, data = _output(scores, asked, labels, named)
        described.append(entry)
        behind += [data] if data is not None else []
    fields = {"model_name": name, "model_version": version, "outputs": described}
    header = json.dumps(fields | ({"id": query.id} if query.id else {}), separators=(",", ":")).encode()
    if not behind:
        return Answer(body=header, headers=((b"content-type", _TO_JSON.encode()),))
    headers = ((b"content-type", _TO_BINARY.encode()), (HEADER_LENGTH.encode(), str(len(header)).encode()))
    return Answer(body=b"".join((header, *behind)), headers=headers)


def _output(
    scores: np.ndarray, asked: Asked, labels: Sequence[str], named: Sequence[str]
) -> tuple[dict[str, Any], bytes | None]:
    """Its entry in the JSON, and its bytes where they come behind that."""
    values = named if asked.name == LABELS else _values(scores, asked, labels)
    numbers = isinstance(values, np.ndarray)
    shape = [len(scores)] if asked.name == LABELS else [len(scores), asked.best or scores.shape[1]]
    if asked.best is not None:
        shape[1] = min(asked.best, len(labels))
    entry: dict[str, Any] = {"name": asked.name, "datatype": "FP32" if numbers else "BYTES", "shape": shape}
    if not asked.binary:
        return entry | {"data": values.ravel().tolist() if numbers else values}, None
    data = np.ascontiguousarray(values, "<f4").tobytes() if numbers else b"".join(map(_counted, values))
    return entry | {"parameters": {"binary_data_size": len(data)}}, data


def _values(scores: np.ndarray, asked: Asked, labels: Sequence[str]) -> np.ndarray | Sequence[str]:
    if asked.best is None:
        return scores
    best = np.argsort(-scores, axis=1, kind="stable")[:, : asked.best]
    return [f"{row[i]:f}:{i}:{labels[i]}" for row, order in zip(scores, best, strict=True) for i in order]


def _counted(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<I", len(data)) + data
