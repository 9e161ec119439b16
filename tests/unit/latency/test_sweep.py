"""Calibration on the host: the probes are what they say, run in onnxruntime, and a known machine is found again."""

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest

from edgec.core.compute import Compute, Efficiency, Fill, Resident, Waste
from edgec.core.declaration import read_declaration
from edgec.core.host import parse_host
from edgec.core.target import Scheme, Target, load_target, resolve
from edgec.latency.fit import sweep
from edgec.latency.fit.probes import EMPTY, Probe, probe_graph, probes
from edgec.latency.fit.sweep import calibrate_machine, clock_here, profile_text
from edgec.latency.roofline import predict_latency
from edgec.latency.workload import OperatorClass, read_workload

X86 = parse_host("flags : avx2 avx_vnni\n", machine="x86_64", cores=2)
HOST = resolve(load_target("host").model_copy(update={"architecture": "any"}), X86)
MACHINE = Compute(
    fp32_tflops=0.1,
    int8_tops=0.4,
    bandwidth_gb_per_s=8,
    resident=Resident(up_to_mb=40, gb_per_s=20),
    cache_gb_per_s=400,
    floor_us=3,
    efficiency=Efficiency(dense=0.7, pointwise=0.9, depthwise=0.2, elementwise=0.05, winograd=0.8),
    fill=Fill(per_output=20, per_input=5, fp32_step=8, classes={"grouped": Waste(per_row=300)}),
)
SMALL = [
    Probe(step="Conv", channels=channels, size=size, kernel=kernel)
    for channels, size, kernel in (
        (8, 12, 3),
        (36, 8, 3),
        (64, 14, 3),
        (20, 20, 1),
        (128, 6, 1),
        (96, 14, 1),
        (16, 8, 5),
    )
]
SMALL += [Probe(step="Conv", channels=channels, size=10, kernel=3, groups=channels) for channels in (8, 64)]
SMALL += [Probe(step="Conv", channels=64, size=size, kernel=3, groups=4) for size in (8, 16)]
SMALL += [Probe(step="Gemm", channels=64, size=1), Probe(step="Gemm", channels=32, size=50, wide=64)]
SMALL += [Probe(step=step, channels=8, size=size) for step in ("Gate", "Swish") for size in (16, 64)]
HEAVY = (Probe(step="Gemm", channels=512, size=1),)
NETS = [
    Probe(step=step, channels=16, size=size)
    for step, size in (("Residual", 16), ("Residual", 32), ("Inverted", 32), ("Plain", 16), ("Transformer", 64))
]

STEPS = [
    replace(probe, channels=64 if probe.step == "Grouped" else probe.channels if probe.step == "Stem" else 32, size=32)
    for probe in {probe.step: probe for probe in probes() if probe.step not in ("Conv", "Gemm")}.values()
]
"""One of each kind, smaller."""


@pytest.fixture(autouse=True)
def lighter(monkeypatch):
    """Graphs whose weights are not worth their waiting, but their bytes are counted."""
    monkeypatch.setattr(sweep, "HEAVY", HEAVY)


def simulated(tmp_path, machine=MACHINE, disturbed=()):
    """The clock of a machine of which everything is known; at some calls, of all, it is disturbed."""
    calls, known = iter(range(10**6)), {}

    def predicted_ms(model, spill_mb):
        (tmp_path / "probe.onnx").write_bytes(model)
        weights_mb = sum(len(each.raw_data) for each in onnx.load_from_string(model).graph.initializer) / 1e6
        (batch, *_) = onnx.load_from_string(model).graph.input[0].type.tensor_type.shape.dim
        far = machine.resident and spill_mb + weights_mb > machine.resident.up_to_mb
        here = machine.model_copy(update={"resident": None}) if far else machine
        target = HOST.model_copy(update={"compute": here})
        return predict_latency(tmp_path / "probe.onnx", target, batch=batch.dim_value or 1).latency_ms

    def clock(model, spill_mb):
        key = hash(model), spill_mb
        if key not in known:
            known[key] = predicted_ms(model, spill_mb)
        return 0.02 + known[key] * (3 if next(calls) in disturbed else 1)

    return clock


