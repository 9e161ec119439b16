"""Whether two images are nearly the same: re-encoded, brightened, slightly shifted, mirrored or scaled.

Found in two steps on 32x32 grey portraits: the five most similar images by a coarse thumbnail, then a comparison of
details under shifts by a pixel. Horizons and skies agree in any thumbnail; details tell them apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from edgec.core.images import fit_pixels
from edgec.core.inputs import InputSpec
from edgec.core.samples import Images

__all__ = ["BATCH", "NEAR", "Prints", "batches_of_portraits", "portraits_of", "twins"]

NEAR = 0.92
"""Correlation of details from which an image counts as a copy. Measured between 2,500 CIFAR-100 and 10,000 CIFAR-10
images: none of the former above 0.92, two above 0.90, 16 above 0.86. Of 2,000 altered CIFAR-10 images all were found
after JPEG of quality 75, 15 % more brightness, a shift by a pixel, mirroring, these together, or scaling to 24x24 and
back; 99.8 % after JPEG of quality 30; 73 % after scaling to 16x16 and back, 75 % after cutting the outer pixels."""
BATCH = 1024
"""Images compared with others at a time."""
_CANDIDATES = 5
"""Most similar images by thumbnail that are compared in detail: they held the copy after 99.9 % of one-pixel shifts."""
_FLAT = 0.5
"""Grey levels (root mean square) of detail below which an image has none to compare."""
_PORTRAIT = InputSpec(height=32, width=32, channels=1, mean=(0.0,), std=(1.0,))
_SHIFTS = tuple(product((-1, 0, 1), repeat=2))


def portraits_of(images: Images) -> np.ndarray:
    """uint8 [n, 32, 32], grey."""
    return np.concatenate([np.empty((0, *_PORTRAIT.shape[1:]), np.uint8), *batches_of_portraits(images)])


def batches_of_portraits(images: Images) -> Iterator[np.ndarray]:
    """uint8 [<= 1024, 32, 32], grey, in order."""
    for batch in images.batches(BATCH):
        yield np.stack([fit_pixels(pixels, _PORTRAIT) for pixels in batch])[..., 0]


@dataclass(frozen=True, kw_only=True)
class Prints:
    """What images are recognised by: unit vectors, so that a product of two is their correlation.

    Attributes:
        thumbnails: float32 [n, 100].
        details: float32 [n, 9, 225], one for each shift.
    """

    thumbnails: np.ndarray
    details: np.ndarray

    @classmethod
    def of(cls, portraits: np.ndarray) -> Prints:
        """The prints of uint8 [n, 32, 32]."""
        shifted = [_details(portraits, down, across) for down, across in _SHIFTS]
        return cls(thumbnails=_thumbnails(portraits), details=np.stack(shifted, axis=1))


def twins(
    prints: Prints,
    others: np.ndarray,
    *,
    above: float,
    earlier_from: int | None = None,
    labels: tuple[np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
    """For every image the position of the other one that it nearly is, mirrored or not.

    Args:
        prints: Of n images.
        others: uint8 [m, 32, 32], portraits.
        above: Correlation of details from which two images count as one.
        earlier_from: Where the others are the images at this position and after of the n themselves: an image is
            then compared with those before it only.
        labels: Of the n and of the others, where an image is to be compared with those of another label only.

    Returns:
        int64 [n], positions in `others`; -1 for an image that resembles none.
    """
    found = np.full(len(prints.thumbnails), -1)
    best = np.full(len(found), above, dtype=np.float32)
    for view in (others, others[:, :, ::-1]):
        thumbnails, details = _thumbnails(view), _details(view)
        for start in range(0, len(found), BATCH):
            rows = slice(start, start + BATCH)
            similarity = prints.thumbnails[rows] @ thumbnails.T
            if earlier_from is not None:
                positions = start + np.arange(len(similarity))
                similarity[positions[:, None] <= earlier_from + np.arange(len(others))] = -np.inf
            if labels is not None:
                similarity[labels[0][rows, None] == labels[1]] = -np.inf
            count = min(_CANDIDATES, len(others))
            nearest = np.argpartition(-similarity, count - 1, axis=1)[:, :count]
            agreement = (prints.details[rows] @ details[nearest].transpose(0, 2, 1)).max(axis=1)
            agreement[np.take_along_axis(similarity, nearest, axis=1) == -np.inf] = 0
            highest = agreement.argmax(axis=1)[:, None]
            reached = np.take_along_axis(agreement, highest, axis=1)[:, 0]
            more = reached > best[rows]
            found[rows] = np.where(more, np.take_along_axis(nearest, highest, axis=1)[:, 0], found[rows])
            best[rows] = np.where(more, reached, best[rows])
    return found


def _thumbnails(portraits: np.ndarray) -> np.ndarray:
    """float32 [n, 100]: 10x10 means of 3x3 pixels, the rim left out."""
    return _unit(_means(portraits[:, 1:-1, 1:-1], 3), floor=0.0)


def _details(portraits: np.ndarray, down: int = 0, across: int = 0) -> np.ndarray:
    """float32 [n, 225]: 15x15 means of 2x2 pixels, less the 3x3 means of 10x10, after a shift of at most one pixel."""
    fine = _means(portraits[:, 1 + down : 31 + down, 1 + across : 31 + across], 2)
    coarse = _means(fine, 5).repeat(5, axis=1).repeat(5, axis=2)
    return _unit(fine - coarse, floor=_FLAT)


def _means(images: np.ndarray, block: int) -> np.ndarray:
    """float32 [n, side / block, side / block]: means over square blocks."""
    count, side, _ = images.shape
    blocks = images.reshape(count, side // block, block, side // block, block)
    return blocks.mean(axis=(2, 4), dtype=np.float32)


def _unit(images: np.ndarray, *, floor: float) -> np.ndarray:
    """float32 [n, values]: centred and of length 1; shorter where the root mean square is below the floor."""
    count, down, across = images.shape
    vectors = images.reshape(count, down * across)
    vectors = vectors - vectors.mean(axis=1, keepdims=True)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(length, max(floor * vectors.shape[1] ** 0.5, 1e-6))
