"""What blurs: a lens out of focus, frosted glass, a camera that moves, one that comes nearer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edgec.evaluate.corruptions.resample import filtered, read_at, read_grid, smoothed, splat
from edgec.evaluate.corruptions.streams import Streams, length, shares

if TYPE_CHECKING:
    from jaxtyping import Float, Float32, UInt8

    Pixels = UInt8[np.ndarray, "n h w c"]
    Shares = Float32[np.ndarray, "n h w c"]

__all__ = ["defocus_blur", "glass_blur", "motion_blur", "trailed", "zoom_blur"]

_RADII = (0.2, 0.5, 0.8, 0.95, 1.45)
"""Of discs that spread a point as far as the kernels of CIFAR-10-C."""
_REACHES = (0.6, 0.8, 1.0, 1.3, 1.6)
"""Furthest along each axis. Published are swaps by one pixel, once up to the third severity and then twice; ours."""
_SOFT = 0.25
"""That of the published second and fourth severity."""
_PATHS = (1.0, 1.5, 2.0, 2.25, 2.5)
_STEPS = (5, 10, 15, 20, 25)
"""Zooms by 1 % more each."""


def defocus_blur(pixels: Pixels, severity: int, streams: Streams) -> Shares:
    """Every point becomes a disc.

    The published kernels, discs of whole pixels smoothed to different degrees, do not grow steadily when they are
    scaled. Ours are discs whose points are laid between pixels, with radii that give the published spread at 32x32.
    """
    del streams
    radius = length(pixels, _RADII[severity - 1])
    # Half a pixel between points, so that large discs have no holes.
    line = np.linspace(-radius, radius, max(41, 4 * math.ceil(radius) + 1))
    points = np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1).reshape(-1, 2)
    disc = points[np.hypot(points[:, 0], points[:, 1]) <= radius]
    kernel = splat(disc, np.ones(len(disc)))
    return filtered(shares(pixels), kernel)


def glass_blur(pixels: Pixels, severity: int, streams: Streams) -> Shares:
    """Rough glass: every pixel shows a place near it, and what is seen is softened.

    The published kind swaps neighbouring pixels, once or twice, and softens more or less; the softer of two severities
    is nearer to the clean image. Ours softens all alike and looks ever further away.
    """
    height, width = pixels.shape[1:3]
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    offsets = (2 * streams.uniform(2, height, width) - 1) * length(pixels, _REACHES[severity - 1])
    images = read_at(shares(pixels), rows + offsets[:, 0], columns + offsets[:, 1])
    return smoothed(images, length(pixels, _SOFT))


def motion_blur(pixels: Pixels, severity: int, streams: Streams) -> Shares:
    """Every point leaves a fading trace, in one direction up to 45 degrees off the horizontal.

    The third and the fourth of the published blurs differ in where an invisible tail is cut off; our fourth lies
    between the third and the fifth.
    """
    path = length(pixels, _PATHS[severity - 1])
    angles = (streams.uniform(1)[:, 0].astype(np.float64) - 0.5) * (math.pi / 2)
    return trailed(shares(pixels), path, angles)


def trailed(
    images: Float32[np.ndarray, "n h w *channel"], path: float, angles: Float[np.ndarray, " n"]
) -> Float32[np.ndarray, "n h w *channel"]:
    """Images in which every point leaves a trace.

    Args:
        images: A stack.
        path: How far the trace reaches, in pixels: the standard deviation of a bell curve's half.
        angles: Its direction in each image; 0 is along the rows.
    """
    pairs = zip(images, angles, strict=True)
    return np.concatenate([filtered(image[None], _trace(path, angle)) for image, angle in pairs])


def _trace(spread: float, angle: float) -> Float[np.ndarray, "size size"]:
    """Half of a bell curve, from the middle along a direction."""
    along = np.linspace(0, 3 * spread, max(25, 6 * math.ceil(spread) + 1))
    points = along[:, None] * np.array([math.sin(angle), math.cos(angle)])
    return splat(points, np.exp(-((along / spread) ** 2) / 2))


def zoom_blur(pixels: Pixels, severity: int, streams: Streams) -> Shares:
    """The mean of the image and of ever larger copies of its middle."""
    del streams
    images = shares(pixels)
    total = 2 * images
    rows, columns = (np.arange(size) - (size - 1) / 2 for size in pixels.shape[1:3])
    for step in range(1, _STEPS[severity - 1] + 1):
        nearer = [line / (1 + step / 100) - line[0] for line in (rows, columns)]
        total += read_grid(images, *nearer)
    return total / np.float32(_STEPS[severity - 1] + 2)
