"""Calibration on the host: the probes are what they say, run in onnxruntime, and a known machine is found again."""

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest

from edgec.core.declaration import read_declaration
from edgec.core.host import parse_host
from edgec.core.target import Compute, Efficiency, Scheme, Target, load_target, resolve
from edgec.evaluate.probes import EMPTY, Probe, probe_graph, probes
from edgec.evaluate.roofline import predict_latency
from edgec.evaluate.sweep import calibrate_machine, profile_text, time_graph
from edgec.evaluate.workload import OperatorClass, read_workload

X86 = parse_host("flags : avx2 avx_vnni\n", machine="x86_64", cores=2)
HOST = resolve(load_target("host").model_copy(update={"architecture": "any"}), X86)
MACHINE = Compute(
    fp32_tflops=0.1,
    int8_tops=0.4,
    bandwidth_gb_per_s=40,
    bandwidth_share=0.8,
    floor_us=3,
    efficiency=Efficiency(dense=0.7, pointwise=0.9, depthwise=0.2, elementwise=0.05, winograd=0.8),
)
SMALL = [
    Probe(step="Conv", channels=channels, size=size, kernel=kernel)
    for channels, size, kernel in ((8, 12, 3), (32, 8, 3), (16, 20, 1), (128, 6, 1), (16, 8, 5))
]
SMALL += [Probe(step="Conv", channels=channels, size=10, kernel=3, groups=channels) for channels in (8, 64)]
SMALL += [Probe(step="Conv", channels=32, size=size, kernel=3, groups=4) for size in (8, 16)]
SMALL += [Probe(step="Gemm", channels=64, size=1), Probe(step="Gemm", channels=32, size=50, wide=64)]
SMALL += [Probe(step=step, channels=8, size=size) for step in ("Add", "Sigmoid") for size in (16, 64)]

STEPS = [
    replace(probe, channels=64 if probe.step == "Grouped" else 16, size=32, groups=1, wide=None)
    for probe in {probe.step: probe for probe in probes()}.values()
]
"""One of each kind, smaller."""


def simulated(path, target, threads):
    """The time that a machine of which everything is known would take."""
    batch = onnx.load(path).graph.input[0].type.tensor_type.shape.dim[0].dim_value
    return predict_latency(path, target.model_copy(update={"compute": MACHINE}), batch=batch).latency_ms


@pytest.mark.parametrize("scheme", [Scheme.FLOAT32, Scheme.U8S8, Scheme.S8S8])
@pytest.mark.parametrize("probe", [*SMALL, *STEPS, EMPTY], ids=lambda probe: probe.title)
def test_probes_are_valid_graphs_that_run(tmp_path, probe, scheme):
    path = tmp_path / "probe.onnx"
    onnx.save(probe_graph(probe, scheme), path)
    onnx.checker.check_model(str(path), full_check=True)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    (result,) = session.run(None, {given.name: np.ones(given.shape, np.float32)})
    assert np.isfinite(result).all()


def test_the_sweep_holds_every_class_of_operator(tmp_path):
    seen = set()
    for probe in (*STEPS, *SMALL):
        onnx.save(probe_graph(probe, Scheme.FLOAT32), tmp_path / "probe.onnx")
        seen |= {
            work.kind for work in read_workload(tmp_path / "probe.onnx", batch=probe.shape[0], engine="onnxruntime")
        }
    assert seen == set(OperatorClass)


def test_integer_probes_compute_in_integers(tmp_path):
    onnx.save(probe_graph(SMALL[0], Scheme.U8S8), tmp_path / "probe.onnx")
    works = read_workload(tmp_path / "probe.onnx", batch=1, engine="onnxruntime")
    assert [work.op_type for work in works] == ["QuantizeLinear", *["Conv"] * 8, "DequantizeLinear"]
    assert [work.runs_on_bytes for work in works] == [False, *[True] * 8, False]


def test_a_known_machine_is_found_again():
    found = calibrate_machine(HOST, threads=1, graphs=SMALL, time_ms=simulated)
    # Both models are the same but for efficiencies that only large operators show; priors pull by a few percent.
    assert found.median_error < 0.05
    assert found.worst_error < 0.6
    assert found.compute.spread < 0.2


def test_the_profile_is_a_target_that_loads_and_says_where_it_comes_from(tmp_path):
    found = calibrate_machine(HOST, threads=2, graphs=SMALL, time_ms=simulated)
    path = tmp_path / "my-host.toml"
    path.write_text(profile_text(HOST, found, name="my-host", threads=2, where="A machine, 2 cores"), encoding="utf-8")
    profile = read_declaration(path, Target, what="target profile")
    assert (profile.name, profile.title, profile.runtime.threads) == ("my-host", "A machine, 2 cores", 2)
    assert profile.quantization == HOST.quantization
    source = profile.source_of("compute.floor_us")
    assert source is not None
    assert source.derived
    assert "A machine, 2 cores, 2 threads" in source.text
    # Three digits are written.
    assert profile.compute.floor_us == pytest.approx(found.compute.floor_us, rel=0.005)


def test_a_graph_is_timed(tmp_path):
    path = tmp_path / "probe.onnx"
    onnx.save(probe_graph(SMALL[0], Scheme.FLOAT32), path)
    assert 0 < time_graph(path, HOST, 1) < 1000
