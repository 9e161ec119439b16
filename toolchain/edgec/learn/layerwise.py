"""What judging or regressing a layer at a time takes: weighed images, a module run as far as the layer, second moments.

A layer is linear, so all that a squared error of its output needs of the images are second moments. They are summed
over batches, which keeps memory bounded and makes each error, and its gradient, exact over all images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from edgec.learn.inputs import Inputs

__all__ = ["BATCH", "Reached", "Weighed", "run_hooked", "second_moments"]

BATCH = 32
"""Images whose activations are held at a time."""


@dataclass(frozen=True, kw_only=True)
class Weighed:
    """Images, and what each one's error counts for, summing to 1."""

    images: Inputs
    shares: Float[Tensor, "n"]

    @property
    def effective(self) -> float:
        """As many images of one share would tell as much (Kish's effective sample size)."""
        return 1 / self.shares.square().sum().item()

    def batches(self, size: int) -> Iterator[tuple[Tensor, Float[Tensor, "batch"]]]:
        """Images and their shares, so many at a time, on the shares' device."""
        for images, shares in zip(self.images.split(size), self.shares.split(size), strict=True):
            yield images.to(shares.device), shares


def second_moments(
    rows: Callable[[Tensor], Float[Tensor, "batch position column"]], weighed: Weighed
) -> Float[Tensor, "column column"]:
    """Sum over images of their share times the mean over positions of row^T row, in double precision.

    Args:
        rows: What is looked at in a batch of images.
        weighed: All images.
    """
    total = torch.zeros(1, 1, dtype=torch.float64, device=weighed.shares.device)
    for images, shares in weighed.batches(BATCH):
        looked = rows(images)
        scale = (shares / looked.shape[1]).sqrt()
        scaled = (looked * scale[:, None, None]).flatten(0, 1)
        total = total + scaled.T @ scaled  # the rows' precision does for one batch, but not for the sum of all
    return total


class Reached(Exception):  # noqa: N818  no error
    """What was wanted of a module has run."""


def run_hooked(module: nn.Module, images: Tensor, hooks: Mapping[str, Callable[..., None]]) -> None:
    """Runs a module with a hook behind each named layer, until one raises `Reached`."""
    handles = [module.get_submodule(name).register_forward_hook(hook) for name, hook in hooks.items()]
    try:
        with torch.no_grad(), suppress(Reached):
            module(images)
    finally:
        for handle in handles:
            handle.remove()
