"""SHA-256 of files, values and images: what the cache, the manifest and the split check compare."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from edgec.core.files import files_below

__all__ = ["digest_bytes", "digest_file", "digest_image", "digest_tree", "digest_value"]


def digest_bytes(data: bytes | memoryview) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes, read in pieces."""
    state = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            state.update(block)
    return state.hexdigest()


def digest_tree(path: Path) -> str:
    """SHA-256 over the relative names and contents of all files below a folder, or of one file; links are followed."""
    if path.is_file():
        return digest_file(path)
    files = sorted(files_below(path))
    return digest_value([(p.relative_to(path).as_posix(), digest_file(p) if p.exists() else None) for p in files])


def digest_value(value: Any) -> str:
    """SHA-256 of a value's canonical JSON; pydantic models by their fields."""
    return digest_bytes(json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain).encode())


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, Iterable):
        return list(value)
    raise TypeError(f"cannot digest a {type(value).__name__}")


def digest_image(pixels: np.ndarray) -> str:
    """SHA-256 of an image's shape and pixels, whatever file format it came from."""
    pixels = np.ascontiguousarray(pixels)
    return digest_bytes(repr(pixels.shape).encode() + pixels.tobytes())
