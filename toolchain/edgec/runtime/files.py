"""Many pictures through a model: the next ones are decoded while the model runs on those before."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import numpy as np

from edgec.core.errors import DataError
from edgec.core.images import Picture, decode_images
from edgec.runtime.model import Model

__all__ = ["predict_files"]

P = TypeVar("P", bound=Picture)

_AHEAD = 2
"""Batches that are decoded or being decoded while the model runs on another: memory stays bounded."""


def predict_files(model: Model, files: Iterable[P], *, batch: int = 32) -> Iterator[tuple[P, np.ndarray | DataError]]:
    """Scores of image files, or of pictures that are opened already, in their order.

    Args:
        model: What classifies them.
        files: Taken as they are needed, so they may be more than memory holds.
        batch: Files that are decoded and run together.

    Yields:
        A file with its scores, float32 [classes], or with the reason why there are none: such a file stops only itself.
    """
    spec = model.bundle.manifest.input
    left = iter(files)
    pool = ThreadPoolExecutor(1)
    decoding: deque[tuple[list[P], Future[list[np.ndarray | DataError]]]] = deque()

    def decode_next() -> None:
        chunk = list(islice(left, batch))
        if chunk:
            decoding.append((chunk, pool.submit(decode_images, chunk, spec)))

    try:
        for _ in range(_AHEAD):
            decode_next()
        while decoding:
            chunk, decoded = decoding.popleft()
            images = decoded.result()
            decode_next()
            yield from zip(chunk, _scores(model, images), strict=True)
    finally:
        pool.shutdown(cancel_futures=True)


def _scores(model: Model, images: list[np.ndarray | DataError]) -> Iterator[np.ndarray | DataError]:
    """An entry per image, in order."""
    readable = [image for image in images if not isinstance(image, DataError)]
    scores = iter(model.predict(np.stack(readable)) if readable else ())
    for image in images:
        yield image if isinstance(image, DataError) else next(scores)
