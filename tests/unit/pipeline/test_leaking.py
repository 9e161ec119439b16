"""What a build does with test images that other splits give away, and what it says."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from edgec.core.errors import DataError
from edgec.core.facts import SharedImage
from edgec.core.inputs import InputSpec
from edgec.core.samples import Samples
from edgec.data.arrays import array_samples
from edgec.data.bundled import photographs
from edgec.data.patches import cut_patches
from edgec.pipeline.leaking import leaking

SPEC = InputSpec(height=32, width=32)


def samples(pixels: np.ndarray, split: str) -> Samples:
    labels = np.arange(len(pixels)) % 2
    where = f"{split} images of 'x'"
    return array_samples(pixels, labels, SPEC, names=("cat", "dog"), classes=None, where=where)


@pytest.fixture(scope="module")
def splits() -> dict[str, Samples]:
    """The first four test images are in the training set once more, as JPEG."""
    pixels = cut_patches(photographs(), SPEC, count=400, generator=np.random.default_rng(0))
    lively = pixels[np.argsort(-pixels.reshape(400, -1).std(axis=1), kind="stable")][:24:2]
    copies = []
    for one in lively[:4]:
        buffer = io.BytesIO()
        Image.fromarray(one).save(buffer, "JPEG", quality=85)
        copies.append(np.asarray(Image.open(buffer)))
    return {"train": samples(np.stack(copies), "train"), "test": samples(lively, "test")}


def test_near_duplicates_leave_the_test_set_and_are_named(splits: dict[str, Samples]) -> None:
    found = leaking(splits, "leave-out")
    assert found.tested is not None
    assert not {0, 1, 2, 3} & set(found.tested)
    assert found.left_out == len(splits["test"]) - len(found.tested) >= 4
    np.testing.assert_array_equal(found.test.decoded(), splits["test"].decoded()[list(found.tested)])
    assert found.notes[0].startswith(f"{found.left_out} test images are left out of the test set, as other splits give")
    assert "image 0 (nearly train image 0)" in found.notes[0]
    assert found.shared[0] == SharedImage(
        split="test", image="image 0", other="train", like="image 0", reason="near-duplicate"
    )


def test_they_may_be_kept_and_are_named_all_the_same(splits: dict[str, Samples]) -> None:
    found = leaking(splits, "keep")
    assert (found.tested, found.left_out) == (None, 0)
    assert found.test is splits["test"]
    assert "are still in the test set (data.leaks = 'keep')" in found.notes[0]
    assert found.shared


def test_they_may_be_refused(splits: dict[str, Samples]) -> None:
    with pytest.raises(
        DataError, match=r"test images of 'x': \d+ images are given away by other splits: image 0 "
    ) as e:
        leaking(splits, "refuse")
    assert e.value.hint == "take them out of one of the two, or set data.leaks to leave-out or keep"


def test_a_class_without_test_images_is_an_error(splits: dict[str, Samples]) -> None:
    test = splits["test"].take(np.arange(4))
    with pytest.raises(DataError, match=r"\(less 4 that other splits give away\)"):
        leaking({**splits, "test": test}, "leave-out")


@pytest.mark.parametrize("split", ["calibration", "validation"])
def test_an_image_near_a_training_image_is_named_and_stays(split: str, splits: dict[str, Samples]) -> None:
    swapped = {"train": splits["train"], "test": splits["test"].take(np.arange(8, 12)), split: splits["test"]}
    with pytest.raises(DataError):  # the test images are those of the other split
        leaking(swapped, "refuse")
    found = leaking(swapped, "keep")
    assert any(f"{split} images are nearly training images" in note for note in found.notes)


def test_disjoint_splits_need_no_note(splits: dict[str, Samples]) -> None:
    apart = {**splits, "train": samples(np.random.default_rng(1).integers(0, 256, (4, 32, 32, 3), np.uint8), "train")}
    found = leaking(apart, "leave-out")
    assert found.notes == ()
    assert found.test is splits["test"]
    assert found.tested is None


def test_an_image_in_two_classes_of_a_split_is_noted(splits: dict[str, Samples]) -> None:
    train = splits["train"].take(np.array([0, 1, 2, 3, 0]))
    relabelled = Samples(**{**vars(train), "labels": np.array([0, 1, 0, 1, 1])})
    found = leaking({**splits, "train": relabelled}, "keep")
    assert found.notes[-1] == ("1 images stand in two classes of one split: train: image 0 (cat) and image 4 (dog)")
