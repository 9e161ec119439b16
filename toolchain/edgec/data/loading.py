"""Labelled images from whatever the user points at: the one place that knows which reader a source is for."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgec.core.errors import ConfigError, DataError, MissingDependencyError
from edgec.core.images import is_hidden
from edgec.core.inputs import InputSpec
from edgec.core.progress import Progress
from edgec.core.samples import Samples
from edgec.data.archives import read_tars, read_zip
from edgec.data.arrays import read_npz_groups, read_npz_samples
from edgec.data.cifar import find_cifar, read_cifar
from edgec.data.folders import FolderPixels, read_class_folders
from edgec.data.groups import Grouping, Groups
from edgec.data.parquet import find_dataset, holds_pictures, read_dataset
from edgec.data.records import Source, as_samples
from edgec.data.split_names import Choice, are_splits, choose_split
from edgec.data.splits import Split, check_samples, untested
from edgec.data.tables import METADATA, SUFFIXES, has_labels, read_coco, read_table, referenced

__all__ = ["load_samples", "named_files", "require_source"]

_FILES = SUFFIXES | {".json", ".npz", ".tar", ".zip"}


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
        source: A folder of class folders; an `.npz` with `images`, `labels` and perhaps `names`; a folder with CIFAR-10
            or CIFAR-100 as torchvision keeps them; a table of paths and labels (CSV, TSV, JSON lines, Parquet); COCO's
            JSON; a zip of class folders; WebDataset's tar files; or a folder that Hugging Face's `datasets` wrote.
            Where it holds several splits, `split` picks one.
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
    groups = samples.groups if group is None else _groups(path, samples, group)
    named = replace(samples, source=f"{split} images of {samples.source}", groups=groups)
    check_samples(named, split=split)
    if split == "test" and (missing := untested(named)) is not None:
        progress.note(missing)
    return named


def _groups(path: Path, samples: Samples, group: Grouping) -> Groups:
    if path.suffix.lower() == ".npz":
        return read_npz_groups(path, group, count=len(samples))
    if samples.groups is not None:
        raise ConfigError(f"data.group: '{path}' has groups of its own", hint="leave data.group out")
    if isinstance(samples.pixels, FolderPixels) and path.is_dir():
        return group.of_files(samples.pixels.paths, path)
    raise ConfigError(f"data.group: images of '{path}' have no groups", hint="leave data.group out")


def require_source(source: str | Path) -> Path:
    """The path of a folder, or of a file that holds images or names them.

    Raises:
        DataError: There is no such thing, or it is another file.
    """
    path = Path(source).expanduser()
    if not path.exists():
        raise DataError(f"'{path}' does not exist", hint="give a folder of images or an .npz file")
    if path.is_file() and path.suffix.lower() not in _FILES:
        raise DataError(
            f"'{path}' is a file of another kind", hint=f"give a folder of images or one of {', '.join(sorted(_FILES))}"
        )
    if path.is_file() and path.stat().st_size == 0:
        raise DataError(f"'{path}' is empty (0 bytes)", hint="make the file again")
    return path


def named_files(source: Path) -> list[Path]:
    """The pictures that a table names, wherever they lie: what is in them is no part of the table.

    Of a folder with a table of metadata, those that lie outside of it.
    """
    if source.is_dir():
        tables = [source / name for name in METADATA if (source / name).is_file()]
        with suppress(DataError, MissingDependencyError):  # it may be of something else; reading it will tell
            named = referenced(read_table(tables[0], None)) if tables else []
            return [path for path in named if not path.resolve().is_relative_to(source.resolve())]
    if not source.is_file():
        return []
    if source.suffix.lower() in SUFFIXES and not _is_dataset(source):
        return referenced(read_table(source, None))
    return referenced(read_coco(source)) if source.suffix.lower() == ".json" else []


def _read(
    path: Path,
    spec: InputSpec,
    *,
    classes: tuple[str, ...] | None,
    split: Split,
    max_unreadable: float,
    progress: Progress,
) -> Samples:
    if path.suffix.lower() == ".npz":
        return read_npz_samples(path, spec, classes=classes)
    cifar = find_cifar(path) if path.is_dir() else None
    if cifar is not None:
        return read_cifar(cifar, spec, classes=classes, test=split == "test")
    choose = choose_split(split)
    folders = _folders(path)
    inner = choose(folders) if are_splits(folders) else None
    if inner is not None and not find_dataset(path, choose):
        progress.note(f"{split} images: '{path / inner}'")
        path = path / inner
    source = _records(path, choose)
    given: dict[str, Any] = {"classes": classes, "max_unreadable": max_unreadable, "progress": progress}
    return read_class_folders(path, spec, **given) if source is None else as_samples(source, spec, where=path, **given)


def _folders(path: Path) -> list[str]:
    """Names of the folders in a folder."""
    if not path.is_dir():
        return []
    return [child.name for child in path.iterdir() if child.is_dir() and not is_hidden(child.name)]


def _records(path: Path, choose: Choice) -> Source | None:
    """What a file or folder that is not of class folders holds; None for class folders."""
    if path.is_dir():
        return _records_of_folder(path, choose)
    match path.suffix.lower():
        case ".zip":
            return read_zip(path, choose)
        case ".tar":
            return read_tars([path])
        case ".json":
            return read_coco(path)
        case _:
            return read_dataset([path]) if _is_dataset(path) else read_table(path, choose)


def _records_of_folder(path: Path, choose: Choice) -> Source | None:
    table = next((path / name for name in METADATA if (path / name).is_file()), None)
    if table is not None and has_labels(table):
        return read_table(table, choose)
    if tars := sorted(path.glob("*.tar")):
        split = choose([tar.name.split("-")[0] for tar in tars]) or ""
        return read_tars([tar for tar in tars if tar.name.startswith(split)])
    files = find_dataset(path, choose)
    return read_dataset(files) if files else None


def _is_dataset(path: Path) -> bool:
    """Whether a Parquet file has pictures in it."""
    return path.suffix.lower() == ".parquet" and holds_pictures(path)
