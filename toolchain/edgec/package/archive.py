"""The one layout of `NAME.edgec`: a zip of stored entries, whose every byte but the contents follows from these.

Local headers and contents in the order of the names, the directory, its end (APPNOTE 6.3.10, sections 4.3.7, 4.3.12 and
4.3.16); times, attributes and comments are fixed. The writer is our own, because Python's may differ from version to
version; a reader holds an archive against it, so what no digest covers has nothing to say.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import IO

__all__ = ["MAX_BYTES", "Entry", "archive_bytes", "is_canonical"]

MAX_BYTES = 2_000_000_000
"""Bytes in a bundle: an ONNX file, a protobuf, stays below 2 GiB, and an archive below what 32 bits can say."""

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_VERSION = 20
_UNIX = 3
_FIRST_DAY = (1 << 5) + 1
"""1980-01-01, the first day that a zip can name."""
_REGULAR_FILE = 0o100644 << 16


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A file in an archive."""

    name: str
    crc: int
    bytes: int

    @property
    def local(self) -> bytes:
        """The header before its contents."""
        name = self.name.encode("ascii")
        fields = (b"PK\3\4", _VERSION, 0, 0, 0, _FIRST_DAY, self.crc, self.bytes, self.bytes, len(name), 0)
        return _LOCAL.pack(*fields) + name

    def central(self, offset: int) -> bytes:
        """Its line in the directory."""
        name = self.name.encode("ascii")
        made_by = _UNIX << 8 | _VERSION
        fields = (b"PK\1\2", made_by, _VERSION, 0, 0, 0, _FIRST_DAY, self.crc, self.bytes, self.bytes, len(name))
        return _CENTRAL.pack(*fields, 0, 0, 0, 0, _REGULAR_FILE, offset) + name


def archive_bytes(contents: Mapping[str, bytes]) -> bytes:
    """The archive of these files, manifest and signature among them, by their path in the bundle."""
    buffer = io.BytesIO()
    entries = []
    for name, data in sorted(contents.items()):
        entries.append(Entry(name=name, crc=zlib.crc32(data), bytes=len(data)))
        buffer.write(entries[-1].local)
        buffer.write(data)
    buffer.write(_directory(entries, buffer.tell()))
    return buffer.getvalue()


def is_canonical(file: IO[bytes], entries: Iterable[Entry]) -> bool:
    """Whether an archive that says that it holds these entries has the layout that `archive_bytes` gives them."""
    entries = list(entries)
    if entries != sorted(entries, key=lambda entry: entry.name):
        return False
    offset = 0
    for entry in entries:
        header = entry.local
        file.seek(offset)
        if file.read(len(header)) != header:
            return False
        offset += len(header) + entry.bytes
    directory = _directory(entries, offset)
    file.seek(offset)
    return file.read(len(directory) + 1) == directory


def _directory(entries: Iterable[Entry], start: int) -> bytes:
    """What follows the contents."""
    lines, offset = [], 0
    for entry in entries:
        lines.append(entry.central(offset))
        offset += len(entry.local) + entry.bytes
    length = sum(map(len, lines))
    return b"".join(lines) + _END.pack(b"PK\5\6", 0, 0, len(lines), len(lines), length, start, 0)
