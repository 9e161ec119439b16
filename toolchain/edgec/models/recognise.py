"""What a file is, told by its first bytes: what is given as a model and is no ONNX, or as weights and holds none."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from edgec.core.errors import DataError

__all__ = ["Kind", "foreign_kind", "is_safetensors", "refuse_file", "require_onnx", "require_weights"]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of file.

    Attributes:
        what: It is.
        model: What to do where it was given as a model.
        weights: What to do where it was given as weights; None where it may hold some.
    """

    what: str
    model: str
    weights: str | None

    @classmethod
    def other(cls, what: str, hint: str) -> Kind:
        """One that is neither a model nor weights, whatever it was given as."""
        return cls(what=what, model=hint, weights=hint)

    @classmethod
    def of_weights(cls, what: str) -> Kind:
        """One that may hold weights."""
        return cls(what=what, model=_WEIGHTS, weights=None)


_HEAD = 1 << 16
"""Bytes that tell a kind of file by what it begins with."""
_WEIGHTS = "name its architecture with --model, and give this file with --weights"
_EXPORT = "export it with torch.onnx.export(module, (image,), 'model.onnx')"
_TF2ONNX = "convert it: python -m tf2onnx.convert --{} FILE --output model.onnx; and give that with --model"
_KERAS = "load it with keras.models.load_model, convert it with tf2onnx, and give that with --model"
_STATE = "save its tensors and name the architecture with --model: torch.save({}, 'weights.pt')"
_ARRAY = "save model.state_dict() with torch.save or safetensors"
_MADE_FROM = "give the .onnx file that it was made from, with --model"
_ONNX = "give the path of an .onnx file"
_YOLO = Kind.other(
    "an Ultralytics checkpoint, which holds code",
    "export it: yolo export model=FILE format=onnx; then give --model and the .onnx file, without weights",
)

_MAGIC: tuple[tuple[int, bytes, Kind], ...] = (
    (
        0,
        b"version https://git-lfs",
        Kind.other("a Git LFS pointer, not the file that it points to", "fetch it: git lfs pull"),
    ),
    (4, b"TFL3", Kind.other("a TensorFlow Lite model", _TF2ONNX.format("tflite"))),
    (4, b"ORTM", Kind.other("a model in onnxruntime's own format", _MADE_FROM)),
    (0, b"ftrt", Kind.other("a TensorRT engine, which runs on one GPU alone", _MADE_FROM)),
    (0, b"7767517", Kind.other("an ncnn model", _MADE_FROM)),
    (0, b"\x89HDF", Kind.other("an HDF5 file, as Keras writes them", _KERAS)),
    (0, b"\x1f\x8b", Kind.other("a gzip archive", "unpack it, with gunzip or tar xf, and give the file in it")),
    (0, b"\x93NUMPY", Kind(what="a NumPy array", model=_ONNX, weights=_ARRAY)),
    (0, b"\x80\x02", Kind.of_weights("a pickle, as old torch checkpoints are")),
)
"""Position, bytes, what they tell."""
_ZIPPED: tuple[tuple[tuple[str, ...], Kind], ...] = (
    (
        ("constants.pkl", "/code/"),
        Kind(
            what="a TorchScript archive",
            model=f"load it with torch.jit.load and {_EXPORT}",
            weights=_STATE.format("torch.jit.load(path).state_dict()"),
        ),
    ),
    (
        ("serialized_exported_program.json", "archive_format", "models/model.json"),
        Kind(
            what="a program of torch.export (.pt2)",
            model="load it with torch.export.load and write it with "
            "torch.onnx.export(program, (), 'model.onnx', dynamo=True)",
            weights=_STATE.format("torch.export.load(path).state_dict"),
        ),
    ),
    (("data.pkl",), Kind.of_weights("a torch checkpoint, weights without an architecture")),
    (("model.weights.h5",), Kind.other("a Keras model", _KERAS)),
    (("saved_model.pb",), Kind.other("a TensorFlow SavedModel, zipped", _TF2ONNX.format("saved-model"))),
    ((".npy",), Kind(what="a file of NumPy arrays", model=_ONNX, weights=_ARRAY)),
)
"""Names or parts of names in the archive, what they tell."""
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
        raise DataError(f"no model file '{path}'", hint=_ONNX)
    found = foreign_kind(path, what="model")
    if found is not None:
        raise DataError(f"model '{path}' is {found.what}, expected an ONNX file", hint=found.model)


