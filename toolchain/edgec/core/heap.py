"""Memory that was freed goes back to the system: a server and its reading process stay as small as what they hold."""

from __future__ import annotations

import ctypes
from contextlib import suppress

__all__ = ["give_back_freed"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""glibc's names for them, malloc.h."""
_LARGE_BYTES = 1 << 20


def give_back_freed() -> None:
    """From now on, each block of a mebibyte or more is given back as soon as it is freed.

    Left to itself, glibc learns from the first large block that is freed, a body or a picture, to keep those of up to
    32 MiB: see M_MMAP_THRESHOLD in mallopt(3). Other C libraries have no such call, and nothing is changed there.
    """
    with suppress(OSError, AttributeError):
        for threshold in (_MMAP_THRESHOLD, _TRIM_THRESHOLD):
            ctypes.CDLL(None).mallopt(threshold, _LARGE_BYTES)
