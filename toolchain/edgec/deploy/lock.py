"""One deployer at a time: a lock that the system takes back when its holder ends, and that says who holds it."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgec.core.errors import TransportError
from edgec.deploy.disk import unwritable

__all__ = ["hold"]

_POLL_S = 0.05


@contextmanager
def hold(path: Path, *, by: str, since: str, wait_s: float = 0.0) -> Iterator[None]:
    """Holds the lock while the block runs. The file stays: removing it would let two hold it.

    Args:
        path: The lock's file.
        by: Who takes it.
        since: The time, for those who find it held.
        wait_s: How long to wait for another holder: one whose connection was cut ends soon.

    Raises:
        TransportError: Another process holds it; names who, which process and since when;
            or the file cannot be written.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except OSError as error:
        raise unwritable(path.parent, error) from error
    try:
        with suppress(OSError):  # of an earlier version: who may read it may lock it
            os.fchmod(handle, 0o600)
        deadline = time.monotonic() + wait_s
        while not _taken(handle):
            if time.monotonic() >= deadline:
                raise TransportError(
                    f"'{path.parent}' is being deployed to{_holder(handle)}",
                    hint="wait for it to end, or end that process",
                )
            time.sleep(_POLL_S)
        note = json.dumps({"by": by, "pid": os.getpid(), "since": since}).encode()
        with suppress(OSError):  # a full disk: the lock holds all the same, unnamed
            os.ftruncate(handle, 0)
            os.pwrite(handle, note, 0)
        yield
    finally:
        os.close(handle)


def _taken(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(handle: int) -> str:
    """Who holds the lock, as far as the file tells."""
    try:
        note = json.loads(os.pread(handle, 4096, 0))
        return f" by {note['by']}, process {note['pid']}, since {note['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
