"""Image files that come as bytes, to the pixels that a model takes: as `edgec.core.images` does with files."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from edgec.core.errors import DataError
from edgec.core.images import fit_pixels
from edgec.core.inputs import InputSpec

__all__ = ["decode_upload"]

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, IndexError, OverflowError, struct.error, zlib.error)
"""What Pillow's decoders raise on bytes that are not what the header promises."""


def decode_upload(data: bytes, spec: InputSpec) -> np.ndarray:
    """uint8 [height, width, channels] of a JPEG, PNG, WebP or BMP file's bytes.

    Raises:
        DataError: Empty, truncated, no such image, or too large to be decoded safely.
    """
    if not data:
        raise DataError("the body is empty: expected an image file")
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            _require_moderate(image)
            return fit_pixels(_pixels(ImageOps.exif_transpose(image), spec), spec)
    except UnidentifiedImageError as error:
        raise DataError("the body is not a readable JPEG, PNG, WebP or BMP file") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"the image is larger than {Image.MAX_IMAGE_PIXELS} pixels") from error
    except _DAMAGED as error:
        raise DataError(f"the image is truncated or damaged: {error}") from error


def _require_moderate(image: Image.Image) -> None:
    """Pillow only warns below twice its limit."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise DataError(f"the image is larger than {limit} pixels")


def _pixels(image: Image.Image, spec: InputSpec) -> np.ndarray:
    if image.mode.startswith("I"):  # 16-bit grey keeps its high byte; Pillow's conversion would clip it at 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return np.asarray(image.convert("L" if spec.channels == 1 else "RGB"))
