"""What a split must hold to be of use, and that no image is in two of them."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np

from edgec.core.errors import DataError
from edgec.core.samples import Chosen, Images, Samples
from edgec.data.folders import FolderPixels

__all__ = ["Split", "check_samples", "name_file", "name_image", "require_disjoint", "untested"]

Split = Literal["train", "test", "calibration", "validation"]

_SHOWN = 5
"""Classes that an error names."""


def check_samples(samples: Samples, *, split: Split) -> None:
    """Refuses labelled images that a stage could not work with.

    Raises:
        DataError: All images are of one class.
    """
    counts = samples.counts
    present = np.flatnonzero(counts)
    if len(present) < 2:
        only = f"images of one class only ('{samples.classes[present[0]]}')" if len(present) else "no images"
        raise DataError(f"{samples.source}: {only}, expected two classes or more", hint=f"add to the {split} images")


def untested(samples: Samples) -> str | None:
    """Which classes have no image here, so that nothing can be said of them; None where every class has one."""
    missing = [samples.classes[position] for position in np.flatnonzero(samples.counts == 0)]
    if not missing:
        return None
    named = ", ".join(f"'{name}'" for name in missing[:_SHOWN]) + (" and others" if len(missing) > _SHOWN else "")
    return (
        f"{samples.source}: no test image of {len(missing)} of {len(samples.classes)} classes: {named}; "
        "their accuracy is n/a"
    )


def require_disjoint(*splits: Images) -> None:
    """Refuses splits that share an image, whatever the files are called or how they are encoded.

    Args:
        splits: Two or more; their `source` names them in the error.

    Raises:
        DataError: Two of them share an image (equal digests of the decoded pixels).
    """
    for first, second in combinations(splits, 2):
        shared = set(first.digests).intersection(second.digests)
        if shared:
            position = next(i for i, digest in enumerate(first.digests) if digest in shared)
            twin = second.digests.index(first.digests[position])
            raise DataError(
                f"{len(shared)} images are in both {first.source} and {second.source}; "
                f"the first: {name_image(first, position)} and {name_image(second, twin)}",
                hint="take them out of one of the two: an accuracy on images that were learnt from means nothing",
            )


def name_image(images: Images, position: int) -> str:
    """The file of an image, or its position where it has none."""
    found = _found(images, position)
    return f"'{found}'" if isinstance(found, Path) else f"image {found}"


def name_file(images: Images, position: int) -> str | None:
    """The file of an image below the folder of its class, without what lies above; None where it has none."""
    found = _found(images, position)
    return "/".join(found.parts[-2:]) if isinstance(found, Path) else None


def _found(images: Images, position: int) -> Path | int:
    """An image's file, or its position in what was read."""
    pixels = images.pixels
    while isinstance(pixels, Chosen):
        pixels, position = pixels.pixels, int(pixels.positions[position])
    return pixels.paths[position] if isinstance(pixels, FolderPixels) else position
