"""Files to pixels: formats, orientation, sizes, and everything that can be wrong with a file."""

from __future__ import annotations

import io
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgec.core.errors import DataError
from edgec.core.images import decode_bytes, decode_image, decode_images, fit_pixels
from edgec.core.inputs import InputSpec

RGB = InputSpec(height=12, width=10)
GREY = InputSpec(height=12, width=10, channels=1, mean=(0.5,), std=(0.5,))


@pytest.fixture
def picture() -> np.ndarray:
    """uint8 [12, 10, 3]."""
    return np.random.default_rng(5).integers(0, 256, (12, 10, 3), dtype=np.uint8)


def encoded(pixels: np.ndarray, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def triangle_resize(row: np.ndarray, size: int, start: float, length: float) -> np.ndarray:
    """Slow reference along axis 0: triangle filter, widened by the scale (antialias), over a part of the row."""
    scale = length / size
    support = max(scale, 1.0)
    result = []
    for k in range(size):
        centre = start + (k + 0.5) * scale
        weights = np.array([max(0.0, 1 - abs(i + 0.5 - centre) / support) for i in range(len(row))])
        result.append(np.tensordot(weights / weights.sum(), row, axes=1))
    return np.array(result)


@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True, "exact": True})], ids=str
)
def test_lossless_files_come_back_pixel_for_pixel(
    tmp_path: Path, picture: np.ndarray, kind: str, options: dict[str, object]
) -> None:
    path = tmp_path / "picture"
    path.write_bytes(encoded(picture, kind, **options))
    np.testing.assert_array_equal(decode_image(path, RGB), picture)


def test_jpeg_comes_back_nearly(tmp_path: Path) -> None:
    smooth = np.linspace(0, 255, 12 * 10 * 3).reshape(12, 10, 3).astype(np.uint8)
    path = tmp_path / "picture.jpg"
    path.write_bytes(encoded(smooth, "JPEG", quality=95))
    assert np.abs(decode_image(path, RGB).astype(int) - smooth).mean() < 6


def test_grey_file_for_an_rgb_model_has_three_equal_channels(tmp_path: Path, picture: np.ndarray) -> None:
    path = tmp_path / "grey.png"
    path.write_bytes(encoded(picture[..., 0], "PNG"))
    decoded = decode_image(path, RGB)
    for channel in range(3):
        np.testing.assert_array_equal(decoded[..., channel], picture[..., 0])


def test_rgb_file_for_a_grey_model_becomes_luma(tmp_path: Path, picture: np.ndarray) -> None:
    path = tmp_path / "colour.png"
    path.write_bytes(encoded(picture, "PNG"))
    luma = picture @ np.array([0.299, 0.587, 0.114])  # ITU-R 601
    decoded = decode_image(path, GREY)
    assert decoded.shape == (12, 10, 1)
    assert np.abs(decoded[..., 0] - luma).max() <= 1


def test_sixteen_bit_grey_keeps_its_high_byte(tmp_path: Path) -> None:
    deep = np.arange(120, dtype=np.uint16).reshape(12, 10) * 500
    path = tmp_path / "deep.png"
    path.write_bytes(encoded(deep, "PNG"))
    np.testing.assert_array_equal(decode_image(path, GREY)[..., 0], deep // 256)


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda stored: stored),
        (2, lambda stored: stored[:, ::-1]),
        (3, lambda stored: stored[::-1, ::-1]),
        (4, lambda stored: stored[::-1]),
        (5, lambda stored: stored.swapaxes(0, 1)),
        (6, lambda stored: np.rot90(stored, -1)),
        (7, lambda stored: stored[::-1, ::-1].swapaxes(0, 1)),
        (8, lambda stored: np.rot90(stored, 1)),
    ],
)
def test_camera_orientation_is_respected(tmp_path: Path, picture: np.ndarray, orientation: int, upright) -> None:
    stored = picture if orientation < 5 else picture.swapaxes(0, 1)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    path.write_bytes(encoded(np.ascontiguousarray(stored), "PNG", exif=exif))
    np.testing.assert_array_equal(decode_image(path, RGB), upright(stored))


@pytest.mark.parametrize(("height", "width"), [(24, 40), (31, 17), (12, 30), (5, 7)])
def test_other_sizes_are_scaled_by_the_shorter_side_and_cropped_around_the_centre(
    tmp_path: Path, height: int, width: int
) -> None:
    source = np.random.default_rng(2).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path = tmp_path / "large.png"
    path.write_bytes(encoded(source, "PNG"))
    scale = min(height / 12, width / 10)
    down, across = 12 * scale, 10 * scale
    columns = triangle_resize(source.swapaxes(0, 1).astype(float), 10, (width - across) / 2, across).swapaxes(0, 1)
    expected = triangle_resize(columns, 12, (height - down) / 2, down)
    # Pillow rounds to whole grey levels after each of the two passes.
    assert np.abs(decode_image(path, RGB) - expected).max() <= 1.5


def test_a_line_of_pixels_is_not_blown_up(tmp_path: Path) -> None:
    path = tmp_path / "line.png"
    path.write_bytes(encoded(np.zeros((1, 60_000, 3), np.uint8), "PNG"))
    assert decode_image(path, InputSpec(height=224, width=224)).shape == (224, 224, 3)


