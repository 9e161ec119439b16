"""What every kind of corruption is drawn with: a random stream per image, pixels as shares, lengths for any size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from edgec.core.digest import digest_bytes, digest_image

if TYPE_CHECKING:
    from jaxtyping import Float32, UInt8

__all__ = ["Draw", "Streams", "length", "shares"]

_SIDE = 32
"""Pixels of the images that the published severities were chosen for."""


@dataclass(frozen=True, kw_only=True)
class Streams:
    """A random stream per image, which follows from seed, kind and the image, not from batch or severity.

    So the severities of an image share their noise, and differ in its strength alone.
    """

    pixels: UInt8[np.ndarray, "n height width channel"]
    kind: str
    seed: int

    @cached_property
    def each(self) -> list[np.random.Generator]:
        """One generator per image; made when the first number is asked for."""
        keys = (digest_bytes(f"{self.seed} {self.kind} {digest_image(image)}".encode()) for image in self.pixels)
        return [np.random.default_rng(int(key, 16)) for key in keys]

    def normal(self, *shape: int) -> Float32[np.ndarray, "n *shape"]:
        """Standard normal numbers, an array of this shape per image."""
        return np.stack([stream.standard_normal(shape, dtype=np.float32) for stream in self.each])

    def uniform(self, *shape: int) -> Float32[np.ndarray, "n *shape"]:
        """Numbers from 0 to 1, an array of this shape per image."""
        return np.stack([stream.random(shape, dtype=np.float32) for stream in self.each])


Draw = Callable[["UInt8[np.ndarray, 'n h w c']", int, Streams], "Float32[np.ndarray, 'n h w c']"]
"""Clean pixels, a severity from 1 to 5 and the streams to what is seen, as shares of white; may leave [0, 1]."""


def shares(pixels: UInt8[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
    """Pixels from 0 to 255 as shares of white."""
    return pixels.astype(np.float32) / np.float32(255)


def length(pixels: UInt8[np.ndarray, "n height width channel"], in_32: float) -> float:
    """Pixels of what is so many pixels long in an image of 32x32."""
    return in_32 * min(pixels.shape[1:3]) / _SIDE
