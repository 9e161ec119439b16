"""What a stage cache holds, and what goes first when it is too large: the least recently used entries."""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edgec.core.files import clear_drafts, discard, files_below
from edgec.core.shared_cache import RECORD
from edgec.pipeline.claims import claimed, clear_claims, locked

__all__ = ["Entry", "entries", "entry_path", "evict", "evictable", "note_use"]

_USES = "uses.txt"
"""In an entry: the builds that used it, one a line. Its time is that of the last use."""
_NAME = re.compile(r"[0-9a-f]{32}(\.json)?")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A finished stage, or ranges that builds share.

    Attributes:
        path: Its folder, or its file.
        size_bytes: Of all its files.
        used_s: When it was used last, in seconds since 1970.
        builds: Names of the builds that used it.
        in_use: Whether a running process claims it.
    """

    path: Path
    size_bytes: int
    used_s: float
    builds: tuple[str, ...]
    in_use: bool

    @property
    def stage(self) -> str:
        """The stage that made it."""
        return self.path.parent.name

    @property
    def key(self) -> str:
        """The start of its key."""
        return self.path.stem


def entry_path(folder: Path, stage: str, key: str) -> Path:
    """Where a stage's output is in a cache, or would be."""
    return folder / stage / key[:32]


def entries(folder: Path) -> tuple[Entry, ...]:
    """What a cache holds, last used first. Files that no build put there are passed over."""
    held = claimed(folder)
    found = (_entry(path, in_use=path in held) for path in _paths(folder))
    return tuple(sorted((entry for entry in found if entry), key=lambda entry: entry.used_s, reverse=True))


def evict(folder: Path, *, older_than_s: float | None = None, most_bytes: int | None = None) -> tuple[Entry, ...]:
    """Removes entries that are too old, then the least recently used until the cache is small enough.

    What a running process claims stays. So do entries of other users that may not be removed.

    Args:
        folder: The cache.
        older_than_s: Age since the last use from which entries go; None is any.
        most_bytes: Size that the cache may have; None is any.

    Returns:
        What was removed.

    Raises:
        OSError: The folder cannot be written, or its file system has no locks.
    """
    with locked(folder, fcntl.LOCK_EX):
        clear_claims(folder)
        for stage in folder.glob("[!.]*"):
            if stage.is_dir():
                clear_drafts(stage)
        chosen = evictable(entries(folder), now_s=time.time(), older_than_s=older_than_s, most_bytes=most_bytes)
        return tuple(entry for entry in chosen if _removed(entry.path))


def evictable(
    found: Iterable[Entry], *, now_s: float, older_than_s: float | None, most_bytes: int | None
) -> tuple[Entry, ...]:
    """Which entries `evict` would remove, the oldest first."""
    oldest_first = sorted(found, key=lambda entry: entry.used_s)
    total = sum(entry.size_bytes for entry in oldest_first)
    chosen = []
    for entry in oldest_first:
        too_old = older_than_s is not None and now_s - entry.used_s > older_than_s
        too_much = most_bytes is not None and total > most_bytes
        if (too_old or too_much) and not entry.in_use:
            chosen.append(entry)
            total -= entry.size_bytes
    return tuple(chosen)


def note_use(entry: Path, build: str) -> None:
    """Notes that a build uses an entry, now; nothing where the entry is not there or belongs to another user."""
    with suppress(OSError):
        if build not in _builds(entry):
            with (entry / _USES).open("a", encoding="utf-8") as file:
                file.write(f"{build}\n")
        os.utime(entry / _USES)


def _paths(folder: Path) -> Iterator[Path]:
    for path in folder.glob("[!.]*/*"):
        if _NAME.fullmatch(path.name) and not path.is_symlink() and ((path / RECORD).is_file() or path.is_file()):
            yield path


def _entry(path: Path, *, in_use: bool) -> Entry | None:
    """An entry as it is now; None where it has just been removed."""
    try:
        size = sum(file.stat().st_size for file in (files_below(path) if path.is_dir() else (path,)))
        last = next(file for file in (path / _USES, path / RECORD, path) if file.exists())
        return Entry(path=path, size_bytes=size, used_s=last.stat().st_mtime, builds=_builds(path), in_use=in_use)
    except OSError:
        return None


def _builds(entry: Path) -> tuple[str, ...]:
    with suppress(OSError):
        return tuple(dict.fromkeys((entry / _USES).read_text(encoding="utf-8", errors="replace").splitlines()))
    return ()


def _removed(path: Path) -> bool:
    try:
        discard(path)
    except OSError:
        return False
    return True
