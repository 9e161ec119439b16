"""Images and samples: what they take, batch, count and digest."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from edgec.core.digest import digest_image
from edgec.core.samples import Images, Samples

CLASSES = ("cat", "dog", "eel")


@pytest.fixture
def samples() -> Samples:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 2, 3, 3), dtype=np.uint8)
    return Samples(
        pixels=pixels,
        digests=tuple(digest_image(image) for image in pixels),
        source="here",
        labels=np.array([0, 1, 0, 0, 1, 0, 0]),
        classes=CLASSES,
    )


def test_taking_keeps_image_label_and_digest_together_in_the_order_asked_for(samples: Samples) -> None:
    taken = samples.take(np.array([4, 0, 4]))
    assert isinstance(taken, Samples)
    assert len(taken) == 3
    assert taken.labels.tolist() == [1, 0, 1]
    assert taken.digests == tuple(digest_image(image) for image in taken.decoded())
    np.testing.assert_array_equal(taken.decoded(), samples.decoded()[[4, 0, 4]])
    assert (taken.classes, taken.source) == (CLASSES, "here")


def test_taking_from_what_is_taken_is_taking_once(samples: Samples) -> None:
    twice = samples.take(np.array([6, 5, 4])).take(np.array([2, 0]))
    assert twice.digest == samples.take(np.array([4, 6])).digest


def test_taking_nothing_gives_an_empty_set(samples: Samples) -> None:
    nothing = samples.take(np.array([], dtype=int))
    assert len(nothing) == 0
    assert nothing.counts.tolist() == [0, 0, 0]
    assert list(nothing.batches(4)) == []


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_batches_are_all_images_in_order(samples: Samples, size: int) -> None:
    batches = list(samples.batches(size))
    assert all(len(batch) == size for batch in batches[:-1])
    np.testing.assert_array_equal(np.concatenate(batches), samples.decoded())


def test_counts_say_zero_where_a_class_has_no_sample(samples: Samples) -> None:
    assert samples.counts.tolist() == [5, 2, 0]


def test_the_digest_depends_on_order_labels_and_class_names(samples: Samples) -> None:
    assert samples.digest == samples.take(np.arange(7)).digest
    others = (
        samples.take(np.arange(7)[::-1]),
        samples.take(np.arange(6)),
        dataclasses.replace(samples, labels=1 - samples.labels),
        dataclasses.replace(samples, classes=("cat", "dog", "fox")),
    )
    assert len({samples.digest, *(other.digest for other in others)}) == 5


def test_the_source_is_for_people_and_does_not_count(samples: Samples) -> None:
    assert dataclasses.replace(samples, source="there").digest == samples.digest


def test_unlabelled_images_differ_from_labelled_ones(samples: Samples) -> None:
    images = Images(pixels=samples.pixels, digests=samples.digests, source=samples.source)
    assert images.digest != samples.digest
    assert type(images.take(np.array([1]))) is Images


def test_pixels_are_decoded_only_where_they_are_asked_for() -> None:
    class Lazy:
        shape = (5, 1, 1, 1)

        def __init__(self) -> None:
            self.asked = []

        def __getitem__(self, indices: np.ndarray) -> np.ndarray:
            self.asked.append(indices.tolist())
            return indices.astype(np.uint8)[:, None, None, None]

    pixels = Lazy()
    images = Images(pixels=pixels, digests=tuple("abcde"), source="here")
    assert (len(images), images.digest, pixels.asked) == (5, images.digest, [])
    next(images.batches(2))
    assert pixels.asked == [[0, 1]]
