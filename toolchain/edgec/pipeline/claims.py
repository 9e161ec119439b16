"""Which entries of a stage cache are in use: nobody removes what a running process claims.

A claim is a file that its process keeps locked; the system releases the lock when the process ends, however it ends.
Whoever removes entries holds the cache's own lock meanwhile, so that no claim is made or extended then.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["Claim", "claim", "claimed", "clear_claims", "locked", "made_once"]

_LOCK = ".lock"
_CLAIMS = ".claims"
_MAKING = ".making"


class Claim:
    """What a running process uses of a cache."""

    def __init__(self, folder: Path, handle: int) -> None:
        self._folder = folder
        self._handle = handle

    def add(self, entries: Iterable[Path]) -> None:
        """Keeps entries, those too that are not there yet, until the claim ends."""
        lines = "".join(f"{entry.relative_to(self._folder).as_posix()}\n" for entry in entries)
        with locked(self._folder, fcntl.LOCK_SH):
            os.write(self._handle, lines.encode())


@contextmanager
def claim(folder: Path) -> Iterator[Claim]:
    """A claim on entries of a cache, empty at first."""
    path = folder / _CLAIMS / secrets.token_hex(8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder, fcntl.LOCK_SH):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        with suppress(OSError):  # a file system without locks: nothing is ever removed there
            fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        yield Claim(folder, handle)
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def claimed(folder: Path) -> set[Path]:
    """The entries that running processes use."""
    names = (name for path in _claims(folder) if _is_held(path) for name in path.read_text("utf-8").splitlines())
    return {folder / name for name in names}


def clear_claims(folder: Path) -> None:
    """Removes the claims of processes that were killed; the caller holds the cache's lock alone."""
    for path in _claims(folder):
        if not _is_held(path):
            path.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path, kind: int) -> Iterator[None]:
    """Holds the cache's lock: `LOCK_SH` to claim entries, `LOCK_EX` to remove some.

    Raises:
        OSError: It cannot be held alone, since the file system has no locks.
    """
    handle = os.open(folder / _LOCK, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        try:
            fcntl.flock(handle, kind)
        except OSError:
            if kind == fcntl.LOCK_EX:
                raise
        yield
    finally:
        os.close(handle)


@contextmanager
def made_once(folder: Path, entry: Path) -> Iterator[None]:
    """One process at a time makes an entry; the others wait, and find it made, or make it where that one failed."""
    path = folder / _MAKING / f"{entry.parent.name}-{entry.name}"
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = _held_file(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def _held_file(path: Path) -> int:
    """A file that this process keeps locked, and that still has its name."""
    while True:
        handle = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        with suppress(OSError):  # a file system without locks: there, two may make it
            fcntl.flock(handle, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(handle).st_ino:
                return handle
        os.close(handle)


def _claims(folder: Path) -> list[Path]:
    return sorted((folder / _CLAIMS).glob("*"))


def _is_held(path: Path) -> bool:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False  # it has just ended
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False
