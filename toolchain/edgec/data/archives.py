"""Pictures in archives: a zip of class folders, or WebDataset's tar files. Nothing is unpacked to disk."""

from __future__ import annotations

import json
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from edgec.core.errors import DataError
from edgec.core.images import SUFFIXES, is_hidden
from edgec.data.records import MOST_BYTES, Record, Source
from edgec.data.split_names import Choice, are_splits

__all__ = ["read_tars", "read_zip"]

_LABELS = ("cls", "label", "txt")
"""WebDataset's endings of files that hold a label."""
_LARGEST = 256 << 20
"""Bytes of one picture, unpacked."""
_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError)


def read_zip(path: Path, choose: Choice) -> Source:
    """Pictures by class folder; a folder around all of them, and one around the split that is wanted, are passed over.

    Raises:
        DataError: Damaged, encrypted, without class folders, or more than memory should hold.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {
                PurePosixPath(info.filename): info
                for info in archive.infolist()
                if not info.is_dir() and _is_picture(PurePosixPath(info.filename))
            }
            around = _around_classes(list(members), choose)
            depth = len(around)
            chosen = [(name, info) for name, info in sorted(members.items()) if name.parts[:depth] == around]
            _require_small(path, [info.file_size for _, info in chosen])
            records = [
                Record(name=str(name), content=archive.read(info), label=name.parts[depth])
                for name, info in chosen
                if len(name.parts) > depth + 1
            ]
    except _DAMAGED as error:
        raise DataError(f"'{path}' is damaged or encrypted: {error}", hint="make the archive again") from error
    if not records:
        raise DataError(f"'{path}' has no class folders with pictures", hint="zip a folder for each class")
    return Source(records=tuple(records))


def read_tars(paths: Sequence[Path]) -> Source:
    """WebDataset: of each sample a picture and a label, `000.jpg` and `000.cls`, or `000.json` with `label` in it.

    Raises:
        DataError: Damaged, a picture without a label, or more than memory should hold.
    """
    records: list[Record] = []
    for path in paths:
        _require_small(path, [path.stat().st_size])
        try:
            with tarfile.open(path) as archive:
                records += _samples(archive, path)
        except _DAMAGED as error:
            raise DataError(f"'{path}' is damaged: {error}", hint="make the archive again") from error
    return Source(records=tuple(records))


def _samples(archive: tarfile.TarFile, path: Path) -> Iterator[Record]:
    pictures: dict[str, tuple[str, bytes]] = {}
    labels: dict[str, str] = {}
    left = MOST_BYTES
    for member in archive:
        file = archive.extractfile(member) if member.isfile() else None
        if file is None:
            continue
        left -= member.size
        _require_small(path, [member.size], left=left)
        folder, _, name = member.name.rpartition("/")
        stem, _, ending = name.partition(".")
        key, ending = f"{folder}/{stem}", ending.lower()
        if f".{ending}" in SUFFIXES:
            pictures[key] = member.name, file.read()
        elif ending in _LABELS or ending == "json":
            found = _label(file.read(), ending)
            if found is not None:
                labels[key] = found
    for key, (name, content) in pictures.items():
        if key not in labels:
            raise DataError(
                f"'{path}': picture '{name}' has no label", hint="a .cls or a .json file with the same stem"
            )
        yield Record(name=name, content=content, label=labels[key])


def _label(data: bytes, ending: str) -> str | None:
    text = data.decode(errors="replace").strip()
    if ending != "json":
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    label = value.get("label", value.get("cls")) if isinstance(value, dict) else None
    return None if label is None else str(label)


def _is_picture(name: PurePosixPath) -> bool:
    return name.suffix.lower() in SUFFIXES and not any(map(is_hidden, name.parts))


def _around_classes(names: Sequence[PurePosixPath], choose: Choice) -> tuple[str, ...]:
    """The folders around the class folders."""
    around: tuple[str, ...] = ()
    while True:
        depth = len(around)
        inside = [name.parts for name in names if name.parts[:depth] == around and len(name.parts) > depth + 1]
        found = sorted({parts[depth] for parts in inside})
        wanted = choose(found) if are_splits(found) else None
        if wanted is None and len(found) == 1 and any(len(parts) > depth + 2 for parts in inside):
            wanted = found[0]
        if wanted is None:
            return around
        around = (*around, wanted)


def _require_small(path: Path, sizes: Sequence[int], *, left: int = MOST_BYTES) -> None:
    if max(sizes, default=0) > _LARGEST or sum(sizes) > MOST_BYTES or left < 0:
        raise DataError(
            f"'{path}' unpacks to more than {MOST_BYTES >> 30} GiB, or a file in it to more than {_LARGEST >> 20} MiB",
            hint="unpack it, and give the folder",
        )