def require_weights(path: Path) -> None:
    """Lets pass what may be a checkpoint.

    Raises:
        DataError: The file is of another kind, which is named.
    """
    if path.suffix == ".onnx" or _is_onnx(_head(path, "weights")):
        model = path if path.suffix == ".onnx" else path.with_suffix(".onnx")
        raise DataError(
            f"weights '{path}': an ONNX model, which carries its weights", hint=f"give it as the model: --model {model}"
        )
    found = foreign_kind(path, what="weights")
    if found is not None and found.weights is not None:
        raise DataError(f"weights '{path}': {found.what}", hint=found.weights)


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


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as those of safetensors do, whatever its name ends with."""
    return _begins_as_safetensors(_head(path, "weights"))


def foreign_kind(path: Path, *, what: str) -> Kind | None:
    """What a file or folder is; None for what may be an ONNX model, or begins with nothing that is known.

    Args:
        path: The file or folder.
        what: It was given as, for the error.

    Raises:
        DataError: It cannot be read.
    """
    if path.is_dir():
        return Kind.other("a TensorFlow SavedModel", _TF2ONNX.format("saved-model"))
    head = _head(path, what)
    if not head:
        return Kind.other("empty (0 bytes)", "copy or export it again")
    if head.startswith(b"PK"):
        return _archive(path)
    known = (kind for position, magic, kind in _MAGIC if head[position:].startswith(magic))
    return next(known, None) or _by_contents(head)


def _head(path: Path, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD)
    except OSError as error:
        raise DataError(f"{what} '{path}' cannot be read: {error.strerror}", hint="check its permissions") from error


def _is_onnx(head: bytes) -> bool:
    """Field 1 of a `ModelProto`, its version, then its producer's name: as all exporters write them."""
    return head[:1] == b"\x08" and head[2:3] in (b"\x12", b"\x3a")


def _begins_as_safetensors(head: bytes) -> bool:
    """The length of a header in JSON, then the header."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32


def _by_contents(head: bytes) -> Kind | None:
    start = head.lstrip()[:64].lower()
    if start.startswith((b"<!doctype", b"<html")):
        return Kind.other("a web page, perhaps of a download that failed", "download the file itself")
    if start.startswith((b"<?xml", b"<net")):
        return Kind.other("XML, as OpenVINO's .xml files are", _MADE_FROM)
    if _begins_as_safetensors(head):
        return Kind.of_weights("a safetensors file, weights without an architecture")
    if head[:1] == b"\x0a" and b"Placeholder" in head:
        return Kind.other("a TensorFlow graph", _TF2ONNX.format("graphdef"))
    return None


def _made_by_ultralytics(archive: zipfile.ZipFile) -> bool:
    """Whether a torch checkpoint pickled one of its classes."""
    names = archive.namelist()
    pickles = [name for name in names if name.endswith("/data.pkl")]
    if not pickles or any(name.endswith("constants.pkl") for name in names):  # the latter are TorchScript
        return False
    with archive.open(pickles[0]) as file:
        return b"ultralytics.nn" in file.read(_HEAD)


def _archive(path: Path) -> Kind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if _made_by_ultralytics(archive):
                return _YOLO
    except RuntimeError:
        return Kind.other("a zip archive with a password", "unpack it and give the file in it")
    except (zipfile.BadZipFile, zlib.error, OSError):
        return Kind.other("a zip archive that is damaged", "copy it again")
    known = (kind for marks, kind in _ZIPPED if any(mark in name for mark in marks for name in names))
    return next(known, None) or Kind.other("a zip archive", "unpack it and give the file in it")
