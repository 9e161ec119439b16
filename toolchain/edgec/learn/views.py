"""What a student sees of an image in robust recovery, while its teacher sees the clean one.

The target decides: it comes from the clean image. Where the teacher sees the changed image too, its answer to that is
what the student learns, and nothing is gained.

Images are changed by Gaussian noise, Gaussian blur and AugMix (Hendrycks et al., ICLR 2020, arXiv 1912.02781). AugMix
is without brightness, colour, contrast and sharpness, as in the paper: shear, shift, rotation, posterise, solarise,
auto-contrast and equalise are none of the 15 kinds that `evaluate.corruptions` tests. Gaussian noise is one of these,
and Gaussian blur is of a family with four of them, so the report tells tested kinds apart by what was trained on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from edgec.core.inputs import InputSpec
from edgec.learn.config import OPERATIONS, Operation, Robust

__all__ = ["View", "student_view", "view_of"]

NOISE = 0.1
"""Standard deviation of the noise, of white."""
BLUR = (0.4, 1.5)
"""Standard deviations of the blur, in pixels of an image of 32x32; of others, in proportion to the shorter side."""
REACH = 3
"""Standard deviations at which the blur ends."""
TOGETHER = 4
"""Images that share a blur's width, or AugMix's chains. Chains for each image would take three times as long; each
image keeps mixing weights of its own."""

Images = Float[Tensor, "n channel height width"]


@dataclass(frozen=True, kw_only=True)
class View:
    """How the student's images differ from the teacher's.

    Attributes:
        robust: What is done to them.
        share: Of a batch's images, those that are changed.
        scale: What a pixel from 0 to 255 was multiplied by to become what the net takes, per channel.
        shift: What was added then.
    """

    robust: Robust
    share: float
    scale: tuple[float, ...]
    shift: tuple[float, ...]


def view_of(robust: Robust, share: float, spec: InputSpec, *, raw: bool = False) -> View | None:
    """The view that settings ask for; None where the student sees what the teacher sees.

    Args:
        robust: What is done to images.
        share: Of a batch's images, those that are changed.
        spec: What the net takes.
        raw: Whether it takes pixels from 0 to 255 instead.
    """
    if not OPERATIONS[robust]:
        return None
    ones, zeros = (1.0,) * spec.channels, (0.0,) * spec.channels
    return View(robust=robust, share=share, scale=ones if raw else spec.scale, shift=zeros if raw else spec.shift)


def student_view(view: View | None, generator: torch.Generator) -> Callable[[Images], Images]:
    """What the student sees of each batch that it is called with; images on the CPU, which are left as they are.

    Draws come from a generator of their own, which follows from the given one's seed. So the batches are the same ones
    whatever the student sees of them.

    Args:
        view: How images are changed; None for not at all.
        generator: What the batches are drawn with; nothing is drawn from it here.
    """
    if view is None:
        return lambda images: images
    own = torch.Generator().manual_seed(generator.initial_seed() + 1)
    return lambda images: _changed(images, view, own)


def _changed(images: Images, view: View, generator: torch.Generator) -> Images:
    """Images of which a share is changed, as many by each operation."""
    per_level, shift = (torch.tensor(values)[:, None, None] for values in (view.scale, view.shift))
    scale = 255 * per_level
    chosen = torch.randperm(len(images), generator=generator)[: round(view.share * len(images))]
    operations, seen = OPERATIONS[view.robust], images.clone()
    for operation, places in zip(operations, chosen.tensor_split(len(operations)), strict=True):
        if len(places):
            white = ((images[places] - shift) / scale).clamp(0, 1)
            seen[places] = _APPLY[operation](white, generator).clamp(0, 1) * scale + shift
    return seen


def _noisy(images: Images, generator: torch.Generator) -> Images:
    return images + NOISE * torch.randn(images.shape, generator=generator)


def _blurred(images: Images, generator: torch.Generator) -> Images:
    from torchvision.transforms.v2.functional import gaussian_blur

    height, width = images.shape[2:]
    low, high = (sigma * min(height, width) / 32 for sigma in BLUR)

    def blurred(part: Images) -> Images:
        sigma = low + (high - low) * torch.rand((), generator=generator).item()
        # Padding by reflection ends at the far edge. Two lines instead of a square: 17 times as fast at 224x224.
        across, down = (2 * min(round(REACH * sigma + 0.5), side - 1) + 1 for side in (width, height))
        for kernel in ([across, 1], [1, down]):
            part = gaussian_blur(part, kernel, [sigma, sigma])
        return part

    return torch.cat([blurred(part) for part in images.split(TOGETHER)])


def _augmixed(images: Images, generator: torch.Generator) -> Images:
    """Three chains of one to three operations each, mixed, and mixed with the clean image (AugMix's defaults)."""
    from torchvision.transforms.v2 import AugMix

    chains = AugMix(severity=3, mixture_width=3, chain_depth=-1, alpha=1.0, all_ops=False)
    with torch.random.fork_rng(devices=[]):  # torchvision draws from torch's global generator
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        return torch.cat([chains(part) for part in images.split(TOGETHER)])


_APPLY: dict[Operation, Callable[[Images, torch.Generator], Images]] = {
    "gaussian_noise": _noisy,
    "gaussian_blur": _blurred,
    "augmix": _augmixed,
}
