"""Drift of predicted classes: the divergence against SciPy's, its chance level against simulation, and the window."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from edgec.package import open_bundle
from edgec.serve.drift import ClassMix, Drift, chance_level, divergence_bits, expected_mix

counts = st.lists(st.integers(0, 1000), min_size=2, max_size=12).filter(any).map(np.array)


@given(st.integers(2, 10).flatmap(lambda n: st.tuples(*[st.lists(st.integers(0, 500), min_size=n, max_size=n)] * 2)))
def test_the_divergence_is_scipys(pair: tuple[list[int], list[int]]) -> None:
    first, second = map(np.array, pair)
    if not first.any() or not second.any():
        return
    # SciPy gives the root; near 0 the root of a rounding error is far larger than the error.
    assert divergence_bits(first, second) == pytest.approx(jensenshannon(first, second, base=2) ** 2, abs=1e-7)


@given(counts)
def test_a_mix_does_not_drift_from_itself(mix: np.ndarray) -> None:
    assert divergence_bits(mix, mix * 3) == pytest.approx(0, abs=1e-12)


def test_mixes_without_a_class_in_common_are_one_bit_apart() -> None:
    assert divergence_bits(np.array([5, 0]), np.array([0, 2])) == 1


@pytest.mark.parametrize(("classes", "seen", "expected"), [(3, 500, 1000), (10, 1000, 790), (40, 1000, 5000)])
def test_chance_exceeds_its_level_one_time_in_twenty(classes: int, seen: int, expected: int) -> None:
    rng = np.random.default_rng(classes)
    shares = rng.dirichlet(np.full(classes, 20.0))
    draws = zip(rng.multinomial(seen, shares, 2000), rng.multinomial(expected, shares, 2000), strict=True)
    level = chance_level(classes, seen, expected)
    beyond = np.mean([divergence_bits(first, second) > level for first, second in draws])
    # Four standard errors of 2,000 draws, and the approximation near equality.
    assert beyond == pytest.approx(0.05, abs=0.02)


def test_one_class_cannot_drift() -> None:
    assert chance_level(1, 10, 10) == 0


def test_the_window_forgets() -> None:
    drift = Drift(ClassMix(counts=np.array([10, 10]), of="test"), window=10)
    assert (drift.images, drift.bits, drift.by_chance) == (0, 0, 0)
    drift.add([0] * 50)
    assert drift.images == 10
    assert drift.bits == pytest.approx(divergence_bits(np.array([1, 0]), np.array([1, 1])))
    drift.add([0, 1] * 5)
    assert drift.bits == 0


class TestExpected:
    def test_what_was_predicted_on_the_test_images_comes_first(self, make_bundle: Callable[..., Path]) -> None:
        report = {"schema": 1, "confusion": {"artifact": [[5, 1, 0], [0, 4, 0], [2, 0, 7]]}}
        data = {"splits": [{"name": "test", "counts": [6, 4, 9]}]}
        mix = expected_mix(open_bundle(make_bundle(files={"report.json": json.dumps(report).encode()}, data=data)))
        assert mix is not None
        assert (mix.counts.tolist(), mix.images) == ([7, 5, 7], 19)

    def test_the_test_images_own_classes_come_next(self, make_bundle: Callable[..., Path]) -> None:
        data = {"splits": [{"name": "train", "counts": [1, 1, 1]}, {"name": "test", "counts": [6, 4, 9]}]}
        mix = expected_mix(open_bundle(make_bundle(data=data)))
        assert mix is not None
        assert (mix.counts.tolist(), mix.of) == ([6, 4, 9], "classes of the test images")

    def test_a_bundle_that_tells_neither_has_none(self, bundle: Path) -> None:
        assert expected_mix(open_bundle(bundle)) is None


@pytest.mark.parametrize(
    "report",
    [
        b"no json",
        b"[1]",
        b'{"confusion": [1]}',
        b'{"confusion": {"artifact": 7}}',
        b'{"confusion": {"artifact": [["a", "b", "c"]]}}',
        b'{"confusion": {"artifact": [[1, 2, 3], [4]]}}',
        b'{"confusion": {"artifact": [[-9, 2, 3], [4, 5, 6], [7, 8, 9]]}}',
        b'{"confusion": {"artifact": [[1' + b"0" * 400 + b", 2, 3]]}}",
        b"[" * 100_000,
    ],
)
def test_a_malformed_report_tells_of_no_mix(make_bundle: Callable[..., Path], report: bytes) -> None:
    assert expected_mix(open_bundle(make_bundle(files={"report.json": report}, data={}))) is None


@pytest.mark.parametrize("counts", [None, "abc", [1, 2], ["a", "b", "c"], [1, -1, 3], [[1, 2, 3]], {"a": 1}])
def test_malformed_counts_tell_of_no_mix(make_bundle: Callable[..., Path], counts: object) -> None:
    data = {"splits": [{"name": "test", "counts": counts}]}
    assert expected_mix(open_bundle(make_bundle(data=data))) is None