def test_arrays_are_fitted_as_files_are(tmp_path: Path) -> None:
    source = np.random.default_rng(2).integers(0, 256, (31, 17, 3), dtype=np.uint8)
    path = tmp_path / "large.png"
    path.write_bytes(encoded(source, "PNG"))
    for spec in (RGB, GREY):
        np.testing.assert_array_equal(fit_pixels(source, spec), decode_image(path, spec))
    np.testing.assert_array_equal(fit_pixels(source[..., :1], RGB), fit_pixels(source[..., 0], RGB))


def test_many_files_give_what_each_gives_alone(tmp_path: Path, picture: np.ndarray) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(20)]
    for number, path in enumerate(paths):
        path.write_bytes(encoded(np.roll(picture, number, axis=0), "PNG") if number != 7 else b"nothing")
    results = decode_images(paths, RGB)
    assert isinstance(results[7], DataError)
    assert "7.png" in str(results[7])
    for number, result in enumerate(results):
        if number != 7:
            np.testing.assert_array_equal(result, decode_image(paths[number], RGB))


def test_no_files_give_nothing() -> None:
    assert decode_images([], RGB) == []


NOISE = np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8)
BROKEN = {
    "empty": (b"", "is empty (0 bytes)"),
    "text": (b"not an image at all", "is not a readable JPEG, PNG, WebP, BMP, TIFF, GIF, PPM, AVIF or HEIC file"),
    "icon": (encoded(NOISE, "ICO"), "is not a readable JPEG, PNG, WebP, BMP, TIFF, GIF, PPM, AVIF or HEIC file"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not a readable"),
    "half jpeg": (encoded(NOISE, "JPEG")[:900], "is truncated or damaged"),
    "half png": (encoded(NOISE, "PNG")[:2000], "is truncated or damaged"),
    "half webp": (encoded(NOISE, "WEBP", lossless=True)[:1500], "is truncated or damaged"),
    "half bmp": (encoded(NOISE, "BMP")[:3000], "is truncated or damaged"),
    "only a signature": (encoded(NOISE, "PNG")[:8], "image '"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_named(tmp_path: Path, case: str) -> None:
    data, message = BROKEN[case]
    path = tmp_path / "broken.png"
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        decode_image(path, RGB)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.hint


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.png' does not exist"):
        decode_image(tmp_path / "gone.png", RGB)
    with pytest.raises(DataError, match="is not a file"):
        decode_image(tmp_path, RGB)


@pytest.mark.parametrize("limit", [100, 50, 20])
def test_more_pixels_than_the_limit_are_refused(
    tmp_path: Path, picture: np.ndarray, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)  # Pillow warns from 1x, raises from 2x
    path = tmp_path / "bomb.png"
    path.write_bytes(encoded(picture, "PNG"))
    with pytest.raises(DataError, match=f"bomb.png' claims .* pixels, at most {limit} are decoded"):
        decode_image(path, RGB)


def test_the_decoders_warnings_stay_inside(tmp_path: Path, picture: np.ndarray) -> None:
    palette = Image.fromarray(picture).quantize(16)
    palette.save(tmp_path / "palette.png", transparency=bytes(range(16)))
    before = list(warnings.filters)
    with warnings.catch_warnings(record=True) as leaked:
        warnings.simplefilter("always")
        decode_images([tmp_path / "palette.png"] * 4, RGB)
    assert leaked == []
    assert list(warnings.filters) == before


@pytest.mark.parametrize("kind", ["TIFF", "PPM", "GIF", "AVIF"])
def test_rarer_formats_are_read_from_disk(tmp_path: Path, picture: np.ndarray, kind: str) -> None:
    flat = np.full_like(picture, (200, 40, 90)) if kind in ("GIF", "AVIF") else picture
    path = tmp_path / f"picture.{kind.lower()}"
    path.write_bytes(encoded(flat, kind))
    assert np.abs(decode_image(path, RGB).astype(int) - flat).max() <= (3 if kind == "AVIF" else 0)  # AVIF is YUV
    with pytest.raises(DataError, match="is not a readable JPEG, PNG, WebP or BMP file"):
        decode_bytes(path.read_bytes(), RGB, name="the body")


def test_of_a_gif_the_first_picture_is_taken_and_a_tiff_of_pages_is_refused(tmp_path: Path) -> None:
    pages = [Image.new("RGB", (10, 12), (level, 0, 0)) for level in (250, 10)]
    pages[0].save(tmp_path / "moving.gif", save_all=True, append_images=pages[1:])
    assert decode_image(tmp_path / "moving.gif", RGB)[0, 0, 0] > 240
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match=r"pages\.tif' has 2 pages, expected one"):
        decode_image(tmp_path / "pages.tif", RGB)


def test_heic_names_the_package_that_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(DataError, match="is HEIC, which Pillow alone does not read") as caught:
        decode_image(tmp_path / "photo.heic", RGB)
    assert caught.value.hint == "pip install pillow-heif"


def test_numbers_that_are_no_levels_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((12, 10), np.float32)).save(tmp_path / "depth.tif")
    with pytest.raises(DataError, match="holds floating-point numbers, expected levels"):
        decode_image(tmp_path / "depth.tif", GREY)


def test_orientation_can_be_left_alone(tmp_path: Path, picture: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    path = tmp_path / "turned.png"
    path.write_bytes(encoded(picture, "PNG", exif=exif))
    np.testing.assert_array_equal(decode_image(path, RGB.model_copy(update={"exif": False})), picture)
