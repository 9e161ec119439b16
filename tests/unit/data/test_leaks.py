"""Test images that other splits know already are found, whatever was done to the file, and groups stay together."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgec.core.inputs import InputSpec
from edgec.core.samples import Samples
from edgec.data import (
    Grouping,
    draw_few,
    find_contradictions,
    find_leaks,
    load_digits_splits,
    load_samples,
    purify,
    require_disjoint,
)
from edgec.data.arrays import array_samples
from edgec.data.bundled import photographs
from edgec.data.patches import cut_patches

SPEC = InputSpec(height=32, width=32)


@pytest.fixture(scope="module")
def photos() -> np.ndarray:
    """Patches with texture, none like another: uint8 [150, 32, 32, 3]."""
    pixels = cut_patches(photographs(), SPEC, count=300, generator=np.random.default_rng(0))
    lively = pixels[np.argsort(-pixels.reshape(300, -1).std(axis=1), kind="stable")]
    apart, _ = purify(of(lively), against=[])
    return apart.pixels[np.arange(150)]


def of(pixels: np.ndarray, *, groups: tuple[str | None, ...] | None = None, labels: object = None) -> Samples:
    given = np.arange(len(pixels)) % 2 if labels is None else np.array(labels)
    made = array_samples(pixels, given, SPEC, names=("cat", "dog"), classes=None, where="x")
    return Samples(**{**vars(made), "groups": groups})


def saved_again(pixels: np.ndarray, quality: int = 75) -> np.ndarray:
    """Each image as a JPEG file gives it back."""
    return np.stack([np.asarray(_reopened(one, quality)) for one in pixels]).reshape(pixels.shape)


def _reopened(pixels: np.ndarray, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def test_fifty_test_images_saved_again_as_jpeg_are_found_among_the_few_samples(photos: np.ndarray) -> None:
    test = of(photos)
    copies = np.arange(100, 50, -1)
    few = of(saved_again(photos[copies]))
    require_disjoint(test, few)  # their digests differ
    leaks = find_leaks(test, {"train": few})
    assert [leak.position for leak in leaks] == list(range(51, 101))
    assert {(leak.reason, leak.split) for leak in leaks} == {("near-duplicate", "train")}
    assert [leak.like for leak in leaks] == [f"image {100 - position}" for position in range(51, 101)]


def test_images_of_the_same_kind_are_no_leak(photos: np.ndarray) -> None:
    assert find_leaks(of(photos[:75]), {"train": of(photos[75:])}) == ()


def test_several_test_images_may_be_near_one_training_image(photos: np.ndarray) -> None:
    frames = np.stack([np.roll(photos[0], shift, axis=1) for shift in (-1, 0, 1)] * 4)
    frames[:, 0, 0] += np.arange(12, dtype=np.uint8)[:, None]
    assert len(find_leaks(of(frames), {"train": of(photos[:5])})) == 12


def test_batches_do_not_change_what_is_found(photos: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    test, few = of(photos), of(saved_again(photos[::3]))
    whole = find_leaks(test, {"train": few})
    for module in ("leaks", "resemblance"):
        monkeypatch.setattr(f"edgec.data.{module}.BATCH", 11)
    assert find_leaks(test, {"train": few}) == whole


def test_handwritten_digits_that_look_alike_are_no_leak_and_copies_are() -> None:
    train, test = load_digits_splits()
    assert find_leaks(test, {"train": train}) == ()
    pixels = saved_again(test.decoded()[:100], quality=80)
    few = array_samples(pixels, np.arange(100) % 10, digit_spec(), names=train.classes, classes=None, where="x")
    assert len(find_leaks(test, {"train": few})) >= 98


def digit_spec() -> InputSpec:
    return InputSpec(height=8, width=8, channels=1, mean=(0.0,), std=(1.0,))


def test_groups_in_two_splits_are_named_with_the_image_and_the_group(photos: np.ndarray) -> None:
    test = of(photos[:4], groups=("drive-1", "drive-2", None, "drive-2"))
    train = of(photos[10:13], groups=("drive-3", "drive-2", None))
    leaks = find_leaks(test, {"train": train})
    assert [(leak.position, leak.reason, leak.like) for leak in leaks] == [
        (1, "group", "image 1 (group 'drive-2')"),
        (3, "group", "image 1 (group 'drive-2')"),
    ]


def test_a_group_goes_with_its_near_duplicate(photos: np.ndarray) -> None:
    test = of(photos[:5], groups=("a", "b", "a", None, "b"))
    leaks = find_leaks(test, {"train": of(saved_again(photos[2:3]))})
    assert [(leak.position, leak.reason) for leak in leaks] == [
        (0, "group of a near-duplicate"),
        (2, "near-duplicate"),
    ]
    assert leaks[0].like == "image 0, by image 2"


def test_the_first_split_that_knows_an_image_is_named(photos: np.ndarray) -> None:
    leaks = find_leaks(
        of(photos[:3]), {"train": of(saved_again(photos[:1])), "calibration": of(saved_again(photos[:2]))}
    )
    assert [(leak.position, leak.split) for leak in leaks] == [(0, "train"), (1, "calibration")]


def test_an_image_in_two_classes_is_named_once_with_both(photos: np.ndarray) -> None:
    doubled = np.concatenate([photos[:3], photos[1:2], photos[1:2], photos[2:3]])
    found = find_contradictions(of(doubled, labels=[0, 1, 0, 0, 1, 0]))
    assert found == ("image 1 (dog) and image 3 (cat)",)


def test_an_image_saved_again_in_another_class_is_named_and_in_its_own_class_is_not(photos: np.ndarray) -> None:
    pixels = np.concatenate([photos[:6], saved_again(photos[1:2]), saved_again(photos[4:5]), photos[1:2]])
    found = find_contradictions(of(pixels, labels=[0, 0, 0, 1, 1, 1, 1, 1, 0]))
    assert found == ("image 1 (cat) and image 6 (dog), nearly", "image 6 (dog) and image 8 (cat), nearly")


def test_batches_do_not_change_which_images_are_in_two_classes(
    photos: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.concatenate([photos[:30], saved_again(photos[:30])])
    twice = of(pixels, labels=[i % 2 if i < 30 else (i + i % 3) % 2 for i in range(60)])
    whole = find_contradictions(twice)
    assert len(whole) >= 10
    for module in ("leaks", "resemblance"):
        monkeypatch.setattr(f"edgec.data.{module}.BATCH", 7)
    assert find_contradictions(twice) == whole


def test_digits_of_two_classes_that_look_alike_are_no_contradiction() -> None:
    train, test = load_digits_splits()
    assert find_contradictions(train) == find_contradictions(test) == ()


def test_drawn_samples_keep_the_names_of_their_files(class_folders: Callable[..., Path], spec, progress) -> None:
    folder = class_folders({"cat": 6, "dog": 6})
    samples = load_samples(folder, spec, split="train", progress=progress)
    few = draw_few(samples, total=4, imbalance=1, seed=0)
    twice = Samples(**{**vars(few), "digests": (few.digests[0],) * 4})
    assert str(folder / "cat") in find_contradictions(twice)[0]


class TestGroups:
    @pytest.fixture
    def videos(self, tmp_path: Path, noise: Callable[..., np.ndarray]) -> Path:
        names = ["cat/v1/a.png", "cat/v2/b_07.png", "dog/v1/c_07.png", "dog/z.png"]
        for name, pixels in zip(names, noise(4), strict=True):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / name)
        return tmp_path

    @pytest.mark.parametrize(
        ("grouping", "groups"),
        [
            (Grouping(folder=2), ("v1", "v2", "v1", None)),
            (Grouping(pattern=r"_(\d+)\.png"), (None, "07", "07", None)),
            (Grouping(pattern="v1"), ("v1", None, "v1", None)),
            (Grouping(folder=2, pattern=r"_(\d+)", array="video"), (None, "v2/07", "v1/07", None)),
        ],
    )
    def test_of_files(self, videos: Path, spec, progress, grouping: Grouping, groups: tuple[str | None, ...]) -> None:
        samples = load_samples(videos, spec, split="train", group=grouping, progress=progress)
        assert samples.groups == groups
        assert samples.take(np.array([2, 0])).groups == (groups[2], groups[0])

    def test_of_an_array(self, tmp_path: Path, spec, progress, noise: Callable[..., np.ndarray]) -> None:
        np.savez(tmp_path / "a.npz", images=noise(3), labels=np.array([0, 1, 0]), video=np.array([7, 7, 8]))
        grouping = Grouping(array="video")
        assert load_samples(tmp_path / "a.npz", spec, split="train", group=grouping, progress=progress).groups == (
            *("7", "7", "8"),
        )

    @pytest.mark.parametrize(
        ("grouping", "message"),
        [
            (Grouping(array="clip"), "'a.npz' has no array 'clip'"),
            (
                Grouping(array="labels2"),
                "'a.npz': 'labels2' is float64 of shape (3,), expected a string or a whole number for",
            ),
            (Grouping(folder=2), "data.group: 'a.npz' has no file names"),
        ],
    )
    def test_that_an_archive_lacks_are_refused(
        self, tmp_path: Path, spec, progress, noise, grouping: Grouping, message: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from edgec.core.errors import EdgecError

        monkeypatch.chdir(tmp_path)
        np.savez("a.npz", images=noise(3), labels=np.array([0, 1, 0]), labels2=np.zeros(3))
        with pytest.raises(EdgecError) as caught:
            load_samples("a.npz", spec, split="train", group=grouping, progress=progress)
        assert str(caught.value).startswith(message)
        assert caught.value.hint

    def test_that_no_path_has_are_refused(self, videos: Path, spec, progress) -> None:
        from edgec.core.errors import ConfigError

        with pytest.raises(ConfigError, match=r"pattern = 'frame': none of 4 images has a group.*'cat/v1/a\.png'"):
            load_samples(videos, spec, split="train", group=Grouping(pattern="frame"), progress=progress)
        with pytest.raises(ConfigError, match=r"data\.group\.array = 'video': .* is a folder"):
            load_samples(videos, spec, split="train", group=Grouping(array="video"), progress=progress)

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({}, "got none, expected one of folder, pattern and array"),
            ({"pattern": "("}, "is not a regular expression"),
        ],
    )
    def test_need_one_readable_rule(self, fields: dict[str, object], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            Grouping.model_validate(fields)
