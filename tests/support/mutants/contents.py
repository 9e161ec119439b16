"""Manifests, golden images and graphs that are not what they should be, or more than that."""

from __future__ import annotations

import io
import json
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from support.mutants.specimen import Mutant, Specimen, kind, with_manifest, written

__all__: list[str] = []

DEEP = 200_000


@kind("JSON that is none")
def _(specimen: Specimen, place: Path, rng: Random) -> Mutant:
    text = specimen.files["manifest.json"]
    huge = b"1" * rng.choice((400, 5_000, 100_000))
    data = rng.choice(
        (
            *(b"[" * DEEP, b'{"a":' * DEEP, b"[" * DEEP + b"]" * DEEP, b"", b"null", b"[]", b'"x"', b"1", b"{}"),
            *(b"\xef\xbb\xbf" + text, text.decode().encode("utf-16"), b"\xff" + text, text + b"x", text * 2),
            text.replace(b'"release": 0', b'"release": ' + huge),
            text.replace(b'"bytes": ', b'"bytes": ' + huge, 1),
            text.replace(b'"schema": 1', b'"schema": 1, "schema": 1'),
            *(text.replace(b'"schema": 1', b'"schema": ' + other) for other in (b"NaN", b"1e999", b"-Infinity", huge)),
            text.replace(b'"schema": 1', b'"\\ud800": 1, "schema": 1'),
            text.replace(b'"release": 0', b'"release": 0, "__class__": {"__reduce__": "os.system"}'),
            text.replace(b'"data": {', b'"data": {"deep": ' + b"[" * 900 + b"NaN" + b"]" * 900 + b", ", 1),
        )
    )
    return with_manifest(specimen, data, place, rng)


@kind("manifest fields")
def _(specimen: Specimen, place: Path, rng: Random) -> Mutant:
    manifest = specimen.manifest
    digest, first = "0" * 64, "model.onnx"
    where, value = rng.choice(
        (
            *((("schema",), v) for v in (0, 2, -1, "1", 1.5, None, [], {}, 1 << 70)),
            *((("release",), v) for v in (-1, 1.5, "1", True, None, 1 << 60, [])),
            *((("labels",), v) for v in ([], ["a"], ["a", "a"], "ab", None, {}, [1, 2])),
            *((("input", "height"), v) for v in (0, -1, "8", None, 1 << 40)),
            *((("model", "scheme"), v) for v in ("s4s4", None, 1)),
            *((("model", "opset"), v) for v in (1, 99, "x", None)),
            *((("runtime", "engine"), v) for v in ("sh", None, ["onnxruntime"])),
            *((("runtime", "threads"), v) for v in (0, -1, "many")),
            *((("files", first, "bytes"), v) for v in (-1, 0, "1", None, 1 << 70, 1)),
            *((("files", first, "sha256"), v) for v in (digest, "", None, digest.upper() + "G", "A" * 64, 1)),
            *(((name,), None) for name in manifest if name not in ("release", "unknown")),  # they may be left out
            *((("more",), 1), (("files", "more.txt"), {"sha256": digest, "bytes": 1}), (("files",), {})),
            *((("target", "digest"), v) for v in ("x", None, 1)),
            *((("name",), v) for v in ("", None, 1, [])),
        )
    )
    inner: Any = manifest
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = value
    return with_manifest(specimen, json.dumps(manifest).encode(), place, rng)


class _Touch:
    """Unpickled, it makes a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.canary),)


def _npz(arrays: Mapping[str, Any], *, packed: bool = False) -> bytes:
    buffer = io.BytesIO()
    (np.savez_compressed if packed else np.savez)(buffer, **arrays)
    return buffer.getvalue()


@kind("golden images that carry code or lie")
def _(specimen: Specimen, place: Path, rng: Random) -> Mutant:
    with np.load(io.BytesIO(specimen.files["golden.npz"])) as stored:
        arrays = dict(stored)
    code = _Touch(place / "canary")
    objects, inputs, logits = np.array([code], dtype=object), arrays["inputs"], arrays["logits"]
    lying = _npz(arrays).replace(b"'shape': (", b"'shape': (9", 1)
    data = rng.choice(
        (
            _npz({**arrays, "inputs": objects}),
            _npz({**arrays, "more": objects}),
            pickle.dumps(code),
            _npz(arrays, packed=True),
            _npz({"inputs": np.zeros((1 << 24,), np.uint8), "logits": logits}, packed=True),
            _npz({"inputs": inputs[:0], "logits": logits[:0]}),
            _npz({"inputs": inputs.astype(np.float32), "logits": logits}),
            _npz({"inputs": inputs, "logits": logits[:, :-1]}),
            _npz({"inputs": inputs, "logits": np.full_like(logits, np.nan)}),
            _npz({"inputs": inputs, "logits": -logits}),
            _npz({"inputs": inputs}),
            lying,
            rng.randbytes(200),
            b"",
        )
    )
    return written(specimen.fitting({"golden.npz": data}), place, archive=rng.random() < 0.5, fits=True)


def _elsewhere(location: str) -> TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


@kind("graphs that reach outside or are none")
def _(specimen: Specimen, place: Path, rng: Random) -> Mutant:
    model = onnx.load_from_string(specimen.files["model.onnx"])
    way = rng.randrange(6)
    places = ("../beside/mine.txt", str(place / "beside" / "mine.txt"), "mine.txt", "*/_ORT_MEM_ADDR_/*")
    tensor = _elsewhere(rng.choice(places))
    if way == 0:
        model.graph.initializer.append(tensor)
    elif way == 1:
        model.graph.node.append(helper.make_node("Constant", [], ["evil"], value=tensor))
    elif way == 2:
        for weight in model.graph.initializer:
            del weight.external_data[:]
            weight.external_data.add(key="location", value=places[0])
            weight.data_location = TensorProto.EXTERNAL
            weight.ClearField("raw_data")
    elif way == 3:
        more = {"domain": "com.microsoft", "ep_cache_context": "../beside/mine.txt", "embed_mode": 0}
        model.graph.node.append(helper.make_node("EPContext", [], ["evil"], **more))
    elif way == 4:
        model.graph.node.append(helper.make_node("Run", [], ["evil"], domain="evil.so", command="touch canary"))
    data = rng.randbytes(500) if way == 5 else model.SerializeToString()
    return written(specimen.fitting({"model.onnx": data}), place, archive=rng.random() < 0.5, fits=True)
