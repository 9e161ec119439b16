"""Files and folders that appear whole or not at all, also when the process is killed while it writes them."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import secrets
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from edgec.core.errors import ConfigError

__all__ = [
    "clear_drafts",
    "discard",
    "files_below",
    "new_folder",
    "read_json",
    "require_writable",
    "write_bytes",
    "write_json",
]

DRAFT = ".edgec-draft"
"""Ending of the hidden names under which things are written."""
YOUNG_S = 60
"""A draft of this age may belong to a process that has not locked it yet."""
NAMES = 100
"""By which a folder may be reached: ten folders that link to each other have millions of paths."""
_UNLED = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
"""Neither led elsewhere by a link nor kept waiting by a pipe that others put there."""


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its name when the block ends well.

    A folder that stood there before is replaced; on an error, or a kill, it stays as it was.
    """
    with _draft(path, _private) as draft:
        yield draft
        draft.chmod(0o755)
        _swap_in(draft, path)


def _private(folder: Path) -> None:
    """A folder that no other user can put anything into."""
    folder.mkdir(mode=0o700)


def _swap_in(draft: Path, path: Path) -> None:
    """Gives the draft its name. What stood there takes the draft's, and goes with it."""
    if _exchange(draft, path):
        return
    if not path.exists():
        draft.rename(path)
        return
    # Neither macOS nor some network file systems can exchange names: there, for a moment, nothing stands at `path`.
    old = _hidden(path)
    path.rename(old)
    draft.rename(path)
    _remove(old)


def _exchange(first: Path, second: Path) -> bool:
    """Swaps two names in one step where the system can: Linux' renameat2, which Python does not offer."""
    at_fdcwd, rename_exchange = -100, 2
    libc = ctypes.CDLL(None)
    names = os.fsencode(first), os.fsencode(second)
    return hasattr(libc, "renameat2") and libc.renameat2(at_fdcwd, names[0], at_fdcwd, names[1], rename_exchange) == 0


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file under a temporary name, then renames it."""
    with _draft(path, Path.touch) as draft:
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.chmod(0o644)
        draft.rename(path)


@contextmanager
def _draft(path: Path, create: Callable[[Path], None]) -> Iterator[Path]:
    """Something hidden beside `path`, marked as ours while the block runs; what then stands under its name is removed.

    The mark is a lock, which the system takes back when the process ends, however it ends. Drafts without one are
    left over from kills; they are removed here, so that a cache does not fill with them.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    clear_drafts(path.parent)
    draft = _hidden(path)
    try:  # from here on, so that Ctrl-C at any moment finds the draft's name known
        create(draft)
        with _locked(draft):
            yield draft
    finally:
        _remove(draft)


def clear_drafts(folder: Path) -> None:
    """Removes what killed processes left in a folder."""
    for draft in folder.glob(f".*{DRAFT}"):
        if _is_dead(draft):
            _remove(draft)


def discard(path: Path) -> None:
    """Removes a file or a folder. Its name goes in one step: a kill leaves no half of it there, but a draft.

    Raises:
        OSError: It is not there, or may not be removed.
    """
    old = _hidden(path)
    path.rename(old)
    _remove(old)


def _hidden(path: Path) -> Path:
    """A name beside `path` that nobody has and no listing shows."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}{DRAFT}")


@contextmanager
def _locked(draft: Path) -> Iterator[None]:
    handle = os.open(draft, _UNLED)
    try:
        with suppress(OSError):  # a file system without locks: there, no draft is ever taken for dead
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _is_dead(draft: Path) -> bool:
    try:
        state = draft.lstat()
        if state.st_uid != os.geteuid() or time.time() - state.st_mtime < YOUNG_S:
            return False
        handle = os.open(draft, _UNLED)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(handle)
    except OSError:
        return False
    return True


def _remove(draft: Path) -> None:
    if draft.is_dir() and not draft.is_symlink():
        shutil.rmtree(draft, ignore_errors=True)
    else:
        draft.unlink(missing_ok=True)


def files_below(folder: Path) -> Iterator[Path]:
    """All files below a folder, in no order. Links are followed, but not back into a folder that they lie in.

    Pipes, sockets and devices are no files; a link to nothing is one, so that whoever reads it says so.

    Raises:
        OSError: A folder cannot be read, or links lead to it by more than `NAMES` names.
    """
    waiting: list[tuple[Path, frozenset[tuple[int, int]]]] = [(folder, frozenset())]
    entered: Counter[tuple[int, int]] = Counter()
    while waiting:
        here, above = waiting.pop()
        state = here.stat()
        identity = (state.st_dev, state.st_ino)
        if identity in above:
            continue
        entered[identity] += 1
        if entered[identity] > NAMES:
            raise OSError(errno.ELOOP, f"links lead to it by more than {NAMES} names", str(here))
        with os.scandir(here) as entries:
            for entry in entries:
                # An entry itself knows what it is without a look at the disk, but fails on a link to itself.
                path = Path(entry.path)
                found = path if entry.is_symlink() else entry
                if found.is_dir():
                    waiting.append((path, above | {identity}))
                elif found.is_file() or not path.exists():
                    yield path


def write_json(path: Path, value: Any) -> None:
    """Writes indented JSON with sorted keys, so that equal values give equal bytes."""
    write_bytes(path, (json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Reads a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def require_writable(path: Path) -> None:
    """Makes the folder that is to hold `path` and tries to write there.

    Raises:
        ConfigError: The folder cannot be made or written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise ConfigError(
            f"cannot write to '{path.parent}': {error.strerror or error}",
            hint="choose another folder with --output or --cache",
        ) from error
