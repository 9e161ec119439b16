"""The grid: which students of which teachers, in which order, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from edgec.core.declaration import bind
from edgec.core.errors import ConfigError
from edgec.study.long_tail.grid import Cell, Grid, Pair


def grid(**fields: Any) -> Grid:
    return bind(fields, Grid, where="study")


def names(**fields: Any) -> list[str]:
    return [cell.name for cell in grid(**fields).cells]


def test_the_teacher_stands_first_as_it_is_and_adjusted() -> None:
    assert names(losses=["kd"], adjusted=["nothing"]) == ["teacher", "teacher, adjusted teacher", "kd"]


def test_what_a_loss_has_no_part_of_is_not_adjusted() -> None:
    asked = ["nothing", "labels", "teacher", "both"]
    assert names(losses=["labels", "ltkd", "ltkd-alone"], adjusted=asked)[2:] == [
        *("labels", "labels, adjusted labels"),
        *("ltkd", "ltkd, adjusted labels", "ltkd, adjusted teacher", "ltkd, adjusted both"),
        *("ltkd-alone", "ltkd-alone, adjusted teacher"),
    ]


def test_recovery_from_few_samples_has_no_labels() -> None:
    asked = {"losses": ["labels", "kd", "kd-alone"], "adjusted": ["nothing", "labels", "both"]}
    assert names(data=["few"], **asked)[2:] == [
        *("features", "features, adjusted teacher"),
        *("kd", "kd, adjusted teacher"),
    ]


def test_few_samples_prune_each_teacher_once() -> None:
    cells = grid(data=["whole", "few"], pairs=["a/b", "a/c"], losses=["kd"], adjusted=["nothing"]).cells
    pairs = [(cell.data, cell.pair) for cell in cells if cell.loss == "kd"]
    assert pairs == [
        ("whole", Pair(teacher="a", student="b")),
        ("whole", Pair(teacher="a", student="c")),
        ("few", Pair(teacher="a", student="")),
    ]


def test_seeds_are_run_one_after_the_other() -> None:
    asked = grid(losses=["kd"], adjusted=["nothing"], imbalance=[10, 50], seeds=[4, 0, 4])
    assert [seed for _, seed in asked.runs] == [4] * 6 + [0] * 6


def test_the_teacher_is_trained_as_long_as_its_students_unless_it_is_told_otherwise() -> None:
    assert grid(training={"epochs": 3}).taught.length == "3 epochs"
    assert grid(training={"epochs": 3}, teacher_steps=500).taught.length == "500 steps"


@pytest.mark.parametrize(("adjusted", "parts"), [("nothing", ""), ("labels", "l"), ("teacher", "t"), ("both", "lt")])
def test_adjustments_name_their_parts(adjusted: Any, parts: str) -> None:
    cell = Cell(data="whole", pair=Pair(), imbalance=10, loss="kd", adjusted=adjusted)
    assert (cell.adjusts("labels"), cell.adjusts("teacher")) == ("l" in parts, "t" in parts)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"losses": ["kdd"]}, "study: field 'losses.0': got 'kdd', expected 'labels', 'kd', "),
        ({"adjusted": ["yes"]}, "study: field 'adjusted.0': got 'yes', expected 'nothing', 'labels', "),
        ({"data": ["some"]}, "study: field 'data.0': got 'some', expected 'whole' or 'few'"),
        ({"imbalance": ["1"]}, "study: field 'imbalance.0': got '1', expected greater than 1"),
        ({"pairs": ["resnet56"]}, "study: field 'pairs.0': got 'resnet56', expected TEACHER/STUDENT, as in "),
        ({"pairs": ["a/"]}, "study: field 'pairs.0': got 'a/', expected TEACHER/STUDENT, as in "),
        ({"temperature": 0}, "study: field 'temperature': got 0, expected greater than 0"),
        ({"losses": []}, "study: field 'losses': got nothing, expected one value or more"),
    ],
)
def test_a_value_out_of_range_is_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        grid(**fields)
    assert str(raised.value).startswith(message)
