"""Sources that are no class folders: tables, COCO, archives, WebDataset, Hugging Face's files, folders of splits."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgec.core.errors import ConfigError, DataError, MissingDependencyError
from edgec.core.inputs import InputSpec
from edgec.core.samples import Samples
from edgec.data import load_ood, load_samples
from edgec.data.groups import Grouping
from edgec.data.loading import named_files

SPEC = InputSpec(height=8, width=8)
LABELS = ["cat", "dog", "cat", "eel"]
PIXELS = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)


def png(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS[number]).save(buffer, "PNG")
    return buffer.getvalue()


def read(source: Path, progress: Any, **options: Any) -> Samples:
    return load_samples(source, SPEC, **({"split": "train", "progress": progress} | options))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with four pictures."""
    (tmp_path / "pictures").mkdir()
    for number in range(4):
        (tmp_path / "pictures" / f"{number}.png").write_bytes(png(number))
    return tmp_path


def require_all(samples: Samples) -> None:
    assert samples.classes == ("cat", "dog", "eel")
    assert [samples.classes[label] for label in samples.labels] == LABELS
    np.testing.assert_array_equal(samples.decoded(), PIXELS)


def table(files: Path, kind: str, **columns: list[object]) -> Path:
    rows = {"path": [f"pictures/{number}.png" for number in range(4)], "label": LABELS} | columns
    path = files / f"list.{kind}"
    if kind == "parquet":
        arrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(arrow.table(rows), path)
    elif kind == "jsonl":
        lines = [dict(zip(rows, values, strict=True)) for values in zip(*rows.values(), strict=True)]
        path.write_text("\n".join(map(json.dumps, lines)))
    else:
        mark = "\t" if kind == "tsv" else ","
        lines = [mark.join(rows), *(mark.join(map(str, values)) for values in zip(*rows.values(), strict=True))]
        path.write_text("\ufeff" + "\n".join(lines))
    return path


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_a_table_names_files_and_labels(files: Path, progress: Any, kind: str) -> None:
    require_all(read(table(files, kind), progress))


def test_a_table_may_hold_splits_and_groups(files: Path, progress: Any) -> None:
    path = table(files, "csv", split=["train", "train", "val", "val"], group=["a", "a", "b", ""])
    train, test = (read(path, progress, split=split, classes=("cat", "dog", "eel")) for split in ("train", "test"))
    assert (train.labels.tolist(), test.labels.tolist()) == ([0, 1], [0, 2])
    assert (train.groups, test.groups) == (("a", "a"), ("b", None))
    with pytest.raises(DataError, match="has no such split, only left, right"):
        read(table(files, "csv", split=["left", "right"] * 2), progress)


def test_numbers_are_positions_among_the_labels_of_the_model(files: Path, progress: Any) -> None:
    path = table(files, "csv", label=[0, 10, 2, 0])
    assert read(path, progress).classes == ("0", "2", "10")
    named = read(path, progress, classes=tuple("abcdefghijk"))
    assert named.labels.tolist() == [0, 10, 2, 0]
    with pytest.raises(DataError, match="label 10 is out of range, expected 0 to 2"):
        read(path, progress, classes=("a", "b", "c"))


def test_a_table_of_pictures_that_are_gone_names_the_first(files: Path, progress: Any) -> None:
    path = table(files, "csv", path=["gone.png", "lost.png", "pictures/2.png", "pictures/3.png"])
    with pytest.raises(DataError, match=r"2 of 4 images cannot be read .* first: image '.*gone.png' does not exist"):
        read(path, progress)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "has no column 'path', only a, b"),
        ("path,label\n", "has no rows"),
        ("path,label\na.png,\n", "row 1 has no path or no label"),
    ],
)
def test_a_table_that_is_none_is_named(tmp_path: Path, progress: Any, text: str, message: str) -> None:
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read(tmp_path / "list.csv", progress)


def test_what_a_table_names_is_part_of_it(files: Path) -> None:
    path = table(files, "csv", split=["train", "test", "train", "test"])
    assert named_files(path) == [files / "pictures" / f"{number}.png" for number in range(4)]
    assert named_files(files / "pictures") == []


def test_a_folder_with_metadata_is_read_by_it(files: Path, progress: Any) -> None:
    rows = [json.dumps({"file_name": f"{number}.png", "label": label}) for number, label in enumerate(LABELS)]
    (files / "pictures" / "metadata.jsonl").write_text("\n".join(rows))
    require_all(read(files / "pictures", progress))


def coco(files: Path, annotations: list[tuple[int, int]]) -> Path:
    told = {
        "images": [{"id": 10 + number, "file_name": f"{number}.png"} for number in range(4)],
        "categories": [{"id": 3, "name": "cat"}, {"id": 5, "name": "dog"}, {"id": 9, "name": "eel"}],
        "annotations": [{"image_id": image, "category_id": category} for image, category in annotations],
    }
    path = files / "pictures" / "labels.json"
    path.write_text(json.dumps(told))
    return path


def test_coco_with_one_label_a_picture_is_read(files: Path, progress: Any) -> None:
    require_all(read(coco(files, [(10, 3), (11, 5), (12, 3), (12, 3), (13, 9)]), progress))
    with pytest.raises(DataError, match=r"1 of 2 pictures have several categories, as '0\.png'"):
        read(coco(files, [(10, 3), (10, 5), (11, 5)]), progress)
    (files / "x.json").write_text("{}")
    with pytest.raises(DataError, match="is no COCO file"):
        read(files / "x.json", progress)


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize("around", ["", "set/", "set/train/"])
def test_a_zip_of_class_folders_is_read(tmp_path: Path, progress: Any, around: str) -> None:
    members = {f"{around}{label}/{number}.png": png(number) for number, label in enumerate(LABELS)}
    members |= {"__MACOSX/cat/._0.png": b"x", f"{around}cat/notes.txt": b"x", f"{around}a.png": png(0)}
    if around.endswith("train/"):
        members["set/test/cat/9.png"] = png(3)
    samples = read(zipped(tmp_path / "set.zip", members), progress)
    assert samples.counts.tolist() == [2, 1, 1]
    assert samples.classes == ("cat", "dog", "eel")


