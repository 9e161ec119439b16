"""Images with a proof of identity, with or without labels: the values that stages read data from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from typing_extensions import Self

from edgec.core.digest import digest_value

__all__ = ["Chosen", "Images", "Joined", "Pixels", "Samples", "even_positions"]


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
class Chosen:
    """Some of other pixels, decoded on demand as these are.

    Attributes:
        pixels: Those that they are some of.
        positions: int64 [n], which.
    """

    pixels: Pixels
    positions: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """n, height, width, channels."""
        return len(self.positions), *self.pixels.shape[1:]

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        """The images at these positions, uint8 [len(indices), height, width, channels]."""
        return self.pixels[self.positions[indices]]


@dataclass(frozen=True, kw_only=True)
class Joined:
    """Pixels after pixels, decoded on demand as each of them are.

    Attributes:
        parts: Of one height, width and number of channels.
    """

    parts: tuple[Pixels, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """n, height, width, channels."""
        return sum(part.shape[0] for part in self.parts), *self.parts[0].shape[1:]

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        """The images at these positions, uint8 [len(indices), height, width, channels]."""
        pixels = np.empty((len(indices), *self.shape[1:]), dtype=np.uint8)
        start = 0
        for part in self.parts:
            own = (indices >= start) & (indices < start + part.shape[0])
            if own.any():
                pixels[own] = part[indices[own] - start]
            start += part.shape[0]
        return pixels


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
        """These images, then the others, without labels."""
        return Images(
            pixels=Joined(parts=(self.pixels, others.pixels)),
            digests=self.digests + others.digests,
            source=f"{self.source} and {others.source}",
        )

    def take(self, indices: np.ndarray) -> Self:
        """The images at these positions, in this order, decoded where that is left to later here."""
        return replace(self.choose(indices), pixels=self.pixels[indices])

    def choose(self, indices: np.ndarray) -> Self:
        """As `take`, but decoded on demand."""
        return replace(
            self,
            pixels=Chosen(pixels=self.pixels, positions=indices),
            digests=tuple(self.digests[i] for i in indices),
        )

    def first(self, count: int) -> np.ndarray:
        """The first images, at most so many, uint8 [n, height, width, channels]."""
        return self.pixels[np.arange(min(count, len(self)))]

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
        groups: A key for each image, the same for those that belong together; None for one that belongs with no other,
            and where nobody asked.
    """

    labels: np.ndarray
    classes: tuple[str, ...]
    groups: tuple[str | None, ...] | None = None

    def evenly(self, count: int) -> Self:
        """The first images of every class in turn, at most so many, in the order in which they stand here."""
        return self.choose(even_positions(self.labels, count))

    @property
    def counts(self) -> np.ndarray:
        """int64 [classes]: images per class, zeros included."""
        return np.bincount(self.labels, minlength=len(self.classes))

    @property
    def digest(self) -> str:
        """One digest for images, labels and class names."""
        return digest_value([self.digests, self.labels.tolist(), self.classes])

    def choose(self, indices: np.ndarray) -> Self:
        """As `take`, but decoded on demand."""
        groups = None if self.groups is None else tuple(self.groups[i] for i in indices)
        return replace(super().choose(indices), labels=self.labels[indices], groups=groups)


def even_positions(labels: np.ndarray, count: int) -> np.ndarray:
    """The first positions of every class in turn, at most so many, in ascending order."""
    rank = np.empty(len(labels), dtype=int)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        rank[members] = np.arange(len(members))
    return np.sort(np.lexsort((labels, rank))[:count])
