"""What a site asks of the disk: that things are on it, that they go, and how much room there is."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path

from edgec.core.errors import TransportError

__all__ = ["MARGIN_BYTES", "free_bytes", "remove", "require_space", "sync_folder", "unwritable"]

MARGIN_BYTES = 1 << 20
"""Left free on the device's disk: for the history, and for what else writes there."""
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def sync_folder(folder: Path) -> None:
    """Puts a folder's entries on the disk, where its file system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove(path: Path) -> None:
    """Removes a file, a link or a folder, and does not mind what is gone already."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def free_bytes(folder: Path) -> int:
    """What this user may still write on the disk of a folder, which may not be there yet."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def require_space(folder: Path, size_bytes: int) -> None:
    """Lets something be written where it fits.

    Raises:
        TransportError: It does not, or next to nothing would be left.
    """
    free, needed = free_bytes(folder), size_bytes + MARGIN_BYTES
    if free < needed:
        raise TransportError(
            f"'{folder}' has {free:,} bytes free, the bundle needs {needed:,}",
            hint="free some space on the device, or keep fewer versions with --keep",
        )


def unwritable(folder: Path, error: OSError) -> TransportError:
    """What a system's error means for the person."""
    hint = "free some space on the device" if error.errno in _FULL else "check the folder's permissions on the device"
    return TransportError(f"cannot write to '{folder}': {error.strerror or error}", hint=hint)
