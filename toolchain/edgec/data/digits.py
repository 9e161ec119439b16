"""The embedded default: scikit-learn's handwritten digits, split once and for ever."""

from __future__ import annotations

import numpy as np

from edgec.core.inputs import InputSpec
from edgec.core.samples import Samples
from edgec.data.arrays import array_samples
from edgec.data.bundled import digit_images

__all__ = ["load_digits_splits"]

_NAMES = tuple("0123456789")
_SIZE = InputSpec(height=8, width=8, channels=1, mean=(0.0,), std=(1.0,))


def load_digits_splits() -> tuple[Samples, Samples]:
    """1,797 digits of 8x8 grey pixels, in two parts with nearly equal shares of every class.

    Of every nine images of a class, in the order in which scikit-learn has them, the first five are for training
    and the other four for testing. No seed changes that: the teacher that ships with the package saw the first part.

    Returns:
        Training images (about 1,000; the pool that the few samples are drawn from) and test images (75 or more of
        every class). Classes are "0" to "9".

    Raises:
        MissingDependencyError: scikit-learn is not installed.
    """
    pixels, labels = digit_images()
    for_training = np.empty(len(labels), dtype=bool)
    for label in range(len(_NAMES)):
        members = np.flatnonzero(labels == label)
        for_training[members] = np.arange(len(members)) % 9 < 5
    return _part(pixels, labels, for_training, "train"), _part(pixels, labels, ~for_training, "test")


def _part(pixels: np.ndarray, labels: np.ndarray, members: np.ndarray, split: str) -> Samples:
    where = f"{split} images of scikit-learn's handwritten digits"
    return array_samples(pixels[members], labels[members], _SIZE, names=_NAMES, classes=None, where=where)
