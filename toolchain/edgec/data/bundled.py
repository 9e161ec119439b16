"""Images that come with scikit-learn: the only real ones at hand when the user brings none."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from edgec.core.errors import MissingDependencyError

__all__ = ["digit_images", "photographs"]


def photographs() -> list[np.ndarray]:
    """A Chinese temple and a flower, each uint8 [427, 640, 3].

    Raises:
        MissingDependencyError: scikit-learn is not installed.
    """
    return list(_datasets().load_sample_images().images)


def digit_images() -> tuple[np.ndarray, np.ndarray]:
    """Handwritten digits: uint8 [1797, 8, 8, 1], ink 255 on 0, and int64 [1797], the digit.

    Raises:
        MissingDependencyError: scikit-learn is not installed.
    """
    digits = _datasets().load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    return pixels[..., None], digits.target.astype(np.int64)


def _datasets() -> ModuleType:
    try:
        from sklearn import datasets
    except ImportError as error:
        raise MissingDependencyError(
            "the built-in images come with scikit-learn, which is not installed", hint="pip install 'edgec[build]'"
        ) from error
    return datasets
