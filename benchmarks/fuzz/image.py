"""The decoder of pictures that clients send: an array of the model's size, or a refusal in words."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image

from edgec.core.errors import DataError
from edgec.core.images import decode_bytes
from edgec.core.inputs import InputSpec
from edgec.serve.weight import is_light_image

__all__ = ["INSTRUMENTED", "check", "seeds"]

INSTRUMENTED = ("edgec.core.images", "edgec.core.geometry", "edgec.serve.weight", "PIL")
SPEC = InputSpec(height=8, width=8, channels=3)
MOST_PIXELS, LIGHT_PIXELS = 1 << 22, 1 << 20
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16")


def check(data: bytes) -> bool:
    """Raises AssertionError where pixels have the wrong shape, or a heavy picture passed for a light one."""
    light = is_light_image(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pixels = decode_bytes(data, SPEC, name="body", most_pixels=MOST_PIXELS)
    except DataError:
        return False
    assert pixels.shape == (8, 8, 3)
    assert pixels.dtype == np.uint8
    with warnings.catch_warnings(), Image.open(io.BytesIO(data)) as picture:
        assert not light or picture.width * picture.height <= LIGHT_PIXELS, f"{picture.size} passes for a light picture"
    return True


def seeds() -> list[bytes]:
    """Small pictures of each format, in modes that it knows, some with EXIF."""
    found = []
    for kind in ("JPEG", "PNG", "WEBP", "BMP"):
        for mode in MODES:
            file, exif = io.BytesIO(), Image.Exif()
            exif[0x0112] = 6
            try:
                Image.new(mode, (9, 5), 1).save(file, kind, exif=exif)
            except (OSError, KeyError, ValueError):
                continue  # not a mode of this format
            found.append(file.getvalue())
    return found
