"""Pixels through a module: the torch side of what the runtime does with a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float

from edgec.core.classifier import Classifier
from edgec.core.inputs import InputSpec, normalise
from edgec.core.samples import Images

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["logits_of", "placed", "to_logits", "to_tensor"]


MOST_IMAGES, MOST_PIXELS = 256, 2**21
"""At a time, where nothing is learned."""


def to_tensor(pixels: np.ndarray, spec: InputSpec) -> Float[Tensor, "n channel height width"]:
    """uint8 [n, height, width, channels] to the tensor that the model takes."""
    return torch.from_numpy(normalise(pixels, spec))


def logits_of(
    classifier: Classifier, images: Images, *, device: torch.device | str = "cpu", batch_size: int | None = None
) -> np.ndarray:
    """Logits float32 [n, classes] of every image, in order, in full precision.

    Args:
        classifier: Whose.
        images: Decoded batch by batch.
        device: Where it runs.
        batch_size: Images at a time; where it is not given, as many as the memory of a small machine lets.
    """
    spec = classifier.input
    batch_size = batch_size or max(1, min(MOST_IMAGES, MOST_PIXELS // (spec.height * spec.width)))
    return np.concatenate([to_logits(classifier, pixels, device=device) for pixels in images.batches(batch_size)])


def to_logits(classifier: Classifier, pixels: np.ndarray, *, device: torch.device | str = "cpu") -> np.ndarray:
    """Logits float32 [n, classes] of a batch, uint8 [n, height, width, channels], in full precision."""
    with placed(classifier.module, device) as module, torch.inference_mode():
        return module(to_tensor(pixels, classifier.input).to(device)).float().cpu().numpy()


@contextmanager
def placed(module: nn.Module, device: torch.device | str) -> Iterator[nn.Module]:
    """The module in evaluation mode on a device; afterwards it is where it was, for those who share it."""
    home = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    try:
        yield module.to(device).eval()
    finally:
        module.to(home)
