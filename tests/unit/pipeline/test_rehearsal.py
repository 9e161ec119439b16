"""`edgec build --dry-run`: what a build would end with before it trains is found, and nothing is written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from onnx_files import CLASSES, images

MODULE = """
import torch
from torch import nn

class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))

    def forward(self, images):
        return self.body(images) if images.sum() > 1e9 else self.body(images) * 2
"""
INPUT = "model.input={height=16,width=16}"


@pytest.fixture
def rehearsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edgec: Any) -> Callable[..., Any]:
    """A dry run in a folder with a module, its weights and images of three classes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    module = f"nets_{tmp_path.name}"
    (tmp_path / f"{module}.py").write_text(MODULE)
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    torch.save({f"body.{name}": value for name, value in body.state_dict().items()}, "weights.pt")
    for split, count, seed in (("train", 30, 0), ("test", 12, 1)):
        for number, (picture, label) in enumerate(zip(*images(count, seed), strict=True)):
            path = tmp_path / split / CLASSES[label] / f"{number:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path)

    def rehearsed(*settings: str) -> Any:
        more = [option for setting in (INPUT, *settings) for option in ("--set", setting)]
        given = ("--model", f"{module}:Branches", "--weights", "weights.pt", "--train", "train", "--test", "test")
        return edgec("build", *given, *more, "--device", "cpu", "--cache", "cache", "--dry-run", "--json")

    return rehearsed


NONE = "compress.method='none'"


def test_what_is_sound_is_planned_and_nothing_is_written(rehearsed: Any, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    outcome = rehearsed(NONE, "data.ood_count=20")
    assert outcome.exit_code == 0, outcome.stderr
    assert outcome.last["stages"][0] == {**outcome.last["stages"][0], "stage": "data", "cached": False}
    assert "images: 30 train, 12 test, 20 ood" in outcome.stderr
    assert [path for path in sorted(tmp_path.iterdir()) if path.name != "__pycache__"] == before


def test_weights_that_do_not_fit_are_found(rehearsed: Any) -> None:
    torch.save({"other.weight": torch.zeros(2)}, "weights.pt")
    outcome = rehearsed(NONE)
    assert outcome.exit_code == 2
    assert "weights 'weights.pt' do not fit the model" in outcome.failure[0]


def test_a_net_that_the_method_cannot_cut_is_found(rehearsed: Any) -> None:
    outcome = rehearsed("compress.method=learngene")
    assert outcome.exit_code == 1
    assert outcome.failure[0].endswith("must be alike and follow one another: the model has no residual blocks")


def test_pictures_that_cannot_be_read_are_found(rehearsed: Any, tmp_path: Path) -> None:
    for path in (tmp_path / "train" / "ant").iterdir():
        path.write_bytes(b"no picture")
    outcome = rehearsed(NONE)
    assert outcome.exit_code == 2
    assert "10 of 30 images cannot be read" in outcome.failure[0]


def test_an_image_in_two_splits_is_found(rehearsed: Any) -> None:
    shutil.copy("train/ant/000.png", "test/ant/twin.png")
    outcome = rehearsed(NONE)
    assert outcome.exit_code == 2
    assert "1 images are in both train images" in outcome.failure[0]


def test_a_draw_that_cannot_be_made_is_found(rehearsed: Any) -> None:
    outcome = rehearsed(NONE, "data.few={total=25}")
    assert outcome.exit_code == 2
    assert "are needed for 25 samples at imbalance 100" in outcome.failure[0]


def test_what_is_drawn_away_is_said(rehearsed: Any) -> None:
    outcome = rehearsed(NONE, "data.few={total=9,imbalance=3}", "data.ood_count=20")
    assert "9 of 30 training images are used, because data.few.total = 9" in outcome.stderr


def test_a_model_that_cannot_be_exported_is_found(rehearsed: Any) -> None:
    outcome = rehearsed()
    assert outcome.exit_code == 1
    assert "what it computes depends on the values of the images" in outcome.failure[0]


def test_what_lies_there_is_not_looked_at_again(digits: Any, edgec: Any) -> None:
    outcome = edgec("build", *digits.arguments, "--dry-run")
    assert (outcome.exit_code, outcome.stderr) == (0, "")
