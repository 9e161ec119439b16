"""Input specs and the normalisation of pixels."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from edgec.core.inputs import InputSpec, normalise

GREY = InputSpec(height=2, width=3, channels=1, mean=(0.5,), std=(0.25,))


def test_channels_come_first_in_the_shape() -> None:
    assert InputSpec(height=32, width=48).shape == (3, 32, 48)
    assert GREY.shape == (1, 2, 3)


def test_normalising_agrees_with_a_loop_in_double_precision() -> None:
    spec = InputSpec(height=4, width=5)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), dtype=np.uint8)
    got = normalise(pixels, spec)
    assert (got.dtype, got.shape) == (np.float32, (2, 3, 4, 5))
    for n, row, column, channel in np.ndindex(pixels.shape):
        wanted = (int(pixels[n, row, column, channel]) / 255 - spec.mean[channel]) / spec.std[channel]
        # Values up to 2.7 after a product and a sum, each rounded to 24 bits.
        assert got[n, channel, row, column] == pytest.approx(wanted, abs=1e-6)


def test_black_and_white_become_the_ends_of_the_range() -> None:
    ends = normalise(np.array([0, 255] * 3, dtype=np.uint8).reshape(1, 2, 3, 1), GREY)
    np.testing.assert_allclose(np.unique(ends), [-2, 2], rtol=1e-6)


def test_the_pixels_given_are_not_changed_and_the_result_is_contiguous() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 2, 3, 1), dtype=np.uint8)
    before = pixels.copy()
    assert normalise(pixels, GREY).flags.c_contiguous
    np.testing.assert_array_equal(pixels, before)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"height": 0, "width": 8}, "image size 0x8: expected positive numbers"),
        ({"height": 8, "width": -1}, "image size 8x-1: expected positive numbers"),
        ({"height": 8, "width": 8, "channels": 4}, "4 channels: expected 1 (grey) or 3 (RGB)"),
        ({"height": 8, "width": 8, "channels": 1}, "mean and std need 1 values, got 3 and 3"),
        ({"height": 8, "width": 8, "mean": (0.5, 0.5)}, "mean and std need 3 values, got 2 and 3"),
        ({"height": 8, "width": 8, "std": (0.2, 0.0, 0.2)}, "std (0.2, 0.0, 0.2): expected positive numbers"),
        ({"height": 8, "width": 8, "mean": (float("nan"), 0, 0)}, "finite number"),
        ({"height": 8, "width": 8, "std": (float("inf"), 1, 1)}, "finite number"),
        ({"height": 8, "width": 8, "depth": 8}, "Extra inputs are not permitted"),
    ],
)
def test_a_spec_that_makes_no_sense_is_refused(fields: dict, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        InputSpec.model_validate(fields)
    assert message in str(caught.value)


def test_a_spec_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        GREY.height = 9
