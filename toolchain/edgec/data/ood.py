"""The pool of out-of-distribution images: from a folder, an `.npz`, a CIFAR set, or made here (docs/methods.md §1)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgec.core.errors import DataError
from edgec.core.inputs import InputSpec
from edgec.core.progress import Progress
from edgec.core.samples import Images
from edgec.data.arrays import array_images, read_npz_images
from edgec.data.bundled import photographs
from edgec.data.cifar import find_cifar, read_cifar_images
from edgec.data.drawings import draw_images
from edgec.data.folders import find_images, read_files
from edgec.data.loading import require_source
from edgec.data.patches import cut_patches

__all__ = ["load_ood"]


def load_ood(
    source: str | Path | None,
    spec: InputSpec,
    *,
    count: int,
    seed: int,
    what: str = "out-of-distribution images",
    max_unreadable: float = 0.01,
    progress: Progress,
) -> Images:
    """Draws the pool once: the same seed gives the same images.

    Args:
        source: A folder, searched with all below it; an `.npz` with `images`; a folder with CIFAR-10 or CIFAR-100,
            whose training files are taken; or None for the built-in source: half of them patches of scikit-learn's
            two photographs, half procedurally drawn.
        spec: What the model takes: every image is brought to its size and channels.
        count: Images to draw, >= 1; a smaller source gives all it has.
        seed: Fixes the draw.
        what: What the images are, for people.
        max_unreadable: Share of the drawn files that may be unreadable, from 0 to 1; such are left out.
        progress: Told which source it is, and what is left out.

    Raises:
        DataError: Nothing there, or nothing that can be read.
        MissingDependencyError: The built-in source without scikit-learn.
    """
    generator = np.random.default_rng(seed)
    if source is None:
        return _built_in(spec, count=count, generator=generator, progress=progress)
    path = require_source(source)
    if path.is_file() and path.suffix.lower() != ".npz":
        raise DataError(f"'{path}' is a source of labelled images", hint="give unlabelled ones as a folder or an .npz")
    where = f"{what} of '{path}'"
    cifar = find_cifar(path) if path.is_dir() else None
    if cifar is not None or path.is_file():
        images = read_npz_images(path) if cifar is None else read_cifar_images(cifar)
        return array_images(images[_draw(len(images), count, path, what, generator, progress)], spec, where=where)
    files = find_images(path, progress=progress)
    drawn = [files[i] for i in _draw(len(files), count, path, what, generator, progress)]
    readable = read_files(drawn, spec, where=path, max_unreadable=max_unreadable, progress=progress)
    return Images(pixels=readable.pixels, digests=readable.digests, source=where)


def _draw(
    available: int, count: int, path: Path, what: str, generator: np.random.Generator, progress: Progress
) -> np.ndarray:
    """int64 [<= count]: positions in random order."""
    if available < count:
        progress.note(f"'{path}' has {available} {what}, {count} were asked for")
    return generator.permutation(available)[:count]


def _built_in(spec: InputSpec, *, count: int, generator: np.random.Generator, progress: Progress) -> Images:
    """Patches and drawings in turn, so that any part of the pool holds both."""
    progress.note("no out-of-distribution images given: using patches of scikit-learn's photographs and drawn images")
    pixels = np.empty((count, spec.height, spec.width, spec.channels), dtype=np.uint8)
    pixels[0::2] = cut_patches(photographs(), spec, count=(count + 1) // 2, generator=generator)
    pixels[1::2] = draw_images(spec, count=count // 2, generator=generator)
    return array_images(pixels, spec, where="built-in out-of-distribution images")
