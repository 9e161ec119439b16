"""`golden.npz`: images and the logits that the artifact gave for them where it was built."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from tokenize import TokenError

import numpy as np

from edgec.core.errors import IntegrityError
from edgec.core.inputs import InputSpec
from edgec.package.source import DAMAGED

__all__ = ["Golden", "golden_bytes", "read_golden"]

_UNREADABLE = (*DAMAGED, MemoryError, SyntaxError, TokenError, TypeError)
"""What NumPy raises on an array's header that is no header."""


@dataclass(frozen=True, kw_only=True)
class Golden:
    """What a device must reproduce before it serves.

    Attributes:
        inputs: uint8 [n, height, width, channels].
        logits: float32 [n, classes], of the file that ships, by the runtime that evaluated it.
    """

    inputs: np.ndarray
    logits: np.ndarray


def golden_bytes(golden: Golden) -> bytes:
    """An uncompressed `.npz`; equal arrays give equal bytes."""
    buffer = io.BytesIO()
    inputs, logits = np.ascontiguousarray(golden.inputs), np.ascontiguousarray(golden.logits)
    np.savez(buffer, inputs=inputs.astype(np.uint8, copy=False), logits=logits.astype(np.float32, copy=False))
    return buffer.getvalue()


def read_golden(data: bytes, spec: InputSpec, *, classes: int, where: str) -> Golden:
    """Reads what `golden_bytes` wrote; nothing is unpickled.

    Raises:
        IntegrityError: Not such a file, or arrays that do not fit the model.
    """
    try:
        inputs, logits = _arrays(data)
    except _UNREADABLE as error:
        raise _refused(where, f"unreadable: {error}") from error
    count = len(inputs) if inputs.ndim else 0
    images, scores = (count, spec.height, spec.width, spec.channels), (count, classes)
    if not count or inputs.dtype != np.uint8 or inputs.shape != images:
        raise _refused(where, f"inputs are {inputs.dtype} {inputs.shape}, expected uint8 (n, {images[1:]})")
    if logits.dtype != np.float32 or logits.shape != scores:
        raise _refused(where, f"logits are {logits.dtype} {logits.shape}, expected float32 {scores}")
    if not np.isfinite(logits).all():
        raise _refused(where, "logits are not finite")
    return Golden(inputs=inputs, logits=logits)


def _arrays(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ValueError("its arrays are compressed, expected stored")
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return arrays["inputs"], arrays["logits"]


def _refused(where: str, reason: str) -> IntegrityError:
    return IntegrityError(f"'{where}': golden.npz: {reason}", hint="build the bundle again")
