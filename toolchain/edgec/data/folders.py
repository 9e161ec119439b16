"""Image folders: one folder per class, or any tree of unlabelled images."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgec.core.digest import digest_image
from edgec.core.errors import DataError
from edgec.core.images import READ, decode_images, image_files, is_hidden, sample_bits
from edgec.core.inputs import InputSpec
from edgec.core.progress import Progress
from edgec.core.samples import Chosen, Images, Samples
from edgec.data.classes import class_positions, composed
from edgec.data.split_names import NoSplitError, are_splits

__all__ = [
    "FolderPixels",
    "Readable",
    "files_of",
    "find_images",
    "judge_unreadable",
    "read_class_folders",
    "read_files",
    "reframed",
]

_BATCH = 256
"""Images held decoded at a time."""
_NAMED = 10
"""Unreadable files that are named before the rest is only counted."""
_KINDS = 5
"""Endings of other files that are counted by name."""


@dataclass(frozen=True, kw_only=True)
class FolderPixels:
    """Image files, decoded whenever they are asked for.

    Attributes:
        paths: One file per image.
        spec: Size and channels that they are brought to.
        digests: What each image was when it was first read; None for what was not read before.
    """

    paths: tuple[Path, ...]
    spec: InputSpec
    digests: tuple[str, ...] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """n, height, width, channels."""
        return len(self.paths), self.spec.height, self.spec.width, self.spec.channels

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        """The images at these positions, uint8 [len(indices), height, width, channels].

        Raises:
            DataError: A file cannot be read any more, or is another image now.
        """
        pixels = np.empty((len(indices), *self.shape[1:]), dtype=np.uint8)
        images = decode_images([self.paths[i] for i in indices], self.spec)
        for position, (index, image) in enumerate(zip(indices, images, strict=True)):
            if isinstance(image, DataError):
                raise image
            if self.digests is not None and digest_image(image) != self.digests[index]:
                raise DataError(
                    f"'{self.paths[index]}' has changed since it was first read: it is another image now",
                    hint="build again when nothing writes to the folder",
                )
            pixels[position] = image
        return pixels


@dataclass(frozen=True, kw_only=True)
class Readable:
    """The files of a source that decode.

    Attributes:
        pixels: The images.
        digests: SHA-256 per image.
        positions: int64 [n], where they stood among the files that were tried.
    """

    pixels: FolderPixels
    digests: tuple[str, ...]
    positions: np.ndarray


def files_of(images: Images) -> tuple[Path, ...] | None:
    """The file of each image; None for images that are of no files."""
    pixels, positions = images.pixels, np.arange(len(images))
    while isinstance(pixels, Chosen):
        pixels, positions = pixels.pixels, pixels.positions[positions]
    return tuple(pixels.paths[position] for position in positions) if isinstance(pixels, FolderPixels) else None


def reframed(images: Images, spec: InputSpec) -> np.ndarray | None:
    """The same files, brought to size in another way; None for images that are of no files."""
    paths = files_of(images)
    return None if paths is None else FolderPixels(paths=paths, spec=spec)[np.arange(len(paths))]


def read_class_folders(
    folder: Path, spec: InputSpec, *, classes: tuple[str, ...] | None, max_unreadable: float, progress: Progress
) -> Samples:
    """Labelled images from one folder per class, whose name is the class; folders inside these count as theirs.

    Args:
        folder: Holds the class folders. Hidden files and folders are passed over.
        spec: What the model takes.
        classes: The model's labels; None takes the folders' names in sorted order.
        max_unreadable: Share of files that may be unreadable, from 0 to 1; one file is, unless it is 0.
        progress: Told which files are left out.

    Returns:
        Samples that decode lazily; their order is that of the sorted paths.

    Raises:
        DataError: No class folder, no image, an unknown class, or too many unreadable files.
    """
    names = _class_names(folder)
    positions = class_positions(names, classes or names, where=f"'{folder}'")
    position_of = dict(zip(names, positions, strict=True))
    found = find_images(folder, progress=progress)
    files = [path for path in found if path.parent != folder]
    if len(files) < len(found):
        progress.note(f"'{folder}': {len(found) - len(files)} images outside the class folders are left out")
    _tell_of_names(names, {composed(path.relative_to(folder).parts[0]) for path in files}, folder, classes, progress)
    readable = read_files(files, spec, where=folder, max_unreadable=max_unreadable, progress=progress)
    labels = [position_of[composed(path.relative_to(folder).parts[0])] for path in readable.pixels.paths]
    return Samples(
        pixels=readable.pixels,
        digests=readable.digests,
        source=f"'{folder}'",
        labels=np.array(labels, dtype=np.int64),
        classes=tuple(classes or names),
    )


def _class_names(folder: Path) -> list[str]:
    _, folders, _ = next(os.walk(folder, onerror=_refuse))
    names = sorted({composed(name) for name in folders if not is_hidden(name)})
    if not names:
        raise DataError(
            f"'{folder}' has no class folders", hint="put the images of each class into a folder of its name"
        )
    if are_splits(names):
        raise NoSplitError(
            f"'{folder}' holds splits ({', '.join(names)}), not classes",
            hint=f"give the folder of one split, '{folder / names[0]}'",
        )
    return names


def find_images(folder: Path, *, progress: Progress) -> list[Path]:
    """The images below a folder, sorted; `progress` is told of other files."""
    found, strays = image_files(folder)
    if strays:
        endings = Counter(path.suffix.lower() or "without an ending" for path in strays)
        kinds = ", ".join(f"{count} {ending}" for ending, count in endings.most_common(_KINDS))
        more = f" and {len(endings) - _KINDS} other endings" if len(endings) > _KINDS else ""
        what = f"{len(strays)} files do not end like an image and are left out ({kinds}{more})"
        progress.note(f"'{folder}': {what}, as '{strays[0]}'")
    return found


def _tell_of_names(
    names: Sequence[str], filled: Collection[str], folder: Path, classes: tuple[str, ...] | None, progress: Progress
) -> None:
    empty = [name for name in names if name not in filled]
    if empty and filled:
        shown = ", ".join(f"'{name}'" for name in empty[:_NAMED])
        progress.note(f"'{folder}': {len(empty)} of {len(names)} class folders hold no image: {shown}")
    if classes is None and all(name.isdecimal() for name in names) and sorted(names, key=int) != list(names):
        progress.note(
            f"'{folder}': its classes are numbers and sort as text ({', '.join(names[:4])}, …), as torchvision sorts "
            "them; for a model that counts 0, 1, 2 set model.labels"
        )


def _refuse(error: OSError) -> None:
    raise DataError(f"folder '{error.filename}' cannot be read: {error.strerror}", hint="check its permissions")


def read_files(
    paths: Sequence[Path], spec: InputSpec, *, where: Path, max_unreadable: float, progress: Progress
) -> Readable:
    """Decodes every file once, to know that it can be read and what its digest is.

    Args:
        paths: Image files.
        spec: What the model takes.
        where: The source, for messages.
        max_unreadable: Share of files that may be unreadable, from 0 to 1.
        progress: Told which files are left out.

    Raises:
        DataError: No file can be read, or too many cannot.
    """
    digests: dict[int, str] = {}
    errors: list[DataError] = []
    images = progress.track(_decoded(paths, spec), total=len(paths), what=f"reading {where.name}", unit="image")
    for position, image in enumerate(images):
        if isinstance(image, DataError):
            errors.append(image)
        else:
            digests[position] = digest_image(image)
    judge_unreadable(errors, of=len(paths), where=where, max_unreadable=max_unreadable, progress=progress)
    if spec.bits is None and (bits := sample_bits(paths[position] for position in digests)) not in (None, 16):
        raise DataError(
            f"'{where}': its 16-bit files use {bits} bits at most, so that they would be nearly black",
            hint=f"--set model.input.bits={bits}, or 16 if they are meant to be so dark",
        )
    return Readable(
        pixels=FolderPixels(
            paths=tuple(paths[position] for position in digests), spec=spec, digests=tuple(digests.values())
        ),
        digests=tuple(digests.values()),
        positions=np.array(list(digests), dtype=np.int64),
    )


def _decoded(paths: Sequence[Path], spec: InputSpec) -> Iterator[np.ndarray | DataError]:
    for start in range(0, len(paths), _BATCH):
        yield from decode_images(paths[start : start + _BATCH], spec)


def judge_unreadable(
    errors: Sequence[DataError], *, of: int, where: Path, max_unreadable: float, progress: Progress
) -> None:
    """Names the pictures that cannot be read; one is left out, and no more than the share that is allowed.

    Raises:
        DataError: None can be read, or too many cannot.
    """
    if len(errors) == of:
        first = f"; first: {errors[0]}" if errors else ""
        raise DataError(f"'{where}' has no readable image{first}", hint=f"{READ} files are read")
    if len(errors) > (max(1, max_unreadable * of) if max_unreadable else 0):
        raise DataError(
            f"'{where}': {len(errors)} of {of} images cannot be read ({len(errors) / of:.1%}, allowed are "
            f"{max_unreadable:.1%}); first: {errors[0]}",
            hint="replace them or take them out, or raise max_unreadable",
        )
    for error in errors[:_NAMED]:
        progress.note(f"left out: {error}")
    if len(errors) > _NAMED:
        progress.note(f"left out: {len(errors) - _NAMED} more unreadable images in '{where}'")
