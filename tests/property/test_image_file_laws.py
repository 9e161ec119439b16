"""Files: what is saved without loss comes back, and no bytes whatever raise anything but our error."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from edgec.core.errors import DataError
from edgec.core.images import decode_images
from edgec.core.inputs import InputSpec
from edgec.core.progress import Silent
from edgec.data import load_samples

SPEC = InputSpec(height=6, width=5)
NOISE = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)


def encoded(pixels: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return buffer.getvalue()


FILES = {kind: encoded(NOISE, kind) for kind in ("PNG", "JPEG", "WEBP", "BMP")}


@settings(deadline=None)
@given(pixels=arrays(np.uint8, (6, 5, 3)), kind=st.sampled_from(["PNG", "WEBP", "BMP"]))
def test_pixels_survive_a_lossless_file(pixels: np.ndarray, kind: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "image")
        path.write_bytes(encoded(pixels, kind))
        np.testing.assert_array_equal(decode_images([path], SPEC)[0], pixels)


@settings(max_examples=200, deadline=None)
@given(
    kind=st.sampled_from(sorted(FILES)),
    cut=st.integers(0, 2000),
    changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=6),
)
def test_damaged_bytes_give_an_image_or_an_error_of_ours(kind: str, cut: int, changes: list[tuple[int, int]]) -> None:
    data = bytearray(FILES[kind])
    for place, value in changes:
        data[place % min(len(data), 64 if place % 2 else len(data))] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "image")
        path.write_bytes(bytes(data[: len(data) - cut] if cut < len(data) else data))
        result = decode_images([path], SPEC)[0]
    if isinstance(result, DataError):
        assert str(path) in str(result)
        assert result.hint
    else:
        assert result.shape == (6, 5, 3)


@settings(deadline=None)
@given(
    images=arrays(np.uint8, st.tuples(st.integers(2, 6), st.just(6), st.just(5), st.just(3))),
    names=st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), min_size=2, max_size=4, unique=True
    ),
    seed=st.integers(0, 99),
)
def test_samples_survive_an_archive(images: np.ndarray, names: list[str], seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, len(names), len(images))
    labels[:2] = 0, 1
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder, "set.npz"), images=images, labels=labels, names=names)
        samples = load_samples(Path(folder, "set.npz"), SPEC, split="train", progress=Silent())
    np.testing.assert_array_equal(samples.pixels[np.arange(len(images))], images)
    np.testing.assert_array_equal(samples.labels, labels)
    assert samples.classes == tuple(names)
