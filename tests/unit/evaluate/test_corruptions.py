"""Corrupted images against scipy's filters, published formulas and kernels, and laws that all kinds keep."""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage

from edgec.core.digest import digest_image
from edgec.core.errors import ConfigError, DataError
from edgec.core.inputs import InputSpec
from edgec.core.measurement import Measurement, Stage
from edgec.core.progress import Silent
from edgec.core.samples import Images
from edgec.data.bundled import digit_images, photographs
from edgec.data.patches import cut_patches
from edgec.evaluate.corruptions import KINDS, SEVERITIES, corrupt, corruption_measurements, measure
from edgec.evaluate.corruptions.resample import filtered, read_at, smoothed, splat
from edgec.evaluate.corruptions.streams import Streams
from edgec.evaluate.intervals import wilson_interval

STEADY = {"brightness", "contrast", "defocus_blur", "jpeg_compression", "pixelate", "zoom_blur"}
"""Kinds in which nothing is random."""
CLASSES = ("dark", "dim", "light")


def patches(side: int, channels: int, count: int) -> np.ndarray:
    flat = {"mean": (0.0,) * channels, "std": (1.0,) * channels}
    spec = InputSpec(height=side, width=side, channels=channels, **flat)
    return cut_patches(photographs(), spec, count=count, generator=np.random.default_rng(5))


@pytest.fixture(scope="module")
def small() -> np.ndarray:
    return patches(32, 3, 24)


def flat(value: int, side: int = 32, channels: int = 3) -> np.ndarray:
    return np.full((1, side, side, channels), value, dtype=np.uint8)