def test_names_in_a_zip_lead_nowhere(tmp_path: Path, progress: Any) -> None:
    members = {f"../../{label}/{number}.png": png(number) for number, label in enumerate(LABELS)}
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match="has no class folders with pictures"):
        read(zipped(tmp_path / "set.zip", members), progress)
    assert sorted(tmp_path.rglob("*")) == [*before, tmp_path / "set.zip"]


def test_a_zip_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, progress: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgec.data.archives._LARGEST", 100)
    members = {f"{label}/{number}.png": png(number) for number, label in enumerate(LABELS)}
    with pytest.raises(DataError, match="or a file in it to more than"):
        read(zipped(tmp_path / "set.zip", members), progress)


def test_a_zip_without_class_folders_and_a_broken_one_are_named(tmp_path: Path, progress: Any) -> None:
    with pytest.raises(DataError, match="has no class folders with pictures"):
        read(zipped(tmp_path / "flat.zip", {"a.png": png(0), "b.png": png(1)}), progress)
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(DataError, match="is damaged or encrypted"):
        read(tmp_path / "broken.zip", progress)


def tarred(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def test_webdataset_s_tar_files_are_read(tmp_path: Path, progress: Any) -> None:
    kinds = [("cls", LABELS[0]), ("json", json.dumps({"label": LABELS[1]})), ("txt", LABELS[2]), ("cls", LABELS[3])]
    for number, (kind, text) in enumerate(kinds):
        members = {f"00{number}.png": png(number), f"00{number}.{kind}": text.encode()}
        tarred(tmp_path / f"train-{number}.tar", members)
    tarred(tmp_path / "test-0.tar", {"9.png": png(0), "9.cls": b"cat"})
    require_all(read(tmp_path, progress))
    with pytest.raises(DataError, match=r"picture '9\.png' has no label"):
        read(tarred(tmp_path / "bare.tar", {"9.png": png(0)}), progress)


def hugging_face(path: Path, numbers: list[int]) -> None:
    """As `datasets` writes a split to Parquet: pictures inside, class names in the schema."""
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    names = ["cat", "dog", "eel"]
    made = arrow.table(
        {
            "image": [{"bytes": png(number), "path": None} for number in numbers],
            "label": [names.index(LABELS[number]) for number in numbers],
        }
    )
    told = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}, "image": {"_type": "Image"}}}}
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(made.replace_schema_metadata({"huggingface": json.dumps(told)}), path)


def test_hugging_face_s_parquet_files_are_read(tmp_path: Path, progress: Any) -> None:
    hugging_face(tmp_path / "data" / "train-00000-of-00002.parquet", [0, 1])
    hugging_face(tmp_path / "data" / "train-00001-of-00002.parquet", [2, 3])
    hugging_face(tmp_path / "data" / "test-00000-of-00001.parquet", [3, 0])
    require_all(read(tmp_path, progress))
    assert read(tmp_path, progress, split="test").labels.tolist() == [2, 0]
    assert read(
        tmp_path / "data" / "test-00000-of-00001.parquet", progress, classes=("eel", "dog", "cat")
    ).labels.tolist() == [0, 2]


def test_a_dataset_saved_to_disk_is_read(tmp_path: Path, progress: Any) -> None:
    arrow = pytest.importorskip("pyarrow")
    table = arrow.table({"image": [{"bytes": png(i), "path": None} for i in range(4)], "label": LABELS})
    (tmp_path / "train").mkdir()
    path = str(tmp_path / "train" / "data-00000-of-00001.arrow")
    with arrow.OSFile(path, "wb") as file, arrow.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    require_all(read(tmp_path, progress))


def test_without_pyarrow_the_extra_is_named(files: Path, progress: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = table(files, "parquet")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError) as caught:
        read(path, progress)
    assert caught.value.hint == "pip install 'edgec[tables]'"


def test_of_a_folder_of_splits_the_right_one_is_taken_and_named(tmp_path: Path, progress: Any) -> None:
    for split, numbers in (("train", [0, 1, 3]), ("val", [2, 1])):
        for number in numbers:
            place = tmp_path / split / LABELS[number]
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{number}.png").write_bytes(png(number))
    assert read(tmp_path, progress).counts.tolist() == [1, 1, 1]
    assert read(tmp_path, progress, split="test").counts.tolist() == [1, 1]
    assert progress.lines == [f"train images: '{tmp_path / 'train'}'", f"test images: '{tmp_path / 'val'}'"]


def test_a_class_called_train_is_a_class(tmp_path: Path, progress: Any) -> None:
    members = {f"{label}/{number}.png": png(number) for number, label in enumerate(["car", "train", "train", "ship"])}
    for name, data in members.items():
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(data)
    for source in (tmp_path / "set", zipped(tmp_path / "set.zip", members)):
        assert read(source, progress).counts.tolist() == [1, 1, 2]


def test_groups_are_asked_of_sources_that_have_paths(files: Path, progress: Any) -> None:
    with pytest.raises(ConfigError, match="have no groups"):
        read(table(files, "csv"), progress, group=Grouping(folder=1))


def test_labelled_sources_are_no_out_of_distribution_images(files: Path, progress: Any) -> None:
    with pytest.raises(DataError, match="is a source of labelled images"):
        load_ood(table(files, "csv"), SPEC, count=2, seed=0, progress=progress)
