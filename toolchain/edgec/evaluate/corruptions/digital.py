"""What copies do to images: flat contrast, a warped sheet, coarse pixels, JPEG."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from edgec.evaluate.corruptions.resample import read_at, smoothed
from edgec.evaluate.corruptions.streams import Streams, shares

if TYPE_CHECKING:
    from jaxtyping import Float32, UInt8

    Pixels = UInt8[np.ndarray, "n h w c"]
    Shares = Float32[np.ndarray, "n h w c"]

__all__ = ["contrast", "elastic_transform", "jpeg_compression", "pixelate"]

_CONTRAST = (0.75, 0.5, 0.4, 0.3, 0.15)
_TILTS = (0.03, 0.05, 0.06, 0.07, 0.08)
"""Furthest that a corner of the sheet moves along each axis, of the shorter side."""
_DENTS = ((0.0, 0.2), (0.05, 0.2), (0.08, 0.06), (0.1, 0.04), (0.1, 0.03))
"""Depth of the dents before they are smoothed, and how far that reaches, of the shorter side."""
_KEPT = (0.95, 0.9, 0.85, 0.75, 0.65)
"""Share of the rows and of the columns."""
_QUALITIES = (80, 65, 58, 50, 40)


def contrast(pixels: Pixels, severity: int, streams: Streams) -> Shares:
    """Every channel nearer to its mean."""
    del streams
    # Sums of whole numbers: no order of adding changes them.
    middle = pixels.sum(axis=(1, 2), keepdims=True, dtype=np.int64) / (255 * pixels.shape[1] * pixels.shape[2])
    middle = middle.astype(np.float32)
    return (shares(pixels) - middle) * np.float32(_CONTRAST[severity - 1]) + middle


def elastic_transform(pixels: Pixels, severity: int, streams: Streams) -> Shares:
    """A sheet that is tilted and dented.

    The published tilt gets smaller while the dents get deeper, so that the whole distance shrinks; ours has the
    published tilts in rising order.
    """
    height, width = pixels.shape[1:3]
    side = min(height, width)
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    moved = _tilt(streams, height, width) * (_TILTS[severity - 1] * side)
    depth, smooth = (share * side for share in _DENTS[severity - 1])
    noise = 2 * streams.uniform(height, width, 2) - 1
    dents = depth * smoothed(noise, smooth)
    return read_at(shares(pixels), rows + moved[:, 0] + dents[..., 0], columns + moved[:, 1] + dents[..., 1])


def _tilt(streams: Streams, height: int, width: int) -> Float32[np.ndarray, "n 2 height width"]:
    """How far each pixel moves down and across when three corners of the middle third move at random by up to 1."""
    corners = (2 * streams.uniform(3, 2) - 1)[..., None, None]
    reach = max(1, min(height, width) // 3)
    down = (np.arange(height, dtype=np.float32) - height // 2)[:, None]
    across = np.arange(width, dtype=np.float32) - width // 2
    to_right, to_top = (across + reach) / (2 * reach), (reach - down) / (2 * reach)
    first, second, third = (corners[:, i] for i in range(3))
    return second + (first - second) * to_right + (third - second) * to_top


def pixelate(pixels: Pixels, severity: int, streams: Streams) -> Shares:
    """Fewer pixels, shown at the old size. The numbers are whole: an image of 8x8 keeps 7, 7, 6, 6 and 5 rows."""
    del streams
    height, width = pixels.shape[1:3]
    fewer = max(1, int(_KEPT[severity - 1] * width)), max(1, int(_KEPT[severity - 1] * height))
    box = Image.Resampling.BOX
    return _through(pixels, lambda image: image.resize(fewer, box).resize((width, height), box))


def jpeg_compression(pixels: Pixels, severity: int, streams: Streams) -> Shares:
    """There and back through a file with losses."""
    del streams

    def copied(image: Image.Image) -> Image.Image:
        file = BytesIO()
        image.save(file, "JPEG", quality=_QUALITIES[severity - 1])
        return Image.open(file)

    return _through(pixels, copied)


def _through(pixels: Pixels, change: Callable[[Image.Image], Image.Image]) -> Shares:
    """What Pillow makes of every image."""
    plain = pixels[..., 0] if pixels.shape[3] == 1 else pixels
    changed = [np.asarray(change(Image.fromarray(image))) for image in plain]
    return shares(np.stack(changed).reshape(pixels.shape))
