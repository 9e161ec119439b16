"""CIFAR sets, as Python 2 pickled them, and pickles that are something else."""

from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from edgec.core.errors import DataError
from edgec.core.inputs import InputSpec
from edgec.data import load_ood, load_samples

SPEC = InputSpec(height=32, width=32)
NAMES = ("airplane", "automobile", "bird")


def python2(value: object) -> bytes:
    """Opcodes that Python 2's cPickle writes at protocol 2, where text is bytes (SHORT_BINSTRING, BINSTRING)."""
    if isinstance(value, np.ndarray):
        return b"".join(
            [
                b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR",
                b"(K\x01" + python2(tuple(value.shape)) + b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR",
                b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb",
                b"\x89" + python2(value.tobytes()) + b"tb",
            ]
        )
    if isinstance(value, bytes):
        return b"U" + bytes([len(value)]) + value if len(value) < 256 else b"T" + struct.pack("<i", len(value)) + value
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, tuple):
        return b"(" + b"".join(map(python2, value)) + b"t"
    if isinstance(value, list):
        return b"](" + b"".join(map(python2, value)) + b"e"
    assert isinstance(value, dict)
    return b"}(" + b"".join(python2(key) + python2(item) for key, item in value.items()) + b"u"


def old(value: object) -> bytes:
    return b"\x80\x02" + python2(value) + b"."


