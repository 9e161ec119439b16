"""What tests of whole builds share."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.core.inputs import InputSpec
from edgec.data.arrays import array_samples
from support import sshd


@dataclass(frozen=True, kw_only=True)
class StudyPlace:
    """Where a study works; the same small study each time, unless told otherwise."""

    folder: Path
    edgec: Callable[..., Any]
    small: tuple[str, ...]

    @property
    def output(self) -> Path:
        return self.folder / "out"

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    def finished(self, *kinds: str) -> list[Path]:
        """Results of runs in the cache, kind by kind."""
        return [path for kind in kinds for path in sorted((self.cache / kind).glob("[!.]*"))]

    def run(self, *arguments: object) -> Any:
        places = ("--cache", self.cache, "--output", self.output)
        return self.edgec("study", *self.small, "--device", "cpu", *places, *arguments)

    def results(self) -> dict[str, Any]:
        return json.loads((self.output / "results.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def study_place(edgec: Any) -> Callable[..., StudyPlace]:
    """A place for the study that a command line describes."""

    def place(folder: Path, *small: str) -> StudyPlace:
        return StudyPlace(folder=folder, edgec=edgec, small=small)

    return place


@pytest.fixture
def bed(tmp_path: Path) -> sshd.Testbed:
    """Devices on this machine, each a real sshd with a folder of its own."""
    if sshd.SSHD is None:
        pytest.skip("sshd is not installed")
    return sshd.Testbed(folder=tmp_path)


@pytest.fixture
def leaking_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded digits, with twelve training images a class, each a test image whose bright pixels were dimmed."""
    from edgec.data import load_digits_splits

    test = load_digits_splits()[1]
    chosen = np.concatenate([np.flatnonzero(test.labels == label)[:12] for label in range(10)])
    pixels, (_, height, width, channels) = np.minimum(test.decoded()[chosen], 250), test.pixels.shape
    spec = InputSpec(height=height, width=width, channels=channels, mean=(0.0,) * channels, std=(1.0,) * channels)
    train = array_samples(pixels, test.labels[chosen], spec, names=test.classes, classes=None, where="train images")
    monkeypatch.setattr("edgec.data.load_digits_splits", lambda: (train, test))
