"""A table of input that cannot be used: each gives one line that says what and where, and a hint."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgec.core.errors import DataError
from edgec.core.inputs import InputSpec
from edgec.data import load_samples

SPEC = InputSpec(height=8, width=8)
IMAGES = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
LABELS = np.array([0, 1, 0, 1])
NAMES = np.array(["cat", "dog"])


class Harm:
    """Makes a folder named `marker` when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("marker",)


def npz(**changes: object) -> Callable[[Path], Path]:
    """Writes an archive; None leaves an array out."""
    arrays = {"images": IMAGES, "labels": LABELS, "names": NAMES} | changes

    def write(place: Path) -> Path:
        np.savez(place / "set.npz", **{name: array for name, array in arrays.items() if array is not None})
        return place / "set.npz"

    return write


def raw(data: bytes, name: str = "set.npz") -> Callable[[Path], Path]:
    def write(place: Path) -> Path:
        (place / name).write_bytes(data)
        return place / name

    return write


def folder(**classes: list[bytes]) -> Callable[[Path], Path]:
    def write(place: Path) -> Path:
        (place / "set").mkdir()
        for label, files in classes.items():
            (place / "set" / label).mkdir()
            for number, data in enumerate(files):
                (place / "set" / label / f"{number}.png").write_bytes(data)
        return place / "set"

    return write


def png(number: int, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(IMAGES[number]).save(buffer, kind)
    return buffer.getvalue()


def whole() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, images=IMAGES, labels=LABELS)
    return buffer.getvalue()


def flipped() -> bytes:
    """A bit is wrong somewhere in the pixels."""
    data = bytearray(whole())
    data[data.index(IMAGES.tobytes()) + 5] ^= 1
    return bytes(data)


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return buffer.getvalue()


def npy(header: str, data: bytes = b"") -> bytes:
    padded = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded + data