def test_the_kinds_are_the_fifteen_of_the_paper() -> None:
    assert list(KINDS) == [
        *("gaussian_noise", "shot_noise", "impulse_noise"),
        *("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
        *("snow", "frost", "fog", "brightness"),
        *("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
    ]
    assert SEVERITIES == (1, 2, 3, 4, 5)


@pytest.mark.parametrize(("side", "channels", "count"), [(32, 3, 24), (64, 1, 12), (16, 3, 32), (120, 3, 4)])
@pytest.mark.parametrize("kind", KINDS)
def test_each_severity_is_further_from_the_clean_images(kind: str, side: int, channels: int, count: int) -> None:
    clean = patches(side, channels, count)
    distances = [((corrupt(clean, kind, severity) - clean.astype(float)) ** 2).mean() for severity in SEVERITIES]
    assert distances[0] > 0
    assert np.all(np.diff(distances) > 0), distances


@pytest.mark.parametrize("kind", KINDS)
def test_digits_of_eight_pixels_are_corrupted_too(kind: str) -> None:
    digits = digit_images()[0][:32]
    first, last = (((corrupt(digits, kind, severity) - digits.astype(float)) ** 2).mean() for severity in (1, 5))
    assert 0 < first < last


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_the_same_in_any_batch(kind: str, small: np.ndarray) -> None:
    clean = small[:5]
    before = clean.copy()
    together = corrupt(clean, kind, 3, seed=7)
    assert together.dtype == np.uint8
    for order in ([4, 0, 3], [2]):
        assert np.array_equal(corrupt(clean[order], kind, 3, seed=7), together[order])
    assert np.array_equal(clean, before)


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_changes_what_is_random_and_nothing_else(kind: str, small: np.ndarray) -> None:
    first, second = (corrupt(small[:2], kind, 5, seed=seed) for seed in (0, 1))
    assert np.array_equal(first, second) == (kind in STEADY)


def test_two_images_have_noise_of_their_own() -> None:
    pair = np.concatenate([flat(120), flat(121)])
    first, second = corrupt(pair, "gaussian_noise", 5).astype(float) - pair
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.08  # four standard errors of 3,072 values


@pytest.mark.parametrize("severity", SEVERITIES)
def test_a_flat_image_stays_flat_under_blurs_warps_and_copies(severity: int) -> None:
    for kind in (
        *("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
        *("contrast", "elastic_transform", "pixelate"),
    ):
        assert np.array_equal(corrupt(flat(90), kind, severity), flat(90)), kind
    # An eighth of JPEG's step for the mean of a block, which is 16 at quality 50 and 20 at 40.
    assert np.ptp(copied := corrupt(flat(90), "jpeg_compression", severity)) == 0
    assert abs(int(copied[0, 0, 0, 0]) - 90) <= 2


@pytest.mark.parametrize(("severity", "spread"), list(enumerate((0.04, 0.06, 0.08, 0.09, 0.10), start=1)))
def test_gaussian_noise_has_the_published_spread(severity: int, spread: float) -> None:
    noise = corrupt(flat(128, side=128), "gaussian_noise", severity) / 255 - 128 / 255
    # Three standard errors: 49,152 values; rounding to levels adds 1/12 of a level's square.
    assert noise.std() == pytest.approx(spread, rel=0.012)
    assert abs(noise.mean()) < 3 * spread / np.sqrt(noise.size) + 1e-4


@pytest.mark.parametrize(("severity", "photons"), list(enumerate((500, 250, 100, 75, 50), start=1)))
def test_shot_noise_has_the_variance_of_counted_photons(severity: int, photons: int) -> None:
    clean = flat(100, side=128)
    seen = KINDS["shot_noise"](clean, severity, Streams(pixels=clean, kind="shot_noise", seed=0))
    expected = 100 / 255 / photons
    # Four standard errors of 49,152 values.
    assert seen.var() == pytest.approx(expected, rel=0.026)
    assert seen.mean() == pytest.approx(100 / 255, abs=4 * np.sqrt(expected / seen.size))


@pytest.mark.parametrize(("severity", "hit"), list(enumerate((0.01, 0.02, 0.03, 0.05, 0.07), start=1)))
def test_impulse_noise_hits_the_published_share_and_the_same_values_again(severity: int, hit: float) -> None:
    clean = flat(100, side=128)
    seen = corrupt(clean, "impulse_noise", severity)
    error = 4 * np.sqrt(hit / 2 / seen.size)
    assert (seen == 0).mean() == pytest.approx(hit / 2, abs=error)
    assert (seen == 255).mean() == pytest.approx(hit / 2, abs=error)
    harder = corrupt(clean, "impulse_noise", 5)
    assert np.all((harder != 100) >= (seen != 100))


def published_disc(radius: float, alias: float) -> np.ndarray:
    """The kernel of CIFAR-10-C's defocus: a disc of whole pixels, under a Gaussian of 3x3."""
    grid = np.arange(-8, 9)
    disc = (grid[:, None] ** 2 + grid**2 <= radius**2).astype(float)
    bell = np.exp(-0.5 * (np.arange(-1, 2) / alias) ** 2)
    kernel = ndimage.convolve(disc / disc.sum(), np.outer(bell, bell) / bell.sum() ** 2, mode="constant")
    return kernel / kernel.sum()


def variance(kernel: np.ndarray) -> float:
    """Along one axis, around the middle."""
    rows = np.arange(len(kernel)) - len(kernel) // 2
    return float((kernel.sum(axis=1) * rows**2).sum())


@pytest.mark.parametrize(
    ("severity", "published"),
    list(enumerate(((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)), start=1)),
)
def test_defocus_spreads_a_point_as_far_as_the_published_kernel(severity: int, published: tuple[float, float]) -> None:
    dot = flat(0, channels=1)
    dot[0, 16, 16] = 255
    seen = KINDS["defocus_blur"](dot, severity, SimpleNamespace())[0, 8:25, 8:25, 0]
    assert seen.sum() == pytest.approx(1, abs=1e-5)
    # Radii have two digits.
    assert variance(seen) == pytest.approx(variance(published_disc(*published)), rel=0.08)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_motion_leaves_a_trace_twice_as_long_in_an_image_twice_as_large(severity: int) -> None:
    def trace(side: int) -> float:
        dot = flat(0, side=side, channels=1)
        dot[0, side // 2, side // 2] = 255
        streams = SimpleNamespace(uniform=lambda *_: np.array([[0.8]], dtype=np.float32))
        seen = KINDS["motion_blur"](dot, severity, streams)[0, ..., 0]
        rows, columns = np.indices(seen.shape) - side // 2
        return float(np.sqrt((seen * (rows**2 + columns**2)).sum()))

    # A third of a pixel's square comes from laying points between pixels.
    assert trace(128) == pytest.approx(2 * trace(64), rel=0.05)


def test_contrast_is_the_published_formula(small: np.ndarray) -> None:
    for severity, kept in zip(SEVERITIES, (0.75, 0.5, 0.4, 0.3, 0.15), strict=True):
        means = small.mean(axis=(1, 2), keepdims=True)
        expected = (small - means) * kept + means
        # Half a level of rounding, and float32.
        assert np.abs(corrupt(small, "contrast", severity) - expected.clip(0, 255)).max() <= 0.5 + 1e-3


def test_brightness_raises_the_value_of_hue_saturation_and_value(small: np.ndarray) -> None:
    clean = small[:2, ::4, ::4].copy()
    clean[0, 0, 0] = 0
    for severity, more in zip(SEVERITIES, (0.05, 0.1, 0.15, 0.2, 0.3), strict=True):
        seen = corrupt(clean, "brightness", severity).reshape(-1, 3)
        for before, after in zip(clean.reshape(-1, 3) / 255, seen, strict=True):
            hue, saturation, value = colorsys.rgb_to_hsv(*before)
            expected = colorsys.hsv_to_rgb(hue, saturation, min(1, value + more))
            assert after == pytest.approx(np.array(expected) * 255, abs=0.5 + 1e-3)


def test_pixelation_keeps_the_published_number_of_pixels() -> None:
    ramp = np.tile(np.linspace(0, 255, 32).astype(np.uint8), (32, 1))[None, :, :, None]
    levels = [len(np.unique(corrupt(ramp, "pixelate", severity))) for severity in SEVERITIES]
    assert levels == [int(32 * kept) for kept in (0.95, 0.9, 0.85, 0.75, 0.65)]


def test_zoom_blur_is_the_mean_over_copies_read_pixel_by_pixel(small: np.ndarray) -> None:
    clean = small[:1, :, :, :1]
    places = np.arange(32) - 15.5
    copies = [clean[0, ..., 0] / 255]
    for step in range(6):
        rows, columns = np.meshgrid(*[places / (1 + step / 100) + 15.5] * 2, indexing="ij")
        copies.append(ndimage.map_coordinates(copies[0], [rows, columns], order=1))
    expected = np.mean(copies, axis=0) * 255
    assert np.abs(corrupt(clean, "zoom_blur", 1)[0, ..., 0] - expected).max() <= 0.5 + 1e-3


def test_fog_and_frost_are_drawn_for_each_image_and_in_any_shape() -> None:
    for kind in ("fog", "frost", "snow"):
        wide = np.full((2, 20, 48, 3), 60, dtype=np.uint8)
        wide[1] += 1
        first, second = corrupt(wide, kind, 4)
        assert first.shape == (20, 48, 3)
        assert np.abs(first.astype(int) - second).max() > 5


def test_filters_agree_with_scipy(small: np.ndarray) -> None:
    images = (small[:2] / 255).astype(np.float32)
    kernel = np.random.default_rng(0).random((5, 3))
    expected = ndimage.correlate(images, kernel[None, :, :, None], mode="mirror")
    # Float32 sums of fifteen values of size 1.
    np.testing.assert_allclose(filtered(images, kernel), expected, atol=1e-5)
    expected = ndimage.gaussian_filter(images, (0, 1.7, 1.7, 0), mode="mirror", radius=(0, 5, 5, 0))
    np.testing.assert_allclose(smoothed(images, 1.7), expected, atol=1e-5)


def test_places_between_pixels_agree_with_scipy(small: np.ndarray) -> None:
    images = (small[:3, :24] / 255).astype(np.float32)
    rng = np.random.default_rng(1)
    rows, columns = rng.uniform(-8, 30, (3, 24, 32)), rng.uniform(-8, 38, (3, 24, 32))
    seen = read_at(images, rows, columns)
    for i in range(3):
        for channel in range(3):
            expected = ndimage.map_coordinates(images[i, ..., channel], [rows[i], columns[i]], order=1, mode="mirror")
            np.testing.assert_allclose(seen[i, ..., channel], expected, atol=1e-5)


def test_a_point_between_pixels_keeps_its_place() -> None:
    kernel = splat(np.array([[0.3, -1.6]]), np.ones(1))
    rows, columns = np.indices(kernel.shape) - len(kernel) // 2
    assert (kernel.sum(), (kernel * rows).sum(), (kernel * columns).sum()) == pytest.approx((1, 0.3, -1.6))


def test_no_image_gives_no_image() -> None:
    assert corrupt(flat(0)[:0], "snow", 1).shape == (0, 32, 32, 3)


def test_an_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown corruption 'fogg'; known: brightness, contrast") as caught:
        corrupt(flat(0), "fogg", 1)
    assert caught.value.hint == "did you mean 'fog'?"


@pytest.mark.parametrize("severity", [0, 6])
def test_a_severity_is_one_of_five(severity: int) -> None:
    with pytest.raises(ConfigError, match=f"severity {severity} of a corruption: expected 1 to 5"):
        corrupt(flat(0), "fog", severity)


def images(pixels: np.ndarray) -> Images:
    return Images(pixels=pixels, digests=tuple(map(digest_image, pixels)), source="here")


def by_light(pixels: np.ndarray) -> np.ndarray:
    """A classifier that goes by how light an image is."""
    light = pixels.mean(axis=(1, 2, 3))[:, None]
    return -np.abs(light - np.array([40, 110, 180])).astype(np.float32)


def measured(
    pixels: np.ndarray, labels: np.ndarray, run: Callable[[np.ndarray], np.ndarray] = by_light, **more: object
) -> list[Measurement]:
    common = {"stage": Stage.ARTIFACT, "where": "here", "progress": Silent()}
    return corruption_measurements(run, images(pixels), labels, CLASSES, **common | more)


def value(rows: list[Measurement], name: str, label: str | None = None) -> Measurement:
    (found,) = [row for row in rows if (row.name, row.label) == (name, label)]
    return found


def test_rows_agree_with_counting_one_image_at_a_time(small: np.ndarray) -> None:
    labels = by_light(small).argmax(axis=1)
    kinds, severities = ("fog", "brightness", "pixelate"), (1, 3, 5)
    rows = measured(small, labels, kinds=kinds, severities=severities)
    right = np.array(
        [
            [
                [by_light(corrupt(small[i : i + 1], kind, severity))[0].argmax() == labels[i] for i in range(24)]
                for severity in severities
            ]
            for kind in kinds
        ]
    )
    overall = value(rows, "corrupted_accuracy")
    assert 0 < overall.value < 1
    assert (overall.value, overall.n) == (pytest.approx(right.mean()), 24)
    for number, kind in enumerate(kinds):
        assert value(rows, f"accuracy_under_{kind}").value == pytest.approx(right[number].mean())
    per_class = [right[..., labels == i].mean() for i in range(3)]
    for i, name in enumerate(CLASSES):
        row = value(rows, "corrupted_accuracy", name)
        assert (row.value, row.n) == (pytest.approx(per_class[i]), (labels == i).sum())
    assert value(rows, "corrupted_worst_class_accuracy").value == pytest.approx(min(per_class))
    assert {(row.stage, row.unit, row.where) for row in rows} == {(Stage.ARTIFACT, "share", "here")}


def test_a_group_of_kinds_has_the_mean_over_them(small: np.ndarray) -> None:
    labels, kinds = by_light(small).argmax(axis=1), ("fog", "brightness", "pixelate")
    rows = measured(small, labels, kinds=kinds, severities=(1, 5), groups={"light": ("fog", "brightness")})
    alone = measured(small, labels, kinds=kinds[:2], severities=(1, 5))
    for name in (None, *CLASSES):
        assert value(rows, "accuracy_under_light_kinds", name).value == pytest.approx(
            value(alone, "corrupted_accuracy", name).value
        )


def test_all_kinds_are_measured_when_none_is_named() -> None:
    rows = measured(np.concatenate([flat(40), flat(110)]), np.array([0, 1]), severities=(1,))
    assert [row.name.removeprefix("accuracy_under_") for row in rows[-15:]] == list(KINDS)
    assert [row.label for row in rows if row.name == "corrupted_accuracy"] == [None, "dark", "dim"]


def test_a_model_that_is_always_right_has_accuracy_one_over_n_images(small: np.ndarray) -> None:
    labels = np.zeros(24, dtype=np.int64)
    rows = measured(small, labels, run=lambda pixels: np.eye(3)[np.zeros(len(pixels), dtype=int)], kinds=["fog"])
    assert {row.value for row in rows} == {1.0}
    assert {(row.n, row.low, row.high) for row in rows} == {(24, *wilson_interval(24, 24))}


def test_batches_and_order_change_nothing(small: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = by_light(small).argmax(axis=1)
    settings = {"kinds": ("snow", "elastic_transform"), "severities": (2, 5)}
    first = measured(small, labels, **settings)
    monkeypatch.setattr(measure, "_VALUES", 7 * 3072)
    order = np.random.default_rng(0).permutation(24)
    assert measured(small[order], labels[order], **settings) == [
        row.model_copy(update={"value": pytest.approx(row.value)}) for row in first
    ]


def test_the_interval_covers_however_alike_the_drawings_of_an_image_are() -> None:
    rng = np.random.default_rng(3)
    for spread in (0.05, 1.0, 20.0):
        covered = []
        for _ in range(400):
            chances = rng.beta(0.7 * spread, 0.3 * spread, size=60)
            row = measure._row("any", rng.binomial(75, chances) / 75, stage=Stage.ARTIFACT, where="here")
            covered.append(row.low <= 0.7 <= row.high)
        # Three standard errors of 400 draws around 95 % are 3.3 points; it may cover more.
        assert np.mean(covered) >= 0.917


@pytest.mark.parametrize("settings", [{"kinds": ()}, {"severities": ()}])
def test_nothing_to_measure_is_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="no corruption to measure"):
        measured(flat(1), np.array([0]), **settings)


def test_a_wrong_kind_is_refused_before_anything_is_drawn() -> None:
    def never(_: np.ndarray) -> np.ndarray:
        raise AssertionError

    with pytest.raises(ConfigError, match="unknown corruption 'rain'"):
        measured(flat(1), np.array([0]), run=never, kinds=("fog", "rain"))


@pytest.mark.parametrize(("count", "labels"), [(0, []), (1, [0, 1])])
def test_images_and_labels_go_together(count: int, labels: list[int]) -> None:
    with pytest.raises(DataError, match=f"{count} test images and {len(labels)} labels"):
        measured(flat(1)[:count], np.array(labels, dtype=np.int64))
