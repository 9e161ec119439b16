"""Image files to the pixels that a model takes, the same on the machine that builds and on the device.

Needs Pillow only, and pillow-heif for HEIC. What strangers send is opened by the decoders of four formats and no
others: some that Pillow knows run programs (EPS) or are read by seldom-tested code. Files on disk may be of some more.
"""

from __future__ import annotations

import io
import math
import os
import struct
import warnings
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import IO

import numpy as np
from PIL import GifImagePlugin, Image, PpmImagePlugin, TiffImagePlugin, UnidentifiedImageError
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from edgec.core.errors import DataError
from edgec.core.files import files_below
from edgec.core.framing import frame
from edgec.core.inputs import InputSpec

__all__ = [
    "READ",
    "SUFFIXES",
    "decode_bytes",
    "decode_image",
    "decode_images",
    "fit_pixels",
    "image_files",
    "is_hidden",
    "sample_bits",
]

_HEIF = frozenset({".heic", ".heif"})
SUFFIXES = _HEIF | {
    *(".bmp", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".webp"),
    *(".avif", ".gif", ".pbm", ".pgm", ".pnm", ".ppm", ".tif", ".tiff"),
}
"""Endings of the files that are taken for images, in lower case."""
READ = "JPEG, PNG, WebP, BMP, TIFF, GIF, PPM, AVIF or HEIC"

_SENT = tuple(str(kind.format) for kind in (JpegImageFile, PngImageFile, WebPImageFile, BmpImageFile))
"""Formats that are opened whoever sends them."""
_ON_DISK = (
    *_SENT,
    *(str(kind.format) for kind in (TiffImagePlugin.TiffImageFile, GifImagePlugin.GifImageFile)),
    *(str(PpmImagePlugin.PpmImageFile.format), "AVIF", "HEIF"),
)
_JUNK = frozenset({"__MACOSX", "@eaDir", "Thumbs.db", "desktop.ini"})
"""What systems leave behind in folders."""
_DEEP = frozenset({".pgm", ".png", ".pnm", ".tif", ".tiff"})
"""Endings of files that may have more than eight bits."""
_DEPTHS = (10, 12, 14)

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
    """Reads an image file as the model wants it.

    Transparency is dropped; samples of more than 8 bits keep the highest eight of `spec.bits`. Of a GIF the first
    picture is taken, a TIFF of several pages is refused.

    Args:
        path: The file.
        spec: What the model takes: size, channels, and how a picture is brought there.

    Returns:
        uint8 [height, width, channels].

    Raises:
        DataError: The file is missing, empty, truncated, no such image, or too large to be decoded safely.
    """
    pixels = decode_images([path], spec)[0]
    if isinstance(pixels, DataError):
        raise pixels
    return pixels


def decode_images(paths: Sequence[Path], spec: InputSpec) -> list[np.ndarray | DataError]:
    """Reads files as `decode_image` does, several at a time; a file that cannot be read gives its error.

    Args:
        paths: The files; a batch of them, as all the results are held in memory.
        spec: Size and channels that are wanted.

    Returns:
        Per file, in order: uint8 [height, width, channels], or why there is none.
    """
    decode = partial(_attempt, spec=spec)
    # The filter is the process's, not the thread's: it is set here, once, around all the threads.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if len(paths) < 2:
            return [decode(path) for path in paths]
        with ThreadPoolExecutor(min(len(paths), os.cpu_count() or 1)) as pool:
            return list(pool.map(decode, paths))


def decode_bytes(data: bytes | bytearray, spec: InputSpec, *, name: str, most_pixels: int | None = None) -> np.ndarray:
    """Reads a JPEG, PNG, WebP or BMP file's bytes as `decode_image` does.

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
    return _read(io.BytesIO(data), spec, name, formats=_SENT, most_pixels=most_pixels)


def image_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """The files below a folder that end like an image, and the others; each sorted.

    Hidden names are passed over, and what systems leave behind: `__MACOSX`, `Thumbs.db` and the like.

    See `files_below`, which follows links.

    Raises:
        DataError: A folder cannot be read.
    """
    images: list[Path] = []
    others: list[Path] = []
    try:
        for path in files_below(folder):
            if not any(is_hidden(name) for name in path.relative_to(folder).parts):
                (images if path.suffix.lower() in SUFFIXES else others).append(path)
    except OSError as error:
        raise DataError(
            f"folder '{error.filename}' cannot be read: {error.strerror}", hint="check its permissions and links"
        ) from error
    return sorted(images), sorted(others)


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is passed over."""
    return name.startswith(".") or name in _JUNK