TABLE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "nothing there": (lambda place: place / "set", "does not exist"),
    "another file": (raw(b"x", "set.doc"), "set.doc' is a file of another kind"),
    "split without classes": (folder(train=[png(0)], val=[png(1)]), "set/train' has no class folders"),
    # folders
    "empty folder": (folder(), "has no class folders"),
    "images without class folders": (lambda place: raw(png(0), "a.png")(place).parent, "has no class folders"),
    "empty class folders": (folder(cat=[], dog=[]), "has no readable image"),
    "folder of another split": (folder(test=[png(1)]), "holds splits (test), not classes"),
    "one class": (folder(cat=[png(0), png(1)]), "images of one class only ('cat')"),
    "empty images": (folder(cat=[png(0), b"", b""], dog=[png(1)]), "1.png' is empty (0 bytes)"),
    "truncated images": (folder(cat=[png(0), *[png(2)[:150]] * 2], dog=[png(1)]), "1.png' is truncated or damaged"),
    "text for images": (folder(cat=[png(0), b"hello", b"you"], dog=[png(1)]), "1.png' is not a readable JPEG, PNG"),
    "no readable image": (folder(cat=[b"x"], dog=[b"y"]), "has no readable image; first: image '"),
    "unknown class": (folder(cat=[png(0)], dogs=[png(1)]), "class 'dogs' is not one of the model's labels: cat, dog"),
    # archives
    "empty archive": (raw(b""), "is empty (0 bytes)"),
    "no archive": (raw(b"hello"), "is not an npz archive, or is truncated"),
    "truncated archive": (raw(whole()[:-60]), "is not an npz archive, or is truncated"),
    "damaged archive": (raw(flipped()), "is damaged: Bad CRC-32"),
    "single array": (raw(npy("{'descr': '|u1', 'fortran_order': False, 'shape': (1,)}", b"x")), "is not an npz"),
    "no images": (npz(images=None), "has no array 'images', only labels, names"),
    "no labels": (npz(labels=None), "has no array 'labels'"),
    "float images": (npz(images=IMAGES / 255), "images are float64, expected uint8 from 0 to 255"),
    "channels first": (npz(images=IMAGES.transpose(0, 3, 1, 2)), "images have shape (4, 3, 8, 8), expected"),
    "flat images": (npz(images=IMAGES.reshape(4, -1)), "images have shape (4, 192), expected"),
    "no image in it": (npz(images=IMAGES[:0], labels=LABELS[:0]), "no images, their array has shape (0, 8, 8, 3)"),
    "float labels": (npz(labels=LABELS * 1.0), "labels are float64, expected integers"),
    "labels too few": (npz(labels=LABELS[:3]), "labels have shape (3,), expected one for each of 4 images"),
    "two labels an image": (npz(labels=np.ones((4, 2), int)), "labels have shape (4, 2), expected one"),
    "a label that is no name": (npz(labels=np.array(["cat", "cow"] * 2), names=None), "class 'cow' is not one of"),
    "label too high": (npz(labels=LABELS + 1), "label 2 of image 1 is out of range, expected 0 to 1"),
    "label negative": (npz(labels=LABELS - 1), "label -1 of image 0 is out of range, expected 0 to 1"),
    "label in the billions": (npz(labels=LABELS * 10**12, names=None), "label 1000000000000 of image 1 is out of"),
    "names are numbers": (npz(names=np.arange(2)), "names are int64 of shape (2,), expected strings [classes]"),
    "a name twice": (npz(names=np.array(["cat", "cat"])), "class name 'cat' stands there twice"),
    "all of one class": (npz(labels=LABELS * 0), "images of one class only ('cat')"),
    "objects": (npz(images=np.array([Harm(), None], dtype=object)), "holds an array that cannot be read"),
    "a pickle under a wrong name": (
        raw(zipped(images=b"\x80\x04cos\nmkdir\n(S'marker'\ntR.")),
        "'images' is not an array",
    ),
    "more than memory holds": (
        raw(zipped(images=npy("{'descr': '|u1', 'fortran_order': False, 'shape': (999999999999999, 8, 8)}"))),
        "set.npz' ",
    ),
}


@pytest.mark.parametrize("case", TABLE)
def test_unusable_input_gives_one_line_and_a_hint(
    tmp_path: Path, progress, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write, message = TABLE[case]
    source = write(tmp_path)
    classes = ("cat", "dog") if case in ("unknown class", "a label that is no name") else None
    with pytest.raises(DataError) as caught:
        load_samples(source, SPEC, classes=classes, split="train", progress=progress)
    assert message in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    assert caught.value.exit_code == 2
    assert not (tmp_path / "marker").exists()


def test_the_nearest_class_is_suggested(tmp_path: Path, progress) -> None:
    source = folder(cat=[png(0)], dogs=[png(1)])(tmp_path)
    with pytest.raises(DataError) as caught:
        load_samples(source, SPEC, classes=("cat", "dog"), split="train", progress=progress)
    assert caught.value.hint == "did you mean 'dog'?"


def test_a_long_list_of_labels_is_cut_short(tmp_path: Path, progress) -> None:
    source = folder(cat=[png(0)], dog=[png(1)])(tmp_path)
    with pytest.raises(DataError, match=r"labels: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 990 more$"):
        load_samples(source, SPEC, classes=tuple(map(str, range(1000))), split="train", progress=progress)


def test_a_class_without_test_images_is_told_of(tmp_path: Path, progress) -> None:
    source = folder(cat=[png(0)], dog=[png(1)])(tmp_path)
    classes = ("cat", "dog", "eel")
    assert load_samples(source, SPEC, classes=classes, split="train", progress=progress).counts.tolist() == [1, 1, 0]
    assert progress.lines == []
    load_samples(source, SPEC, classes=classes, split="test", progress=progress)
    assert progress.lines == [
        f"test images of '{source}': no test image of 1 of 3 classes: 'eel'; their accuracy is n/a"
    ]
