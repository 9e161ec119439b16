"""Class folders: what is read, in which order, under which labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgec.core.digest import digest_image, digest_tree
from edgec.core.errors import DataError
from edgec.core.inputs import InputSpec
from edgec.core.samples import Samples
from edgec.data import load_samples
from edgec.data.folders import FolderPixels, reframed

MakeFolders = Callable[..., Path]


def read(folder: Path, spec: InputSpec, progress, **options) -> Samples:
    return load_samples(folder, spec, **({"split": "train", "progress": progress} | options))


def test_folder_names_are_the_classes_in_sorted_order(class_folders: MakeFolders, spec, progress) -> None:
    samples = read(class_folders({"dog": 2, "cat": 3, "Zebra": 1}), spec, progress)
    assert samples.classes == ("Zebra", "cat", "dog")
    assert samples.counts.tolist() == [1, 3, 2]
    assert samples.labels.tolist() == [0, 1, 1, 1, 2, 2]
    assert samples.labels.dtype == np.int64
    assert progress.lines == []
    assert progress.tracked == [(6, 6)]


def test_labels_are_positions_among_the_models(class_folders: MakeFolders, spec, progress) -> None:
    samples = read(class_folders({"dog": 2, "cat": 3}), spec, progress, classes=("eel", "dog", "cat"))
    assert samples.classes == ("eel", "dog", "cat")
    assert samples.counts.tolist() == [0, 2, 3]


def test_pixels_are_those_of_the_files(class_folders: MakeFolders, spec, progress) -> None:
    folder = class_folders({"cat": 3, "dog": 2})
    files = [np.asarray(Image.open(path)) for path in sorted(folder.rglob("*.png"))]
    samples = read(folder, spec, progress)
    assert isinstance(samples.pixels, FolderPixels)
    assert samples.pixels.shape == (5, 8, 8, 3)
    np.testing.assert_array_equal(samples.pixels[np.array([4, 0, 0])], np.stack([files[4], files[0], files[0]]))
    np.testing.assert_array_equal(np.concatenate(list(samples.batches(2))), np.stack(files))
    assert samples.digests == tuple(digest_image(file) for file in files)


def test_taking_some_keeps_what_belongs_together(class_folders: MakeFolders, spec, progress) -> None:
    samples = read(class_folders({"cat": 3, "dog": 3}), spec, progress)
    some = samples.take(np.array([5, 1]))
    assert some.labels.tolist() == [1, 0]
    assert some.digests == tuple(digest_image(image) for image in some.pixels[np.arange(2)])


def test_no_images_taken_are_no_images(class_folders: MakeFolders, spec, progress) -> None:
    samples = read(class_folders({"cat": 1, "dog": 1}), spec, progress)
    assert samples.pixels[np.array([], dtype=int)].shape == (0, 8, 8, 3)


def test_formats_are_read_and_folders_below_a_class_are_its(tmp_path: Path, noise, spec, progress) -> None:
    for number, ending in enumerate(("jpg", "JPEG", "png", "webp", "bmp", "tif", "gif", "ppm", "avif")):
        place = tmp_path / "images" / ("cat" if number % 2 else "dog") / "monday"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(1, seed=number, side=9)[0]).save(place / f"{number}.{ending}")
    assert read(tmp_path / "images", spec, progress).counts.tolist() == [4, 5]


def test_hidden_names_are_passed_over_and_strays_are_reported(class_folders: MakeFolders, spec, progress) -> None:
    folder = class_folders({"cat": 2, "dog": 2, ".cache": 2})
    (folder / "cat" / "._000.png").write_bytes(b"resource fork")
    (folder / "cat" / "notes.txt").write_text("mine")
    (folder / "000.png").write_bytes((folder / "cat" / "000.png").read_bytes())
    assert read(folder, spec, progress).counts.tolist() == [2, 2]
    assert len(progress.lines) == 2
    assert "1 files do not end like an image and are left out (1 .txt), as" in progress.lines[0]
    assert "notes.txt" in progress.lines[0]
    assert "1 images outside the class folders are left out" in progress.lines[1]


def test_links_to_folders_are_followed(class_folders: MakeFolders, tmp_path: Path, spec, progress) -> None:
    folder = class_folders({"cat": 2, "dog": 2})
    (folder / "dog").rename(tmp_path / "elsewhere")
    (folder / "dog").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert read(folder, spec, progress).counts.tolist() == [2, 2]


def test_few_unreadable_files_are_named_and_left_out(class_folders: MakeFolders, spec, progress) -> None:
    folder = class_folders({"cat": 10, "dog": 10})
    for number in range(2):
        (folder / "cat" / f"{number:03}.png").write_bytes(b"")
    samples = read(folder, spec, progress, max_unreadable=0.1)
    assert samples.counts.tolist() == [8, 10]
    assert progress.lines == [f"left out: image '{folder}/cat/{number:03}.png' is empty (0 bytes)" for number in (0, 1)]
    with pytest.raises(
        DataError, match=r"2 of 20 images cannot be read \(10.0%, allowed are 9.0%\); first: image '.*/cat/000"
    ):
        read(folder, spec, progress, max_unreadable=0.09)


def test_the_lines_do_not_grow_with_the_damage(class_folders: MakeFolders, spec, progress) -> None:
    folder = class_folders({"cat": 30, "dog": 30})
    for number in range(25):
        (folder / "cat" / f"{number:03}.png").write_bytes(b"")
    read(folder, spec, progress, max_unreadable=0.5)
    assert len(progress.lines) == 11
    assert progress.lines[-1] == f"left out: 15 more unreadable images in '{folder}'"


def test_an_image_that_vanished_is_named_when_it_is_asked_for(class_folders: MakeFolders, spec, progress) -> None:
    folder = class_folders({"cat": 2, "dog": 2})
    samples = read(folder, spec, progress)
    (folder / "dog" / "001.png").unlink()
    with pytest.raises(DataError, match=r"dog/001\.png' does not exist"):
        list(samples.batches(4))


@pytest.mark.timeout(20)
def test_links_that_lead_back_are_not_followed_for_ever(
    class_folders: MakeFolders, tmp_path: Path, spec, progress
) -> None:
    folder = class_folders({"cat": 2, "dog": 1})
    (folder / "cat" / "up").symlink_to(folder)
    (folder / "dog" / "again").symlink_to(folder / "dog")
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "other").symlink_to(tmp_path / "one")
    (folder / "cat" / "one").symlink_to(tmp_path / "one")
    (folder / "cat" / "itself").symlink_to(folder / "cat" / "itself")
    assert len(read(folder, spec, progress)) == 3
    assert digest_tree(folder)


@pytest.mark.timeout(20)
def test_folders_that_link_to_each_other_are_refused_in_no_time(
    class_folders: MakeFolders, tmp_path: Path, spec, progress
) -> None:
    """Ten of them: none leads back into one that it lies in before all ten are passed, in any of 10! orders."""
    folder = class_folders({"cat": 2, "dog": 1})
    names = [tmp_path / f"knot{index}" for index in range(10)]
    for name in names:
        name.mkdir()
    for name in names:
        for other in names:
            (name / other.name).symlink_to(other)
    (folder / "cat" / "knot").symlink_to(names[0])
    with pytest.raises(DataError, match=r"cannot be read: links lead to it by more than 100 names") as refused:
        read(folder, spec, progress)
    assert refused.value.hint == "check its permissions and links"


def test_a_folder_that_may_not_be_read_is_named(
    class_folders: MakeFolders, spec, progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = class_folders({"cat": 2, "dog": 2})

    def walk(top: Path, *, onerror):
        onerror(PermissionError(13, "Permission denied", str(top)))

    monkeypatch.setattr("edgec.data.folders.os.walk", walk)
    with pytest.raises(DataError, match=r"images' cannot be read: Permission denied"):
        read(folder, spec, progress)


def test_one_bad_file_among_few_is_left_out_and_named(class_folders: MakeFolders, spec, progress) -> None:
    folder = class_folders({"cat": 4, "dog": 3})
    (folder / "cat" / "000.png").write_bytes(b"no image")
    assert read(folder, spec, progress).counts.tolist() == [3, 3]
    assert len(progress.lines) == 1
    assert "left out: image" in progress.lines[0]
    with pytest.raises(DataError, match="1 of 7 images cannot be read"):
        read(folder, spec, progress, max_unreadable=0)


def test_what_systems_leave_behind_is_passed_over(class_folders: MakeFolders, spec, progress) -> None:
    folder = class_folders({"cat": 2, "dog": 2})
    (folder / "__MACOSX" / "cat").mkdir(parents=True)
    (folder / "__MACOSX" / "cat" / "000.png").write_bytes((folder / "cat" / "000.png").read_bytes())
    (folder / "cat" / "Thumbs.db").write_bytes(b"x")
    samples = read(folder, spec, progress)
    assert (samples.classes, samples.counts.tolist(), progress.lines) == (("cat", "dog"), [2, 2], [])


def test_other_files_are_counted_by_their_endings(class_folders: MakeFolders, spec, progress) -> None:
    folder = class_folders({"cat": 2, "dog": 2})
    for name in ("a.txt", "b.TXT", "c.json", "README"):
        (folder / "dog" / name).write_text("x")
    read(folder, spec, progress)
    assert "4 files do not end like an image and are left out (2 .txt, 1 without an ending, 1 .json)" in (
        progress.lines[0].replace("1 .json, 1 without an ending", "1 without an ending, 1 .json")
    )


def test_a_class_folder_without_images_stays_a_class_and_is_named(class_folders: MakeFolders, spec, progress) -> None:
    folder = class_folders({"cat": 2, "dog": 2})
    (folder / "eel").mkdir()
    assert read(folder, spec, progress).counts.tolist() == [2, 2, 0]
    assert progress.lines == [f"'{folder}': 1 of 3 class folders hold no image: 'eel'"]


def test_accents_are_the_same_however_they_are_written(class_folders: MakeFolders, spec, progress) -> None:
    in_one, in_two = "caf\u00e9", "cafe\u0301"
    folder = class_folders({in_two: 2, "tea": 1})
    assert read(folder, spec, progress).classes == (in_one, "tea")
    assert read(folder, spec, progress, classes=("tea", in_one)).counts.tolist() == [1, 2]
    assert read(folder, spec, progress, classes=("tea", in_two)).counts.tolist() == [1, 2]


def test_numbers_that_sort_as_text_are_told_of(class_folders: MakeFolders, spec, progress) -> None:
    folder = class_folders({str(number): 1 for number in (0, 1, 2, 10)})
    assert read(folder, spec, progress).classes == ("0", "1", "10", "2")
    assert "sort as text (0, 1, 10, 2, …)" in progress.lines[0]
    progress.lines.clear()
    read(folder, spec, progress, classes=("0", "1", "2", "10"))
    assert progress.lines == []


def test_twelve_bits_in_sixteen_are_named_and_scaled(tmp_path: Path, spec, progress) -> None:
    grey = np.random.default_rng(0).integers(0, 4096, (4, 8, 8), dtype=np.uint16)
    grey[0, 0, 0] = 4095
    for number, pixels in enumerate(grey):
        place = tmp_path / "images" / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{number}.{'png' if number % 3 else 'tif'}")
    with pytest.raises(DataError, match="its 16-bit files use 12 bits at most") as caught:
        read(tmp_path / "images", spec, progress)
    assert caught.value.hint == "--set model.input.bits=12, or 16 if they are meant to be so dark"
    samples = read(tmp_path / "images", spec.model_copy(update={"bits": 12}), progress)
    np.testing.assert_array_equal(samples.decoded()[0, ..., 0], grey[0] >> 4)
    assert read(tmp_path / "images", spec.model_copy(update={"bits": 16}), progress).decoded().max() == 15


def test_files_are_brought_to_size_in_another_way(class_folders: MakeFolders, spec, progress) -> None:
    samples = read(class_folders({"cat": 2, "dog": 2}), spec, progress).choose(np.array([3, 0]))
    wider = reframed(samples, InputSpec(height=8, width=16, resize="squash"))
    assert wider is not None
    assert wider.shape == (2, 8, 16, 3)
    assert reframed(samples.take(np.array([0])), spec) is None
