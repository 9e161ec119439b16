"""Values between and around pixels: fields at another size, images read at any place, filters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float, Float32

__all__ = ["filtered", "read_at", "read_grid", "smoothed", "splat", "stretch"]


def stretch(fields: Float32[np.ndarray, "n h w"], height: int, width: int) -> Float32[np.ndarray, "n height width"]:
    """Fields drawn larger, bilinear, corner on corner."""
    return read_grid(fields, np.linspace(0, fields.shape[1] - 1, height), np.linspace(0, fields.shape[2] - 1, width))


def read_grid(
    images: Float32[np.ndarray, "n h w *channel"],
    rows: Float[np.ndarray, " row"],
    columns: Float[np.ndarray, " column"],
) -> Float32[np.ndarray, "n row column *channel"]:
    """Bilinear values where rows and columns cross; outside stands what is at the edge."""
    return _along(_along(images, rows, axis=1), columns, axis=2)


def _along(images: np.ndarray, places: Float[np.ndarray, " place"], axis: int) -> np.ndarray:
    last = images.shape[axis] - 1
    places = places.clip(0, last)
    low = np.floor(places).astype(np.intp)
    shape = [1] * images.ndim
    shape[axis] = -1
    beyond = (places - low).astype(np.float32).reshape(shape)
    first, second = images.take(low, axis=axis), images.take(np.minimum(low + 1, last), axis=axis)
    return first + (second - first) * beyond


def read_at(
    images: Float32[np.ndarray, "n h w c"], rows: Float[np.ndarray, "n h w"], columns: Float[np.ndarray, "n h w"]
) -> Float32[np.ndarray, "n h w c"]:
    """Bilinear values at a place of its own for every pixel of every image; beyond the edge the image is mirrored."""
    count, height, width, channels = images.shape
    top, bottom, down = _neighbours(rows, height)
    left, right, across = _neighbours(columns, width)
    flat = images.reshape(-1, channels)
    start = np.arange(count).reshape(-1, 1, 1) * height

    def at(row: np.ndarray, column: np.ndarray) -> np.ndarray:
        return flat[(start + row) * width + column]

    upper, lower = (at(row, left) + (at(row, right) - at(row, left)) * across for row in (top, bottom))
    return upper + (lower - upper) * down


def _neighbours(places: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels before and after, and how far from the one to the other, with an axis for the channels."""
    last = size - 1
    inside = (last - np.abs(last - np.abs(places))).clip(0, last)
    low = np.floor(inside).astype(np.intp)
    return low, np.minimum(low + 1, last), (inside - low).astype(np.float32)[..., None]


def splat(points: Float[np.ndarray, "k 2"], weights: Float[np.ndarray, " k"]) -> Float[np.ndarray, "size size"]:
    """Points off the middle, each laid on the four pixels around it, as a kernel of odd size that sums to 1."""
    reach = int(np.floor(np.abs(points).max())) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    low = np.floor(points).astype(np.intp)
    beyond = points - low
    for down in (0, 1):
        for across in (0, 1):
            share = np.abs(1 - down - beyond[:, 0]) * np.abs(1 - across - beyond[:, 1])
            np.add.at(kernel, (low[:, 0] + down + reach, low[:, 1] + across + reach), share * weights)
    return kernel / kernel.sum()


def filtered(
    images: Float32[np.ndarray, "n h w *channel"], kernel: Float[np.ndarray, "tall wide"]
) -> Float32[np.ndarray, "n h w *channel"]:
    """Every value as the kernel's weighted sum of those around it; beyond the edge the image is mirrored.

    Args:
        images: A stack.
        kernel: Of odd height and width. Few of its weights differ from 0: each costs a pass over the images.
    """
    height, width = images.shape[1:3]
    around = [(0, 0), *((size // 2, size // 2) for size in kernel.shape), *[(0, 0)] * (images.ndim - 3)]
    padded = np.pad(images, around, mode="reflect")
    total = np.zeros_like(images)
    for row, column in np.argwhere(kernel):
        total += padded[:, row : row + height, column : column + width] * np.float32(kernel[row, column])
    return total


def smoothed(images: Float32[np.ndarray, "n h w *channel"], spread: float) -> Float32[np.ndarray, "n h w *channel"]:
    """Blurred by a bell curve of this standard deviation in pixels, cut off at three."""
    reach = round(3 * spread)
    if not reach:
        return images
    bell = np.exp(-((np.arange(-reach, reach + 1) / spread) ** 2) / 2)
    bell /= bell.sum()
    return filtered(filtered(images, bell[:, None]), bell[None, :])
