"""Which settings a build tries where int8 lost something: those that it does not have."""

from __future__ import annotations

import pytest

from edgec.pipeline.accelerator import Accelerator
from edgec.pipeline.config import read_config
from edgec.pipeline.plan import Plan, plan_build
from edgec.pipeline.remedies import remedies_of

RECIPES = ['calibrate.recipe="percentile"', 'calibrate.recipe="minmax"']
REFINING = ["quantize.equalize=true", "quantize.mixed_precision=0.05"]


def plan(*settings: tuple[str, object]) -> Plan:
    return plan_build(read_config(None, settings), accelerator=Accelerator.CPU)


def tried(*settings: tuple[str, object]) -> list[str]:
    return [setting for setting, _ in remedies_of(plan(*settings))]


def test_int8_tries_ranges_equalisation_and_mixed_precision() -> None:
    assert tried(("target", "host")) == [*RECIPES, *REFINING]


def test_narrow_weights_and_a_float16_rest_are_widened_first() -> None:
    widened = ["quantize.weight_bits=8", 'quantize.float_type="float32"']
    assert tried(("target", "jetson"), ("quantize.weight_bits", 4)) == [*widened, *RECIPES, *REFINING]


def test_float16_tries_float32() -> None:
    assert tried(("target", "jetson-nano")) == ['quantize.scheme="float32"']


@pytest.mark.parametrize(
    ("setting", "missing"),
    [
        (("calibrate.recipe", "minmax"), RECIPES[1]),
        (("quantize.equalize", True), REFINING[0]),
        (("quantize.mixed_precision", 0.01), REFINING[1]),
    ],
)
def test_what_the_build_has_is_not_tried(setting: tuple[str, object], missing: str) -> None:
    assert tried(("target", "host"), setting) == [each for each in [*RECIPES, *REFINING] if each != missing]


def test_a_remedy_changes_what_its_setting_says_and_nothing_else() -> None:
    asked = plan(("target", "host"))
    varied = dict(remedies_of(asked))
    assert varied[REFINING[0]].config.quantize == asked.config.quantize.model_copy(update={"equalize": True})
    assert varied[REFINING[0]].calibration is asked.calibration
    assert varied[RECIPES[1]].calibration.observer == "minmax"
    assert varied[RECIPES[1]].config == asked.config
