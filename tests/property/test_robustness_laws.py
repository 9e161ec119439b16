"""Laws of corrupted images and of the area under the ROC curve that hold for any input."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgec.evaluate.corruptions import KINDS, SEVERITIES, corrupt
from edgec.evaluate.rejection import ranked_area

SCORES = arrays.arrays(np.float64, st.integers(1, 30), elements=st.integers(-5, 5).map(float))


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3])),
    kind=st.sampled_from(list(KINDS)),
    severity=st.sampled_from(SEVERITIES),
    seed=st.integers(0, 2**32 - 1),
)
def test_images_of_any_shape_keep_it_and_do_not_know_their_batch(
    shape: tuple[int, int, int, int], kind: str, severity: int, seed: int
) -> None:
    clean = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    seen = corrupt(clean, kind, severity, seed=seed)
    assert (seen.shape, seen.dtype) == (clean.shape, np.uint8)
    alone = [corrupt(clean[i : i + 1], kind, severity, seed=seed)[0] for i in range(len(clean))]
    assert np.array_equal(seen, alone)


@given(inside=SCORES, outside=SCORES)
def test_the_area_mirrors_and_knows_only_ranks(inside: np.ndarray, outside: np.ndarray) -> None:
    value, (low, high) = ranked_area(inside, outside)
    assert 0 <= low <= high <= 1
    mirrored = ranked_area(outside, inside)
    # Rounding of 16 digits, through a logarithm.
    np.testing.assert_allclose(
        (mirrored.value, mirrored.interval.low, mirrored.interval.high), (1 - value, 1 - high, 1 - low), atol=1e-9
    )
    assert ranked_area(np.exp(inside), np.exp(outside)) == (value, (low, high))
