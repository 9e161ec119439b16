"""What a file is that was given as weights and holds none that can be read: said, with the way to what can."""

from __future__ import annotations

import zipfile
from collections.abc import Collection
from pathlib import Path

from edgec.core.errors import DataError

__all__ = ["is_safetensors", "refuse_other_kinds"]

HEAD = 512
"""Bytes that tell a kind of file by what it begins with."""

KEEP_STATE = "save its tensors and name the architecture with --model: torch.save({}, 'weights.pt')"
BEGINNINGS = (
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself", "fetch the file: git lfs pull"),
    (b"<!DOCTYPE", "a web page, not the file itself", "download the file itself: the page's link to the raw file"),
    (b"<html", "a web page, not the file itself", "download the file itself: the page's link to the raw file"),
    (b"\x89HDF", "a Keras or HDF5 file", "convert it to ONNX with tf2onnx, and give that with --model FILE.onnx"),
    (b"\x93NUMPY", "an array of NumPy", "save model.state_dict() with torch.save or safetensors"),
    (b"\x1f\x8b", "packed with gzip", "unpack it first: gunzip, or tar xf"),
)
MEMBERS = (
    ("constants.pkl", "a TorchScript module", KEEP_STATE.format("torch.jit.load(path).state_dict()")),
    ("serialized_exported_program.json", "an exported program of torch", KEEP_STATE.format("program.state_dict")),
    ("model.weights.h5", "a Keras model", "convert it to ONNX with tf2onnx, and give that with --model FILE.onnx"),
    ("saved_model.pb", "a TensorFlow model", "convert it to ONNX with tf2onnx, and give that with --model FILE.onnx"),
)
EXPORTED = "an exported program of torch"
"""What `torch.export.save` writes: since torch 2.7 its members lie below `models/`."""


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as those of safetensors do, whatever its name ends with."""
    head = _head(path)
    return head[8:9] == b"{" and head[:1] != b"<"


def refuse_other_kinds(path: Path) -> None:
    """Lets pass what may be a checkpoint.

    Raises:
        DataError: The file is of another kind, which is named.
    """
    head = _head(path)
    found = next(((what, hint) for start, what, hint in BEGINNINGS if head.lstrip().startswith(start)), None)
    if head[4:8] == b"TFL3":
        found = (
            "a TensorFlow Lite model",
            "convert it to ONNX with tf2onnx --tflite, and give that with --model FILE.onnx",
        )
    elif path.suffix == ".onnx" or _is_onnx(head):
        found = "an ONNX model, which carries its weights", f"give it as the model: --model {_as_onnx(path)}"
    elif found is None and zipfile.is_zipfile(path):
        found = _packed(_members(path))
    if found is not None:
        what, hint = found
        raise DataError(f"weights '{path}': {what}", hint=hint)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD)


def _is_onnx(head: bytes) -> bool:
    """Field 1 of a `ModelProto`, its version, then its producer's name: as all exporters write them."""
    return head[:1] == b"\x08" and head[2:3] in (b"\x12", b"\x3a")


def _as_onnx(path: Path) -> Path:
    return path if path.suffix == ".onnx" else path.with_suffix(".onnx")


def _members(path: Path) -> Collection[str]:
    try:
        with zipfile.ZipFile(path) as file:
            return file.namelist()
    except (zipfile.BadZipFile, OSError):
        return ()


def _packed(members: Collection[str]) -> tuple[str, str] | None:
    """What a zip file holds, where that is no checkpoint of torch."""
    names = {name.rpartition("/")[2] for name in members}
    if any("/models/" in f"/{name}" and name.endswith(".json") for name in members) and "data.pkl" not in names:
        return EXPORTED, KEEP_STATE.format("torch.export.load(path).state_dict")
    if members and all(name.endswith(".npy") for name in members):
        return "arrays of NumPy", "save model.state_dict() with torch.save or safetensors"
    return next(((what, hint) for member, what, hint in MEMBERS if member in names), None)
