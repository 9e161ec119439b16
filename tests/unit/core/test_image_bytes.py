"""Images that come as bytes: the same pixels as their file gives."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgec.core.errors import DataError
from edgec.core.images import decode_bytes, decode_image
from edgec.core.inputs import InputSpec

GREY = InputSpec(height=6, width=5, channels=1, mean=(0.5,), std=(0.5,))
COLOUR = InputSpec(height=6, width=5)
MODES = {
    "PNG": ("RGB", "L", "RGBA", "P", "1", "LA", "I;16"),
    "JPEG": ("RGB", "L", "1", "CMYK"),
    "WEBP": ("RGB", "L", "RGBA", "P"),
    "BMP": ("RGB", "L", "RGBA", "P", "1"),
}
"""What Pillow writes of each format."""


@pytest.mark.parametrize("spec", [GREY, COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize(("kind", "mode"), [(kind, mode) for kind, modes in MODES.items() for mode in modes])
def test_bytes_give_the_files_pixels(spec: InputSpec, kind: str, mode: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(pixels)
    image = image if mode == "I;16" else image.convert(mode)
    image.save(tmp_path / "file", kind)
    np.testing.assert_array_equal(
        decode_bytes((tmp_path / "file").read_bytes(), spec, name="the body"), decode_image(tmp_path / "file", spec)
    )


def test_a_cameras_orientation_is_respected(tmp_path: Path) -> None:
    image = Image.fromarray(np.random.default_rng(2).integers(0, 256, (8, 12, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    np.testing.assert_array_equal(
        decode_bytes((tmp_path / "a.jpg").read_bytes(), COLOUR, name="the body"),
        decode_image(tmp_path / "a.jpg", COLOUR),
    )


def test_an_image_that_would_fill_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    Image.new("L", (40, 40)).save(file, "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataError, match=r"the body claims .* pixels, at most 1000"):
        decode_bytes(file.getvalue(), GREY, name="the body")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)
    with pytest.raises(DataError, match="the body claims far too many pixels, at most 700"):
        decode_bytes(file.getvalue(), GREY, name="the body")


def test_a_truncated_image_is_refused() -> None:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (50, 50, 3), dtype=np.uint8)).save(file, "PNG")
    with pytest.raises(DataError, match="the body is truncated or damaged"):
        decode_bytes(file.getvalue()[:500], COLOUR, name="the body")
