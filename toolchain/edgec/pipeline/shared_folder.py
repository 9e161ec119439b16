"""Finished stages in a folder that several machines see, laid out as a cache: `edgec cache` lists and prunes it."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from edgec.core.errors import IntegrityError
from edgec.core.files import new_folder
from edgec.core.shared_cache import MAX_ENTRY_BYTES, MAX_RECORD_BYTES, RECORD, Admit
from edgec.pipeline.eviction import entry_path

__all__ = ["SharedFolder"]

_PLACE = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
_PIECE = 1 << 20


@dataclass(frozen=True)
class SharedFolder:
    """A `SharedCache`. No link in an entry is followed, and nothing but plain files is read."""

    folder: Path

    @property
    def name(self) -> str:
        """See `SharedCache`."""
        return str(self.folder)

    def fetch(self, stage: str, key: str, into: Path, admit: Admit) -> bool:
        """See `SharedCache`."""
        place = entry_path(self.folder, stage, key)
        if not os.path.lexists(place):
            return False
        with _opened(place) as entry:
            _copy(entry, RECORD, into, most_bytes=MAX_RECORD_BYTES)
            left = MAX_ENTRY_BYTES
            for name in admit((into / RECORD).read_bytes()):
                left -= _copy(entry, name, into, most_bytes=left)
            with suppress(OSError):  # others' entries: they are pruned by when they were made
                os.utime(RECORD, dir_fd=entry, follow_symlinks=False)
        return True

    def store(self, stage: str, key: str, folder: Path, files: Mapping[str, str], *, replace: bool) -> bool:
        """See `SharedCache`."""
        place = entry_path(self.folder, stage, key)
        if not replace and all((place / name).is_file() for name in (RECORD, *files)):
            return False
        if sum((folder / name).stat().st_size for name in files) > MAX_ENTRY_BYTES:
            raise IntegrityError(f"more than {MAX_ENTRY_BYTES} bytes")
        if place.is_symlink():
            place.unlink()
        with new_folder(place) as draft:
            for name in (*files, RECORD):
                (draft / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / name, draft / name)
        return True


@contextmanager
def _opened(entry: Path) -> Iterator[int]:
    """An entry's folder, by a descriptor that stays with it whatever takes its name."""
    try:
        stage = os.open(entry.parent, _PLACE)
        try:
            handle = os.open(entry.name, _PLACE, dir_fd=stage)
        finally:
            os.close(stage)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            raise IntegrityError("it is not a folder") from error
        raise
    try:
        yield handle
    finally:
        os.close(handle)


def _copy(entry: int, name: str, into: Path, *, most_bytes: int) -> int:
    """Copies a plain file of an entry, and gives its size."""
    target = into / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with _plain(entry, name) as source, target.open("xb") as copy:
        while block := source.read(_PIECE):
            copy.write(block)
            if copy.tell() > most_bytes:
                raise IntegrityError(f"'{name}' is too large")
        return copy.tell()


@contextmanager
def _plain(entry: int, name: str) -> Iterator[IO[bytes]]:
    """A file below a folder, reached by folders and no links."""
    *above, last = PurePosixPath(name).parts
    at = os.dup(entry)
    try:
        for part in above:
            below = os.open(part, _PLACE, dir_fd=at)
            os.close(at)
            at = below
        file = os.fdopen(os.open(last, _FILE, dir_fd=at), "rb")
    except OSError as error:
        raise IntegrityError(f"'{name}' is no plain file there: {error.strerror}") from error
    finally:
        os.close(at)
    with file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise IntegrityError(f"'{name}' is not a plain file")
        yield file
