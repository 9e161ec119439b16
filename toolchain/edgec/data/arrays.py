"""Images in an `.npz` archive: arrays `images`, `labels` and `names`; nothing is unpickled."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgec.core.digest import digest_image
from edgec.core.errors import ConfigError, DataError
from edgec.core.images import fit_pixels
from edgec.core.inputs import InputSpec
from edgec.core.samples import Images, Samples
from edgec.data.classes import class_positions
from edgec.data.groups import Grouping, Groups

__all__ = ["array_images", "array_samples", "read_npz_groups", "read_npz_images", "read_npz_samples"]

_SAVE = "save it with np.savez(path, images=…, labels=…, names=…)"
_DAMAGED = (OSError, EOFError, SyntaxError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)
"""What NumPy and zipfile raise on a damaged, encrypted or oddly packed archive."""


def read_npz_samples(path: Path, spec: InputSpec, *, classes: tuple[str, ...] | None) -> Samples:
    """Labelled images from an `.npz`.

    `images` is uint8 [n, height, width, 3], [n, height, width, 1] or [n, height, width]; `labels` are integers [n],
    class names [n], or one-hot [n, classes]; `names`, where given, are strings: what labels 0, 1, … mean.

    Args:
        path: The archive.
        spec: What the model takes; images of another size or with other channels are converted as files are.
        classes: The model's labels. Where the archive has no `names`, its labels are positions in them. None takes
            `names`, or else the numbers "0", "1", ….

    Raises:
        DataError: The archive is damaged, lacks an array, or holds one of a wrong type, shape or range.
    """
    archive = _read(path)
    images = _checked_images(archive.images, path)
    labels, named = _labels(archive.labels, path, count=len(images))
    given = _names(archive.names, path)
    names = named or given or classes or _numbers(labels)
    return array_samples(images, labels, spec, names=names, classes=classes or given or None, where=f"'{path}'")


def read_npz_images(path: Path) -> np.ndarray:
    """The array `images` of an `.npz`, checked: uint8 [n, height, width] or [n, height, width, 1 or 3].

    Raises:
        DataError: The archive is damaged, or its images are missing, or of a wrong type or shape.
    """
    return _checked_images(_read(path).images, path)


def read_npz_groups(path: Path, group: Grouping, *, count: int) -> Groups:
    """The groups of an `.npz`'s images.

    Raises:
        ConfigError: The group is asked of folders or file names.
        DataError: There is no such array, or it has not one string or whole number for each of `count` images.
    """
    if group.array is None:
        raise ConfigError(f"data.group: '{path}' has no file names", hint="set data.group.array, the name of an array")
    hint = f"save it with np.savez(path, images=…, labels=…, {group.array}=…)"
    found = _read(path, group.array).groups
    if found is None:
        raise DataError(f"'{path}' has no array '{group.array}'", hint=hint)
    if found.shape != (count,) or found.dtype.kind not in "Uiu":
        raise DataError(
            f"'{path}': '{group.array}' is {found.dtype} of shape {found.shape}, expected a string or a whole "
            f"number for each of {count} images",
            hint=hint,
        )
    return tuple(map(str, found.tolist()))


def array_samples(
    images: np.ndarray,
    labels: np.ndarray,
    spec: InputSpec,
    *,
    names: tuple[str, ...],
    classes: tuple[str, ...] | None,
    where: str,
) -> Samples:
    """Labelled images from arrays.

    Args:
        images: uint8 [n, height, width] or [n, height, width, 1 or 3].
        labels: Integers [n], positions in `names`.
        spec: What the model takes.
        names: What the labels mean.
        classes: The model's labels; None takes `names`.
        where: The source, for people.

    Raises:
        DataError: A label out of range, or a name that is none of the model's labels.
    """
    beyond = np.flatnonzero((labels < 0) | (labels >= len(names)))
    if beyond.size:
        raise DataError(
            f"{where}: label {labels[beyond[0]]} of image {beyond[0]} is out of range, expected 0 to {len(names) - 1}",
            hint="labels count from 0, in the order of the class names",
        )
    positions = class_positions(names, classes or names, where=where)
    unlabelled = array_images(images, spec, where=where)
    return Samples(
        pixels=unlabelled.pixels,
        digests=unlabelled.digests,
        source=where,
        labels=positions[labels],
        classes=classes or names,
    )


def array_images(images: np.ndarray, spec: InputSpec, *, where: str) -> Images:
    """Unlabelled images from an array: uint8 [n, height, width] or [n, height, width, 1 or 3]."""
    shaped = images[..., None] if images.ndim == 3 else images
    if not spec.keeps(*shaped.shape[1:]):
        shaped = np.stack([fit_pixels(image, spec) for image in shaped])
    return Images(pixels=shaped, digests=tuple(digest_image(image) for image in shaped), source=where)


@dataclass(frozen=True, kw_only=True)
class _Archive:
    images: np.ndarray
    labels: np.ndarray | None
    names: np.ndarray | None
    groups: np.ndarray | None


def _read(path: Path, groups: str | None = None) -> _Archive:
    if not zipfile.is_zipfile(path):
        raise DataError(f"'{path}' is not an npz archive, or is truncated", hint=_SAVE)
    try:
        with np.load(path, allow_pickle=False) as file:
            if "images" not in file.files:
                raise DataError(f"'{path}' has no array 'images', only {', '.join(file.files) or 'none'}", hint=_SAVE)
            keys = ("images", "labels", "names", *([groups] if groups else []))
            found = {key: _member(file[key], key, path) for key in keys if key in file.files}
            return _Archive(
                images=found["images"],
                labels=found.get("labels"),
                names=found.get("names"),
                groups=found.get(groups or ""),
            )
    except ValueError as error:
        raise DataError(f"'{path}' holds an array that cannot be read: {error}", hint=_SAVE) from error
    except MemoryError as error:
        raise DataError(f"'{path}' does not fit into memory: {error}", hint="give the images as a folder") from error
    except _DAMAGED as error:
        raise DataError(f"'{path}' is damaged: {error}", hint="make the file again") from error


def _member(value: object, key: str, path: Path) -> np.ndarray:
    """NumPy hands out a member that does not begin as an array does as bytes."""
    if not isinstance(value, np.ndarray):
        raise DataError(f"'{path}': '{key}' is not an array", hint=_SAVE)
    return value


def _checked_images(images: np.ndarray, path: Path) -> np.ndarray:
    if images.dtype != np.uint8:
        raise DataError(
            f"'{path}': images are {images.dtype}, expected uint8 from 0 to 255", hint=f"save {_as_levels(images)}"
        )
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3)):
        last = images.ndim == 4 and images.shape[1] in (1, 3)
        raise DataError(
            f"'{path}': images have shape {images.shape}, expected [n, height, width, 3] or [n, height, width]",
            hint="channels come last: images.transpose(0, 2, 3, 1)" if last else _SAVE,
        )
    if 0 in images.shape:
        raise DataError(f"'{path}': no images, their array has shape {images.shape}", hint=_SAVE)
    return images


def _as_levels(images: np.ndarray) -> str:
    """What makes levels from 0 to 255 of images of another type, in NumPy's words."""
    most = images.max() if images.size and images.dtype.kind in "buif" else 255
    if images.dtype.kind == "b" or most <= 1:
        return "(images * 255).round().astype('uint8')"
    if images.dtype.kind in "ui" and most > 255:
        return f"(images >> {max(int(most).bit_length() - 8, 0)}).astype('uint8')"
    return "images.round().clip(0, 255).astype('uint8')"


