"""Decoded images that are kept, as far as there is room: what is read from files again and again is decoded once."""

from __future__ import annotations

import numpy as np

from edgec.core.samples import Pixels

__all__ = ["Cached", "Room"]


class Room:
    """How many bytes of decoded images may still be kept, by all who share it."""

    def __init__(self, limit_bytes: int) -> None:
        self._left_bytes = limit_bytes

    def taken(self, size_bytes: int) -> bool:
        """Whether there was room for so much, which is now gone."""
        fits = size_bytes <= self._left_bytes
        self._left_bytes -= size_bytes * fits
        return fits


class Cached:
    """Pixels, of which those that come first are kept, and stay.

    Nothing makes place for another image: training draws at random and judging runs through all, so that what was used
    last is needed no sooner than the rest.

    Args:
        pixels: Where images come from.
        room: For how many.
    """

    def __init__(self, pixels: Pixels, room: Room) -> None:
        self._pixels, self._room = pixels, room
        self._kept: dict[int, np.ndarray] = {}

    @property
    def shape(self) -> tuple[int, ...]:
        """n, height, width, channels."""
        return self._pixels.shape

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        """The images at these positions, uint8 [len(indices), height, width, channels]."""
        fresh = np.array([i for i in dict.fromkeys(indices.tolist()) if i not in self._kept], dtype=np.int64)
        made = dict(zip(fresh.tolist(), self._pixels[fresh], strict=True)) if len(fresh) else {}
        pixels = np.empty((len(indices), *self.shape[1:]), dtype=np.uint8)
        for position, index in enumerate(indices.tolist()):
            pixels[position] = made[index] if index in made else self._kept[index]
        self._kept |= {index: image.copy() for index, image in made.items() if self._room.taken(image.nbytes)}
        return pixels
