"""`[quantize]` from end to end, on real digits: what each step does to the classes, and what the report tells of it."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgec.core.errors import ConfigError
from edgec.pipeline.accelerator import Accelerator
from edgec.pipeline.config import read_config
from edgec.pipeline.plan import plan_build

TEACHER = ("compress.method=none", "data.ood_count=60")
"""Quantisation alone, with few OOD images."""


@pytest.fixture
def build(builder: Any, tmp_path: Any, plain_cache: Any) -> Any:
    """Builds the digits' teacher with settings of `[quantize]`."""

    def run(*settings: str, target: str = "jetson", name: str = "a") -> Any:
        given = [f"quantize.{setting}" for setting in settings]
        return builder(tmp_path / name, "--target", target, settings=(*TEACHER, *given), cache=plain_cache)

    return run


def accuracy(report: dict, name: str = "accuracy") -> float:
    rows = report["measurements"]
    return next(row["value"] for row in rows if row["stage"] == "artifact" and row["name"] == name)


def test_weights_in_four_bits_keep_the_classes_by_compensation(build: Any) -> None:
    nearest = build("weight_bits=4", "rounding=nearest", "correct_biases=false").report
    ours = build("weight_bits=4", name="b").report
    whats = [effect["what"] for effect in ours["effects"]]
    assert whats == ["compensated rounding", "bias correction"]
    before, after = (ours["effects"][i][f"worst_class_divergence_{w}"] for i, w in ((0, "before"), (-1, "after")))
    assert after < 0.2 * before
    assert nearest["effects"] == []
    assert accuracy(ours) > 0.97
    assert accuracy(ours, "worst_class_accuracy") >= accuracy(nearest, "worst_class_accuracy")


def test_weights_in_four_bits_are_so_in_the_file(build: Any) -> None:
    graph = onnx.load(build("weight_bits=4").bundle / "model.onnx").graph
    weights = [
        array for t in graph.initializer if (array := numpy_helper.to_array(t)).dtype == np.int8 and array.ndim > 1
    ]
    assert len(weights) >= 5
    assert max(np.abs(weight).max() for weight in weights) <= 7


def test_all_steps_together_are_told_in_their_order(build: Any) -> None:
    steps = ("equalize=true", "rounding=compensated", "correct_biases=true", "train=true", "training.steps=3")
    report = build(*steps, "sensitivity=true", "mixed_precision=0.5", target="x86-vnni").report
    whats = [effect["what"] for effect in report["effects"]]
    assert whats[1:4] == ["compensated rounding", "bias correction", "3 steps of training"]
    assert whats[0].startswith("cross-layer equalisation of ")
    # Where pairs of 8-bit products saturate, a layer may have to be spared.
    assert re.fullmatch(
        rf"[01] of {len(report['sensitivity'])} layers and activations kept in floating point", whats[4]
    )
    assert accuracy(report) > 0.97


def test_layers_that_must_stay_in_floating_point_do_so_in_the_graph(build: Any) -> None:
    built = build("weight_bits=4", "rounding=nearest", "correct_biases=false", "mixed_precision=0.0")
    spared = [row for row in built.report["sensitivity"] if row["kept"] == "float"]
    quantized = next(step for step in built.report["lineage"] if step["name"] == "quantize")["facts"]
    assert spared
    layers = [row for row in spared if row["operator"] in quantized["float_operators"]]
    assert 0 < len(layers) <= len(spared)
    assert sum(quantized["float_operators"].values()) >= 1
    assert set(spared[0]["divergence"]) == set(built.report["labels"])


def test_the_same_settings_give_the_same_bytes(build: Any, builder: Any, tmp_path: Any) -> None:
    given = [f"quantize.{s}" for s in ("weight_bits=4", "train=true", "training.steps=3")]
    builds = [
        builder(tmp_path / name, "--target", "jetson", settings=(*TEACHER, *given), cache=tmp_path / f"cache-{name}")
        for name in ("one", "two")
    ]
    assert len({(built.bundle / "model.onnx").read_bytes() for built in builds}) == 1


def test_refining_a_floating_point_scheme_is_refused_before_anything_runs() -> None:
    config = read_config(None, [("target", "jetson-nano"), ("quantize.equalize", True)])
    with pytest.raises(ConfigError, match=r"\[quantize\] refines integers, but the scheme of 'jetson-nano' is float16"):
        plan_build(config, accelerator=Accelerator.CPU)
