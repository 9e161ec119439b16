"""Image files to the pixels that a model takes, the same on the machine that builds and on the device.

Needs Pillow only. A file is opened by the decoders of four formats and no others: some that Pillow knows run
programs (EPS) or are read by seldom-tested code.
"""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from edgec.core.errors import DataError
from edgec.core.files import files_below
from edgec.core.inputs import InputSpec

__all__ = ["SUFFIXES", "Picture", "decode_bytes", "decode_image", "decode_images", "fit_pixels", "image_files"]

SUFFIXES = frozenset({".bmp", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".webp"})
"""Endings of the files that are taken for images, in lower case."""

Picture: TypeAlias = Path | Image.Image | np.ndarray
"""A file, an opened image, or uint8 [height, width], [height, width, 1] or [height, width, 3]."""

_FORMATS = tuple(str(kind.format) for kind in (JpegImageFile, PngImageFile, WebPImageFile, BmpImageFile))

_HINT = "replace the file or take it out"
_DAMAGED = (
    *(ArithmeticError, AssertionError, AttributeError, BufferError, EOFError, LookupError, MemoryError, OSError),
    *(RuntimeError, SyntaxError, TypeError, ValueError, struct.error, zlib.error),
)
"""What Pillow raises on bytes that are not what the header promises. Its list is open: what a stranger's file raises is
that file's error, whatever it is."""
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF 2.32, 4.6.4 A: what brings an image with this orientation upright."""


def decode_image(path: Path, spec: InputSpec) -> np.ndarray:
    """Reads a JPEG, PNG, WebP or BMP file as the model wants it.

    The camera's orientation (EXIF) is respected, transparency is dropped, 16-bit samples keep their high byte.
    An image of another size is scaled by its shorter side (bilinear, antialiased) and cropped around its centre.

    Args:
        path: The file. Of a file with several pictures the first is taken.
        spec: Size and channels that are wanted.

    Returns:
        uint8 [height, width, channels].

    Raises:
        DataError: The file is missing, empty, truncated, no such image, or too large to be decoded safely.
    """
    pixels = decode_images([path], spec)[0]
    if isinstance(pixels, DataError):
        raise pixels
    return pixels


def decode_images(pictures: Sequence[Picture], spec: InputSpec) -> list[np.ndarray | DataError]:
    """Reads pictures as `decode_image` does a file, several at a time; one that cannot be read gives its error.

    Args:
        pictures: A batch of them, as all the results are held in memory.
        spec: Size and channels that are wanted.

    Returns:
        Per picture, in order: uint8 [height, width, channels], or why there is none.
    """
    decode = partial(_attempt, spec=spec)
    # The filter is the process's, not the thread's: it is set here, once, around all the threads.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if len(pictures) < 2:
            return [decode(picture) for picture in pictures]
        with ThreadPoolExecutor(min(len(pictures), os.cpu_count() or 1)) as pool:
            return list(pool.map(decode, pictures))


def decode_bytes(data: bytes | bytearray, spec: InputSpec, *, name: str, most_pixels: int | None = None) -> np.ndarray:
    """Reads an image file's bytes as `decode_image` does.

    Args:
        data: The file's contents.
        spec: Size and channels that are wanted.
        name: Stands for them in messages.
        most_pixels: An image with more is refused before it is decoded; None takes Pillow's limit, as for files.

    Raises:
        DataError: They are empty, truncated, no such image, or too large to be decoded safely.
    """
    if not data:
        raise DataError(f"{name} is empty (0 bytes)", hint=_HINT)
    return _read(io.BytesIO(data), spec, name, most_pixels)


def image_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """The files below a folder that end like an image, and the others; each sorted, hidden names passed over.

    See `files_below`, which follows links.

    Raises:
        DataError: A folder cannot be read.
    """
    images: list[Path] = []
    others: list[Path] = []
    try:
        for path in files_below(folder):
            if not any(name.startswith(".") for name in path.relative_to(folder).parts):
                (images if path.suffix.lower() in SUFFIXES else others).append(path)
    except OSError as error:
        raise DataError(
            f"folder '{error.filename}' cannot be read: {error.strerror}", hint="check its permissions and links"
        ) from error
    return sorted(images), sorted(others)


def fit_pixels(pixels: np.ndarray, spec: InputSpec) -> np.ndarray:
    """Brings decoded pixels to the model's size and channels, as `decode_image` does with a file's.

    Args:
        pixels: uint8 [height, width], [height, width, 1] or [height, width, 3].
        spec: Size and channels that are wanted.

    Returns:
        uint8 [height, width, channels].
    """
    plain = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    return _fit(Image.fromarray(plain), spec)


def _attempt(picture: Picture, spec: InputSpec) -> np.ndarray | DataError:
    try:
        if isinstance(picture, Path):
            return _decode(picture, spec)
        return _fit_opened(picture, spec) if isinstance(picture, Image.Image) else _fit_array(picture, spec)
    except DataError as error:
        return error


def _fit_opened(image: Image.Image, spec: InputSpec) -> np.ndarray:
    """An image that somebody else has opened: Pillow may read the rest of its file only now."""
    try:
        return _fit(_upright(image), spec)
    except _DAMAGED as error:
        raise DataError(f"the image is truncated or damaged: {error}", hint=_HINT) from error


def _fit_array(pixels: np.ndarray, spec: InputSpec) -> np.ndarray:
    is_picture = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (1, 3))
    if pixels.dtype != np.uint8 or not is_picture or not pixels.size:
        raise DataError(
            f"the image is {pixels.dtype} {list(pixels.shape)}, expected uint8 [height, width, 1 or 3]",
            hint="values run from 0 to 255, channels come last: not scaled, not normalised",
        )
    return fit_pixels(pixels, spec)


def _decode(path: Path, spec: InputSpec) -> np.ndarray:
    name = f"image '{path}'"
    if not path.is_file():
        what = "is not a file" if path.exists() else "does not exist"
        raise DataError(f"{name} {what}", hint="give the path of a JPEG, PNG, WebP or BMP file")
    try:
        if path.stat().st_size == 0:
            raise DataError(f"{name} is empty (0 bytes)", hint=_HINT)
        with path.open("rb") as file:
            return _read(file, spec, name)
    except OSError as error:
        raise DataError(f"{name} cannot be opened: {error.strerror}", hint="check its permissions") from error


def _read(file: IO[bytes], spec: InputSpec, name: str, most_pixels: int | None = None) -> np.ndarray:
    limits = [limit for limit in (most_pixels, Image.MAX_IMAGE_PIXELS) if limit is not None]
    most = min(limits, default=None)
    try:
        with Image.open(file, formats=_FORMATS) as image:
            if most is not None and image.width * image.height > most:
                raise _too_large(name, f"{image.width}x{image.height}", most)
            return _fit(_upright(image), spec)
    except UnidentifiedImageError as error:
        raise DataError(f"{name} is not a readable JPEG, PNG, WebP or BMP file", hint=_HINT) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(name, "far too many", most) from error
    except _DAMAGED as error:
        raise DataError(f"{name} is truncated or damaged: {error}", hint=_HINT) from error


def _too_large(name: str, size: str, most: int | None) -> DataError:
    """Pillow only warns below twice its limit; a device has little memory, so the limit itself counts here."""
    return DataError(
        f"{name} claims {size} pixels, at most {most} are decoded",
        hint="scale the image down, or take it out if you do not know where it comes from",
    )


def _upright(image: Image.Image) -> Image.Image:
    """As `ImageOps.exif_transpose`, which also writes the EXIF data anew and fails where they are malformed."""
    orientation = image.getexif().get(_ORIENTATION)
    turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def _fit(image: Image.Image, spec: InputSpec) -> np.ndarray:
    image, mode = _eight_bit(image), "L" if spec.channels == 1 else "RGB"
    image = image if image.mode == mode else image.convert(mode)
    size = (spec.width, spec.height)
    if image.size != size:
        image = ImageOps.fit(image, size, Image.Resampling.BILINEAR)
    return np.array(image, dtype=np.uint8).reshape(spec.height, spec.width, spec.channels)


def _eight_bit(image: Image.Image) -> Image.Image:
    """The high byte of 16-bit grey, which Pillow's own conversion would clip at 255."""
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
