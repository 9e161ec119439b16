"""The reader of inference requests: a tensor as the model takes it, within the limits, or a refusal in words."""

from __future__ import annotations

import json

import numpy as np

from edgec.core.errors import DataError
from edgec.core.inputs import InputSpec
from edgec.serve.tensors import PIXELS, Shape, read_query, write_answer

__all__ = ["INSTRUMENTED", "check", "seeds"]

INSTRUMENTED = ("edgec.serve.tensors", "json")
SPEC = InputSpec(height=2, width=3, channels=3)
LABELS = ("cat", "dog")
SHAPE = Shape(spec=SPEC, tensor="input", labels=LABELS, images=4, json_values=4096, pixels=1 << 20)
ANSWER_BYTES = 1 << 16


def check(data: bytes) -> bool:
    """The first byte says how the length of the JSON is told. Raises AssertionError where a promise is broken."""
    how, body = data[:1], data[1:]
    header = {b"n": None, b"0": "0"}.get(how) if how in (b"n", b"0") else body[:4].decode("latin-1")
    try:
        query = read_query(body if how in (b"n", b"0") else body[4:], header, SHAPE)
    except DataError:
        return False
    assert query.tensor.dtype in (np.uint8, np.dtype("<f4"))
    assert query.tensor.shape[1:] in ((2, 3, 3), (3, 2, 3))
    assert 1 <= len(query.tensor) <= SHAPE.images
    assert np.isfinite(query.tensor).all()
    scores = np.full((len(query.tensor), 2), 0.5, np.float32)
    named = ["cat"] * len(scores)
    answer = write_answer(scores, query, labels=LABELS, named=named, name="pets", version="1")
    assert len(answer.body) <= ANSWER_BYTES
    return True


def seeds() -> list[bytes]:
    """JSON, JSON with binary tensors behind it, and pixels alone."""
    pixels, prepared = list(range(18)), [0.5] * 18
    inputs = [
        {"name": PIXELS, "shape": [1, 2, 3, 3], "datatype": "UINT8", "data": pixels},
        {"name": "input", "shape": [1, 3, 2, 3], "datatype": "FP32", "data": prepared},
    ]
    outputs = [{"name": "scores", "parameters": {"classification": 1}}, {"name": "labels"}]
    texts = [json.dumps({"id": "a", "inputs": [each], "outputs": outputs}).encode() for each in inputs]
    described = {"name": PIXELS, "shape": [1, 2, 3, 3], "datatype": "UINT8", "parameters": {"binary_data_size": 18}}
    asked = json.dumps({"inputs": [described], "parameters": {"binary_data_output": True}}).encode()
    binary = b"b" + f"{len(asked):04d}".encode() + asked + bytes(pixels)
    return [*(b"n" + text for text in texts), binary, b"0" + bytes(pixels) * 2]
