"""Arrays out of bytes that nobody vouches for: stored, never packed or pickled."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping
from tokenize import TokenError
from typing import Any

import numpy as np

from edgec.core.errors import IntegrityError

__all__ = ["DAMAGED", "arrays_bytes", "stored_arrays"]

DAMAGED = (OSError, ValueError, KeyError, EOFError, OverflowError, RuntimeError, struct.error, zipfile.BadZipFile)
"""What zipfile raises on bytes that are no sound archive."""
_UNREADABLE = (*DAMAGED, MemoryError, SyntaxError, TokenError, TypeError)
"""What NumPy raises besides on an array's header that is no header."""


def arrays_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """An uncompressed `.npz`; equal arrays give equal bytes."""
    buffer = io.BytesIO()
    contiguous: dict[str, Any] = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
    np.savez(buffer, **contiguous)
    return buffer.getvalue()


def stored_arrays(data: bytes, *, where: str) -> dict[str, np.ndarray]:
    """What `arrays_bytes` wrote; nothing is unpickled, and nothing can grow beyond the bytes that are there.

    Raises:
        IntegrityError: Not such a file.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise ValueError("its arrays are compressed, expected stored")
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return dict(arrays)
    except _UNREADABLE as error:
        raise IntegrityError(f"{where}: unreadable: {error}", hint="build the bundle again") from error
