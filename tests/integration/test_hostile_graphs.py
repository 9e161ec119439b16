"""Small graphs that int8 does not like: each keeps its accuracy, or its build says what was lost and where."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import hostile_graphs
from support.brief import brief_measuring

COLLAPSING = ("concat",)
"""The one that quick runs build."""


@pytest.fixture(autouse=True)
def brief() -> Iterator[None]:
    with brief_measuring():
        yield


def test_there_are_twenty_and_more() -> None:
    assert len(hostile_graphs.GRAPHS) >= 20


@pytest.mark.parametrize(
    "trait",
    [pytest.param(trait, marks=() if trait in COLLAPSING else pytest.mark.slow) for trait in hostile_graphs.GRAPHS],
)
def test_no_build_loses_accuracy_without_a_word(tmp_path: Path, trait: str) -> None:
    told = hostile_graphs.built(trait, tmp_path)
    assert told.before == 1.0
    assert told.lost_pp <= hostile_graphs.BOUND_PP or not told.is_silent
    if told.loss and told.loss["proven"]:
        assert told.loss["places"], "it says that something was lost, but not where"
        assert "lost: " in told.last_lines


def test_mixed_precision_keeps_what_a_concatenation_of_unequal_scales_loses(tmp_path: Path) -> None:
    lost = hostile_graphs.built("concat", tmp_path / "int8")
    assert lost.lost_pp > 50
    assert any("(Concat) spans" in place for place in lost.loss["places"])
    helping = {each["setting"]: each["changed"] for each in lost.loss["remedies"]}
    assert helping["quantize.mixed_precision=0.05"] <= 0.05 < helping['calibrate.recipe="percentile"']
    assert "what helps: --set quantize.mixed_precision=0.05" in lost.last_lines
    kept = hostile_graphs.built("concat", tmp_path / "mixed", "quantize.mixed_precision=0.05")
    assert kept.lost_pp <= 5


def test_a_bound_that_the_file_cannot_keep_fails_the_build(tmp_path: Path) -> None:
    # Differences of 0.0001 on 5 are nothing in float16, which is what a Jetson keeps outside of int8.
    message = r"quantize.mixed_precision = 0.05 cannot be met: with all \d+ layers and activations in floating point, "
    with pytest.raises(RuntimeError, match=message) as refused:
        hostile_graphs.built("large-bias", tmp_path, "quantize.mixed_precision=0.05", target="jetson")
    assert "hint: set quantize.float_type = 'float32'" in str(refused.value)
