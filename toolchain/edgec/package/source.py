"""Reading files out of a folder or an archive that nobody vouches for."""

from __future__ import annotations

import os
import stat
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from edgec.core.errors import DataError, IntegrityError
from edgec.core.untrusted_arrays import DAMAGED
from edgec.package.archive import MAX_BYTES, Entry, is_canonical
from edgec.package.manifest import MANIFEST, is_safe_name

__all__ = [
    "MAX_BYTES",
    "MAX_FILES",
    "ArchiveSource",
    "FolderSource",
    "Source",
    "open_source",
    "stored_sizes",
]

MAX_FILES = 64
"""Files in a bundle; a build writes eight."""

_DIRECTORY_END = struct.Struct("<4s4H2LH")
_DIRECTORY_BYTES = MAX_FILES * 1024
_ENCRYPTED = 1


class Source(Protocol):
    """Named contents. `sizes` lists all of them, in bytes."""

    @property
    def sizes(self) -> Mapping[str, int]:
        """Bytes of each file, by its path relative to the bundle."""
        ...

    def read(self, name: str) -> bytes:
        """The contents of a file in `sizes`.

        Raises:
            IntegrityError: They cannot be read, or are not as long as `sizes` says.
        """
        ...


def open_source(path: Path) -> Source:
    """The folder or archive at `path`, with its listing checked and nothing read yet.

    Raises:
        DataError: Nothing is there, or it is neither a folder nor an archive with a `manifest.json`.
        IntegrityError: A link, a special file, a name that leads outside, too many files or bytes, a broken archive.
    """
    try:
        if path.is_dir():
            manifest = path / MANIFEST
            _require_manifest(path, there=manifest.is_file() or manifest.is_symlink())
            return FolderSource(path)
        source = ArchiveSource(path)
    except FileNotFoundError as error:
        raise DataError(f"no bundle at '{path}'", hint="make one with: edgec build --target NAME") from error
    except OSError as error:
        raise DataError(f"cannot read '{path}': {error.strerror or error}", hint="check its permissions") from error
    _require_manifest(path, there=MANIFEST in source.sizes)
    return source


def _require_manifest(path: Path, *, there: bool) -> None:
    if not there:
        raise DataError(
            f"'{path}' is not a bundle: it holds no manifest.json",
            hint="name the folder or the .edgec file that edgec build made",
        )


class FolderSource:
    """The files below a folder. Links are refused wherever they stand, special files too."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sizes = _checked(_walk(path, ""), path)

    def read(self, name: str) -> bytes:
        """See `Source.read`. The file is opened so that neither a link nor a pipe can take its place."""
        try:
            handle = os.open(self.path / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(handle, "rb") as file:
                return _exactly(file, self.sizes[name], name=name, where=self.path)
        except OSError as error:
            raise IntegrityError(f"'{self.path}': cannot read '{name}': {error.strerror}") from error


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            name = prefix + entry.name
            if entry.is_dir(follow_symlinks=False):
                _require_safe(name, folder)
                yield from _walk(Path(entry.path), f"{name}/")
            elif entry.is_file(follow_symlinks=False):
                yield name, entry.stat(follow_symlinks=False).st_size
            else:
                raise _refused(folder, f"'{name}' is not a plain file")


class ArchiveSource:
    """The entries of an uncompressed zip, in the one layout of `edgec.package.archive`.

    What comes out is never larger than what lies there, so no archive can swell in memory, and equal bundles make equal
    archives whatever zlib is installed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            self.sizes = stored_sizes(file, path)

    def read(self, name: str) -> bytes:
        """See `Source.read`."""
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(name) as file:
                return _exactly(file, self.sizes[name], name=name, where=self.path)
        except DAMAGED as error:
            raise _refused(self.path, f"cannot read '{name}': {error}") from error


def stored_sizes(file: IO[bytes], where: Path) -> dict[str, int]:
    """Bytes of each entry of an uncompressed zip.

    Raises:
        DataError: Not a zip at all.
        IntegrityError: A zip that is damaged, or not as `write_archive` makes it.
    """
    if file.read(2) != b"PK":
        raise DataError(
            f"'{where}' is not a bundle: neither a folder nor an archive",
            hint="name the folder or the .edgec file that edgec build made",
        )
    size = file.seek(0, os.SEEK_END)
    _require_plain_end(file, size, where)
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except DAMAGED as error:
        raise _refused(where, f"a damaged archive: {error}") from error
    for entry in entries:
        _require_stored(entry, where)
    sizes = _checked(((entry.orig_filename, entry.file_size) for entry in entries), where)
    if sum(sizes.values()) > size:
        raise _refused(where, "entries of the archive overlap")
    if MANIFEST in sizes and not is_canonical(
        file, (Entry(name=e.orig_filename, crc=e.CRC, bytes=e.file_size) for e in entries)
    ):
        raise _refused(where, "not the archive that edgec writes")
    return sizes


def _require_plain_end(file: IO[bytes], size: int, where: Path) -> None:
    """The archive's directory must be short and lie just before the end: nothing before, behind or between."""
    file.seek(max(0, size - _DIRECTORY_END.size))
    tail = file.read(_DIRECTORY_END.size)
    if len(tail) < _DIRECTORY_END.size or not tail.startswith(b"PK\x05\x06"):
        raise _refused(where, "the archive is cut short, or something follows it")
    *_, length, offset, comment = _DIRECTORY_END.unpack(tail)
    if comment or offset + length + _DIRECTORY_END.size != size:
        raise _refused(where, "the archive's directory is not where it should be")
    if length > _DIRECTORY_BYTES:
        raise _refused(where, f"the archive's directory takes {length} bytes, expected at most {_DIRECTORY_BYTES}")


def _require_stored(entry: zipfile.ZipInfo, where: Path) -> None:
    name, mode = entry.orig_filename, entry.external_attr >> 16
    if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
        raise _refused(where, f"'{name}' is compressed, expected stored")
    if entry.flag_bits & _ENCRYPTED:
        raise _refused(where, f"'{name}' is encrypted")
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise _refused(where, f"'{name}' is not a plain file")


def _checked(listing: Iterator[tuple[str, int]], where: Path) -> dict[str, int]:
    """The listing as a mapping, refused at the first name or number that is out of bounds."""
    sizes: dict[str, int] = {}
    taken: set[str] = set()
    folders: set[str] = set()
    for name, size in listing:
        _require_safe(name, where)
        if name in sizes:
            raise _refused(where, f"'{name}' stands twice")
        sizes[name] = size
        taken.add(name.lower())
        folders.update(str(parent) for parent in PurePosixPath(name.lower()).parents)
        if len(taken) < len(sizes) or folders & taken:
            raise _refused(where, f"'{name}' would lie over another file where case does not count")
        if len(sizes) > MAX_FILES:
            raise _refused(where, f"more than {MAX_FILES} files")
    if sum(sizes.values()) > MAX_BYTES:
        raise _refused(where, f"{sum(sizes.values())} bytes, expected at most {MAX_BYTES}")
    return sizes


def _require_safe(name: str, where: Path) -> None:
    if not is_safe_name(name):
        raise _refused(where, f"file name {name!r} is not allowed")


def _exactly(file: IO[bytes], size: int, *, name: str, where: Path) -> bytes:
    data = file.read(size + 1)
    if len(data) != size:
        raise _refused(where, f"'{name}' does not have its {size} bytes")
    return data


def _refused(where: Path, reason: str) -> IntegrityError:
    return IntegrityError(f"'{where}': {reason}", hint="the bundle is damaged or was edited: build or copy it again")
