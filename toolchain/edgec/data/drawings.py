"""Procedurally drawn images: noise, gradients, shapes and strokes, which no photograph has in these proportions."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from edgec.core.images import fit_pixels
from edgec.core.inputs import InputSpec

__all__ = ["draw_images"]

_CANVAS = 128
"""Pixels of the shorter side that small images are drawn with before they are scaled down, for smooth edges."""

Colour = tuple[int, int, int]


def draw_images(spec: InputSpec, *, count: int, generator: np.random.Generator) -> np.ndarray:
    """Draws images of each kind in turn.

    Args:
        spec: Size and channels that are wanted.
        count: How many.
        generator: Fixes the images.

    Returns:
        uint8 [count, height, width, channels].
    """
    kinds: tuple[Callable[[int, int, np.random.Generator], np.ndarray], ...] = (_noise, _gradient, _shapes, _strokes)
    factor = max(1, _CANVAS // min(spec.height, spec.width))
    pixels = np.empty((count, spec.height, spec.width, spec.channels), dtype=np.uint8)
    for position in range(count):
        draw = kinds[position % len(kinds)]
        pixels[position] = fit_pixels(draw(spec.height * factor, spec.width * factor, generator), spec)
    return pixels


def _noise(height: int, width: int, generator: np.random.Generator) -> np.ndarray:
    """Random grids of doubling resolution laid over each other, the finer the fainter (or not), in random colours."""
    persistence = generator.uniform(0.4, 0.9)
    field = np.zeros((height, width, 3), dtype=np.float32)
    for octave in range(1, 1 + int(generator.integers(3, 6))):
        layers = generator.standard_normal((3, 2**octave, 2**octave)).astype(np.float32)
        scaled = [
            np.asarray(Image.fromarray(layer).resize((width, height), Image.Resampling.BICUBIC)) for layer in layers
        ]
        field += persistence**octave * np.stack(scaled, axis=-1)
    mixing = generator.normal(size=(3, 3))
    mixed = field @ mixing.astype(np.float32)
    return _stretched(mixed, generator)


def _gradient(height: int, width: int, generator: np.random.Generator) -> np.ndarray:
    """Waves along random directions or around a random point, from a slow ramp to a dense grating."""
    down, across = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    field = np.zeros((height, width, 3))
    for _ in range(int(generator.integers(1, 4))):
        angle, phase = generator.uniform(0, 2 * math.pi, size=2)
        if generator.random() < 0.5:
            distance = across * math.cos(angle) + down * math.sin(angle)
        else:
            distance = np.hypot(across - generator.random(), down - generator.random())
        cycles = math.exp(generator.uniform(math.log(0.3), math.log(4)))
        field += np.cos(2 * math.pi * cycles * distance + phase)[..., None] * generator.normal(size=3)
    return _stretched(field, generator)


def _shapes(height: int, width: int, generator: np.random.Generator) -> np.ndarray:
    """Filled ellipses, rectangles and polygons over a gradient."""
    image = Image.fromarray(_gradient(height, width, generator))
    canvas = ImageDraw.Draw(image)
    for _ in range(int(generator.integers(1, 8))):
        middle = generator.uniform((0, 0), (width, height))
        reach = generator.uniform(0.05, 0.45, size=2) * min(height, width)
        corners = int(generator.integers(2, 8))
        if corners == 2:
            _ellipse_or_rectangle(canvas, middle, reach, generator)
        else:
            angles = np.sort(generator.uniform(0, 2 * math.pi, size=corners))
            points = middle + np.stack([np.cos(angles), np.sin(angles)], axis=1) * reach
            canvas.polygon([(x, y) for x, y in points.tolist()], fill=_colour(generator))
    return np.asarray(image)


def _ellipse_or_rectangle(
    canvas: ImageDraw.ImageDraw, middle: np.ndarray, reach: np.ndarray, generator: np.random.Generator
) -> None:
    box = tuple(np.concatenate([middle - reach, middle + reach]).tolist())
    draw = canvas.ellipse if generator.random() < 0.5 else canvas.rectangle
    draw(box, fill=_colour(generator))


def _strokes(height: int, width: int, generator: np.random.Generator) -> np.ndarray:
    """Curves and lines of one pen on plain ground: what handwriting and signs are made of."""
    ground, ink = _colour(generator), _colour(generator)
    image = Image.new("RGB", (width, height), ground)
    canvas = ImageDraw.Draw(image)
    pen = max(1, round(min(height, width) * generator.uniform(0.02, 0.15)))
    for _ in range(int(generator.integers(1, 6))):
        ends = generator.uniform((0, 0), (width, height), size=(4, 2))
        canvas.line([(x, y) for x, y in _bezier(ends).tolist()], fill=ink, width=pen, joint="curve")
    return np.asarray(image)


def _bezier(ends: np.ndarray) -> np.ndarray:
    """float64 [24, 2]: points along the cubic curve of four control points."""
    t = np.linspace(0, 1, 24)[:, None]
    weights = np.concatenate([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3], axis=1)
    return weights @ ends


def _colour(generator: np.random.Generator) -> Colour:
    red, green, blue = generator.integers(0, 256, size=3).tolist()
    return red, green, blue


def _stretched(field: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Any numbers to pixels around a random colour, with a random contrast."""
    spread = generator.uniform(25, 75) / max(float(field.std()), 1e-6)
    return ((field - field.mean()) * spread + generator.uniform(60, 195, size=3)).clip(0, 255).astype(np.uint8)
