"""`edgec init` with a model and images: both are opened, and what they say stands in the config."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from torch import nn

from edgec.cli.init import command
from edgec.core.errors import ConfigError, DataError
from edgec.pipeline.config import BuildConfig, read_config
from onnx_files import CLASSES, FILES, SIZE, images

MODULE = """
import torch
from torch import nn

def net(classes=3):
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))
"""
INPUT = ("--set", "model.input={height=16,width=16}")


def pictures(folder: Path, count: int, *, classes: Sequence[str] = CLASSES, seed: int = 0) -> Path:
    """Class folders; every picture is another one."""
    pixels, labels = images(count, seed)
    for number, (picture, label) in enumerate(zip(pixels, labels, strict=True)):
        path = folder / classes[label] / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    return folder


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a module of one's own and its weights."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    name = f"nets_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    torch.save(net.state_dict(), tmp_path / "weights.pt")
    return tmp_path


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(command, list(map(str, arguments)))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def looked_at(*arguments: object) -> tuple[BuildConfig, str]:
    """The config that is written, and what was said."""
    result = run(*arguments)
    return read_config(Path(result.stdout.strip())), " ".join(result.stderr.split())


@pytest.fixture
def own(place: Path) -> Callable[..., tuple[BuildConfig, str]]:
    def own(*arguments: object) -> tuple[BuildConfig, str]:
        return looked_at("--model", f"nets_{place.name}:net", "--weights", "weights.pt", *INPUT, *arguments)

    return own


def test_all_images_are_used_and_nothing_of_the_demonstration_is_left(place: Path, own: Any) -> None:
    config, said = own("--train", pictures(place / "train", 30), "--test", pictures(place / "test", 12, seed=1))
    assert config.data.few is None
    usual = BuildConfig.model_fields["compress"].default
    assert (config.compress.keep_flops, config.compress.compare) == (usual.keep_flops, ())
    assert config.name == "net"
    assert config.model.labels == CLASSES
    assert "training images: 30 of 3 classes (ant, bee and cow), 10 to 10 a class" in said


def test_splits_inside_one_folder_are_found(place: Path, own: Any) -> None:
    pictures(place / "set" / "train", 30)
    pictures(place / "set" / "val", 12, seed=1)
    config, said = own("--train", "set")
    assert (config.data.train, config.data.test) == (Path("set"), Path("set"))
    assert "test images: the part of 'set' that is for them" in said
    assert not list(place.glob("*.csv"))


def test_a_folder_of_training_images_alone_is_no_source_of_test_images(place: Path, own: Any) -> None:
    pictures(place / "set" / "train", 30)
    config, said = own("--train", "set")
    assert config.data.test == Path("edgec-images.csv")
    assert "6 of the 30 were drawn" in said


def test_what_is_wrong_with_test_images_is_told_and_none_are_drawn_in_their_place(place: Path, own: Any) -> None:
    pictures(place / "set" / "train", 30)
    (pictures(place / "set" / "test", 12, seed=1) / "ant").rename(place / "set" / "test" / "gnu")
    with pytest.raises(DataError, match="gnu"):
        own("--train", "set")
    assert not list(place.glob("edgec*"))


def test_without_test_images_a_fifth_of_each_class_is_listed_for_testing(place: Path, own: Any) -> None:
    pictures(place / "photos", 30)
    twin = place / "photos" / "ant" / "again.png"
    twin.write_bytes((place / "photos" / "ant" / "000.png").read_bytes())
    config, said = own("--train", "photos")
    table = Path("edgec-images.csv")
    assert (config.data.train, config.data.test) == (table, table)
    rows = list(csv.DictReader(table.read_text().splitlines()))
    tested = [row["label"] for row in rows if row["split"] == "test"]
    assert {name: tested.count(name) for name in CLASSES} == dict.fromkeys(CLASSES, 2)
    assert len(rows) == 31
    assert {row["split"] for row in rows if row["path"].endswith(("again.png", "000.png"))} == {"train"}
    assert "6 of the 31 were drawn" in said
    assert "hold only if the model was not trained on them" in said


def test_a_drawn_split_can_be_built_from(place: Path, own: Any, edgec: Any) -> None:
    pictures(place / "photos", 60)
    own("--train", "photos", "--set", "compress.method='none'")
    done = edgec("build", "--config", "edgec.toml", "--device", "cpu", "--set", "data.ood_count=20", "--json")
    assert done.exit_code == 0, done.stderr
    splits = json.loads(Path(done.last["report"]).read_bytes())["data"]["splits"]
    assert {split["name"]: split["n"] for split in splits} == {"train": 48, "test": 12, "ood": 20}


def test_a_config_in_another_folder_names_the_same_files(place: Path, own: Any) -> None:
    (place / "configs").mkdir()
    pictures(place / "photos", 30)
    config, _ = own("--train", "photos", "--output", "configs/mine.toml")
    assert config.data.train == Path("configs/mine-images.csv")
    assert config.model.weights is not None
    assert config.model.weights.resolve() == (place / "weights.pt").resolve()
    assert "../photos/ant/" in (place / "configs" / "mine-images.csv").read_text()


def test_a_table_that_somebody_edited_is_kept(place: Path, own: Any) -> None:
    pictures(place / "photos", 30)
    (place / "edgec-images.csv").write_text("mine")
    with pytest.raises(ConfigError, match=r"'edgec-images\.csv' exists already"):
        own("--train", "photos")
    assert not (place / "edgec.toml").exists()


def test_another_number_of_classes_is_said_at_once(place: Path, own: Any) -> None:
    photos = pictures(place / "photos", 30, classes=("ant", "bee", "bee"))
    with pytest.raises(ConfigError, match=r"gives \(2, 3\) for two images"):
        own("--train", photos)
    assert not (place / "edgec.toml").exists()


def test_settings_that_no_line_mentions_are_added(place: Path, own: Any) -> None:
    photos = pictures(place / "photos", 30)
    config, _ = own(
        "--train",
        photos,
        "--set",
        "model.arguments.classes=3",
        "--set",
        "data.few={total=9}",
        "--set",
        "package.expires=2030-01-02",
    )
    assert config.model.arguments == {"classes": 3}
    assert config.data.few is not None
    assert config.data.few.total == 9
    assert config.package.expires == date(2030, 1, 2)


def test_an_onnx_file_says_its_size_and_its_labels(place: Path) -> None:
    made = FILES["opset 13"].make(place) if "opset 13" in FILES else next(iter(FILES.values())).make(place)
    model = onnx.load(made)
    onnx.helper.set_model_props(model, {"names": repr({0: "cow", 1: "ant", 2: "bee"})})
    onnx.save(model, made)
    config, said = looked_at("--model", made.relative_to(place), "--train", pictures(place / "photos", 30))
    assert config.model.input.shape == (3, SIZE, SIZE)
    assert config.model.labels == ("cow", "ant", "bee")
    assert "model.labels: the model's own 3, of which 3 have training images" in said


def test_names_that_the_images_do_not_have_are_said(place: Path) -> None:
    made = next(iter(FILES.values())).make(place)
    model = onnx.load(made)
    onnx.helper.set_model_props(model, {"names": repr({0: "x", 1: "y", 2: "z"})})
    onnx.save(model, made)
    config, said = looked_at("--model", made.relative_to(place), "--train", pictures(place / "photos", 30))
    assert config.model.labels == CLASSES
    assert "the model names its classes x, y and z; taken are those of the images, sorted" in said


def test_torchvision_s_transforms_are_taken_where_nobody_says_others(place: Path) -> None:
    import torchvision

    net = torchvision.models.squeezenet1_1(num_classes=3)
    torch.save(net.state_dict(), place / "own.pt")
    photos = pictures(place / "photos", 30)
    config, said = looked_at("--model", "torchvision:squeezenet1_1", "--weights", "own.pt", "--train", photos)
    assert (config.model.input.height, config.model.input.crop_share) == (224, 0.875)
    assert "as SqueezeNet1_1_Weights.IMAGENET1K_V1 were trained; change it where this model was not" in said


def test_timm_s_checkpoint_is_seen_as_timm_does(place: Path) -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    net = timm.create_model("test_efficientnet", num_classes=3)
    torch.save({"epoch": 1, "state_dict": net.state_dict()}, place / "best.pth")
    photos = pictures(place / "photos", 30)
    config, said = looked_at("--model", "timm:test_efficientnet", "--weights", "best.pth", "--train", photos)
    assert config.name == "test_efficientnet"
    assert config.model.input.shape == (3, *timm.get_pretrained_cfg("test_efficientnet").input_size[1:])
    assert "from timm's pretrained_cfg of test_efficientnet" in said


def test_out_of_distribution_images_are_opened(place: Path, own: Any) -> None:
    photos = pictures(place / "photos", 30)
    (place / "any").mkdir()
    with pytest.raises(DataError, match="no readable image"):
        own("--train", photos, "--ood", "any")


@pytest.mark.parametrize(("given", "missing"), [("--model", "--train"), ("--train", "--model")])
def test_model_and_images_are_given_together(given: str, missing: str, place: Path) -> None:
    with pytest.raises(ConfigError, match=f"{missing} is missing"):
        run(given, place)


def test_a_npz_without_test_images_asks_for_them(place: Path, own: Any) -> None:
    pixels, labels = images(30, 0)
    np.savez(place / "a.npz", images=pixels, labels=labels, names=np.array(CLASSES))
    with pytest.raises(DataError, match="of no files of their own") as caught:
        own("--train", "a.npz")
    assert caught.value.hint == "give them with --test"
