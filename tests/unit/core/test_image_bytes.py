"""Images that come as bytes: the same pixels as their file gives."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgec.core.errors import DataError
from edgec.core.images import decode_bytes, decode_image, decode_images
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


def with_exif(exif: bytes) -> bytes:
    """A JPEG file whose EXIF segment holds these bytes."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(4).integers(0, 256, (8, 12, 3), dtype=np.uint8)).save(file, "JPEG")
    segment = b"Exif\0\0" + exif
    return file.getvalue()[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + file.getvalue()[2:]


def directory(*entries: tuple[int, int, int, bytes]) -> bytes:
    """A TIFF directory of entries: tag, type, count and the value in place."""
    packed = b"".join(struct.pack("<HHI4s", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + packed + bytes(4)


TURNED = (0x0112, 3, 1, b"\x06\0\0\0")
MALFORMED = {
    "the maker is many numbers": directory((0x010F, 3, 2, b"\1\0\2\0"), TURNED),
    "the maker is a fraction": directory((0x010F, 5, 1, b"\x08\0\0\0"), TURNED),
    "no directory": b"II*\0\xff\xff\xff\x7f",
    "no TIFF at all": b"malformed",
    "an entry that leads out of the data": directory((0x010E, 2, 999, b"\xff\xff\xff\x7f"), TURNED),
    "a directory in a directory in itself": directory((0x8769, 4, 1, b"\x08\0\0\0"), TURNED),
    "an orientation of text": directory((0x0112, 2, 4, b"abc\0")),
    "two orientations": directory((0x0112, 3, 2, b"\x06\0\x06\0")),
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of corrupt EXIF data
@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_exif_data_are_that_images_error_or_nobodys(case: str, tmp_path: Path) -> None:
    (tmp_path / "malformed.jpg").write_bytes(with_exif(MALFORMED[case]))
    (tmp_path / "sound.jpg").write_bytes(with_exif(directory(TURNED)))
    found, sound = decode_images([tmp_path / "malformed.jpg", tmp_path / "sound.jpg"], COLOUR)
    assert "is truncated or damaged" in str(found) if isinstance(found, DataError) else found.shape == (6, 5, 3)
    assert not isinstance(sound, DataError)


def test_an_image_is_turned_though_other_exif_data_are_malformed() -> None:
    turned = decode_bytes(with_exif(MALFORMED["the maker is many numbers"]), COLOUR, name="the body")
    np.testing.assert_array_equal(turned, decode_bytes(with_exif(directory(TURNED)), COLOUR, name="the body"))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
def test_more_pixels_than_the_caller_takes_are_refused_before_they_are_decoded(kind: str) -> None:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(5).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(file, kind)
    cut = file.getvalue()[:-100] if kind != "WEBP" else file.getvalue()  # WebP's header is read with all of it
    with pytest.raises(DataError, match="the body claims 40x40 pixels, at most 1599 are decoded"):
        decode_bytes(cut, COLOUR, name="the body", most_pixels=1599)
    assert decode_bytes(file.getvalue(), COLOUR, name="the body", most_pixels=1600).shape == (6, 5, 3)
