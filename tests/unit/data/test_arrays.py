"""Archives: what is taken from them and what is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgec.core.digest import digest_image
from edgec.core.errors import DataError
from edgec.core.images import fit_pixels
from edgec.core.inputs import InputSpec
from edgec.data import load_samples


@pytest.fixture
def save(tmp_path: Path):
    def write(**arrays: object) -> Path:
        np.savez(tmp_path / "set.npz", **arrays)
        return tmp_path / "set.npz"

    return write


def read(path: Path, spec: InputSpec, progress, **options):
    return load_samples(path, spec, **({"split": "train", "progress": progress} | options))


def test_images_labels_and_names_come_back(save, noise, spec, progress) -> None:
    images = noise(4)
    samples = read(save(images=images, labels=[1, 0, 1, 1], names=["cat", "dog"]), spec, progress)
    np.testing.assert_array_equal(samples.pixels[np.arange(4)], images)
    assert samples.labels.tolist() == [1, 0, 1, 1]
    assert samples.labels.dtype == np.int64
    assert samples.classes == ("cat", "dog")
    assert samples.digests == tuple(digest_image(image) for image in images)


def test_compressed_archives_are_read(tmp_path: Path, noise, spec, progress) -> None:
    np.savez_compressed(tmp_path / "set.npz", images=noise(4), labels=np.array([0, 1, 0, 1], np.uint8))
    assert read(tmp_path / "set.npz", spec, progress).counts.tolist() == [2, 2]


def test_without_names_the_labels_are_numbers(save, noise, spec, progress) -> None:
    assert read(save(images=noise(4), labels=[0, 3, 0, 3]), spec, progress).classes == ("0", "1", "2", "3")


def test_without_names_the_labels_are_positions_in_the_models(save, noise, spec, progress) -> None:
    samples = read(save(images=noise(3), labels=[0, 2, 0]), spec, progress, classes=("a", "b", "c", "d"))
    assert samples.classes == ("a", "b", "c", "d")
    assert samples.counts.tolist() == [2, 0, 1, 0]


def test_names_are_matched_with_the_models(save, noise, spec, progress) -> None:
    path = save(images=noise(3), labels=[0, 1, 1], names=["cat", "dog"])
    assert read(path, spec, progress, classes=("dog", "eel", "cat")).labels.tolist() == [2, 0, 0]


@pytest.mark.parametrize("shape", [(5, 8, 8), (5, 8, 8, 1), (5, 8, 8, 3), (5, 20, 12, 3), (5, 4, 4)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_shape_becomes_the_models_as_a_file_would(save, progress, shape: tuple[int, ...], channels: int) -> None:
    spec = InputSpec(height=8, width=8, channels=channels, mean=(0.5,) * channels, std=(0.5,) * channels)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    samples = read(save(images=images, labels=[0, 1, 0, 1, 0]), spec, progress)
    assert samples.pixels.shape == (5, 8, 8, channels)
    np.testing.assert_array_equal(samples.pixels[np.arange(5)], np.stack([fit_pixels(one, spec) for one in images]))


def test_an_image_has_the_same_digest_in_a_folder_and_in_an_archive(save, class_folders, noise, spec, progress) -> None:
    folder = read(class_folders({"cat": 2, "dog": 2}), spec, progress)
    archive = read(save(images=noise(4), labels=[0, 0, 1, 1], names=["cat", "dog"]), spec, progress)
    assert folder.digests == archive.digests
    assert folder.digest == archive.digest


@pytest.mark.parametrize("kind", [bool, np.uint8, np.float32])
def test_one_hot_labels_are_taken(save, noise, spec, progress, kind: type) -> None:
    labels = np.eye(3, dtype=kind)[[2, 0, 2, 1]]
    assert read(save(images=noise(4), labels=labels), spec, progress).labels.tolist() == [2, 0, 2, 1]


def test_labels_may_be_names(save, noise, spec, progress) -> None:
    path = save(images=noise(4), labels=["dog", "cat", "dog", "eel"])
    sorted_ones = read(path, spec, progress)
    assert (sorted_ones.classes, sorted_ones.labels.tolist()) == (("cat", "dog", "eel"), [1, 0, 1, 2])
    assert read(path, spec, progress, classes=("eel", "dog", "cat")).labels.tolist() == [1, 2, 1, 0]
    ordered = save(images=noise(2), labels=["dog", "cat"], names=["dog", "cat"])
    assert read(ordered, spec, progress).labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("images", "hint"),
    [
        (np.full((2, 8, 8, 3), 4095, np.uint16), "save (images >> 4).astype('uint8')"),
        (np.full((2, 8, 8, 3), 65535, np.uint16), "save (images >> 8).astype('uint8')"),
        (np.full((2, 8, 8, 3), 255, np.int32), "save images.round().clip(0, 255).astype('uint8')"),
        (np.full((2, 8, 8, 3), 0.5), "save (images * 255).round().astype('uint8')"),
        (np.ones((2, 8, 8, 3), bool), "save (images * 255).round().astype('uint8')"),
    ],
)
def test_the_hint_for_another_type_fits_its_values(save, spec, progress, images: np.ndarray, hint: str) -> None:
    with pytest.raises(DataError, match="expected uint8 from 0 to 255") as caught:
        read(save(images=images, labels=[0, 1]), spec, progress)
    assert caught.value.hint == hint
