"""A picture brought to a model's height and width: scaled, cropped and padded, as `InputSpec` says."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from edgec.core.inputs import InputSpec

__all__ = ["frame"]

_SLACK = 0.02
"""Of a pixel: a crop's share with few digits still gives the side that was meant, as 0.9655 does for 224 of 232."""
_LONGEST = 64
"""A scaled picture that is larger than the model's input by more than this is scaled in part: where it is seen."""
_FILTERS = {name.lower(): filter_ for name, filter_ in Image.Resampling.__members__.items()}

Box = tuple[float, float, float, float]


def frame(image: Image.Image, spec: InputSpec) -> Image.Image:
    """The picture in the model's size.

    Args:
        image: Upright, in the model's channels, eight bits each.
        spec: How it is brought there.
    """
    wanted = (spec.width, spec.height)
    if spec.resize == "fit":
        return _scaled(image, wanted, _largest_part(image.size, wanted), spec)
    size = _scaled_size(image.size, spec)
    starts = [_start(has - wants, spec) for has, wants in zip(size, wanted, strict=True)]
    seen = (min(size[0], wanted[0]), min(size[1], wanted[1]))
    left, top = (max(start, 0) for start in starts)
    part = (left, top, left + seen[0], top + seen[1])
    if math.prod(size) <= _LONGEST * math.prod(wanted) or size == image.size:
        cut = _scaled(image, size, (0, 0, *image.size), spec).crop(part)
    else:
        across, down = (has / scaled for has, scaled in zip(image.size, size, strict=True))
        cut = _scaled(image, seen, (left * across, top * down, part[2] * across, part[3] * down), spec)
    if seen == wanted:
        return cut
    fill = spec.fill_levels
    padded = Image.new(image.mode, wanted, fill if spec.channels > 1 else fill[0])
    padded.paste(cut, (max(-starts[0], 0), max(-starts[1], 0)))
    return padded


def _scaled_size(size: tuple[int, int], spec: InputSpec) -> tuple[int, int]:
    """Width and height of the whole picture, scaled. Sides are rounded as torchvision and timm do it."""
    width, height = size
    across, down = (math.floor(side / spec.crop_share + _SLACK) for side in (spec.width, spec.height))
    if spec.resize == "none":
        return size
    if spec.resize == "squash":
        return across, down
    if spec.resize == "short-side" and across == down:
        short, long = sorted(size)
        longer = int(across * long / short)
        return (across, longer) if width <= height else (longer, across)
    choose = min if spec.resize == "short-side" else max
    by = choose(width / across, height / down)
    return max(round(width / by), 1), max(round(height / by), 1)


def _start(spare: int, spec: InputSpec) -> int:
    """Where a crop begins on a side that is this much longer; below 0 where padding begins."""
    if spare < 0 or spec.crop_rounding == "down":
        return -(-spare // 2) if spare < 0 else spare // 2
    return round(spare / 2)


def _largest_part(size: tuple[int, int], wanted: tuple[int, int]) -> Box:
    """Of a picture the largest centred part in other proportions."""
    ratio = wanted[0] / wanted[1]
    if size[0] / size[1] >= ratio:
        width, height = ratio * size[1], size[1]
    else:
        width, height = size[0], size[0] / ratio
    left, top = (size[0] - width) / 2, (size[1] - height) / 2
    return left, top, left + width, top + height


def _scaled(image: Image.Image, size: tuple[int, int], box: Box, spec: InputSpec) -> Image.Image:
    """A part of the picture in another size."""
    if size == image.size and box == (0, 0, *image.size):
        return image
    if spec.antialias or spec.interpolation == "nearest":
        return image.resize(size, _FILTERS[spec.interpolation], box=box)
    pixels = np.asarray(image, dtype=np.float32)
    for axis in (0, 1):
        start, end, length = box[1 - axis], box[3 - axis], size[1 - axis]
        at, weights = _taps(pixels.shape[axis], length, start, end, cubic=spec.interpolation == "bicubic")
        taken = np.take(pixels, at, axis=axis)  # an axis more, the pixels that each result reads
        shape = [1] * taken.ndim
        shape[axis : axis + 2] = weights.shape
        pixels = (taken * weights.reshape(shape)).sum(axis=axis + 1)
    return Image.fromarray(np.rint(pixels).clip(0, 255).astype(np.uint8))


def _taps(of: int, count: int, start: float, end: float, *, cubic: bool) -> tuple[np.ndarray, np.ndarray]:
    """Which pixels of a row each of `count` results reads, and what they weigh: two arrays [count, 2 or 4].

    Half-pixel centres, edges repeated; the cubic kernel has a = -0.75, as torch and OpenCV have it.
    """
    centre = start + (np.arange(count) + 0.5) * (end - start) / count - 0.5
    offsets = np.arange(-1, 3) if cubic else np.arange(2)
    at = np.floor(centre).astype(int)[:, None] + offsets
    distance = np.abs(centre[:, None] - at)
    a = -0.75
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = a * (((distance - 5) * distance + 8) * distance - 4)
    weights = np.where(distance <= 1, near, far) if cubic else 1 - distance
    return at.clip(0, of - 1), weights.astype(np.float32)
