"""Laws of digests, files, normalisation and samples."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.core.digest import digest_image, digest_value
from edgec.core.errors import unknown_name
from edgec.core.files import read_json, write_bytes, write_json
from edgec.core.inputs import InputSpec, normalise
from edgec.core.samples import Samples

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
seeds = st.integers(0, 2**32 - 1)


@given(st.dictionaries(st.text(), plain, min_size=2, max_size=6), seeds)
def test_the_order_of_keys_does_not_change_a_digest(value: dict, seed: int) -> None:
    keys = list(value)
    order = np.random.default_rng(seed).permutation(len(keys))
    assert digest_value({keys[i]: value[keys[i]] for i in order}) == digest_value(value)


@given(st.sets(st.text(), max_size=8))
def test_a_set_counts_as_its_sorted_list(value: set[str]) -> None:
    assert digest_value(value) == digest_value(sorted(value))


@settings(deadline=None, max_examples=30)
@given(plain)
def test_json_comes_back_from_its_file(value: object) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_json(Path(folder) / "file.json", value)
        assert read_json(Path(folder) / "file.json") == value


@settings(deadline=None, max_examples=20)
@given(st.binary(max_size=5000), st.binary(max_size=5000))
def test_a_file_holds_what_was_written_last(first: bytes, second: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for data in (first, second):
            write_bytes(Path(folder) / "file", data)
        assert (Path(folder) / "file").read_bytes() == second
        assert len(list(Path(folder).iterdir())) == 1


@given(st.integers(1, 5), st.integers(1, 5), seeds)
def test_images_that_differ_in_one_pixel_differ_in_their_digest(height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    other = image.copy()
    other[rng.integers(height), rng.integers(width), rng.integers(3)] ^= np.uint8(1 << rng.integers(8))
    assert digest_image(image) != digest_image(other)


@given(seeds, st.floats(0, 1), st.floats(0.01, 1))
def test_normalising_can_be_undone(seed: int, mean: float, std: float) -> None:
    spec = InputSpec(height=3, width=2, channels=1, mean=(mean,), std=(std,))
    pixels = np.random.default_rng(seed).integers(0, 256, (2, 3, 2, 1), dtype=np.uint8)
    back = (normalise(pixels, spec).transpose(0, 2, 3, 1) * std + mean) * 255
    np.testing.assert_array_equal(np.rint(back), pixels)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=20), seeds)
def test_taking_a_permutation_keeps_the_counts_and_can_be_undone(labels: list[int], seed: int) -> None:
    n = len(labels)
    pixels = np.arange(n, dtype=np.uint8).reshape(n, 1, 1, 1)
    samples = Samples(
        pixels=pixels,
        digests=tuple(digest_image(image) for image in pixels),
        source="here",
        labels=np.array(labels),
        classes=("a", "b", "c", "d"),
    )
    order = np.random.default_rng(seed).permutation(n)
    shuffled = samples.take(order)
    assert shuffled.counts.tolist() == samples.counts.tolist()
    assert shuffled.take(np.argsort(order)).digest == samples.digest


@given(st.text(min_size=1), st.sets(st.text(min_size=1), min_size=1, max_size=6))
def test_an_unknown_name_always_gets_a_hint_from_the_known_ones(name: str, known: set[str]) -> None:
    error = unknown_name("thing", name, known)
    assert error.hint
    assert any(one in error.hint for one in known)
