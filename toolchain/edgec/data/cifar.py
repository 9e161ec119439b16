"""CIFAR-10 and CIFAR-100 in torchvision's layout, read without running what a pickle may hold.

The files are pickles written by Python 2. A pickle is a program that may call whatever can be imported, so the
unpickler here knows two names only, both stand-ins of this module: an array of bytes and its type.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgec.core.errors import DataError
from edgec.core.inputs import InputSpec
from edgec.core.samples import Samples
from edgec.data.arrays import array_samples

__all__ = ["CifarSet", "find_cifar", "read_cifar", "read_cifar_images"]

_HINT = "download the set again; torchvision checks what it gets"
_BROKEN = (
    pickle.UnpicklingError,
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    MemoryError,
    OSError,
    OverflowError,
    TypeError,
    ValueError,
)
"""What an unpickler raises on bytes that are no pickle, or half of one."""


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """The files of a set, and the keys of its labels and names."""

    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    meta: str
    labels: str
    names: str


_LAYOUTS = (
    _Layout(
        folder="cifar-10-batches-py",
        train=tuple(f"data_batch_{number}" for number in range(1, 6)),
        test=("test_batch",),
        meta="batches.meta",
        labels="labels",
        names="label_names",
    ),
    _Layout(
        folder="cifar-100-python",
        train=("train",),
        test=("test",),
        meta="meta",
        labels="fine_labels",
        names="fine_label_names",
    ),
)


@dataclass(frozen=True, kw_only=True)
class CifarSet:
    """A folder that holds CIFAR-10 or CIFAR-100."""

    folder: Path
    layout: _Layout


def find_cifar(folder: Path) -> CifarSet | None:
    """The CIFAR set in a folder, or in its subfolder of torchvision's name; None where there is none.

    Raises:
        DataError: Both sets are there.
    """
    found = [
        CifarSet(folder=place, layout=layout)
        for layout in _LAYOUTS
        for place in (folder, folder / layout.folder)
        if (place / layout.meta).is_file() and all((place / name).is_file() for name in layout.test)
    ]
    if len(found) > 1:
        raise DataError(f"'{folder}' holds both CIFAR-10 and CIFAR-100", hint=f"give one of them, '{found[0].folder}'")
    return found[0] if found else None


def read_cifar(source: CifarSet, spec: InputSpec, *, classes: tuple[str, ...] | None, test: bool) -> Samples:
    """Labelled images of CIFAR-10 or CIFAR-100.

    Args:
        source: What `find_cifar` found.
        spec: What the model takes.
        classes: The model's labels; None takes the set's own names.
        test: The test files instead of the training files.

    Raises:
        DataError: A file is missing, damaged, of another content, or a pickle with code in it.
    """
    names = _names(source.folder / source.layout.meta, source.layout.names)
    images, labels = _batches(source, source.layout.test if test else source.layout.train)
    where = f"'{source.folder}' ({'test' if test else 'training'} files)"
    return array_samples(images, labels, spec, names=names, classes=classes, where=where)


def read_cifar_images(source: CifarSet) -> np.ndarray:
    """The training images without their labels, uint8 [n, 32, 32, 3].

    Raises:
        DataError: As `read_cifar`.
    """
    return _batches(source, source.layout.train)[0]


def _batches(source: CifarSet, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    parts = [_batch(source.folder / name, source.layout.labels) for name in names]
    return np.concatenate([images for images, _ in parts]), np.concatenate([labels for _, labels in parts])


def _names(path: Path, key: str) -> tuple[str, ...]:
    names = _field(_unpickle(path), key, path)
    if not isinstance(names, list) or not names or not all(isinstance(name, str | bytes) for name in names):
        raise DataError(f"'{path}': '{key}' is not a list of names", hint=_HINT)
    return tuple(name.decode("latin1") if isinstance(name, bytes) else name for name in names)


def _batch(path: Path, key: str) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [n, 32, 32, 3] and int64 [n]: a row holds 1024 red, 1024 green and 1024 blue values."""
    fields = _unpickle(path)
    data = _field(fields, "data", path)
    rows = data.values if isinstance(data, _ByteArray) else None
    if rows is None or rows.ndim != 2 or rows.shape[1] != 3 * 32 * 32:
        raise DataError(f"'{path}': 'data' is not an array of bytes [n, 3072]", hint=_HINT)
    labels = _field(fields, key, path)
    if not isinstance(labels, list) or not all(type(label) is int for label in labels) or len(labels) != len(rows):
        raise DataError(f"'{path}': '{key}' is not a list of {len(rows)} whole numbers", hint=_HINT)
    return np.ascontiguousarray(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)), np.array(labels, dtype=np.int64)


def _field(fields: Any, key: str, path: Path) -> Any:
    """A value of the file's mapping; Python 2 wrote the keys as bytes."""
    for name in (key, key.encode()):
        if isinstance(fields, dict) and name in fields:
            return fields[name]
    raise DataError(f"'{path}' has no '{key}'", hint=_HINT)


def _unpickle(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            return _PlainUnpickler(file, encoding="bytes").load()
    except _CodeError as error:
        raise DataError(
            f"'{path}' is a pickle with code in it ({error}), refused", hint="only use the set's original files"
        ) from error
    except FileNotFoundError as error:
        raise DataError(f"'{path}' does not exist", hint=_HINT) from error
    except _BROKEN as error:
        raise DataError(f"'{path}' is truncated or damaged: {error}", hint=_HINT) from error


class _CodeError(Exception):
    """A pickle names something that is not on the list."""


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """The stand-in for a name, where it has one; nothing is ever imported."""
        known = _STAND_INS.get((module_name, global_name))
        if known is None:
            raise _CodeError(f"{module_name}.{global_name}")
        return known


class _ByteType:
    """Stands in for NumPy's element type."""

    def __init__(self, code: str | bytes, *_: object) -> None:
        if code not in ("u1", b"u1"):
            raise ValueError(f"an array of {code!r}, expected bytes")

    def __setstate__(self, state: object) -> None:
        """What else NumPy writes about a type (byte order, fields) says nothing about bytes."""


class _ByteArray:
    """Stands in for NumPy's array and for the function that rebuilds one."""

    def __init__(self, *_: object) -> None:
        self.values: np.ndarray = np.empty(0, dtype=np.uint8)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        """Takes what NumPy pickles of an array: version, shape, type, whether columns come first, bytes."""
        _, shape, _, columns_first, raw = state
        self.values = np.frombuffer(raw, dtype=np.uint8).reshape(shape, order="F" if columns_first else "C")


_STAND_INS = {
    ("numpy", "dtype"): _ByteType,
    ("numpy", "ndarray"): _ByteArray,
    ("numpy.core.multiarray", "_reconstruct"): _ByteArray,
    ("numpy._core.multiarray", "_reconstruct"): _ByteArray,
}
