"""A bundle with the golden report, and predictions that agree with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from edgec.core.measurement import Stage
from edgec.evaluate.predictions import Predictions

REPORT = Path(__file__).parents[2] / "golden" / "report.json"
CLASSES = ("cat", "dog", "Käfer")


@pytest.fixture
def make_pets(make_bundle: Callable[..., Path]) -> Callable[..., Path]:
    """Packs it; `right` says how many images of each class the artifact gets right."""

    def make(name: str = "pets", *, right: Sequence[int] = (20, 18, 16), first: int = 0) -> Path:
        given = {Stage.TEACHER: (20, 19, 18), Stage.ARTIFACT: right}
        files = {"report.json": REPORT.read_bytes(), "predictions.npz": _predictions(given, first=first).to_bytes()}
        return make_bundle(name, files=files)

    return make


def _predictions(right: Mapping[Stage, Sequence[int]], *, first: int) -> Predictions:
    """Twenty images of each class, of which the last ones are taken for the next class; numbered from `first`."""
    truth = np.repeat(np.arange(3), 20)
    place = np.tile(np.arange(20), 3)
    logits = {stage: np.eye(3)[(truth + (place >= np.array(counts)[truth])) % 3] for stage, counts in right.items()}
    return Predictions.of([f"{first + i:016x}" for i in range(60)], truth, logits, CLASSES)
