"""A compressed classifier on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from edgec.compress.prune import prune
from edgec.core.classifier import Classifier, Step
from edgec.core.inputs import InputSpec
from edgec.models.checkpoint import load_student, save_student
from edgec.models.digits import digits_net


@pytest.fixture
def teacher() -> Classifier:
    torch.manual_seed(0)
    spec = InputSpec(height=8, width=8, channels=1, mean=(0.3,), std=(0.4,))
    step = Step(method="load", facts={"model": "digits"})
    return Classifier(module=digits_net().eval(), input=spec, labels=tuple("0123456789"), history=(step,))


@pytest.fixture
def student(teacher: Classifier) -> Classifier:
    pruned = prune(teacher.module, {"features.0": torch.arange(9)}, torch.zeros(1, 1, 8, 8))
    return teacher.after(pruned, Step(method="mir", facts={"kept_channels": {"features.0": 9}, "kept_flops": 0.5}))


def test_a_student_comes_back_with_its_weights_and_its_history(tmp_path: Path, teacher, student) -> None:
    save_student(student, tmp_path)
    back = load_student(teacher, tmp_path)
    images = torch.rand(3, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(back.module(images), student.module(images))
    assert back.history == student.history
    assert (back.labels, back.input, back.module.training) == (student.labels, student.input, False)


def test_the_teacher_keeps_its_own_module(tmp_path: Path, teacher, student) -> None:
    before = {name: tensor.clone() for name, tensor in teacher.module.state_dict().items()}
    save_student(student, tmp_path)
    back = load_student(teacher, tmp_path)
    assert back.module is not teacher.module
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.module.state_dict().items())


def test_the_same_student_gives_the_same_bytes(tmp_path: Path, student) -> None:
    for name in ("one", "two"):
        save_student(student, tmp_path / name)
    for name in ("student.safetensors", "history.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_the_history_is_plain_json(tmp_path: Path, student) -> None:
    save_student(student, tmp_path)
    assert [step["method"] for step in json.loads((tmp_path / "history.json").read_text())] == ["load", "mir"]