def _labels(labels: np.ndarray | None, path: Path, *, count: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """int64 [n], and the names that they are positions in where they are names themselves."""
    if labels is None:
        raise DataError(f"'{path}' has no array 'labels'", hint=_SAVE)
    if _is_one_hot(labels):
        return _labels(np.asarray(labels.argmax(axis=1)), path, count=count)
    if labels.shape != (count,):
        raise DataError(
            f"'{path}': labels have shape {labels.shape}, expected one for each of {count} images", hint=_SAVE
        )
    if labels.dtype.kind == "U":
        names, positions = np.unique(labels, return_inverse=True)
        return positions.astype(np.int64), tuple(names.tolist())
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"'{path}': labels are {labels.dtype}, expected integers", hint="labels.astype('int64')")
    return labels.astype(np.int64), ()


def _is_one_hot(labels: np.ndarray) -> bool:
    if labels.ndim != 2 or labels.dtype.kind not in "buif" or labels.shape[1] < 2:
        return False
    return bool(np.isin(labels, (0, 1)).all() and (labels.sum(axis=1) == 1).all())


def _names(names: np.ndarray | None, path: Path) -> tuple[str, ...]:
    if names is None:
        return ()
    if names.dtype.kind != "U" or names.ndim != 1:
        raise DataError(
            f"'{path}': names are {names.dtype} of shape {names.shape}, expected strings [classes]",
            hint="names=np.array(['cat', 'dog'])",
        )
    return tuple(names.tolist())


def _numbers(labels: np.ndarray) -> tuple[str, ...]:
    """Names for labels that have none. More classes than images is a mistake, not a reason to name a billion."""
    highest = min(int(labels.max()), len(labels) - 1)
    return tuple(str(label) for label in range(max(highest, 0) + 1))
