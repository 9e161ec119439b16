"""Noise of a sensor: of its electronics, of few photons, of dead and stuck pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgec.evaluate.corruptions.streams import Streams, shares

if TYPE_CHECKING:
    from jaxtyping import Float32, UInt8

    Pixels = UInt8[np.ndarray, "n h w c"]
    Shares = Float32[np.ndarray, "n h w c"]

__all__ = ["gaussian_noise", "impulse_noise", "shot_noise"]

_SPREADS = (0.04, 0.06, 0.08, 0.09, 0.10)
"""Standard deviations, of white. CIFAR-10-C's, as all tables of severities that say nothing else."""
_PHOTONS = (500, 250, 100, 75, 50)
"""That make white."""
_HIT = (0.01, 0.02, 0.03, 0.05, 0.07)
"""Share of the values that are lost."""


def gaussian_noise(pixels: Pixels, severity: int, streams: Streams) -> Shares:
    """Normal noise on every value, as in poor light."""
    return shares(pixels) + np.float32(_SPREADS[severity - 1]) * streams.normal(*pixels.shape[1:])


def shot_noise(pixels: Pixels, severity: int, streams: Streams) -> Shares:
    """Light that comes in photons: x becomes Poisson(N x) / N."""
    photons = _PHOTONS[severity - 1]
    counts = [stream.poisson(image * photons) for stream, image in zip(streams.each, shares(pixels), strict=True)]
    return np.stack(counts).astype(np.float32) / np.float32(photons)


def impulse_noise(pixels: Pixels, severity: int, streams: Streams) -> Shares:
    """Salt and pepper: values that are lost, one half to white, the other to black."""
    drawn, hit = streams.uniform(*pixels.shape[1:]), _HIT[severity - 1]
    # One number tells which values are hit and how: those that a severity spares are the first that the next one takes.
    return np.where(drawn < hit / 2, 0, np.where(drawn >= 1 - hit / 2, 1, shares(pixels))).astype(np.float32)
