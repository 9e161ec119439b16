"""What a split must hold, and that splits share no image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgec.core.errors import DataError
from edgec.core.progress import Silent
from edgec.core.samples import Samples
from edgec.data import check_samples, load_samples, name_file, require_disjoint, untested
from edgec.data.arrays import array_samples


@pytest.fixture
def make(noise, spec):
    def samples(labels: list[int], *, seed: int = 0, where: str = "test images of 'x'") -> Samples:
        names = tuple("abcdefgh")
        return array_samples(
            noise(len(labels), seed=seed), np.array(labels), spec, names=names, classes=None, where=where
        )

    return samples


def test_images_of_every_class_are_accepted(make) -> None:
    for split in ("train", "test", "calibration"):
        check_samples(make([0, 1, 2, 3, 4, 5, 6, 7]), split=split)


def test_splits_may_lack_classes_and_those_without_test_images_are_named(make) -> None:
    samples = make([0, 1, 1])
    for split in ("train", "test"):
        check_samples(samples, split=split)
    assert untested(samples) == (
        "test images of 'x': no test image of 6 of 8 classes: 'c', 'd', 'e', 'f', 'g' and others; their accuracy is n/a"
    )
    assert untested(make(list(range(8)))) is None


def test_an_image_s_file_is_named_below_its_class(make, spec, tmp_path: Path) -> None:
    for name in ("cat/1.png", "dog/2.png"):
        (tmp_path / "pets" / name).parent.mkdir(parents=True)
        Image.new("RGB", (8, 8), "red" if "cat" in name else "blue").save(tmp_path / "pets" / name)
    samples = load_samples(tmp_path / "pets", spec, split="test", progress=Silent())
    assert name_file(samples, 1) == "dog/2.png"
    assert name_file(samples.choose(np.array([1, 0])), 1) == "cat/1.png"
    assert name_file(make([0]), 0) is None


def test_one_class_is_refused(make) -> None:
    with pytest.raises(DataError, match=r"images of one class only \('b'\), expected two classes or more"):
        check_samples(make([1, 1, 1]), split="train")


def test_splits_without_a_common_image_pass(make) -> None:
    require_disjoint(make([0, 1]), make([0, 1], seed=1), make([0, 1], seed=2))
    require_disjoint(make([0, 1]))


def test_a_common_image_is_named_with_both_splits(make) -> None:
    train, test = make([0] * 5 + [1], where="train images of 'y'"), make([1, 1])
    with pytest.raises(DataError) as caught:
        require_disjoint(make([0], seed=9), train, test)
    assert str(caught.value) == (
        "2 images are in both train images of 'y' and test images of 'x'; the first: image 0 and image 0"
    )
    assert caught.value.hint


def test_a_copy_under_another_name_and_format_is_found_and_both_files_named(class_folders, spec, progress) -> None:
    train = class_folders({"cat": 3, "dog": 3}, name="train-set")
    test = class_folders({"cat": 3, "dog": 3}, name="test-set", seed=1)
    Image.open(train / "dog" / "001.png").save(test / "cat" / "renamed.bmp")
    splits = [load_samples(train, spec, split="train", progress=progress)]
    splits.append(load_samples(test, spec, split="test", progress=progress))
    with pytest.raises(DataError) as caught:
        require_disjoint(*splits)
    assert str(caught.value).startswith(f"1 images are in both train images of '{train}' and test images of '{test}'")
    assert str(Path("dog") / "001.png") in str(caught.value)
    assert str(Path("cat") / "renamed.bmp") in str(caught.value)
