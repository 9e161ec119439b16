"""What a search may vary."""

from __future__ import annotations

import pytest

from edgec.core.errors import ConfigError
from edgec.core.progress import Silent
from edgec.pipeline.accelerator import Accelerator
from edgec.pipeline.budget import on_top
from edgec.pipeline.config import read_config
from edgec.pipeline.plan import plan_build
from edgec.pipeline.sources import Sources
from edgec.tuning.space import default_space, parse_space


def test_values_are_read_as_toml_and_numbers_rise() -> None:
    space = parse_space(["compress.keep_flops=0.5, 0.2,0.5", "compress.method=practise,mir"])
    assert [d.values for d in space.dimensions] == [(0.2, 0.5), ("practise", "mir")]
    assert [d.is_ordered for d in space.dimensions] == [True, False]
    assert len(space) == 4
    assert space.settings((1, 0)) == {"compress.keep_flops": 0.5, "compress.method": "practise"}


def test_a_candidate_is_found_again_and_one_outside_is_not() -> None:
    space = parse_space(["compress.keep_flops=0.2,0.5", "compress.variant=ours,few"])
    assert all(space.point(space.settings(point)) == point for point in space.points())
    assert space.point({"compress.keep_flops": 0.3, "compress.variant": "ours"}) is None
    assert space.point({"compress.keep_flops": 0.2}) is None


def digits(*settings: tuple[str, object]) -> Sources:
    return Sources(plan_build(read_config(None, settings), accelerator=Accelerator.CPU), Silent())


def test_the_configs_own_values_are_among_the_default_ones() -> None:
    sources = digits(("compress.keep_flops", 0.37))
    space = default_space(sources)
    point = space.point(space.own(sources.plan.config))
    assert point is not None
    assert space.settings(point)["compress.keep_flops"] == 0.37


@pytest.mark.parametrize(
    ("blocks", "dropped"), [(0, None), (1, (0, 1)), (7, (0, 1, 2, 3, 4, 5)), (24, (0, 3, 6, 9, 12, 15, 18))]
)
def test_blocks_go_where_there_are_some(
    blocks: int, dropped: tuple[int, ...] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgec.compress.blocks.residual_blocks", lambda module, images: [object()] * blocks)
    values = {d.setting: d.values for d in default_space(digits()).dimensions}
    assert values.get("compress.drop_blocks") == dropped


def test_on_a_device_whose_latency_is_predicted_that_is_what_may_stay() -> None:
    values = {d.setting: d.values for d in default_space(digits(("target", "jetson"))).dimensions}
    assert values.keys() == {"compress.variant", "compress.keep_latency"}


def test_a_candidate_s_budget_replaces_that_of_the_search() -> None:
    given = [("compress.keep_flops", 0.3), ("compress.steps", 5)]
    assert on_top(given, {"compress.keep_latency": 0.5}) == [("compress.steps", 5), ("compress.keep_latency", 0.5)]
    assert on_top(given, {"compress.variant": "few"}) == [*given, ("compress.variant", "few")]


@pytest.mark.parametrize(
    ("text", "says", "hint"),
    [
        ("compress.keep_flops", "expected KEY=VALUE,VALUE,…", "as in --vary compress.keep_flops=0.2,0.3,0.5"),
        ("compress.keep_flops=,", "expected KEY=VALUE,VALUE,…", "as in"),
        ("=0.5", "expected KEY=VALUE,VALUE,…", "as in"),
        ("data.ood_count=100,200", "model, images and device are given", "--set data.ood_count=100"),
    ],
)
def test_what_cannot_be_varied_is_refused(text: str, says: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=says) as refused:
        parse_space([text])
    assert refused.value.hint is not None
    assert hint in refused.value.hint


def test_two_budgets_and_numbers_that_are_none_are_refused() -> None:
    with pytest.raises(ConfigError, match="are two budgets"):
        parse_space(["compress.keep_flops=0.5", "compress.keep_latency=0.5"])
    with pytest.raises(ConfigError, match="expected KEY=VALUE"):
        parse_space(["compress.keep_flops=nan"])


def test_a_method_s_own_settings_can_be_varied() -> None:
    space = parse_space(["compress.mir.few_per_step=8,16", "compress.oefsmc.widths=even,by-cost"])
    assert space.own(digits().plan.config) == {"compress.oefsmc.widths": "by-cost"}


def test_a_space_is_counted_without_being_listed() -> None:
    space = parse_space([f"compress.setting{i}={','.join(map(str, range(10)))}" for i in range(12)])
    assert len(space) == 10**12


def test_a_setting_that_is_given_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--vary compress\.steps: given twice"):
        parse_space(["compress.steps=1", "compress.steps=2"])
