"""What is counted as work, against the graphs that onnxruntime makes of the same files before it runs them."""

from __future__ import annotations

import platform
from collections import Counter
from dataclasses import replace

import onnx
import onnxruntime
import pytest

from edgec.core.target import Scheme
from edgec.latency.fit.probes import probe_graph, probes
from edgec.latency.workload import read_workload

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="onnxruntime fuses otherwise on other CPUs")

OTHER_NAMES = {"QGemm": "Gemm", "QuickGelu": "Sigmoid", "BiasGelu": "Gelu", "BatchNormalization": "Conv"}
"""What onnxruntime calls an operator once it has fused it; behind convolutions a normalisation becomes one."""
LAYOUT = {"ReorderInput", "ReorderOutput", "Transpose"}
"""Copies from one layout of images to another and back count as part of the operators that want them so."""
FREE = {"Flatten", "Identity", "Reshape"}

PIECES = [
    replace(probe, channels=32 if probe.channels > 3 else 3, size=16)
    for probe in {probe.step: probe for probe in probes() if probe.step not in ("Conv", "Gemm")}.values()
]


def named(op_type: str) -> str:
    for prefix in ("QLinear", "Nhwc", "Fused"):
        op_type = op_type.removeprefix(prefix)
    return OTHER_NAMES.get(op_type, op_type)


@pytest.mark.parametrize("scheme", [Scheme.FLOAT32, Scheme.U8S8])
@pytest.mark.parametrize("probe", PIECES, ids=lambda probe: probe.step)
def test_what_is_counted_is_what_onnxruntime_runs(tmp_path, probe, scheme):
    path, optimised = tmp_path / "probe.onnx", tmp_path / "optimised.onnx"
    onnx.save(probe_graph(probe, scheme), path)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(optimised), 3
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    run = Counter(named(node.op_type) for node in onnx.load(optimised).graph.node)
    works = read_workload(path, batch=1, engine="onnxruntime")
    counted = Counter(named(work.op_type) for work in works if not work.fused)
    for op_type in LAYOUT | FREE:
        del run[op_type], counted[op_type]
    if probe.step == "HardSwish" and scheme is Scheme.FLOAT32:
        # Behind the last convolution, of which the graph's output is made, it is left as the two that it stands for.
        run -= Counter(HardSigmoid=1, Mul=1)
    assert counted == run
