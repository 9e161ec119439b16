"""What a student sees in robust recovery: which images are changed, by what, and that draws repeat."""

from __future__ import annotations

import itertools
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from edgec.core.inputs import InputSpec
from edgec.learn.config import OPERATIONS, Operation, Robust
from edgec.learn.views import student_view, view_of
from edgec.models.infer import to_tensor

CHANGING: list[Robust] = ["noise", "augmix", "mixed"]


def spec(side: int = 16, channels: int = 3) -> InputSpec:
    mean, std = (0.5, 0.4, 0.3)[:channels], (0.2, 0.25, 0.3)[:channels]
    return InputSpec(height=side, width=side, channels=channels, mean=mean, std=std)


def clean(of: InputSpec, n: int = 16) -> Tensor:
    shape = (n, of.height, of.width, of.channels)
    return to_tensor(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8), of)


def seen(images: Tensor, robust: Robust, of: InputSpec, *, share: float = 1.0, seed: int = 0) -> Tensor:
    return student_view(view_of(robust, share, of), torch.Generator().manual_seed(seed))(images)


def levels(images: Tensor, of: InputSpec) -> Tensor:
    scale, shift = (torch.tensor(values)[:, None, None] for values in (of.scale, of.shift))
    return (images - shift) / scale


def changed(images: Tensor, view: Tensor) -> Tensor:
    return (images != view).flatten(1).any(1)


def test_none_is_the_batch_itself() -> None:
    images = clean(spec())
    assert view_of("none", 0.75, spec()) is None
    assert student_view(None, torch.Generator())(images) is images


@pytest.mark.parametrize("robust", CHANGING)
@pytest.mark.parametrize(("side", "channels"), [(1, 1), (2, 3), (8, 1), (33, 3)])
def test_images_of_any_size_stay_in_range_and_the_given_ones_as_they_are(robust, side, channels) -> None:
    of = spec(side, channels)
    images = clean(of)
    before = images.clone()
    view = seen(images, robust, of)
    assert torch.equal(images, before)
    assert view.shape == images.shape
    assert view.dtype == images.dtype
    # Rounding of float32 on the way to levels and back.
    assert levels(view, of).min() > -0.001
    assert levels(view, of).max() < 255.001


@pytest.mark.parametrize("robust", CHANGING)
@pytest.mark.parametrize(("share", "count"), [(0.25, 4), (0.5, 8), (1.0, 16)])
def test_the_rest_of_a_batch_stays_clean_to_the_bit(robust, share, count) -> None:
    images = clean(spec())
    differ = changed(images, seen(images, robust, spec(), share=share))
    # AugMix may hit upon chains that change nothing of an image, such as auto-contrast of full contrast.
    few = count // 2 if robust == "augmix" else count - count // 3
    assert few <= differ.sum() <= count


@pytest.mark.parametrize("robust", CHANGING)
def test_the_same_seed_gives_the_same_bytes_and_leaves_torchs_own_draws_alone(robust) -> None:
    images = clean(spec())
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    first = seen(images, robust, spec())
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(seen(images, robust, spec()), first)
    assert not torch.equal(seen(images, robust, spec(), seed=1), first)


def test_batches_differ_and_nothing_is_drawn_from_the_given_generator() -> None:
    images, generator = clean(spec()), torch.Generator().manual_seed(0)
    state = generator.get_state()
    look = student_view(view_of("mixed", 1.0, spec()), generator)
    assert not torch.equal(look(images), look(images))
    assert torch.equal(generator.get_state(), state)


def test_noise_has_a_deviation_of_a_tenth_of_white() -> None:
    of = spec(64, 1)
    grey = torch.zeros(64, 1, 64, 64)
    noise = levels(seen(grey, "noise", of), of) - levels(grey, of)
    assert noise.std().item() / 255 == pytest.approx(0.1, rel=0.01)  # of 260,000 values: 0.14 %
    assert noise.mean().item() == pytest.approx(0, abs=0.5)


def test_noise_of_raw_pixels_is_that_of_normalised_ones() -> None:
    of = spec()
    images = clean(of)
    pixels = levels(images, of)
    raw = student_view(view_of("noise", 1.0, of, raw=True), torch.Generator().manual_seed(0))(pixels)
    assert torch.allclose(raw, levels(seen(images, "noise", of), of), atol=0.01)


def test_blur_takes_detail_and_keeps_light() -> None:
    of = spec(32)
    images = clean(of, 48)
    view = seen(images, "mixed", of)
    ratio = levels(view, of).std((1, 2, 3)) / levels(images, of).std((1, 2, 3))
    blurred = ratio < 0.7
    assert 4 <= blurred.sum() <= 24
    drift = levels(view, of).mean((1, 2, 3)) - levels(images, of).mean((1, 2, 3))
    assert drift[blurred].abs().max() < 255 / 8


def test_every_name_has_its_operations() -> None:
    assert OPERATIONS.keys() == set(get_args(Robust))
    assert set(itertools.chain(*OPERATIONS.values())) == set(get_args(Operation))
