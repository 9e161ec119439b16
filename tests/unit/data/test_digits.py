"""The embedded digits: a split that no seed moves."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from edgec.core.digest import digest_value
from edgec.data import load_digits_splits, require_disjoint


def test_every_digit_is_in_one_part_with_its_label() -> None:
    train, test = load_digits_splits()
    assert train.classes == test.classes == tuple("0123456789")
    assert (len(train), len(test)) == (1007, 790)
    assert test.counts.min() >= 75
    require_disjoint(train, test)
    digits = load_digits()
    label_of = {image.tobytes(): label for image, label in zip(digits.images, digits.target, strict=True)}
    for part in (train, test):
        pixels = part.pixels[np.arange(len(part))]
        assert pixels.shape[1:] == (8, 8, 1)
        # A sixteenth of ink is 15.94 grey levels, so rounding back is exact.
        ink = np.rint(pixels[..., 0] * (16 / 255))
        assert [label_of[image.tobytes()] for image in ink] == part.labels.tolist()


def test_the_split_is_the_one_the_shipped_teacher_knows() -> None:
    train, test = load_digits_splits()
    assert digest_value([train.digest, test.digest])[:16] == "cccb4096c49cf3b5"


def test_ink_uses_the_whole_range() -> None:
    train, _ = load_digits_splits()
    pixels = train.pixels[np.arange(len(train))]
    assert (pixels.min(), pixels.max()) == (0, 255)