def sample_bits(paths: Iterable[Path]) -> int | None:
    """How many bits the 16-bit files among these use, as their largest sample tells: 10, 12, 14 or 16.

    None where there are no such files. Colour files of 16 bits are not among them: Pillow reads their high bytes alone.
    """
    largest = None
    for path in paths:
        if path.suffix.lower() not in _DEEP:
            continue
        with suppress(*_DAMAGED), Image.open(path, formats=_ON_DISK[:-2]) as image:
            if image.mode.startswith("I") and image.width * image.height <= (Image.MAX_IMAGE_PIXELS or math.inf):
                largest = max(largest or 0, int(np.asarray(image).max()))
        if largest is not None and largest >> _DEPTHS[-1]:
            return 16
    return None if largest is None else next(bits for bits in _DEPTHS if not largest >> bits)


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


def _attempt(path: Path, spec: InputSpec) -> np.ndarray | DataError:
    try:
        return _decode(path, spec)
    except DataError as error:
        return error


def _decode(path: Path, spec: InputSpec) -> np.ndarray:
    name = f"image '{path}'"
    if not path.is_file():
        what = "is not a file" if path.exists() else "does not exist"
        raise DataError(f"{name} {what}", hint=f"give the path of a {READ} file")
    try:
        if path.stat().st_size == 0:
            raise DataError(f"{name} is empty (0 bytes)", hint=_HINT)
        with path.open("rb") as file:
            return _read(file, spec, name, formats=_on_disk(path))
    except OSError as error:
        raise DataError(f"{name} cannot be opened: {error.strerror}", hint="check its permissions") from error


def _on_disk(path: Path) -> tuple[str, ...]:
    """Formats that a file may be of; HEIC's decoder is a package of its own."""
    if path.suffix.lower() in _HEIF:
        try:
            pillow_heif = import_module("pillow_heif")
        except ImportError as error:
            raise DataError(
                f"image '{path}' is HEIC, which Pillow alone does not read", hint="pip install pillow-heif"
            ) from error
        pillow_heif.register_heif_opener()
    Image.init()
    return tuple(name for name in _ON_DISK if name in Image.OPEN)


def _read(
    file: IO[bytes], spec: InputSpec, name: str, *, formats: tuple[str, ...], most_pixels: int | None = None
) -> np.ndarray:
    limits = [limit for limit in (most_pixels, Image.MAX_IMAGE_PIXELS) if limit is not None]
    most = min(limits, default=None)
    try:
        with Image.open(file, formats=formats) as image:
            if most is not None and image.width * image.height > most:
                raise _too_large(name, f"{image.width}x{image.height}", most)
            _require_one_picture(image, name)
            return _fit(_upright(image) if spec.exif else image, spec)
    except UnidentifiedImageError as error:
        known = READ if len(formats) > len(_SENT) else "JPEG, PNG, WebP or BMP"
        raise DataError(f"{name} is not a readable {known} file", hint=_HINT) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(name, "far too many", most) from error
    except _DAMAGED as error:
        raise DataError(f"{name} is truncated or damaged: {error}", hint=_HINT) from error


def _require_one_picture(image: Image.Image, name: str) -> None:
    pages = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
    if pages > 1:
        raise DataError(f"{name} has {pages} pages, expected one", hint="save each page as a file of its own")
    if image.mode == "F":
        raise DataError(f"{name} holds floating-point numbers, expected levels", hint="save it in 8 or 16 bits")


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
    image, mode = _eight_bit(image, spec.bits or 16), "L" if spec.channels == 1 else "RGB"
    image = image if image.mode == mode else image.convert(mode)
    return np.array(frame(image, spec), dtype=np.uint8).reshape(spec.height, spec.width, spec.channels)


def _eight_bit(image: Image.Image, bits: int) -> Image.Image:
    """The highest eight bits of grey with more, which Pillow's own conversion would clip at 255."""
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image) >> (bits - 8)).clip(0, 255).astype(np.uint8))
