"""What a file is that is no ONNX model: told by its first bytes, with the way from there to a model."""

from __future__ import annotations

import zipfile
from pathlib import Path

from edgec.core.errors import DataError

__all__ = ["foreign_kind", "refuse_file", "require_onnx"]

_HEAD = 1 << 16
_EXPORT = "export it with torch.onnx.export(module, (image,), 'model.onnx')"
_TF2ONNX = "convert it with tf2onnx: python -m tf2onnx.convert --{} FILE --output model.onnx"
_WEIGHTS = "name its architecture with --model, and give this file with --weights"

_MAGIC: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file that it points to", "fetch it: git lfs pull"),
    (4, b"TFL3", "a TensorFlow Lite model", _TF2ONNX.format("tflite")),
    (4, b"ORTM", "a model in onnxruntime's own format", "give the .onnx file that it was made from"),
    (0, b"ftrt", "a TensorRT engine, which runs on one GPU alone", "give the .onnx file that it was built from"),
    (0, b"\x89HDF", "an HDF5 file, as Keras writes them", _TF2ONNX.format("keras")),
    (0, b"\x80\x02", "a pickle, as old torch checkpoints are", _WEIGHTS),
    (0, b"\x1f\x8b", "a gzip archive", "unpack it and give the .onnx file in it"),
    (0, b"\x93NUMPY", "a NumPy array", "give the path of an .onnx file"),
    (0, b"7767517", "an ncnn model", "give the .onnx file that it was converted from"),
)
"""Position, bytes, what it is, what to do."""
_ZIPPED: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("constants.pkl", "/code/"), "a TorchScript archive", f"load it with torch.jit.load and {_EXPORT}"),
    (
        ("serialized_exported_program.json", "archive_format", "models/model.json"),
        "a program of torch.export (.pt2)",
        "load it with torch.export.load and write it with torch.onnx.export(program, (), 'model.onnx', dynamo=True)",
    ),
    (("data.pkl",), "a torch checkpoint, weights without an architecture", _WEIGHTS),
    (("model.weights.h5",), "a Keras model", "load it with keras.models.load_model and convert it with tf2onnx"),
)
"""Names or parts of names in the archive, what it is, what to do."""
_NAMES = (
    *(".pt2", ".tflite", ".h5", ".hdf5", ".keras", ".pb", ".ort", ".engine", ".plan", ".pt", ".pth", ".ckpt", ".bin"),
    *(".safetensors", ".pkl", ".joblib", ".mlmodel", ".mlpackage", ".torchscript", ".xml"),
)


def require_onnx(path: Path) -> None:
    """Refuses what can be told from an ONNX model without reading it.

    Raises:
        DataError: It is not there, or something else.
    """
    if path.is_dir() and not (path / "saved_model.pb").exists():
        raise DataError(f"model '{path}' is a folder", hint="give the path of the .onnx file in it")
    if not path.exists():
        raise DataError(f"no model file '{path}'", hint="give the path of an .onnx file")
    found = foreign_kind(path)
    if found is not None:
        what, hint = found
        raise DataError(f"model '{path}' is {what}, expected an ONNX file", hint=hint)


def refuse_file(name: str) -> None:
    """Refuses a model's name that is that of a file of another kind, not of an architecture.

    Raises:
        DataError: It is; what it is, and what to do.
    """
    if not name.lower().endswith(_NAMES):
        return
    require_onnx(Path(name))
    raise DataError(
        f"model '{name}' is a file, expected the name of an architecture or a file that ends in .onnx", hint=_WEIGHTS
    )


def foreign_kind(path: Path) -> tuple[str, str] | None:
    """What a file or folder is and what to do about it; None for what may be an ONNX model.

    Raises:
        DataError: It cannot be read.
    """
    if path.is_dir():
        return "a TensorFlow SavedModel", _TF2ONNX.format("saved-model")
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise DataError(f"model '{path}' cannot be read: {error.strerror}", hint="check its permissions") from error
    if not head:
        return "empty (0 bytes)", "copy or export it again"
    if head.startswith(b"PK"):
        return _archive(path)
    for position, magic, what, hint in _MAGIC:
        if head[position:].startswith(magic):
            return what, hint
    return _by_contents(head)


def _by_contents(head: bytes) -> tuple[str, str] | None:
    start = head.lstrip()[:64].lower()
    if start.startswith((b"<!doctype", b"<html")):
        return "a web page, perhaps of a download that failed", "download the file itself"
    if start.startswith((b"<?xml", b"<net")):
        return "XML, as OpenVINO's .xml files are", "give the .onnx file that it was converted from"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32:
        return "a safetensors file, weights without an architecture", _WEIGHTS
    if head[:1] == b"\x0a" and b"Placeholder" in head:
        return "a TensorFlow graph", _TF2ONNX.format("graphdef")
    return None


def _archive(path: Path) -> tuple[str, str]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return "a zip archive that is damaged", "copy it again"
    for marks, what, hint in _ZIPPED:
        if any(mark in name for mark in marks for name in names):
            return what, hint
    return "a zip archive", "unpack it and give the .onnx file in it"