def rows(images: np.ndarray) -> np.ndarray:
    """The format's order: all red values of an image, then green, then blue."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(len(images), 3072)


@pytest.fixture
def images(noise) -> np.ndarray:
    return noise(36, side=32)


@pytest.fixture
def cifar10(tmp_path: Path, images: np.ndarray) -> Path:
    folder = tmp_path / "root" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    (folder / "batches.meta").write_bytes(old({b"label_names": [name.encode() for name in NAMES]}))
    for part, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        chosen = images[part * 6 : part * 6 + 6]
        fields = {b"batch_label": b"x", b"labels": [0, 1, 2, 0, 1, 2], b"data": rows(chosen), b"filenames": [b"f"] * 6}
        (folder / name).write_bytes(old(fields))
    return folder


def test_what_is_written_here_is_what_python_2_wrote(images: np.ndarray) -> None:
    """The emitter above agrees with the free unpickler on bytes of our own making."""
    fields = pickle.loads(old({b"labels": [3], b"data": rows(images[:1])}), encoding="bytes")
    assert fields[b"labels"] == [3]
    np.testing.assert_array_equal(fields[b"data"], rows(images[:1]))


def test_training_and_test_files_are_kept_apart(cifar10: Path, images: np.ndarray, progress) -> None:
    train = load_samples(cifar10, SPEC, split="train", progress=progress)
    test = load_samples(cifar10.parent, SPEC, split="test", progress=progress)
    np.testing.assert_array_equal(train.pixels[np.arange(30)], images[:30])
    np.testing.assert_array_equal(test.pixels[np.arange(6)], images[30:])
    assert test.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert train.classes == test.classes == NAMES


def test_files_that_python_3_pickled_are_read_too(cifar10: Path, images: np.ndarray, progress) -> None:
    fields = {"labels": [2, 1, 0], "data": rows(images[:3])}
    (cifar10 / "test_batch").write_bytes(pickle.dumps(fields, protocol=4))
    test = load_samples(cifar10, SPEC, split="test", progress=progress)
    np.testing.assert_array_equal(test.pixels[np.arange(3)], images[:3])
    assert test.labels.tolist() == [2, 1, 0]


def test_cifar100_has_fine_labels(tmp_path: Path, images: np.ndarray, progress) -> None:
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    (folder / "meta").write_bytes(old({b"fine_label_names": [b"apple", b"bear"], b"coarse_label_names": [b"all"]}))
    for name in ("train", "test"):
        fields = {b"data": rows(images[:4]), b"fine_labels": [1, 0, 1, 0], b"coarse_labels": [0, 0, 0, 0]}
        (folder / name).write_bytes(old(fields))
    samples = load_samples(tmp_path, SPEC, split="test", progress=progress)
    assert samples.classes == ("apple", "bear")
    assert samples.labels.tolist() == [1, 0, 1, 0]


def test_the_names_are_matched_with_the_models(cifar10: Path, progress) -> None:
    classes = ("bird", "car", "automobile", "airplane")
    assert load_samples(cifar10, SPEC, classes=classes, split="train", progress=progress).counts.tolist() == [
        10,
        0,
        10,
        10,
    ]
    with pytest.raises(DataError, match=r"class 'airplane' is not one of the model's labels: plane, bird") as caught:
        load_samples(cifar10, SPEC, classes=("plane", "bird"), split="train", progress=progress)
    assert caught.value.hint == "did you mean 'plane'?"


def test_its_training_images_serve_as_out_of_distribution_images(cifar10: Path, images, progress) -> None:
    pool = load_ood(cifar10.parent, SPEC, count=10, seed=0, progress=progress)
    training = {image.tobytes() for image in images[:30]}
    assert len(pool) == 10
    assert all(image.tobytes() in training for image in pool.pixels[np.arange(10)])


class Call:
    """Pickles to a call."""

    def __init__(self, function, *arguments: object) -> None:
        self.what = function, arguments

    def __reduce__(self):
        return self.what


@pytest.mark.parametrize("protocol", range(5))
def test_a_pickle_with_code_in_it_is_refused_and_not_run(
    cifar10: Path, tmp_path: Path, progress, protocol: int
) -> None:
    marker = tmp_path / "marker"
    for function in (os.mkdir, eval, np.save, np.memmap):
        harm = pickle.dumps({"data": Call(function, str(marker)), "labels": [0]}, protocol=protocol)
        (cifar10 / "test_batch").write_bytes(harm)
        with pytest.raises(DataError, match=r"test_batch' is a pickle with code in it \([\w.]+\), refused") as caught:
            load_samples(cifar10, SPEC, split="test", progress=progress)
        assert caught.value.hint
        assert not marker.exists()


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (b"", "is truncated or damaged"),
        (b"\x80\x02}(U\x04data", "is truncated or damaged"),
        (b"hello", "is truncated or damaged"),
        (old([1, 2]), "has no 'data'"),
        (old({b"data": b"x"}), "'data' is not an array of bytes"),
        (old({b"data": np.zeros((2, 3071), np.uint8), b"labels": [0, 1]}), "'data' is not an array of bytes [n, 3072]"),
        (old({b"data": np.zeros((2, 3072), np.uint8)}), "has no 'labels'"),
        (old({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0]}), "'labels' is not a list of 2 whole numbers"),
        (old({b"data": np.zeros((1, 3072), np.uint8), b"labels": [b"0"]}), "'labels' is not a list of 1 whole"),
        (old({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 3]}), "label 3 of image 1 is out of range"),
        (
            pickle.dumps({"data": np.zeros((1, 3072)), "labels": [0]}, protocol=4),
            "is truncated or damaged: an array of",
        ),
    ],
)
def test_other_content_is_named(cifar10: Path, progress, written: bytes, message: str) -> None:
    (cifar10 / "test_batch").write_bytes(written)
    with pytest.raises(DataError) as caught:
        load_samples(cifar10, SPEC, split="test", progress=progress)
    assert message in str(caught.value)
    assert "test" in str(caught.value)


def test_any_cut_file_is_an_error_that_names_it(cifar10: Path, progress) -> None:
    whole = (cifar10 / "test_batch").read_bytes()
    for length in range(0, len(whole), len(whole) // 50):
        (cifar10 / "test_batch").write_bytes(whole[:length])
        with pytest.raises(DataError, match="test_batch"):
            load_samples(cifar10, SPEC, split="test", progress=progress)


def test_a_missing_file_is_named(cifar10: Path, progress) -> None:
    (cifar10 / "data_batch_3").unlink()
    with pytest.raises(DataError, match=r"data_batch_3' does not exist"):
        load_samples(cifar10, SPEC, split="train", progress=progress)


def test_two_sets_in_one_folder_are_not_guessed_about(cifar10: Path, progress) -> None:
    other = cifar10.parent / "cifar-100-python"
    other.mkdir()
    for name in ("meta", "train", "test"):
        (other / name).write_bytes(b"x")
    with pytest.raises(DataError, match="holds both CIFAR-10 and CIFAR-100"):
        load_samples(cifar10.parent, SPEC, split="train", progress=progress)
