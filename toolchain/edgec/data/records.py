"""Labelled pictures one by one, wherever a source keeps them: a file each, or bytes inside an archive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgec.core.digest import digest_image
from edgec.core.errors import DataError
from edgec.core.images import decode_bytes
from edgec.core.inputs import InputSpec
from edgec.core.progress import Progress
from edgec.core.samples import Pixels, Samples
from edgec.data.classes import class_positions, composed
from edgec.data.folders import judge_unreadable, read_files

__all__ = ["MOST_BYTES", "Record", "Source", "as_samples"]

MOST_BYTES = 2 << 30
"""Of an archive's pictures, which are held in memory as they are packed."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """A picture with its label.

    Attributes:
        name: For people.
        content: The file, or its contents.
        label: A class, or its number.
        group: Those of a group belong together; None for one that belongs with no other.
    """

    name: str
    content: Path | bytes
    label: str
    group: str | None = None


@dataclass(frozen=True, kw_only=True)
class Source:
    """What a source holds.

    Attributes:
        names: What labels 0, 1, … mean, where the source says so.
    """

    records: tuple[Record, ...]
    names: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class PackedPixels:
    """Pictures that are kept as their files' bytes, decoded whenever they are asked for."""

    contents: tuple[bytes, ...]
    names: tuple[str, ...]
    spec: InputSpec

    @property
    def shape(self) -> tuple[int, ...]:
        """n, height, width, channels."""
        return len(self.contents), self.spec.height, self.spec.width, self.spec.channels

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        """The images at these positions, uint8 [len(indices), height, width, channels]."""
        pixels = np.empty((len(indices), *self.shape[1:]), dtype=np.uint8)
        for position, index in enumerate(indices):
            pixels[position] = decode_bytes(self.contents[index], self.spec, name=f"image '{self.names[index]}'")
        return pixels


def as_samples(
    source: Source,
    spec: InputSpec,
    *,
    where: Path,
    classes: tuple[str, ...] | None,
    max_unreadable: float,
    progress: Progress,
) -> Samples:
    """Decodes every picture once, to know that it can be read, and gives labels their positions.

    Args:
        source: The pictures; all of them files, or all of them bytes.
        spec: What the model takes.
        where: The source's path.
        classes: The model's labels; None takes the source's own: as it names them, else sorted, numbers by their value.
        max_unreadable: Share of pictures that may be unreadable.
        progress: Told which are left out.

    Raises:
        DataError: No picture, too many unreadable ones, or an unknown class.
    """
    if not source.records:
        raise DataError(f"'{where}' holds no labelled picture", hint="see docs/pictures.md for what is read")
    kept, pixels, digests = _readable(source.records, spec, where, max_unreadable, progress)
    names, labels = _positions([source.records[i].label for i in kept], source, classes, where)
    groups = tuple(source.records[i].group for i in kept)
    return Samples(
        pixels=pixels,
        digests=digests,
        source=f"'{where}'",
        labels=labels,
        classes=names,
        groups=groups if any(groups) else None,
    )


def _readable(
    records: Sequence[Record], spec: InputSpec, where: Path, max_unreadable: float, progress: Progress
) -> tuple[list[int], Pixels, tuple[str, ...]]:
    paths = [record.content for record in records if isinstance(record.content, Path)]
    if paths:
        found = read_files(paths, spec, where=where, max_unreadable=max_unreadable, progress=progress)
        return found.positions.tolist(), found.pixels, found.digests
    digests: dict[int, str] = {}
    errors: list[DataError] = []
    packed = list(enumerate(records))
    for position, record in progress.track(packed, total=len(packed), what=f"reading {where.name}", unit="image"):
        try:
            content = record.content if isinstance(record.content, bytes) else b""
            digests[position] = digest_image(decode_bytes(content, spec, name=f"image '{where}:{record.name}'"))
        except DataError as error:
            errors.append(error)
    judge_unreadable(errors, of=len(records), where=where, max_unreadable=max_unreadable, progress=progress)
    pixels = PackedPixels(
        contents=tuple(content for i in digests if isinstance(content := records[i].content, bytes)),
        names=tuple(f"{where}:{records[i].name}" for i in digests),
        spec=spec,
    )
    return list(digests), pixels, tuple(digests.values())


def _positions(
    labels: Sequence[str], source: Source, classes: tuple[str, ...] | None, where: Path
) -> tuple[tuple[str, ...], np.ndarray]:
    """The class names, and where each label stands among them; numbers may be positions among names."""
    every = sorted({composed(record.label) for record in source.records})
    numbers = all(label.isdecimal() for label in every)
    names = source.names or tuple(sorted(every, key=int) if numbers else every)
    known = classes or names
    if numbers and not set(every) <= set(map(composed, names if source.names else known)):
        meant = source.names or known
        beyond = [label for label in every if int(label) >= len(meant)]
        if beyond:
            raise DataError(
                f"'{where}': label {beyond[0]} is out of range, expected 0 to {len(meant) - 1}",
                hint="labels count from 0, in the order of the class names",
            )
        labels = [meant[int(label)] for label in labels]
    present = sorted(set(map(composed, labels)))
    position_of = dict(zip(present, class_positions(present, known, where=f"'{where}'"), strict=True))
    return tuple(known), np.array([position_of[composed(label)] for label in labels], dtype=np.int64)
