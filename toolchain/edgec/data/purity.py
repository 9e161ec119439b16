"""Purity of the out-of-distribution pool: no copy of a few-sample or test image in it, and none of its own.

METHODS.md §1; the paper (arXiv 2502.05832, "OOD Set Handling") asks for it and does not say how. Exact copies are
found by digest. Re-encoded, brightened, slightly shifted or mirrored ones are found in two steps on 32x32 grey
portraits: the five most similar images by a coarse thumbnail, then a comparison of details under shifts by a pixel.
Horizons and skies agree in any thumbnail; details tell them apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from edgec.core.images import fit_pixels
from edgec.core.inputs import InputSpec
from edgec.core.samples import Images

__all__ = ["PurityReport", "purify"]

_NEAR = 0.92
"""Correlation of details from which an image counts as a copy. Measured between 2,500 CIFAR-100 and 10,000 CIFAR-10
images: none of the former above 0.92, two above 0.90, 16 above 0.86. Of 2,000 altered CIFAR-10 images all were found
after JPEG of quality 75, 15 % more brightness, a shift by a pixel, mirroring, these together, or scaling to 24x24 and
back; 99.8 % after JPEG of quality 30; 73 % after scaling to 16x16 and back, 75 % after cutting the outer pixels."""
_CANDIDATES = 5
"""Most similar images by thumbnail that are compared in detail: they held the copy after 99.9 % of one-pixel shifts."""
_BATCH = 1024
"""Images compared with the pool at a time."""
_FLAT = 0.5
"""Grey levels (root mean square) of detail below which an image has none to compare."""
_PORTRAIT = InputSpec(height=32, width=32, channels=1, mean=(0.0,), std=(1.0,))
_SHIFTS = tuple(product((-1, 0, 1), repeat=2))


@dataclass(frozen=True, kw_only=True)
class PurityReport:
    """What was taken out of the pool.

    Attributes:
        given: Images in the pool before.
        exact: Removed: pixel for pixel one of the images to keep out.
        near: Removed: nearly one of them.
        repeated: Removed: equal or nearly equal to an earlier image of the pool.
    """

    given: int
    exact: int
    near: int
    repeated: int

    @property
    def kept(self) -> int:
        """Images in the pool after."""
        return self.given - self.exact - self.near - self.repeated


def purify(ood: Images, *, against: Sequence[Images]) -> tuple[Images, PurityReport]:
    """Takes copies of other images, and repetitions, out of the out-of-distribution pool.

    Memory: about 10 KB per image of the pool, and 1,024 decoded images, however many there are in `against`.

    Args:
        ood: The pool.
        against: Few-sample, calibration and test images.

    Returns:
        The pool without them, in its order, and how many were removed.
    """
    forbidden = {digest for images in against for digest in images.digests}
    exact = np.array([digest in forbidden for digest in ood.digests], dtype=bool)
    portraits = np.concatenate([np.empty((0, *_PORTRAIT.shape[1:]), np.uint8), *_portraits(ood)])
    prints = _Prints.of(portraits)
    near = np.zeros(len(ood), dtype=bool)
    for images in against:
        for batch in _portraits(images):
            near |= _resembling(prints, batch)
    unique = np.flatnonzero(~exact & ~near)
    kept = unique[~_repeated(portraits[unique], [ood.digests[position] for position in unique])]
    report = PurityReport(
        given=len(ood),
        exact=int(exact.sum()),
        near=int((near & ~exact).sum()),
        repeated=len(unique) - len(kept),
    )
    return ood.take(kept), report


def _portraits(images: Images) -> Iterator[np.ndarray]:
    """uint8 [<= 1024, 32, 32], grey, in order."""
    for batch in images.batches(_BATCH):
        yield np.stack([fit_pixels(pixels, _PORTRAIT) for pixels in batch])[..., 0]


def _repeated(portraits: np.ndarray, digests: Sequence[str]) -> np.ndarray:
    """Which images are equal or nearly equal to an earlier one, bool [n]."""
    first = {digest: position for position, digest in reversed(list(enumerate(digests)))}
    repeated = np.array([first[digest] < position for position, digest in enumerate(digests)], dtype=bool)
    prints = _Prints.of(portraits)
    for start in range(0, len(portraits), _BATCH):
        repeated |= _resembling(prints, portraits[start : start + _BATCH], earlier_from=start)
    return repeated


@dataclass(frozen=True, kw_only=True)
class _Prints:
    """What images are recognised by: unit vectors, so that a product of two is their correlation.

    Attributes:
        thumbnails: float32 [n, 100].
        details: float32 [n, 9, 225], one for each shift.
    """

    thumbnails: np.ndarray
    details: np.ndarray

    @classmethod
    def of(cls, portraits: np.ndarray) -> _Prints:
        """The prints of uint8 [n, 32, 32]."""
        shifted = [_details(portraits, down, across) for down, across in _SHIFTS]
        return cls(thumbnails=_thumbnails(portraits), details=np.stack(shifted, axis=1))


def _resembling(prints: _Prints, others: np.ndarray, *, earlier_from: int | None = None) -> np.ndarray:
    """Which images are nearly one of the others, mirrored or not.

    Args:
        prints: Of n images.
        others: uint8 [m, 32, 32], portraits.
        earlier_from: Where the others are the images at this position and after of the n themselves: an image is
            then compared with those before it only.

    Returns:
        bool [n].
    """
    found = np.zeros(len(prints.thumbnails), dtype=bool)
    for view in (others, others[:, :, ::-1]):
        thumbnails, details = _thumbnails(view), _details(view)
        for start in range(0, len(found), _BATCH):
            rows = slice(start, start + _BATCH)
            similarity = prints.thumbnails[rows] @ thumbnails.T
            if earlier_from is not None:
                positions = start + np.arange(len(similarity))
                similarity[positions[:, None] <= earlier_from + np.arange(len(others))] = -np.inf
            count = min(_CANDIDATES, len(others))
            nearest = np.argpartition(-similarity, count - 1, axis=1)[:, :count]
            agreement = (prints.details[rows] @ details[nearest].transpose(0, 2, 1)).max(axis=1)
            agreement[np.take_along_axis(similarity, nearest, axis=1) == -np.inf] = 0
            found[rows] |= agreement.max(axis=1) > _NEAR
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
