"""Purity of the out-of-distribution pool: no copy of a few-sample or test image in it, and none of its own.

docs/methods.md §1; the paper (arXiv 2502.05832, "OOD Set Handling") asks for it and does not say how. Exact copies are
found by digest, altered ones by `data.resemblance`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgec.core.samples import Images
from edgec.data.resemblance import BATCH, NEAR, Prints, batches_of_portraits, portraits_of, twins

__all__ = ["PurityReport", "purify"]


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
    portraits = portraits_of(ood)
    prints = Prints.of(portraits)
    near = np.zeros(len(ood), dtype=bool)
    for images in against:
        for batch in batches_of_portraits(images):
            near |= twins(prints, batch, above=NEAR) >= 0
    unique = np.flatnonzero(~exact & ~near)
    kept = unique[~_repeated(portraits[unique], [ood.digests[position] for position in unique])]
    report = PurityReport(
        given=len(ood),
        exact=int(exact.sum()),
        near=int((near & ~exact).sum()),
        repeated=len(unique) - len(kept),
    )
    return ood.choose(kept), report


def _repeated(portraits: np.ndarray, digests: Sequence[str]) -> np.ndarray:
    """Which images are equal or nearly equal to an earlier one, bool [n]."""
    first = {digest: position for position, digest in reversed(list(enumerate(digests)))}
    repeated = np.array([first[digest] < position for position, digest in enumerate(digests)], dtype=bool)
    prints = Prints.of(portraits)
    for start in range(0, len(portraits), BATCH):
        repeated |= twins(prints, portraits[start : start + BATCH], above=NEAR, earlier_from=start) >= 0
    return repeated
