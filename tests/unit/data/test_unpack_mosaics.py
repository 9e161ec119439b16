"""The script that unpacks the shared mosaics: what it writes, our loader takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import unpack_mosaics
from edgec.core.errors import DataError
from edgec.core.inputs import InputSpec
from edgec.data import load_ood, load_samples


def mosaic(images: np.ndarray, columns: int) -> Image.Image:
    """Row-major tiles, with black ones at the end."""
    count, side = images.shape[:2]
    sheet = np.zeros((-(-count // columns) * side, columns * side, 3), np.uint8)
    for number, image in enumerate(images):
        top, left = number // columns * side, number % columns * side
        sheet[top : top + side, left : left + side] = image
    return Image.fromarray(sheet)


@pytest.fixture
def sheets(tmp_path: Path, noise) -> tuple[Path, np.ndarray]:
    """The four mosaics in small, and the images of each in turn."""
    data = tmp_path / "shared"
    data.mkdir()
    images = noise(24, side=32)
    for number, name in enumerate(("cifar10_train10k", "cifar10_test", "cifar100_ood2500")):
        mosaic(images[number * 8 : number * 8 + 7], 3).save(data / f"{name}.webp", lossless=True)
    mosaic(noise(7, side=64), 3).save(data / "trashnet64.webp", lossless=True)
    labels = np.array([0, 1, 0, 1, 0, 1, 0])
    np.savez(
        data / "labels.npz",
        **{f"{name}_y": labels for name in ("train", "test", "ood", "trash")},
        **{f"{name}_names": np.array(["cat", "dog"]) for name in ("cifar10", "trash")},
        ood_near=labels == 1,
    )
    return data, images


def test_what_it_writes_our_loader_takes(sheets, tmp_path: Path, progress) -> None:
    data, images = sheets
    spec = InputSpec(height=32, width=32)
    paths = unpack_mosaics.unpack(data, tmp_path / "out")
    assert [path.name for path in paths] == [
        "cifar10_train.npz",
        "cifar10_test.npz",
        "cifar100_ood.npz",
        "trashnet64.npz",
    ]
    test = load_samples(tmp_path / "out" / "cifar10_test.npz", spec, split="test", progress=progress)
    np.testing.assert_array_equal(test.pixels[np.arange(7)], images[8:15])
    assert test.classes == ("cat", "dog")
    assert test.labels.tolist() == [0, 1, 0, 1, 0, 1, 0]
    ood = load_ood(tmp_path / "out" / "cifar100_ood.npz", spec, count=4, seed=0, progress=progress)
    near = images[[17, 19, 21]]
    assert len(ood) == 4
    assert not any((image == near).all(axis=(1, 2, 3)).any() for image in ood.pixels[np.arange(4)])


def test_it_leaves_alone_what_is_there_and_writes_the_same_bytes_again(sheets, tmp_path: Path) -> None:
    data, _ = sheets
    paths = unpack_mosaics.unpack(data, tmp_path / "out")
    first = [path.read_bytes() for path in paths]
    paths[0].write_bytes(b"mine")
    paths[1].unlink()
    unpack_mosaics.unpack(data, tmp_path / "out")
    assert [path.read_bytes() for path in paths] == [b"mine", *first[1:]]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in paths)


def test_a_missing_or_short_mosaic_is_named(sheets, tmp_path: Path, noise) -> None:
    data, _ = sheets
    mosaic(noise(2, side=32), 3).save(data / "cifar10_test.webp", lossless=True)
    with pytest.raises(DataError, match=r"cifar10_test\.webp' has 3 tiles, 7 have a label"):
        unpack_mosaics.unpack(data, tmp_path / "out")
    (data / "cifar10_test.webp").unlink()
    with pytest.raises(DataError, match=r"cifar10_test\.webp' does not exist"):
        unpack_mosaics.unpack(data, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["cifar10_train.npz"]


def test_the_command_names_the_files_or_the_error(sheets, tmp_path: Path, monkeypatch, capsys) -> None:
    data, _ = sheets
    monkeypatch.setattr("sys.argv", ["unpack_mosaics.py", str(tmp_path / "out")])
    monkeypatch.setenv("EDGEC_DATA", str(data))
    assert unpack_mosaics.main() == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "out" / "trashnet64.npz")
    monkeypatch.setenv("EDGEC_DATA", str(tmp_path / "nowhere"))
    monkeypatch.setattr("sys.argv", ["unpack_mosaics.py", str(tmp_path / "other")])
    assert unpack_mosaics.main() == 2
    assert "error: '" in capsys.readouterr().err
