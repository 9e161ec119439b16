"""`golden.npz`: images and the logits that the artifact gave for them where it was built."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgec.core.errors import IntegrityError
from edgec.core.inputs import InputSpec
from edgec.core.untrusted_arrays import arrays_bytes, stored_arrays

__all__ = ["Golden", "golden_bytes", "read_golden"]


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
    inputs, logits = golden.inputs.astype(np.uint8, copy=False), golden.logits.astype(np.float32, copy=False)
    return arrays_bytes({"inputs": inputs, "logits": logits})


def read_golden(data: bytes, spec: InputSpec, *, classes: int, where: str) -> Golden:
    """Reads what `golden_bytes` wrote; nothing is unpickled.

    Raises:
        IntegrityError: Not such a file, or arrays that do not fit the model.
    """
    arrays = stored_arrays(data, where=f"'{where}': golden.npz")
    if arrays.keys() != {"inputs", "logits"}:
        raise _refused(where, f"it holds {', '.join(sorted(arrays)) or 'nothing'}, expected inputs and logits")
    inputs, logits = arrays["inputs"], arrays["logits"]
    count = len(inputs) if inputs.ndim else 0
    images, scores = (count, spec.height, spec.width, spec.channels), (count, classes)
    if not count or inputs.dtype != np.uint8 or inputs.shape != images:
        raise _refused(where, f"inputs are {inputs.dtype} {inputs.shape}, expected uint8 (n, {images[1:]})")
    if logits.dtype != np.float32 or logits.shape != scores:
        raise _refused(where, f"logits are {logits.dtype} {logits.shape}, expected float32 {scores}")
    if not np.isfinite(logits).all():
        raise _refused(where, "logits are not finite")
    return Golden(inputs=inputs, logits=logits)


def _refused(where: str, reason: str) -> IntegrityError:
    return IntegrityError(f"'{where}': golden.npz: {reason}", hint="build the bundle again")
