"""Weather before the lens: snow, frost, fog, glaring light. Textures are drawn, nothing is shipped."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edgec.evaluate.corruptions.blurs import trailed
from edgec.evaluate.corruptions.resample import read_grid, stretch
from edgec.evaluate.corruptions.streams import Streams, length, shares

if TYPE_CHECKING:
    from jaxtyping import Float32, UInt8

    Pixels = UInt8[np.ndarray, "n h w c"]
    Shares = Float32[np.ndarray, "n h w c"]

__all__ = ["brightness", "fog", "frost", "snow"]

_FLAKES = (
    # mean of the flakes' layer, their size, what is too faint to fall, length of the fall, what stays of the image
    (0.1, 1.0, 0.6, 3, 0.95),
    (0.1, 1.0, 0.5, 4, 0.90),
    (0.15, 1.75, 0.55, 4, 0.875),
    (0.25, 2.25, 0.6, 6, 0.85),
    (0.3, 1.25, 0.65, 12, 0.80),
)
_SPREAD = 0.2
"""Of the flakes' layer. It is 0.3 for the published flakes that are enlarged, and interpolation leaves two thirds."""
_FROST = ((1.0, 0.2), (1.0, 0.3), (0.9, 0.4), (0.85, 0.5), (0.75, 0.6))
"""Of the image, and of the ice."""
_FOG = ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75))
"""How thick, and how much fainter each finer detail of it is."""
_LIGHT = (0.05, 0.1, 0.15, 0.2, 0.3)
_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""ITU-R BT.601."""
_ICE = np.array([0.85, 0.95, 1.0], dtype=np.float32)
"""White with a little blue."""


def snow(pixels: Pixels, severity: int, streams: Streams) -> Shares:
    """Flakes that streak downwards, over an image that is greyer and lighter.

    The third severity keeps 87.5 % of the image, where the published one keeps as much as the second.
    """
    mean, size, faintest, path, stays = _FLAKES[severity - 1]
    flakes = mean + np.float32(_SPREAD) * _grains(streams, *pixels.shape[1:3], pitch=length(pixels, size))
    flakes = np.where(flakes < faintest, np.float32(0), flakes.clip(0, 1))
    angles = (streams.uniform(1)[:, 0].astype(np.float64) + 0.5) * (math.pi / 2)
    falling = trailed(flakes, length(pixels, path), angles)
    images = shares(pixels)
    light = np.maximum(images, 1.5 * _grey(images) + 0.5)
    return stays * images + (1 - stays) * light + (falling + falling[:, ::-1, ::-1])[..., None]


def _grains(streams: Streams, height: int, width: int, *, pitch: float) -> Float32[np.ndarray, "n height width"]:
    """Normal noise in grains of this many pixels, with a spread of 1 everywhere, also between the grains."""
    places = [np.arange(size) / pitch for size in (height, width)]
    rows, columns = (line - np.floor(line) for line in places)
    grid = streams.normal(*(math.ceil(line[-1]) + 1 for line in places))
    loss = np.hypot(rows, 1 - rows)[:, None] * np.hypot(columns, 1 - columns)
    return read_grid(grid, *places) / loss.astype(np.float32)


def frost(pixels: Pixels, severity: int, streams: Streams) -> Shares:
    """Ice on the lens: ridges that branch into finer ones, a little blue.

    The published ice is cut from six photographs. It gets thinner from the third severity on, while the image gets
    darker; ours gets thicker.
    """
    image, ice = _FROST[severity - 1]
    ridges = 1 - np.abs(2 * _plasma(streams, *pixels.shape[1:3], fading=1.5) - 1)
    colour = _ICE if pixels.shape[3] == 3 else _ICE[2:]
    return image * shares(pixels) + ice * ridges[..., None] ** 2 * colour


def fog(pixels: Pixels, severity: int, streams: Streams) -> Shares:
    """A cloud before the image, lit so that the lightest pixel stays as light."""
    thickness, fading = _FOG[severity - 1]
    images = shares(pixels)
    lightest = images.max(axis=(1, 2, 3), keepdims=True)
    cloud = _plasma(streams, *pixels.shape[1:3], fading=fading)[..., None]
    return (images + thickness * cloud) * (lightest / (lightest + np.float32(thickness)))


def brightness(pixels: Pixels, severity: int, streams: Streams) -> Shares:
    """More light: the largest of an image's channels grows, hue and saturation stay."""
    del streams
    images = shares(pixels)
    value = images.max(axis=3, keepdims=True)
    more = np.minimum(value + np.float32(_LIGHT[severity - 1]), 1)
    return np.where(value > 0, images * (more / np.maximum(value, 1 / 255)), more)


def _grey(images: Shares) -> Float32[np.ndarray, "n h w 1"]:
    if images.shape[3] == 1:
        return images
    red, green, blue = (images[..., i] * _LUMINANCE[i] for i in range(3))
    return (red + green + blue)[..., None]


def _plasma(streams: Streams, height: int, width: int, *, fading: float) -> Float32[np.ndarray, "n height width"]:
    """Clouds from 0 to 1: random grids of doubling resolution, each `fading` times fainter than the one before."""
    total = np.zeros((len(streams.pixels), height, width), dtype=np.float32)
    for octave in range(1, 1 + math.ceil(math.log2(max(height, width, 2)))):
        grid = streams.uniform(1 + 2**octave, 1 + 2**octave)
        total += stretch(grid, height, width) * np.float32(fading**-octave)
    total -= total.min(axis=(1, 2), keepdims=True)
    return total / np.maximum(total.max(axis=(1, 2), keepdims=True), np.float32(1e-6))
