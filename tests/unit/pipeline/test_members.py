"""`[family]`: every member has the config's settings, and its own over them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgec.core.errors import ConfigError
from edgec.pipeline.accelerator import Accelerator
from edgec.pipeline.build import stage_keys
from edgec.pipeline.config import BuildConfig, family_targets, read_config
from edgec.pipeline.family import plan_family

FAMILY = """
target = "rpi5"

[compress]
keep_flops = 0.4
steps = 100

[family.jetson]
compress.max_latency_ms = 0.05

[family.rpi5]
gates.min_accuracy = 0.8
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "edgec.toml").write_text(FAMILY)
    return tmp_path / "edgec.toml"


def member(config: Path, target: str, **overrides: Any) -> BuildConfig:
    return read_config(config, [("target", target), *overrides.items()])


def test_a_member_has_its_own_settings_by_any_of_its_target_s_names(config: Path) -> None:
    assert family_targets(config) == ("jetson", "rpi5")
    for name in ("jetson", "jetson-orin-nano-8gb"):
        compress = member(config, name).compress
        assert (compress.max_latency_ms, compress.steps) == (0.05, 100)
        assert compress.asked == ("max_latency_ms",) or "keep_flops" not in compress.asked
    assert member(config, "rpi5").gates.min_accuracy == 0.8
    assert member(config, "rpi5").compress.keep_flops == member(config, "x86-vnni").compress.keep_flops == 0.4


def test_the_command_line_stands_over_a_member_s_own_settings(config: Path) -> None:
    over = read_config(config, [("target", "jetson"), ("compress.keep_flops", 0.3)]).compress
    assert (over.keep_flops, over.max_latency_ms) == (0.3, None)


def test_a_target_beside_a_family_must_be_a_member(config: Path) -> None:
    config.write_text(FAMILY.replace('target = "rpi5"', 'target = "host"'))
    with pytest.raises(ConfigError, match="target = 'host': built are jetson, rpi5"):
        family_targets(config)


def test_without_its_target_a_family_s_table_changes_nothing(config: Path) -> None:
    config.write_text(FAMILY.replace('target = "rpi5"', 'target = "host"'))
    assert (
        read_config(config).compress
        == read_config(None, [("compress.steps", 100), ("compress.keep_flops", 0.4)]).compress
    )


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("family = 3", "expected a table for each target"),
        ("[family]\njetson = 3", "family.jetson: expected a table"),
        ("[family.jetson]\nseed = 3", "family.jetson.seed: expected a table"),
        ("[family.jetson.model]\nname = 'x'", "family.jetson.model: members differ in compress"),
        ("[family.jetsn]", "unknown target 'jetsn'"),
        ("[family.jetson]\n[family.jetson-orin-nano-8gb]", "'jetson' and 'jetson-orin-nano-8gb' are one target"),
        ("[family.jetson.compress]\nstep = 3", "step"),
    ],
)
def test_what_a_family_cannot_be_is_one_error(tmp_path: Path, table: str, told: str) -> None:
    (tmp_path / "edgec.toml").write_text(table)
    with pytest.raises(ConfigError, match=told):
        read_config(tmp_path / "edgec.toml", [("target", "jetson")])


def test_paths_of_a_member_count_from_the_file(tmp_path: Path) -> None:
    (tmp_path / "edgec.toml").write_text('[family.jetson]\ncalibrate.recipe = "./own.toml"\n')
    assert read_config(tmp_path / "edgec.toml", [("target", "jetson")]).calibrate.recipe == str(tmp_path / "own.toml")


def plans(*targets: str, config: Path | None = None) -> Any:
    configs = [read_config(config, [("target", target)]) for target in targets]
    return plan_family(configs, accelerator=Accelerator.CPU)


def keys(plan: Any) -> dict[str, str]:
    return {key.stage: key.key for key in stage_keys(plan)}


def test_members_whose_targets_prune_alike_share_a_student() -> None:
    pi, vnni, jetson = map(keys, plans("raspberry-pi-5", "x86-vnni", "jetson"))
    student = ("data", "teacher", "baseline", "few", "compress")
    assert all(pi[stage] == vnni[stage] for stage in student)
    assert pi["package"] != vnni["package"]
    assert [stage for stage in student if pi[stage] == jetson[stage]] == ["data", "teacher"]


def test_a_member_is_planned_as_its_target_would_be_alone(config: Path) -> None:
    alone = [plans(target, config=config)[0] for target in ("jetson", "rpi5")]
    assert [keys(plan) for plan in plans("jetson", "rpi5", config=config)] == [keys(plan) for plan in alone]


def test_a_target_that_stands_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="'jetson-orin-nano-8gb' stands twice"):
        plans("jetson", "jetson-orin-nano-8gb")
