"""Labelled images from whatever the user points at: class folders, an `.npz`, or a CIFAR set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgec.core.errors import ConfigError, DataError
from edgec.core.inputs import InputSpec
from edgec.core.progress import Progress
from edgec.core.samples import Samples
from edgec.data.arrays import read_npz_groups, read_npz_samples
from edgec.data.cifar import find_cifar, read_cifar
from edgec.data.folders import FolderPixels, read_class_folders
from edgec.data.groups import Grouping, Groups
from edgec.data.splits import Split, check_samples, untested

__all__ = ["load_samples", "require_source"]


def load_samples(
    source: str | Path,
    spec: InputSpec,
    *,
    classes: tuple[str, ...] | None = None,
    split: Split,
    max_unreadable: float = 0.01,
    group: Grouping | None = None,
    progress: Progress,
) -> Samples:
    """Reads labelled images and checks that they can serve as this split.

    Args:
        source: A folder of class folders (JPEG, PNG, WebP, BMP); an `.npz` with `images`, `labels` and perhaps
            `names`; or a folder with CIFAR-10 or CIFAR-100 as torchvision keeps them, where `split` picks the files.
        spec: What the model takes: every image is brought to its size and channels.
        classes: The model's labels in the order of its outputs; the source's classes must be among them. None takes
            the source's own, in sorted order.
        split: What the images are for.
        max_unreadable: Share of a folder's files that may be unreadable, from 0 to 1.
        group: Where an image's group is read from; None where images stand for themselves.
        progress: Told what is left out.

    Returns:
        Samples with `classes` as given. Those of a folder decode lazily, batch by batch.

    Raises:
        ConfigError: The source has no such groups.
        DataError: Nothing there, or nothing that fits; see `check_samples` for what a split needs.
    """
    path = require_source(source)
    samples = _read(path, spec, classes=classes, split=split, max_unreadable=max_unreadable, progress=progress)
    groups = None if group is None else _groups(path, samples, group)
    named = replace(samples, source=f"{split} images of {samples.source}", groups=groups)
    check_samples(named, split=split)
    if split == "test" and (missing := untested(named)) is not None:
        progress.note(missing)
    return named


def _groups(path: Path, samples: Samples, group: Grouping) -> Groups:
    if path.is_file():
        return read_npz_groups(path, group, count=len(samples))
    if isinstance(samples.pixels, FolderPixels):
        return group.of_files(samples.pixels.paths, path)
    raise ConfigError(f"data.group: '{path}' is a CIFAR set, whose images have no groups", hint="leave data.group out")


def require_source(source: str | Path) -> Path:
    """The path of a folder or an `.npz` file.

    Raises:
        DataError: There is no such thing, or it is another file.
    """
    path = Path(source).expanduser()
    if not path.exists():
        raise DataError(f"'{path}' does not exist", hint="give a folder of images or an .npz file")
    if path.is_file() and path.suffix.lower() != ".npz":
        raise DataError(f"'{path}' is a file of another kind", hint="give a folder of images or an .npz file")
    if path.is_file() and path.stat().st_size == 0:
        raise DataError(f"'{path}' is empty (0 bytes)", hint="make the file again")
    return path


def _read(
    path: Path,
    spec: InputSpec,
    *,
    classes: tuple[str, ...] | None,
    split: Split,
    max_unreadable: float,
    progress: Progress,
) -> Samples:
    if path.is_file():
        return read_npz_samples(path, spec, classes=classes)
    cifar = find_cifar(path)
    if cifar is not None:
        return read_cifar(cifar, spec, classes=classes, test=split == "test")
    return read_class_folders(path, spec, classes=classes, max_unreadable=max_unreadable, progress=progress)
