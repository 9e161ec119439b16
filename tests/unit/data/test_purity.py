"""Copies in the out-of-distribution pool are found, and images that only look alike stay."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgec.core.inputs import InputSpec
from edgec.core.samples import Images
from edgec.data import PurityReport, purify
from edgec.data.arrays import array_images
from edgec.data.bundled import photographs
from edgec.data.patches import cut_patches

SPEC = InputSpec(height=32, width=32)
DATA = Path(os.environ.get("EDGEC_DATA") or Path(__file__).resolve().parents[4] / "shared" / "data")


def images(pixels: np.ndarray) -> Images:
    return array_images(pixels, SPEC, where="x")


@pytest.fixture(scope="module")
def photos() -> np.ndarray:
    """120 patches with texture, none like another: uint8 [120, 32, 32, 3]."""
    pixels = cut_patches(photographs(), SPEC, count=300, generator=np.random.default_rng(0))
    lively = pixels[np.argsort(-pixels.reshape(300, -1).std(axis=1), kind="stable")]
    apart, _ = purify(images(lively), against=[])
    return apart.pixels[np.arange(120)]


def jpeg(quality: int) -> Callable[[np.ndarray], np.ndarray]:
    def encode(pixels: np.ndarray) -> np.ndarray:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
        return np.asarray(Image.open(buffer))

    return encode


def brightened(pixels: np.ndarray) -> np.ndarray:
    return (pixels * 0.9 + 12).clip(0, 255).astype(np.uint8)


def shifted(pixels: np.ndarray) -> np.ndarray:
    return np.pad(pixels, ((0, 1), (1, 0), (0, 0)), mode="edge")[1:, :-1]


def rescaled(pixels: np.ndarray) -> np.ndarray:
    small = Image.fromarray(pixels).resize((24, 24), Image.Resampling.BILINEAR)
    return np.asarray(small.resize((32, 32), Image.Resampling.BILINEAR))


CHANGES = {
    "jpeg 75": jpeg(75),
    "jpeg 40": jpeg(40),
    "brightness": brightened,
    "one pixel": shifted,
    "mirror": lambda pixels: pixels[:, ::-1],
    "scale": rescaled,
    "mirror, one pixel, brightness, jpeg": lambda pixels: jpeg(75)(shifted(brightened(pixels[:, ::-1]))),
}


def test_strangers_stay_in_their_order(photos: np.ndarray) -> None:
    pool = images(photos[:60])
    pure, report = purify(pool, against=[images(photos[60:])])
    assert pure.digests == pool.digests
    np.testing.assert_array_equal(pure.pixels[np.arange(60)], photos[:60])
    assert report == PurityReport(given=60, exact=0, near=0, repeated=0)


def test_exact_copies_of_any_forbidden_set_go(photos: np.ndarray) -> None:
    pure, report = purify(images(photos[:20]), against=[images(photos[3:5]), images(photos[18:30])])
    assert report == PurityReport(given=20, exact=4, near=0, repeated=0)
    np.testing.assert_array_equal(pure.pixels[np.arange(16)], photos[[*range(3), *range(5, 18)]])


@pytest.mark.parametrize("change", CHANGES)
def test_altered_copies_go(photos: np.ndarray, change: str) -> None:
    altered = np.stack([CHANGES[change](one) for one in photos[:60]])
    pure, report = purify(images(np.concatenate([altered, photos[60:]])), against=[images(photos[:60])])
    assert report.exact + report.near >= 58
    assert set(images(photos[60:]).digests) <= set(pure.digests)


def test_repetitions_within_the_pool_go_and_the_first_stays(photos: np.ndarray) -> None:
    pool = np.concatenate([photos[:5], photos[2:3], photos[3:4, :, ::-1], np.stack([jpeg(75)(photos[4])])])
    pure, report = purify(images(pool), against=[])
    assert report == PurityReport(given=8, exact=0, near=0, repeated=3)
    assert report.kept == 5
    np.testing.assert_array_equal(pure.pixels[np.arange(5)], photos[:5])


def test_a_symmetrical_image_is_not_a_repetition_of_itself(photos: np.ndarray) -> None:
    symmetrical = np.concatenate([photos[:9, :, :16], photos[:9, :, 15::-1]], axis=2)
    assert purify(images(symmetrical), against=[])[1].kept == 9


def test_plain_images_are_copies_only_if_they_are_equal() -> None:
    plain = np.broadcast_to(np.array([30, 90, 90, 200], np.uint8)[:, None, None, None], (4, 32, 32, 3))
    pure, report = purify(images(plain), against=[images(np.full((1, 32, 32, 3), 31, np.uint8))])
    assert report == PurityReport(given=4, exact=0, near=0, repeated=1)
    assert [int(one[0, 0, 0]) for one in pure.pixels[np.arange(3)]] == [30, 90, 200]


def test_two_horizons_are_not_copies() -> None:
    rng = np.random.default_rng(0)
    ramp = np.repeat(np.linspace(220, 60, 32)[:, None], 32, axis=1)
    ramp[20:] -= 40
    scenes = [ramp + 12 * rng.standard_normal((32, 32)) for _ in range(2)]
    pixels = np.stack([np.repeat(scene.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2) for scene in scenes])
    assert purify(images(pixels[:1]), against=[images(pixels[1:])])[1].near == 0


def test_the_order_of_what_is_forbidden_changes_nothing(photos: np.ndarray) -> None:
    pool = images(np.stack([shifted(one) for one in photos[:40]]))
    forbidden = photos[10:50]
    shuffled = forbidden[np.random.default_rng(1).permutation(40)]
    assert purify(pool, against=[images(forbidden)])[0].digests == purify(pool, against=[images(shuffled)])[0].digests


def test_batches_do_not_change_the_result(photos: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = images(np.concatenate([photos[:40], np.stack([shifted(one) for one in photos[20:60]])]))
    whole = purify(pool, against=[images(photos[30:])])
    for module in ("purity", "resemblance"):
        monkeypatch.setattr(f"edgec.data.{module}.BATCH", 7)
    parts = purify(pool, against=[images(photos[30:])])
    assert parts[1] == whole[1]
    assert parts[0].digests == whole[0].digests


def test_an_empty_pool_stays_empty(photos: np.ndarray) -> None:
    pure, report = purify(images(photos).take(np.array([], dtype=int)), against=[images(photos)])
    assert len(pure) == 0
    assert report.given == report.kept == 0


def test_small_grey_and_large_images_are_compared_too() -> None:
    for spec in (InputSpec(height=8, width=8, channels=1, mean=(0.5,), std=(0.5,)), InputSpec(height=96, width=64)):
        pixels = cut_patches(photographs(), spec, count=30, generator=np.random.default_rng(0))
        pool = array_images(pixels, spec, where="x")
        mirrored = array_images(pixels[:10, :, ::-1], spec, where="x")
        assert purify(pool, against=[mirrored])[1].near >= 9


@pytest.mark.skipif(not (DATA / "cifar10_test.webp").is_file(), reason="EDGEC_DATA with the CIFAR mosaics is not here")
def test_real_strangers_are_kept_and_real_copies_found() -> None:
    def tiles(name: str, count: int) -> np.ndarray:
        mosaic = np.asarray(Image.open(DATA / name).crop((0, 0, 3200, 32 * 100)).convert("RGB"))
        rows, columns = mosaic.shape[0] // 32, mosaic.shape[1] // 32
        cut = mosaic.reshape(rows, 32, columns, 32, 3).swapaxes(1, 2).reshape(-1, 32, 32, 3)
        return np.ascontiguousarray(cut[:count])

    known, strangers = tiles("cifar10_test.webp", 2000), tiles("cifar100_ood2500.webp", 500)
    _, report = purify(images(strangers), against=[images(known)])
    assert report.exact + report.near == 0
    altered = images(np.stack([jpeg(60)(shifted(one)) for one in known[:300]]))
    assert purify(altered, against=[images(known)])[1].near >= 297
