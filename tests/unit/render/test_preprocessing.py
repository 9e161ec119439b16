"""What becomes of a picture, in words: every setting changes what is said."""

from __future__ import annotations

import pytest

from edgec.core.inputs import InputSpec
from edgec.evaluate.report import Report
from edgec.render.page import render_report
from edgec.render.preprocessing import preprocessing_steps


def test_resize_and_center_crop_as_torchvision_has_it() -> None:
    assert preprocessing_steps(InputSpec(height=224, width=224, crop_share=0.875)) == (
        "The picture is read in colour and turned upright as its EXIF data say.",
        (
            "It is scaled until its shorter side has 256 pixels, by bilinear interpolation, then 224 × 224 pixels are "
            "cropped around the centre."
        ),
        (
            "The levels, divided by 255, are normalised, in the order red, green, blue: less (0.485, 0.456, 0.406), "
            "divided by (0.229, 0.224, 0.225)."
        ),
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"resize": "fit"}, "The largest centred part with the proportions 20 × 10 is scaled to 20 × 10 pixels"),
        ({"resize": "short-side"}, "It is scaled until it covers 20 × 10 pixels"),
        ({"resize": "squash"}, "It is scaled to 20 × 10 pixels whatever its proportions"),
        ({"resize": "squash", "crop_share": 0.5}, "then 20 × 10 pixels are cropped around the centre"),
        ({"resize": "letterbox", "fill": 114}, "and padded with level 114"),
        ({"resize": "letterbox", "fill": (1, 2, 3)}, "and padded with level (1, 2, 3)"),
        ({"resize": "none"}, "It is not scaled"),
        ({"interpolation": "bicubic", "antialias": False}, "by bicubic interpolation without antialiasing"),
        ({"exif": False}, "not turned, whatever its EXIF data say"),
        ({"channel_order": "bgr"}, "in the order blue, green, red"),
        ({"value_range": "0-255"}, "from 0 to 255"),
        ({"channels": 1, "mean": (0.5,), "std": (0.25,)}, "less 0.5, divided by 0.25."),
        ({"bits": 12}, "of 16-bit files the lowest 12 bits are used"),
    ],
)
def test_every_setting_is_said(settings: dict[str, object], said: str) -> None:
    assert said in " ".join(preprocessing_steps(InputSpec.model_validate({"height": 10, "width": 20, **settings})))


def test_the_page_lists_the_steps(ten_classes: Report) -> None:
    page = render_report(ten_classes, gates=None)
    assert "scaled to 32 × 32 pixels by bilinear interpolation" in page
    assert 'id="input"' not in render_report(ten_classes.model_copy(update={"input": None}), gates=None)
