"""The grid: what is run, in which order, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from edgec.compress.config import OefsmcConfig
from edgec.core.declaration import bind
from edgec.core.errors import ConfigError
from edgec.study.few_sample.grid import Cell, Grid, Variant


def grid(**fields: Any) -> Grid:
    return bind({"methods": ["mir"], **fields}, Grid, where="study")


def names(asked: Grid) -> list[str]:
    return [cell.variant.name for cell in asked.cells]


def test_every_combination_is_run_once() -> None:
    asked = grid(methods=["cd", "mir"], samples=[10, 50], imbalance=[1, 100], seeds=[0, 1, 2])
    runs = list(asked.runs)
    assert len(runs) == len(set(runs)) == 2 * 4 * 2 * 2 * 3


def test_seeds_are_run_one_after_the_other() -> None:
    asked = grid(samples=[10, 50], seeds=[4, 0])
    assert [seed for _, seed in asked.runs] == [4] * 8 + [0] * 8


def test_what_is_given_twice_counts_once() -> None:
    asked = grid(samples=["10", "10"], imbalance=["1", "1.0"], seeds=["0", "0"])
    assert len(list(asked.runs)) == 4


def test_ablations_are_of_what_has_parts() -> None:
    asked = grid(without=["nothing", "compression", "finetuning", "all"])
    parts = ("whole", "without compression", "without finetuning", "without all")
    variants = [f"{kind} {part}" for kind in ("paper", "few", "ours") for part in parts]
    assert names(asked) == ["plain", *variants]


def test_without_ablations_variants_are_as_they_are() -> None:
    assert names(grid()) == ["plain", "paper", "few", "ours"]


def test_the_paper_s_variant_does_not_listen_to_the_config() -> None:
    ours = OefsmcConfig(held_out=0.4, parts=("finetuning",))
    assert Variant(kind="paper").settings(ours) == OefsmcConfig(like="paper")
    assert Variant(kind="ours").settings(ours) == ours


@pytest.mark.parametrize("kind", ["paper", "ours"])
def test_an_ablation_goes_before_what_the_config_leaves_out(kind: Any) -> None:
    settings = Variant(kind=kind, without="nothing").settings(OefsmcConfig(parts=("compression",)))
    assert settings.parts == ("compression", "finetuning")


@pytest.mark.parametrize("kind", ["plain", "few"])
def test_a_cell_is_compared_with_others_of_its_method_and_draw(kind: Any) -> None:
    cell = Cell(method="mir", variant=Variant(kind="ours", without="all"), samples=10, imbalance=2)
    assert cell.compared(kind) == Cell(method="mir", variant=Variant(kind=kind), samples=10, imbalance=2)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"variants": ["theirs"]},
            "study: field 'variants.0': got 'theirs', expected 'plain', 'paper', 'few' or 'ours'",
        ),
        ({"samples": ["-5"]}, "study: field 'samples.0': got '-5', expected greater than or equal to 2"),
        ({"samples": []}, "study: field 'samples': got nothing, expected one value or more"),
        ({"imbalance": [0.5]}, "study: field 'imbalance.0': got 0.5, expected greater than or equal to 1"),
        ({"imbalance": ["inf"]}, "study: field 'imbalance.0': got 'inf', expected a finite number"),
        ({"seeds": [-1]}, "study: field 'seeds.0': got -1, expected greater than or equal to 0"),
    ],
)
def test_a_value_out_of_range_is_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        grid(**fields)
    assert str(raised.value) == message


def test_an_unknown_part_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="'nothing', 'compression', 'finetuning' or 'all'"):
        grid(without=["pruning"])
