"""A classifier and its history."""

from __future__ import annotations

import dataclasses

import pytest
from torch import nn

from edgec.core.classifier import Classifier, Step
from edgec.core.inputs import InputSpec


@pytest.fixture
def teacher() -> Classifier:
    return Classifier(
        module=nn.Linear(4, 3).eval(),
        input=InputSpec(height=2, width=2),
        labels=("cat", "dog", "eel"),
        history=(Step(method="load", facts={"model": "x"}),),
    )


def test_a_step_makes_a_new_classifier_and_leaves_the_old_one(teacher: Classifier) -> None:
    module, step = nn.Linear(4, 3), Step(method="mir", facts={"steps": 9})
    student = teacher.after(module, step)
    assert student.module is module
    assert (student.input, student.labels) == (teacher.input, teacher.labels)
    assert [done.method for done in student.history] == ["load", "mir"]
    assert [done.method for done in teacher.history] == ["load"]


def test_the_new_module_is_put_in_evaluation_mode(teacher: Classifier) -> None:
    assert not teacher.after(nn.Sequential(nn.Dropout()).train(), Step(method="mir")).module.training


def test_a_classifier_cannot_be_changed(teacher: Classifier) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        teacher.labels = ("a", "b", "c")  # pyright: ignore[reportAttributeAccessIssue]


def test_two_steps_share_no_facts() -> None:
    assert Step(method="a").facts is not Step(method="b").facts
