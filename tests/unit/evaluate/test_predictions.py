"""Predictions: kept as they were, refused where they are damaged, compared image by image."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.core.errors import IntegrityError
from edgec.core.measurement import Stage
from edgec.core.untrusted_arrays import arrays_bytes
from edgec.evaluate.intervals import PairedCounts
from edgec.evaluate.predictions import Predictions

CLASSES = ("cat", "dog")
DIGESTS = [f"{i:064x}"[::-1] for i in range(1, 7)]
TRUTH = np.array([0, 0, 0, 1, 1, 1])


def predictions(
    artifact: list[int], *, teacher: list[int] | None = None, classes: tuple[str, ...] = CLASSES
) -> Predictions:
    given = {Stage.TEACHER: teacher or TRUTH, Stage.ARTIFACT: artifact}
    logits = {stage: np.eye(2)[np.asarray(labels)] for stage, labels in given.items()}
    return Predictions.of(DIGESTS, TRUTH, logits, classes)


def test_bytes_come_back_as_they_went() -> None:
    made = predictions([0, 1, 0, 1, 1, 0])
    data = made.to_bytes()
    read = Predictions.from_bytes(data, CLASSES, where="b")
    assert read.to_bytes() == data == predictions([0, 1, 0, 1, 1, 0]).to_bytes()
    assert read.given[Stage.ARTIFACT].tolist() == [0, 1, 0, 1, 1, 0]
    assert len(set(read.images.tolist())) == 6


def test_teacher_and_artifact_are_paired_by_class() -> None:
    outcomes = predictions([0, 1, 0, 1, 1, 0], teacher=[0, 0, 1, 1, 1, 0]).against_teacher()
    assert outcomes["cat"] == PairedCounts(both=1, first=1, second=1, neither=0)
    assert outcomes["dog"] == PairedCounts(both=2, first=0, second=0, neither=1)
    assert outcomes[None] == PairedCounts(both=3, first=1, second=1, neither=1)


def test_two_bundles_are_paired_by_image_in_whatever_order_they_stand() -> None:
    new, old = predictions([0, 1, 0, 1, 1, 0]), predictions([1, 0, 0, 1, 1, 1])
    order = np.array([5, 2, 0, 4, 1])
    shuffled = Predictions(
        images=old.images[order],
        truth=old.truth[order],
        given={stage: labels[order] for stage, labels in old.given.items()},
        classes=CLASSES,
    )
    outcomes = new.against(shuffled)
    assert outcomes["cat"] == PairedCounts(both=1, first=1, second=1, neither=0)
    assert outcomes["dog"] == PairedCounts(both=1, first=1, second=0, neither=0)


def test_classes_go_by_their_names() -> None:
    renamed = predictions([0, 0, 0, 1, 1, 1], classes=("cat", "wolf"))
    assert set(predictions([0, 0, 0, 1, 1, 1]).against(renamed)) == {None, "cat"}


def test_bundles_without_a_common_image_cannot_be_compared() -> None:
    other = Predictions.of(["f" * 64], np.array([0]), {stage: np.eye(2)[:1] for stage in Stage}, CLASSES)
    assert predictions([0, 0, 0, 1, 1, 1]).against(other) == {}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"truth": np.zeros(5, np.int32)}, r"truth is int32 \(5,\), expected int32 \(6,\)"),
        ({"artifact": np.zeros(6)}, r"artifact is float64 \(6,\), expected int32"),
        ({"artifact": np.full(6, 2, np.int32)}, "artifact names a class that is not there"),
        ({"images": np.zeros((6, 1), np.uint64)}, r"images are uint64 \(6, 1\), expected uint64 \(n,\)"),
        ({"stranger": np.zeros(6, np.int32)}, "it holds artifact, images, stranger, teacher, truth"),
        ({"artifact": None}, "it holds images, teacher, truth"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change: dict[str, np.ndarray | None], expected: str) -> None:
    made = predictions([0, 0, 0, 1, 1, 1])
    arrays = {"images": made.images, "truth": made.truth, **{s.value: v for s, v in made.given.items()}, **change}
    data = arrays_bytes({name: values for name, values in arrays.items() if values is not None})
    with pytest.raises(IntegrityError, match=f"'b': predictions.npz: {expected}"):
        Predictions.from_bytes(data, CLASSES, where="b")


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 and so on", predictions([0] * 6).to_bytes()[:-30]])
def test_damaged_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError, match=r"predictions\.npz: unreadable"):
        Predictions.from_bytes(data, CLASSES, where="b")
