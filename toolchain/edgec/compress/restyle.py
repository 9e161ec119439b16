"""Out-of-distribution images in the style of the few samples: their colours, spectrum and levels, other contents.

Most of what keeps images of something else from helping is style: to a teacher of grey digits, photographs are far off,
and the same photographs as grey, as blurred and as dark as its digits are near. Three maps, each fitted to both sets as
a whole and none to a class: colours by the linear map between two normal distributions (Pitie and Kokaram, CVMP 2007),
amplitudes of frequencies by their means (FDA takes them from one image each; Yang and Soatto, CVPR 2020), and levels by
their quantiles. No label takes part.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from edgec.core.samples import Images, Pixels

__all__ = ["restyled"]

_PIXELS = 1 << 21
"""Of each set, to which the maps are fitted."""
_BATCH = 64
_STEPS = 1024
"""Of the map of levels."""
_LEAST = 1e-6
"""Variances below this share of the largest, and amplitudes below this share of their mean, count as this."""
Batch = Float[Tensor, "n channel height width"]


def restyled(pool: Images, near: Images) -> Images:
    """The pool's images in the style of others, made on demand; they keep their digests.

    Args:
        pool: Out-of-distribution images, uint8 [n, height, width, channel].
        near: Images of the classes, of the same size.
    """
    style = _Style(*(_planes(images.pixels[_spread(images)]) for images in (pool, near)))
    return replace(pool, pixels=_Restyled(pixels=pool.pixels, style=style))


@dataclass(frozen=True, kw_only=True)
class _Restyled:
    """Pixels in another style. Each image is mapped for itself: an image is the same whatever it is asked for with."""

    pixels: Pixels
    style: _Style

    @property
    def shape(self) -> tuple[int, ...]:
        """n, height, width, channels."""
        return self.pixels.shape

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        """The images at these positions, uint8 [len(indices), height, width, channels]."""
        images = _planes(self.pixels[indices]).split(1)
        return torch.cat([self.style(image) for image in images]).movedim(1, -1).numpy()


class _Style:
    """The maps from one set of images to the style of another."""

    def __init__(self, pool: Batch, near: Batch) -> None:
        self._colour, self._shift = _colour_map(pool, near)
        coloured = self._coloured(pool)
        self._gains = _amplitudes(near) / _amplitudes(coloured)
        filtered = self._filtered(coloured)
        self._low, self._high = (float(part) for part in filtered.aminmax())
        self._levels = torch.stack(
            [self._level_map(*pair) for pair in zip(*map(_values, (filtered, near)), strict=True)]
        )

    def __call__(self, images: Batch) -> Tensor:
        """uint8, of the same shape."""
        values = self._filtered(self._coloured(images))
        steps = ((values - self._low) / max(self._high - self._low, _LEAST) * (_STEPS - 1)).round().clamp(0, _STEPS - 1)
        levels = [levels[part] for levels, part in zip(self._levels, steps.long().unbind(1), strict=True)]
        return torch.stack(levels, dim=1).round().clamp(0, 255).byte()

    def _coloured(self, images: Batch) -> Batch:
        return torch.einsum("nchw,cd->ndhw", images, self._colour) + self._shift[:, None, None]

    def _filtered(self, images: Batch) -> Batch:
        return torch.fft.irfft2(torch.fft.rfft2(images) * self._gains, s=images.shape[-2:])

    def _level_map(self, got: Float[Tensor, "value"], wanted: Float[Tensor, "value"]) -> Float[Tensor, "step"]:
        """What each step from the lowest to the highest value becomes: the quantile of the same rank."""
        steps = torch.linspace(self._low, self._high, _STEPS)
        ranks = torch.searchsorted(got, steps, right=True) / len(got)
        return wanted[(ranks * (len(wanted) - 1)).round().long()]


def _spread(images: Images) -> np.ndarray:
    """Positions of as many images as have so many pixels, spread over the set."""
    _, height, width, _ = images.pixels.shape
    count = min(len(images), max(1, _PIXELS // (height * width)))
    return np.linspace(0, len(images) - 1, count).round().astype(int)


def _planes(pixels: np.ndarray) -> Batch:
    return torch.from_numpy(pixels).movedim(-1, 1).float()


def _values(images: Batch) -> list[Tensor]:
    """Each channel's values, sorted."""
    return [channel.flatten().sort().values for channel in images.unbind(1)]


def _colour_map(pool: Batch, near: Batch) -> tuple[Float[Tensor, "channel channel"], Float[Tensor, "channel"]]:
    """The linear map that gives pixels the means and the covariance of others, and moves each as little as may be."""
    (mean, here), (other, there) = (_moments(part) for part in (pool, near))
    root, inverse = _power(here, 0.5), _power(here, -0.5)
    colour = inverse @ _power(root @ there @ root, 0.5) @ inverse
    return colour.float(), (other - mean @ colour).float()


def _moments(images: Batch) -> tuple[Float[Tensor, "channel"], Float[Tensor, "channel channel"]]:
    pixels = images.movedim(1, 0).flatten(1).double()
    return pixels.mean(1), torch.atleast_2d(torch.cov(pixels, correction=0))


def _power(covariance: Float[Tensor, "channel channel"], exponent: float) -> Float[Tensor, "channel channel"]:
    values, vectors = torch.linalg.eigh(covariance)
    floor = max(_LEAST * float(values.max()), _LEAST)
    return vectors * values.clamp(min=floor) ** exponent @ vectors.T


def _amplitudes(images: Batch) -> Float[Tensor, "channel height frequency"]:
    """The mean amplitude of each frequency."""
    mean = torch.stack([torch.fft.rfft2(batch).abs().sum(0) for batch in images.split(_BATCH)]).sum(0) / len(images)
    return mean.clamp(min=_LEAST * float(mean.mean()))
