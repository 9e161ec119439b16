"""A picture brought to a model's size: each way of it against an independent account, and what it costs."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageOps
from pydantic import ValidationError

from edgec.core.framing import frame
from edgec.core.images import fit_pixels
from edgec.core.inputs import InputSpec, normalise

SIZES = [(37, 61), (61, 37), (20, 20), (97, 23), (24, 40), (5, 7)]


def picture(height: int, width: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8))


def spec(**settings: object) -> InputSpec:
    return InputSpec.model_validate({"height": 24, "width": 24, **settings})


def resized_and_cropped(image: Image.Image, side: int, crop: int, resample: Image.Resampling) -> np.ndarray:
    """Resize(side) and CenterCrop(crop) in torchvision's words: short side, truncated long side, zeros around."""
    width, height = image.size
    short, long = min(width, height), max(width, height)
    size = (side, int(side * long / short)) if width <= height else (int(side * long / short), side)
    pixels = np.asarray(image.resize(size, resample))
    top, left = round((pixels.shape[0] - crop) / 2.0), round((pixels.shape[1] - crop) / 2.0)
    return pixels[top : top + crop, left : left + crop]


@pytest.mark.parametrize("size", SIZES)
def test_short_side_is_resize_and_centre_crop(size: tuple[int, int]) -> None:
    image = picture(*size)
    for side, name in ((24, "bilinear"), (28, "bicubic"), (27, "lanczos")):
        got = np.asarray(frame(image, spec(resize="short-side", crop_share=24 / side, interpolation=name)))
        wanted = resized_and_cropped(image, side, 24, Image.Resampling[name.upper()])
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("size", SIZES)
def test_fit_is_the_largest_centred_part_as_before(size: tuple[int, int]) -> None:
    image = picture(*size)
    for height, width in ((24, 24), (12, 30)):
        wanted = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
        got = frame(image, InputSpec(height=height, width=width))
        np.testing.assert_array_equal(np.asarray(got), np.asarray(wanted))


def test_squash_scales_both_sides_and_crops_its_share() -> None:
    image = picture(37, 61)
    whole = np.asarray(frame(image, spec(resize="squash")))
    np.testing.assert_array_equal(whole, np.asarray(image.resize((24, 24), Image.Resampling.BILINEAR)))
    cropped = np.asarray(frame(image, spec(resize="squash", crop_share=0.75)))
    larger = np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(cropped, larger[4:28, 4:28])


@pytest.mark.parametrize(("fill", "level"), [(114, (114, 114, 114)), ((1, 2, 3), (1, 2, 3))])
def test_letterbox_shows_the_whole_picture_between_bars(fill: object, level: tuple[int, ...]) -> None:
    image = picture(30, 60)
    got = np.asarray(frame(image, spec(resize="letterbox", fill=fill)))
    np.testing.assert_array_equal(got[6:18], np.asarray(image.resize((24, 12), Image.Resampling.BILINEAR)))
    for bar in (got[:6], got[18:]):
        assert (bar == level).all()


def test_none_crops_and_pads_alone() -> None:
    image = picture(30, 10)
    got = np.asarray(frame(image, spec(resize="none", fill=9)))
    np.testing.assert_array_equal(got[:, 7:17], np.asarray(image)[3:27])
    assert (got[:, :7] == 9).all()
    assert (got[:, 17:] == 9).all()


def test_a_crop_that_cannot_be_centred_begins_where_it_is_told() -> None:
    image = picture(24, 31)  # 7 columns too many: 3.5
    starts = {rounding: frame(image, spec(resize="none", crop_rounding=rounding)) for rounding in ("nearest", "down")}
    np.testing.assert_array_equal(np.asarray(starts["nearest"]), np.asarray(image)[:, 4:28])
    np.testing.assert_array_equal(np.asarray(starts["down"]), np.asarray(image)[:, 3:27])


@pytest.mark.parametrize("name", ["bilinear", "bicubic"])
def test_without_antialiasing_a_result_reads_two_or_four_pixels_a_side(name: str) -> None:
    torch = pytest.importorskip("torch")
    image = picture(97, 53)
    got = np.asarray(frame(image, spec(resize="squash", interpolation=name, antialias=False)))
    tensor = torch.from_numpy(np.asarray(image).transpose(2, 0, 1)[None].astype(np.float32))
    wanted = torch.nn.functional.interpolate(tensor, (24, 24), mode=name, align_corners=False)
    # Both round once, from sums of at most 16 products in float32.
    assert np.abs(got - wanted[0].numpy().transpose(1, 2, 0).clip(0, 255)).max() <= 0.501
    smoothed = np.asarray(frame(image, spec(resize="squash", interpolation=name)))
    assert np.abs(got.astype(int) - smoothed).max() > 50


def test_of_a_panorama_only_what_is_seen_is_scaled() -> None:
    line = Image.fromarray(np.tile(np.arange(256, dtype=np.uint8)[None, :, None], (1, 200, 3)))
    assert line.size == (51_200, 1)
    got = frame(line, InputSpec(height=224, width=224, resize="short-side"))  # the whole would be 2.5 billion pixels
    assert np.asarray(got).shape == (224, 224, 3)
    tall = picture(2_000, 30)
    part = np.asarray(frame(tall, spec(resize="short-side", interpolation="bicubic"))).astype(int)
    whole = resized_and_cropped(tall, 24, 24, Image.Resampling.BICUBIC)
    assert np.abs(part - whole).max() <= 1  # the place of the part is a float32


def test_a_share_of_few_digits_gives_the_side_that_was_meant() -> None:
    image = picture(300, 300)
    got = frame(image, InputSpec(height=224, width=224, resize="short-side", crop_share=0.9655))
    np.testing.assert_array_equal(np.asarray(got), resized_and_cropped(image, 232, 224, Image.Resampling.BILINEAR))


def test_a_crop_share_alone_means_the_short_side() -> None:
    assert spec(crop_share=0.875).resize == "short-side"
    assert spec().resize == "fit"


def test_a_channel_order_turns_the_planes_and_not_the_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 24, 24, 3), dtype=np.uint8)
    bgr = spec(channel_order="bgr", value_range="0-255", mean=(103.939, 116.779, 123.68), std=(1, 1, 1))
    got = normalise(pixels, bgr)
    # Caffe's way, in float32 of numbers up to 255.
    np.testing.assert_allclose(got[:, 0], pixels[..., 2] - 103.939, atol=2e-5)
    np.testing.assert_allclose(got[:, 2], pixels[..., 0] - 123.68, atol=2e-5)
    np.testing.assert_array_equal(fit_pixels(pixels[0], bgr), pixels[0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"resize": "fit", "crop_share": 0.5}, "crop_share 0.5 with resize 'fit': expected 'short-side'"),
        ({"interpolation": "lanczos", "antialias": False}, "antialias false with 'lanczos'"),
        ({"fill": (1, 2)}, "fill needs 1 or 3 values, got 2"),
        ({"fill": 256}, "less than or equal to 255"),
        ({"crop_share": 0}, "greater than 0"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        spec(**settings)
    assert message in str(caught.value)
