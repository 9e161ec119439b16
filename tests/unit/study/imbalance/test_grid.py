"""The grid: what is trained and compressed, in which order, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from edgec.core.declaration import bind
from edgec.core.errors import ConfigError
from edgec.study.draw import BALANCED, Draw
from edgec.study.imbalance.compression import Compression, parse_compression
from edgec.study.imbalance.grid import Cell, Grid


def grid(**fields: Any) -> Grid:
    return bind(fields, Grid, where="study")


def test_the_paper_s_grid_has_twenty_imbalanced_training_sets_beside_the_balanced_one() -> None:
    asked = grid(profiles=["step", "linear"], minority=[2, 5, 8], imbalance=[2, 10, 20, 50, 100])
    draws = list(asked.draws)
    assert draws[0] == BALANCED
    assert len(set(draws)) == len(draws) == 1 + 20


def test_linear_has_no_minority() -> None:
    asked = grid(profiles=["linear"], minority=[2, 5, 8], imbalance=[10])
    assert list(asked.draws) == [BALANCED, Draw(profile="linear", imbalance=10)]


def test_the_uncompressed_net_is_always_there_and_first() -> None:
    for given in (["a3w3"], ["a3w3", "none"], ["none", "a3w3", "a3w3"]):
        asked = grid(profiles=["linear"], compressions=given)
        assert [cell.compression for cell in asked.cells] == ["none", "a3w3"] * 2


def test_seeds_are_run_one_after_the_other() -> None:
    asked = grid(profiles=["linear"], compressions=["a3w3"], seeds=[4, 0, 4])
    assert [seed for _, seed in asked.runs] == [4] * 4 + [0] * 4


def test_a_cell_knows_what_it_is_compared_with() -> None:
    draw = Draw(profile="step", minority=2, imbalance=10)
    cell = Cell(draw=draw, compression="a3w3")
    assert cell.balanced == Cell(draw=BALANCED, compression="a3w3")
    assert cell.uncompressed == Cell(draw=draw, compression="none")


@pytest.mark.parametrize(
    ("draw", "name"),
    [
        (BALANCED, "balanced"),
        (Draw(profile="linear", imbalance=2.5), "linear, imbalance 2.5"),
        (Draw(profile="step", minority=1, imbalance=10), "step, 1 rare, imbalance 10"),
        (Draw(profile="step", minority=8, imbalance=100), "step, 8 rare, imbalance 100"),
    ],
)
def test_training_sets_have_names_for_people(draw: Draw, name: str) -> None:
    assert draw.name == name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("none", Compression(name="none", kind="none")),
        ("pruned-severe", Compression(name="pruned-severe", kind="pruned", sparsity=1.0)),
        ("a8w4", Compression(name="a8w4", kind="quantised", activation_bits=8, weight_bits=4)),
        ("distilled-a3w2", Compression(name="distilled-a3w2", kind="distilled", activation_bits=3, weight_bits=2)),
    ],
)
def test_compressions_are_told_by_their_names(name: str, expected: Compression) -> None:
    assert parse_compression(name) == expected


@pytest.mark.parametrize("name", ["pruned", "pruned-mildly", "a0w4", "a8w1", "a9w4", "a8", "w4a8", "distilled", ""])
def test_an_unknown_compression_lists_the_known_ones(name: str) -> None:
    with pytest.raises(ConfigError) as raised:
        grid(compressions=[name])
    assert str(raised.value) == (
        f"study: field 'compressions.0': got '{name}', expected none, pruned-mild, pruned-moderate, pruned-severe, "
        "a8w4, distilled-a8w4, or other bits: activations 1 to 8, weights 2 to 8"
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"profiles": ["exponential"]}, "study: field 'profiles.0': got 'exponential', expected 'step' or 'linear'"),
        ({"minority": ["0"]}, "study: field 'minority.0': got '0', expected greater than or equal to 1"),
        ({"imbalance": ["1"]}, "study: field 'imbalance.0': got '1', expected greater than 1"),
        ({"imbalance": ["inf"]}, "study: field 'imbalance.0': got 'inf', expected a finite number"),
        ({"seeds": []}, "study: field 'seeds': got nothing, expected one value or more"),
        ({"compressions": []}, "study: field 'compressions': got nothing, expected one value or more"),
        ({"samples": 0}, "study: field 'samples': got 0, expected greater than or equal to 1"),
        ({"training": {"steps": 0}}, "study: field 'training.steps': got 0, expected greater than or equal to 1"),
        (
            {"training": {"learning_rate": 0.0}},
            "study: field 'training.learning_rate': got 0.0, expected greater than 0",
        ),
    ],
)
def test_a_value_out_of_range_is_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        grid(**fields)
    assert str(raised.value) == message