@pytest.mark.parametrize("scheme", [Scheme.FLOAT32, Scheme.U8S8, Scheme.S8S8])
@pytest.mark.parametrize("probe", [*SMALL, *STEPS, EMPTY], ids=lambda probe: probe.title)
def test_probes_are_valid_graphs_that_run(tmp_path, probe, scheme):
    path = tmp_path / "probe.onnx"
    onnx.save(probe_graph(probe, scheme), path)
    onnx.checker.check_model(str(path), full_check=True)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {"x": np.random.default_rng(0).normal(size=probe.shape).astype(np.float32)})
    assert np.isfinite(result).all()
    # Numbers of which a float32 holds few bits take an x86 processor many times longer.
    tiny = np.finfo(np.float32).smallest_normal
    assert not ((result != 0) & (np.abs(result) < tiny)).any()


def test_the_sweep_holds_every_class_of_operator(tmp_path):
    seen = set()
    for probe in probes():
        if probe.step == "Conv" or probe in STEPS or probe.step in ("Stem", "Gemm", "Swish"):
            small = replace(probe, size=min(probe.size, 16))
            onnx.save(probe_graph(small, Scheme.FLOAT32), tmp_path / "probe.onnx")
            works = read_workload(tmp_path / "probe.onnx", batch=small.shape[0], engine="onnxruntime")
            seen |= {work.kind for work in works}
    assert seen == set(OperatorClass)


def test_integer_probes_compute_in_integers(tmp_path):
    onnx.save(probe_graph(SMALL[0], Scheme.U8S8), tmp_path / "probe.onnx")
    works = read_workload(tmp_path / "probe.onnx", batch=1, engine="onnxruntime")
    assert [work.op_type for work in works] == ["QuantizeLinear", *["Conv"] * 8, "DequantizeLinear"]
    assert [work.runs_on_bytes for work in works] == [False, *[True] * 8, False]


def test_a_single_image_may_be_any_number_of_them():
    (batch, *sizes) = probe_graph(SMALL[0], Scheme.FLOAT32).graph.input[0].type.tensor_type.shape.dim
    assert (batch.dim_param, [size.dim_value for size in sizes]) == ("n", [8, 12, 12])


def test_a_known_machine_is_found_again(tmp_path):
    found = calibrate_machine(HOST, simulated(tmp_path), graphs=[*SMALL, *NETS])
    # The model is the same; what few graphs cannot tell apart is left.
    assert found.median_error < 0.02
    assert found.worst_error < 0.5
    assert found.compute.spread < 0.2
    assert found.compute.floor_us == pytest.approx(MACHINE.floor_us, rel=0.1)


def test_weights_of_large_nets_come_from_memory(tmp_path):
    found = calibrate_machine(HOST, simulated(tmp_path), graphs=[*SMALL, *HEAVY]).compute
    # Among 24 MB the graphs of 8 and of 2 MB are held, of 32 MB the second alone: that makes 32 MB in one, 34 in the other.
    assert found.resident.up_to_mb == 33
    # Few graphs do not tell what a byte costs from what its product costs; how much more it costs from afar, they do.
    assert 1 / found.bandwidth_gb_per_s - 1 / found.resident.gb_per_s == pytest.approx(1 / 8 - 1 / 20, rel=0.01)


def test_a_machine_whose_caches_hold_no_net_needs_one_bandwidth(tmp_path):
    plain = MACHINE.model_copy(update={"resident": None})
    assert calibrate_machine(HOST, simulated(tmp_path, plain), graphs=SMALL).compute.resident is None


def test_a_machine_that_others_use_is_found_as_if_it_were_quiet(tmp_path):
    busy = set(np.random.default_rng(0).choice(300, 60, replace=False).tolist())
    quiet, found = (
        calibrate_machine(HOST, simulated(tmp_path, disturbed=disturbed), graphs=SMALL) for disturbed in ((), busy)
    )
    assert found == quiet


def test_the_profile_is_a_target_that_loads_and_says_where_it_comes_from(tmp_path):
    found = calibrate_machine(HOST, simulated(tmp_path), graphs=SMALL)
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
    written = [profile.compute.floor_us, profile.compute.int8_fill.of("dense").per_output]
    assert written == pytest.approx([found.compute.floor_us, found.compute.int8_fill.of("dense").per_output], rel=0.005)


def test_a_graph_is_timed_on_this_machine():
    model = probe_graph(SMALL[0], Scheme.FLOAT32).SerializeToString()
    assert 0 < clock_here(HOST, threads=1)(model, 1) < 1000
