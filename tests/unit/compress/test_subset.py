"""Some images count for all: each class for what it counted, and what counts for nothing for nothing."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.compress.subset import weighed_subset
from edgec.core.samples import Samples

COUNTS = (30, 5, 1)


@pytest.fixture
def samples() -> Samples:
    labels = np.repeat(np.arange(3), COUNTS)
    pixels = np.zeros((len(labels), 2, 2, 1), np.uint8)
    digests = tuple(map(str, range(len(labels))))
    return Samples(pixels=pixels, digests=digests, source="drawn", labels=labels, classes=("a", "b", "c"))


def test_every_class_keeps_what_it_counted(samples: Samples) -> None:
    shares = np.random.default_rng(0).random(len(samples))
    some, raised = weighed_subset(samples, shares, 9, labels=samples.labels, seed=0)
    assert some.counts.tolist() == [4, 4, 1]
    np.testing.assert_allclose(np.bincount(some.labels, raised), np.bincount(samples.labels, shares))


def test_unlabelled_images_behind_labelled_ones_crowd_out_no_class(samples: Samples) -> None:
    unlabelled = samples.take(np.zeros(500, dtype=np.int64))
    joined, shares = samples.joined(unlabelled), np.full(len(samples) + 500, 1.0)
    some, raised = weighed_subset(joined, shares, 40, labels=samples.labels, seed=0)
    of = [samples.digests.index(digest) for digest in some.digests]
    assert np.bincount(samples.labels[of], minlength=3)[2] == 1  # the rarest class keeps its only image
    assert len(some) == 40
    assert raised.sum() == pytest.approx(shares.sum())


def test_images_that_count_for_nothing_go_on_to_do_so(samples: Samples) -> None:
    _, raised = weighed_subset(samples, np.zeros(len(samples)), 9, labels=samples.labels, seed=0)
    assert raised.tolist() == [0.0] * 9


def test_few_enough_are_left_as_they_are(samples: Samples) -> None:
    assert weighed_subset(samples, np.ones(36), 36, seed=0)[0] is samples
