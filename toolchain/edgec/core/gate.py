"""How an image's power is spread over frequencies, by which a deck's gate picks a member.

The radial spectrum (Yin et al., NeurIPS 2019, who tell kinds of corruption apart by it) of the mean over channels, from
tiles that do not overlap, whose powers are averaged (Bartlett 1948). Tiles make it cheap in large images: all is a
product with small matrices, which any runtime has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgec.core.frozen import Frozen

if TYPE_CHECKING:
    from jaxtyping import Float, Float32

__all__ = ["MEMBER", "Gate", "Rings", "radial_spectrum"]

MEMBER = "member"
"""A deck's second output: the position of the member that answered, int64 [1]."""
TILE = 32
"""Pixels of a tile's side; of a smaller image, its shorter side."""
RINGS = 16
"""Rings of frequencies up to half a period a pixel, or as many as half a tile has pixels; corners count as the last."""
LEAST_POWER = 1e-6
"""Added before the logarithm: an image of one colour has no power."""


@dataclass(frozen=True)
class Rings:
    """The matrices of the transform for images of one size.

    Attributes:
        height: Of the images.
        width: Of the images.
    """

    height: int
    width: int

    @property
    def tile(self) -> int:
        """Pixels of a tile's side."""
        return min(TILE, self.height, self.width)

    @property
    def count(self) -> int:
        """Number of rings."""
        return max(1, min(RINGS, self.tile // 2))

    @property
    def tiles(self) -> tuple[int, int]:
        """Whole tiles below and beside each other; what is left at the lower and right border is not looked at."""
        return self.height // self.tile, self.width // self.tile

    @property
    def waves(self) -> Float32[np.ndarray, "tile two_tiles"]:
        """Cosines of every frequency, and beside them the sines."""
        phases = 2 * np.pi * np.outer(np.arange(self.tile), np.arange(self.tile)) / self.tile
        return np.hstack([np.cos(phases), -np.sin(phases)]).astype(np.float32)

    @property
    def means(self) -> Float32[np.ndarray, "tile_squared ring"]:
        """The weights by which powers, flattened, become each ring's mean."""
        each = np.minimum(np.arange(self.tile), self.tile - np.arange(self.tile))
        radius = np.hypot(each[:, None], each[None, :]).ravel()
        ring = np.minimum((2 * radius / self.tile * self.count).astype(int), self.count - 1)
        found = ring[:, None] == np.arange(self.count)
        return (found / np.maximum(found.sum(axis=0), 1)).astype(np.float32)


def radial_spectrum(images: Float[np.ndarray, "n channel height width"]) -> Float[np.ndarray, "n ring"]:
    """Logarithm of the mean power in each ring of frequencies, lowest first."""
    rings = Rings(*images.shape[-2:])
    tile, (rows, columns) = rings.tile, rings.tiles
    grey = images.mean(axis=1)[:, : rows * tile, : columns * tile]
    tiles = grey.reshape(-1, rows, tile, columns, tile).transpose(0, 1, 3, 2, 4)
    power = (np.abs(np.fft.fft2(tiles)) ** 2).mean(axis=(1, 2)).reshape(-1, tile * tile)
    return np.log(power @ rings.means + LEAST_POWER)


class Gate(Frozen):
    """Picks the member of a deck whose score is highest: scores are linear in the radial spectrum.

    Attributes:
        weights: A row for each member, a column for each ring.
        bias: One for each member.
    """

    weights: tuple[tuple[float, ...], ...]
    bias: tuple[float, ...]

    def picks_of(self, spectra: Float[np.ndarray, "n ring"]) -> np.ndarray:
        """The position of the member for each radial spectrum, int [n]."""
        return (spectra @ np.array(self.weights).T + np.array(self.bias)).argmax(axis=1)

    def picks(self, images: Float[np.ndarray, "n channel height width"]) -> np.ndarray:
        """The position of each image's member, int [n]; images as the graph takes them."""
        return self.picks_of(radial_spectrum(images))
