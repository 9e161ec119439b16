"""What a bundle says of the engine that its device builds."""

from __future__ import annotations

from typing import Any

from edgec.core.facts import TensorRTCheck
from edgec.core.inputs import InputSpec
from edgec.core.target import load_target
from edgec.pipeline.trtexec import build_plan
from edgec.runtime import Session

CHECK = TensorRTCheck(tool=None, proven=False, int8={}, floats=(), engine_bytes=0, seconds=0.0, note="not tried")


def shapes(model: bytes, spec: InputSpec) -> list[str]:
    plan = build_plan(Session(model, spec), load_target("jetson"), CHECK)
    return [argument for argument in plan.arguments if "Shapes=" in argument]


def test_trtexec_is_told_the_batches_of_a_graph_that_takes_any(linear: Any, spec: InputSpec) -> None:
    sides = f"{spec.channels}x{spec.height}x{spec.width}"
    assert shapes(linear.onnx(), spec) == [
        f"--{which}Shapes=input:{batch}x{sides}" for which, batch in (("min", 1), ("opt", 1), ("max", 8))
    ]


def test_trtexec_is_told_no_batches_of_a_graph_for_one_image(linear: Any, spec: InputSpec) -> None:
    """It refuses to start where they are given for a graph that has a shape of its own."""
    assert shapes(linear.onnx(batch=1), spec) == []
