"""The kinds of corruption by name, and one function that draws any of them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from edgec.core.errors import ConfigError, unknown_name
from edgec.evaluate.corruptions.blurs import defocus_blur, glass_blur, motion_blur, zoom_blur
from edgec.evaluate.corruptions.digital import contrast, elastic_transform, jpeg_compression, pixelate
from edgec.evaluate.corruptions.noise import gaussian_noise, impulse_noise, shot_noise
from edgec.evaluate.corruptions.streams import Draw, Streams
from edgec.evaluate.corruptions.weather import brightness, fog, frost, snow

if TYPE_CHECKING:
    from jaxtyping import UInt8

__all__ = ["FAMILIES", "KINDS", "SEVERITIES", "corrupt", "require_kind", "require_severity"]

_FAMILIES: dict[str, tuple[Draw, ...]] = {
    "noise": (gaussian_noise, shot_noise, impulse_noise),
    "blur": (defocus_blur, glass_blur, motion_blur, zoom_blur),
    "weather": (snow, frost, fog, brightness),
    "digital": (contrast, elastic_transform, pixelate, jpeg_compression),
}
FAMILIES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {family: tuple(draw.__name__ for draw in draws) for family, draws in _FAMILIES.items()}
)
"""Names of the kinds by family, as in the paper."""
KINDS: Mapping[str, Draw] = MappingProxyType({draw.__name__: draw for draws in _FAMILIES.values() for draw in draws})
"""What draws each kind, by the name that it has in CIFAR-10-C, in the paper's order."""
SEVERITIES = (1, 2, 3, 4, 5)
"""From hardly to badly. With each the mean squared distance to the clean images grows, of images of 16x16 and more."""


def corrupt(
    pixels: UInt8[np.ndarray, "n height width channel"], kind: str, severity: int, *, seed: int = 0
) -> UInt8[np.ndarray, "n height width channel"]:
    """Images as one kind of corruption leaves them.

    Severities are those that made CIFAR-10-C from images of 32x32 pixels; where they do not grow steadily, or do not
    carry over to other sizes, the kind's docstring says what stands instead. Of other images, lengths in pixels (radii
    of blurs, paths of motion, flakes, warps) are those values times the shorter side over 32. Strengths (noise, light,
    contrast), shares of the side (zoom, pixelation) and JPEG's quality stay as they are. Values are rounded to the
    nearest of 256 levels, where the published files are cut off.

    Every image has a random stream of its own, which follows from seed, kind and pixels: the same image gives the same
    bytes in any batch, in any order. On another machine a value on the edge of two levels may become the other one, and
    JPEG copies are those of Pillow's encoder there.

    Args:
        pixels: Clean images, with 1 or 3 channels.
        kind: A name of `KINDS`.
        severity: From 1 to 5.
        seed: Fixes what is random.

    Raises:
        ConfigError: No such kind, or no such severity.
    """
    draw = require_kind(kind)
    require_severity(severity)
    if not len(pixels):
        return pixels.copy()
    drawn = draw(pixels, severity, Streams(pixels=pixels, kind=kind, seed=seed))
    return np.rint(drawn.clip(0, 1) * 255).astype(np.uint8)


def require_kind(kind: str) -> Draw:
    """What draws this kind.

    Raises:
        ConfigError: There is none.
    """
    if kind not in KINDS:
        raise unknown_name("corruption", kind, KINDS)
    return KINDS[kind]


def require_severity(severity: int) -> None:
    """Refuses a severity that does not exist.

    Raises:
        ConfigError: It is not one of 1 to 5.
    """
    if severity not in SEVERITIES:
        raise ConfigError(f"severity {severity} of a corruption: expected 1 to 5", hint="5 is the strongest")
