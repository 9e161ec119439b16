"""Stage `data` keeps names and digests of files, not what they hold, and refuses files that have changed since."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgec.core.errors import DataError
from edgec.core.progress import Silent
from edgec.data import Cached, Room
from edgec.pipeline.accelerator import Accelerator
from edgec.pipeline.config import BuildConfig, read_config
from edgec.pipeline.plan import Plan, plan_build
from edgec.pipeline.sources import Sources
from edgec.pipeline.stages import data

SIDE = 16


def draw(folder: Path, *, seed: int, count: int = 6) -> None:
    """Two class folders of noise."""
    rng = np.random.default_rng(seed)
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")


def plan_of(folder: Path) -> Plan:
    """A plan over images in a folder."""
    asked = {
        "model": {"name": "edgec.models.cifar_resnet:resnet20", "input": {"height": SIDE, "width": SIDE}},
        "data": {name: folder / name for name in ("train", "test", "ood")},
    }
    return plan_build(BuildConfig.model_validate(asked), accelerator=Accelerator.CPU)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    for seed, name in enumerate(("train", "test", "ood")):
        draw(folder / name, seed=seed)
    return folder


@pytest.fixture
def kept(images: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "kept"
    folder.mkdir()
    data.run(Sources(plan_of(images), Silent()), folder)
    return folder


def test_pixels_of_files_are_not_kept(images: Path, kept: Path) -> None:
    assert sorted(path.name for path in kept.iterdir()) == ["few.json", "ood.json"]
    assert str(images) not in (kept / "few.json").read_text(encoding="utf-8").replace(f"'{images}", "")


def test_what_is_read_back_is_what_was_drawn(images: Path, kept: Path) -> None:
    plan = plan_of(images)
    wanted, _ = data.prepare(Sources(plan, Silent()))
    found = data.read(kept, plan)
    assert found.few.digest == wanted.few.digest
    assert found.calibration is found.few
    np.testing.assert_array_equal(found.few.decoded(), wanted.few.decoded())
    np.testing.assert_array_equal(found.ood.decoded(), wanted.ood.decoded())


def test_files_may_move(images: Path, kept: Path, tmp_path: Path) -> None:
    before = data.read(kept, plan_of(images)).few.decoded()
    shutil.move(images, tmp_path / "elsewhere")
    found = data.read(kept, plan_of(tmp_path / "elsewhere"))
    np.testing.assert_array_equal(found.few.decoded(), before)


def test_a_file_that_has_changed_is_refused(images: Path, kept: Path) -> None:
    found = data.read(kept, plan_of(images))
    changed = images / "train" / "a" / "2.png"
    Image.fromarray(np.zeros((SIDE, SIDE, 3), dtype=np.uint8)).save(changed)
    with pytest.raises(DataError) as refused:
        found.few.decoded()
    assert str(refused.value) == f"'{changed}' has changed since it was first read: it is another image now"
    assert refused.value.hint == "build again when nothing writes to the folder"


def test_a_test_image_that_has_changed_is_refused(images: Path) -> None:
    test = Sources(plan_of(images), Silent()).test
    Image.fromarray(np.zeros((SIDE, SIDE, 3), dtype=np.uint8)).save(images / "test" / "b" / "0.png")
    with pytest.raises(DataError, match="has changed"):
        test.decoded()


def test_arrays_are_mapped_into_memory(tmp_path: Path) -> None:
    plan = plan_build(read_config(None, []), accelerator=Accelerator.CPU)
    wanted, _ = data.prepare(Sources(plan, Silent()))
    data.run(Sources(plan, Silent()), tmp_path)
    found = data.read(tmp_path, plan)
    assert isinstance(found.few.pixels, np.memmap)
    np.testing.assert_array_equal(found.few.decoded(), wanted.few.decoded())
    np.testing.assert_array_equal(found.few.labels, wanted.few.labels)


# ---- what was decoded


class Counted:
    """Pixels that count what is asked of them."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels, self.decoded = pixels, 0
        self.shape = pixels.shape

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        self.decoded += len(indices)
        return self.pixels[indices]


@pytest.mark.parametrize(("room", "decoded"), [(0, 18), (2 * 12, 10 + 4), (1000, 6)])
def test_images_are_decoded_once_as_far_as_there_is_room(room: int, decoded: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 2, 2, 3), dtype=np.uint8)
    counted = Counted(pixels)
    cached = Cached(counted, Room(room))
    for _ in range(3):
        np.testing.assert_array_equal(cached[np.arange(6)], pixels)
    assert counted.decoded == decoded


def test_an_image_that_is_drawn_twice_is_decoded_once() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 2, 2, 3), dtype=np.uint8)
    counted = Counted(pixels)
    np.testing.assert_array_equal(Cached(counted, Room(0))[np.array([3, 1, 3])], pixels[[3, 1, 3]])
    assert counted.decoded == 2


def test_room_is_shared() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 2, 2, 3), dtype=np.uint8)
    room = Room(2 * 12)
    first, second = Counted(pixels), Counted(pixels)
    for part in (Cached(first, room), Cached(second, room)):
        for _ in range(2):
            part[np.arange(2)]
    assert (first.decoded, second.decoded) == (2, 4)


def test_a_file_s_name_need_not_be_utf_8(images: Path, tmp_path: Path) -> None:
    strange = images / "train" / "a" / os.fsdecode(b"caf\xe9.png")
    try:
        (images / "train" / "a" / "0.png").rename(strange)
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    (tmp_path / "kept").mkdir()
    plan = plan_of(images)
    data.run(Sources(plan, Silent()), tmp_path / "kept")
    assert data.read(tmp_path / "kept", plan).few.decoded().shape == (12, SIDE, SIDE, 3)


def test_pictures_outside_that_a_folder_s_table_names_are_part_of_the_key(tmp_path: Path) -> None:
    for seed, name in enumerate(("raw", "test", "ood")):
        draw(tmp_path / name, seed=seed)
    (tmp_path / "train").mkdir()
    rows = [f"../raw/{label}/{i}.png,{label}" for label in "ab" for i in range(6)]
    (tmp_path / "train" / "metadata.csv").write_text("\n".join(["file_name,label", *rows]))
    before = data.key(plan_of(tmp_path))
    shutil.copy(tmp_path / "ood" / "a" / "0.png", tmp_path / "raw" / "a" / "0.png")
    assert data.key(plan_of(tmp_path)).key != before.key
