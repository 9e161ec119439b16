"""Patches of photographs, varied in scale, mirrored and tinted: unlabelled images with natural textures."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from edgec.core.images import fit_pixels
from edgec.core.inputs import InputSpec

__all__ = ["cut_patches"]

_TRIALS = 3
"""Cuts of which the one with the most contrast is taken."""


def cut_patches(
    photographs: Sequence[np.ndarray], spec: InputSpec, *, count: int, generator: np.random.Generator
) -> np.ndarray:
    """Cuts random patches.

    Args:
        photographs: uint8 [height, width, 3] each.
        spec: Size and channels that are wanted.
        count: How many.
        generator: Fixes the patches.

    Returns:
        uint8 [count, height, width, channels].
    """
    pixels = np.empty((count, spec.height, spec.width, spec.channels), dtype=np.uint8)
    for position in range(count):
        photograph = photographs[int(generator.integers(len(photographs)))]
        # Sky and shadow fill much of any photograph and teach nothing.
        liveliest = max((_cut(photograph, spec, generator) for _ in range(_TRIALS)), key=np.std)
        pixels[position] = fit_pixels(_tinted(liveliest, generator), spec)
    return pixels


def _cut(photograph: np.ndarray, spec: InputSpec, generator: np.random.Generator) -> np.ndarray:
    """A patch in the model's proportions, from half its size (16 pixels at least) to most of the photograph."""
    height, width = photograph.shape[:2]
    largest = 0.7 * min(height, width * spec.height / spec.width)
    smallest = min(largest, max(16.0, spec.height / 2))
    side = math.exp(generator.uniform(math.log(smallest), math.log(largest)))
    across = side * spec.width / spec.height
    top, left = generator.uniform(0, height - side), generator.uniform(0, width - across)
    image = Image.fromarray(photograph)
    box = (left, top, left + across, top + side)
    patch = np.asarray(image.resize((spec.width, spec.height), Image.Resampling.BILINEAR, box=box))
    return patch[:, ::-1] if generator.random() < 0.5 else patch


def _tinted(patch: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Other contrast, brightness and colour balance, as another camera and another light would give."""
    middle = patch.mean(axis=(0, 1))
    contrast = generator.uniform(0.7, 1.4)
    shift = generator.uniform(-30, 30) + generator.uniform(-20, 20, size=3)
    return ((patch - middle) * contrast + middle + shift).clip(0, 255).astype(np.uint8)
