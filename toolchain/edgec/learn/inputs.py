"""Images as a net takes them, made of their pixels a batch at a time: memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float
from torch import Tensor

from edgec.core.inputs import InputSpec
from edgec.core.samples import Images, Pixels
from edgec.models.infer import to_tensor

__all__ = ["Inputs", "Streamed", "streamed"]

Batch = Float[Tensor, "batch channel height width"]


class Inputs(Protocol):
    """Float32 [n, channel, height, width]: a tensor, or what makes the part that is asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, positions: Tensor | slice, /) -> Batch:
        """The images at these positions."""
        ...

    def split(self, size: int, /) -> Iterable[Batch]:
        """All images in order, so many at a time."""
        ...


@dataclass(frozen=True, kw_only=True)
class Streamed:
    """Inputs that are decoded and normalised when they are asked for.

    Attributes:
        pixels: The images.
        feed: From pixels to what a net takes, image by image alike.
    """

    pixels: Pixels
    feed: Callable[[np.ndarray], Batch]

    def __len__(self) -> int:
        return self.pixels.shape[0]

    def __getitem__(self, positions: Tensor | slice) -> Batch:
        """The images at these positions."""
        chosen = np.arange(len(self))[positions] if isinstance(positions, slice) else positions.cpu().numpy()
        return self.feed(self.pixels[chosen])

    def split(self, size: int) -> Iterator[Batch]:
        """All images in order, so many at a time."""
        for start in range(0, len(self), size):
            yield self[start : start + size]


def streamed(images: Images, spec: InputSpec) -> Streamed:
    """Images as a model with this input takes them."""
    return Streamed(pixels=images.pixels, feed=lambda pixels: to_tensor(pixels, spec))
