"""OOD images in the style of the few samples: by the laws of the maps, and by what the teacher sees of them."""

from __future__ import annotations

import numpy as np
import pytest
from lightning_fabric import Fabric

from edgec.compress.domain import domain_gap
from edgec.compress.restyle import restyled
from edgec.core.classifier import Classifier
from edgec.core.progress import Silent
from edgec.core.samples import Images, Samples
from edgec.data import load_ood
from edgec.models.infer import to_tensor


def images(pixels: np.ndarray) -> Images:
    digests = tuple(f"{i:064x}" for i in range(len(pixels)))
    return Images(pixels=pixels, digests=digests, source="made")


def textures(count: int, *, smooth: int, size: int = 16, seed: int = 0) -> np.ndarray:
    """uint8 noise of three channels, blurred over so many pixels around each edge."""
    noise = np.random.default_rng(seed).normal(size=(count, size, size, 3))
    for axis in (1, 2):
        noise = sum(np.roll(noise, step, axis) for step in range(smooth)) / smooth
    return (128 + 100 * noise / np.abs(noise).max()).astype(np.uint8)


def spectrum(pixels: np.ndarray) -> np.ndarray:
    return np.abs(np.fft.rfft2(pixels.astype(float), axes=(1, 2))).mean(0)


def test_images_of_the_same_style_stay_as_they_are() -> None:
    same = textures(40, smooth=2)
    moved = np.abs(restyled(images(same), images(same)).decoded().astype(int) - same)
    assert np.quantile(moved, 0.995) <= 1  # the rarest levels may fall onto their neighbours


def test_colours_and_levels_become_those_of_the_few_samples() -> None:
    dark = (textures(20, smooth=1, seed=1) * [0.3, 0.5, 0.1] + [10, 0, 40]).astype(np.uint8)
    found = restyled(images(textures(90, smooth=1)), images(dark)).decoded()
    for share in (0.02, 0.25, 0.5, 0.75, 0.98):
        got, wanted = (np.quantile(part, share, axis=(0, 1, 2)) for part in (found, dark))
        assert got == pytest.approx(wanted, abs=2)


def test_grey_samples_make_grey_images() -> None:
    grey = textures(10, smooth=3, seed=1)[..., :1].repeat(3, axis=-1)
    found = restyled(images(textures(70, smooth=1)), images(grey)).decoded().astype(int)
    assert np.quantile(np.abs(found - found[..., :1]), 0.995) <= 1
    assert found.std() == pytest.approx(grey.std(), rel=0.1)


def test_smooth_samples_make_smooth_images_of_other_contents() -> None:
    sharp, smooth = textures(60, smooth=1), textures(60, smooth=4, seed=1)
    found = restyled(images(sharp), images(smooth)).decoded()
    before, after = (np.abs(np.log(spectrum(part) / spectrum(smooth))).mean() for part in (sharp, found))
    assert after < 0.2 * before
    alike = np.corrcoef(found.reshape(60, -1))[~np.eye(60, dtype=bool)]
    assert np.abs(alike).max() < 0.5  # each is still an image of its own


@pytest.mark.parametrize("near", [np.full((1, 16, 16, 3), 7, np.uint8), np.zeros((3, 16, 16, 3), np.uint8)])
def test_samples_without_contrast_make_images_without_contrast(near: np.ndarray) -> None:
    found = restyled(images(textures(5, smooth=1)), images(near)).decoded()
    assert (found == near.flat[0]).all()


def test_restyled_images_are_known_by_what_they_were() -> None:
    pool = images(textures(70, smooth=1))
    found = restyled(pool, images(textures(4, smooth=2)))
    assert (found.digests, found.decoded().shape, found.decoded().dtype) == (pool.digests, (70, 16, 16, 3), np.uint8)


def test_photographs_come_near_the_digits(few: Samples, teacher: Classifier, fabric: Fabric) -> None:
    photographs = load_ood(None, teacher.input, count=200, seed=0, progress=Silent())
    near = to_tensor(few.decoded(), teacher.input)
    far, restyled_far = (to_tensor(part.decoded(), teacher.input) for part in (photographs, restyled(photographs, few)))
    gaps = [domain_gap(teacher.module, near, part, fabric=fabric) for part in (far, restyled_far)]
    assert gaps[0] > 0.3
    assert gaps[1] < 0.1
