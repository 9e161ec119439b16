"""A stage sees what its key covers: anything else that it reads is an error, not a wrong result from the cache."""

from __future__ import annotations

from typing import Any

import pytest

from edgec.core.errors import ContractError
from edgec.core.progress import Silent
from edgec.pipeline.accelerator import Accelerator
from edgec.pipeline.build import stage_keys
from edgec.pipeline.config import read_config
from edgec.pipeline.plan import Plan, plan_build
from edgec.pipeline.sources import Sources
from edgec.pipeline.stages import compress, data, export

REFUSED = {
    "data": ("target", "config.compress", "config.gates", "device"),
    "teacher": ("config.compress", "target", "data.few"),
    "baseline": ("config.compress.oefsmc", "config.gates", "data.few", "target.runtime"),
    "few": ("config.compress.compare", "data.few", "config.quantize"),
    "compress": ("config.compress.compare", "data.ood", "config.evaluate"),
    "export": ("config.compress.steps", "target.quantization", "data.test"),
    "calibrate": ("config.quantize", "config.seed_of_nothing", "target.memory"),
    "quantize": ("config.gates", "target.rules", "data.test"),
    "prove": ("config", "model.input", "calibration"),
    "evaluate": ("config.gates", "config.name", "data.train"),
    "package": ("config.compress", "device", "calibration"),
}


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_build(read_config(None, [("target", "jetson")]), accelerator=Accelerator.CPU)


def read(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = getattr(value, name)
    return value


@pytest.mark.parametrize("stage", REFUSED)
def test_what_a_key_covers_can_be_read_and_nothing_else(plan: Plan, stage: str) -> None:
    key = next(key for key in stage_keys(plan) if key.stage == stage)
    scoped = Sources(plan, Silent()).within(key)
    for path in key.settings:
        if path not in ("variant", "tensorrt_rtx"):
            assert read(scoped.plan, path) == read(plan, path)
    for path in REFUSED[stage]:
        with pytest.raises((ContractError, AttributeError), match=f"stage '{stage}'.*does not cover|no attribute"):
            read(scoped.plan, path)


def test_every_stage_is_tried(plan: Plan) -> None:
    assert [key.stage for key in stage_keys(plan)] == list(REFUSED)


def test_recovery_cannot_open_test_images(plan: Plan) -> None:
    key = compress.key(plan)
    assert key is not None
    with pytest.raises(ContractError, match=r"stage 'compress' uses test, but its key does not cover data\.test"):
        _ = Sources(plan, Silent()).within(key).test


def test_what_a_stage_opens_is_open_for_all(plan: Plan) -> None:
    sources = Sources(plan, Silent())
    assert sources.within(data.key(plan)).train is sources.train


def test_a_part_of_a_part_can_be_covered(plan: Plan) -> None:
    scoped = Sources(plan, Silent()).within(export.key(plan)).plan
    assert scoped.target.runtime.opset == plan.target.runtime.opset
    with pytest.raises(ContractError, match=r"stage 'export' reads the setting target\.runtime\.providers"):
        _ = scoped.target.runtime.providers
