"""What a site asks of the disk: that things are on it, that they go, that they stay, and how much room there is."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path

from edgec.core.errors import ConfigError, TransportError

__all__ = ["MARGIN_BYTES", "free_bytes", "remove", "require_guarded", "require_space", "sync_folder", "unwritable"]

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


def require_guarded(folder: Path) -> None:
    """Refuses a place where other users may put something else under the name of what was checked.

    Whoever may write to a folder may rename what is in it, unless the folder is sticky, as /tmp is; that goes for the
    folders above as well. A group is others where it is not this user's own.

    Raises:
        ConfigError: There is such a folder; it is named.
    """
    place = Path(os.path.realpath(folder))
    for above in (place, *place.parents):
        found = above.stat()
        others = found.st_mode & stat.S_IWOTH or (found.st_mode & stat.S_IWGRP and found.st_gid != os.getegid())
        if others and not found.st_mode & stat.S_ISVTX:
            who = "everybody" if found.st_mode & stat.S_IWOTH else f"group {found.st_gid}"
            raise ConfigError(
                f"'{folder}' is no safe place: {who} may rename what is in '{above}', mode "
                f"{stat.S_IMODE(found.st_mode):o}",
                hint=f"chmod go-w {above}, or choose a folder of your own",
            )


def unwritable(folder: Path, error: OSError) -> TransportError:
    """What a system's error means for the person."""
    hint = "free some space on the device" if error.errno in _FULL else "check the folder's permissions on the device"
    return TransportError(f"cannot write to '{folder}': {error.strerror or error}", hint=hint)
