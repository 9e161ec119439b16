"""Images with a proof of identity, with or without labels: the values that stages read data from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from typing_extensions import Self

from edgec.core.digest import digest_value

__all__ = ["Images", "Pixels", "Samples"]


class Pixels(Protocol):
    """Images decoded on demand, or an array of them: uint8 [n, height, width, channels]."""

    @property
    def shape(self) -> tuple[int, ...]:
        """n, height, width, channels."""
        ...

    def __getitem__(self, indices: np.ndarray, /) -> np.ndarray:
        """The images at these positions, uint8 [len(indices), height, width, channels]."""
        ...


@dataclass(frozen=True, kw_only=True)
class Images:
    """Unlabelled images.

    Attributes:
        pixels: uint8 [n, height, width, channels].
        digests: SHA-256 of each image's shape and pixels, as `core.digest.digest_image` makes it.
        source: Where they came from, for people.
    """

    pixels: Pixels
    digests: tuple[str, ...]
    source: str

    def __len__(self) -> int:
        return len(self.digests)

    @property
    def digest(self) -> str:
        """One digest for the whole, order included."""
        return digest_value(self.digests)

    def joined(self, others: Images) -> Images:
        """These images, then the others, decoded and without labels."""
        pixels = np.concatenate([self.decoded(), others.decoded()])
        return Images(pixels=pixels, digests=self.digests + others.digests, source=f"{self.source} and {others.source}")

    def take(self, indices: np.ndarray) -> Self:
        """The images at these positions, in this order."""
        return replace(
            self,
            pixels=self.pixels[indices],
            digests=tuple(self.digests[i] for i in indices),
        )

    def decoded(self) -> np.ndarray:
        """All images at once, uint8 [n, height, width, channels]."""
        return self.pixels[np.arange(len(self))]

    def batches(self, size: int) -> Iterator[np.ndarray]:
        """uint8 [<= size, height, width, channels], in order."""
        for start in range(0, len(self), size):
            yield self.pixels[np.arange(start, min(start + size, len(self)))]


@dataclass(frozen=True, kw_only=True)
class Samples(Images):
    """Labelled images.

    Attributes:
        labels: int64 [n], positions in `classes`.
        classes: Class names in the order of the model's outputs.
    """

    labels: np.ndarray
    classes: tuple[str, ...]

    def evenly(self, count: int) -> Self:
        """The first images of every class in turn, at most so many, in the order in which they stand here."""
        rank = np.empty(len(self), dtype=int)
        for label in np.unique(self.labels):
            members = np.flatnonzero(self.labels == label)
            rank[members] = np.arange(len(members))
        return self.take(np.sort(np.lexsort((self.labels, rank))[:count]))

    @property
    def counts(self) -> np.ndarray:
        """int64 [classes]: images per class, zeros included."""
        return np.bincount(self.labels, minlength=len(self.classes))

    @property
    def digest(self) -> str:
        """One digest for images, labels and class names."""
        return digest_value([self.digests, self.labels.tolist(), self.classes])

    def take(self, indices: np.ndarray) -> Self:
        """The samples at these positions, in this order."""
        return replace(super().take(indices), labels=self.labels[indices])
