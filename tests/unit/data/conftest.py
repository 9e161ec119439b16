"""Folders of images, and a progress that remembers what it was told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from PIL import Image

from edgec.core.inputs import InputSpec

T = TypeVar("T")


class Notes:
    """Keeps the lines and the totals that it is given."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.tracked: list[tuple[int, int]] = []

    def note(self, text: str) -> None:
        self.lines.append(text)

    def track(self, items: Iterable[T], *, total: int, what: str, unit: str = "it") -> Iterator[T]:
        del what, unit
        count = 0
        for item in items:
            count += 1
            yield item
        self.tracked.append((count, total))


@pytest.fixture
def progress() -> Notes:
    return Notes()


@pytest.fixture
def spec() -> InputSpec:
    return InputSpec(height=8, width=8)


@pytest.fixture
def noise() -> Callable[..., np.ndarray]:
    """Images that are all different: uint8 [n, 8, 8, 3]."""

    def make(count: int, *, seed: int = 0, side: int = 8) -> np.ndarray:
        return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)

    return make


@pytest.fixture
def class_folders(tmp_path: Path, noise: Callable[..., np.ndarray]) -> Callable[..., Path]:
    """Writes a folder with a folder of PNG files per class, as many as its count."""

    def make(counts: dict[str, int], *, name: str = "images", seed: int = 0) -> Path:
        pixels = iter(noise(sum(counts.values()), seed=seed))
        for label, count in counts.items():
            (tmp_path / name / label).mkdir(parents=True)
            for number in range(count):
                Image.fromarray(next(pixels)).save(tmp_path / name / label / f"{number:03}.png")
        return tmp_path / name

    return make
