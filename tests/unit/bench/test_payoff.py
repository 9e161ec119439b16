"""Whether int8 pays: the ratio of turns, what is said of it, and reasons read from real graphs as they run."""

from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec.bench.latency import Latency, Percentile, Turns
from edgec.bench.payoff import Kernel, Payoff, Work, compare_turns, payoff_note, profile_kernels, reasons
from edgec.core.host import Host
from edgec.core.measurement import Kind, Machine, Stage
from edgec.core.target import Scheme
from edgec.core.wording import format_amount, measure_title

NEW = Host(cpu="New", cores=2, architecture="x86_64", features=frozenset({"avx512_vnni"}))
OLD = Host(cpu="Old", cores=2, architecture="x86_64", features=frozenset({"avx2"}))
ARM = Host(cpu="Arm", cores=4, architecture="aarch64", features=frozenset())


def turns(medians_ms: np.ndarray) -> Turns:
    middle = Percentile(value_ms=float(np.median(medians_ms)), low_ms=None, high_ms=None)
    latency = Latency(p50=middle, p90=middle, p95=middle, p99=middle, runs=len(medians_ms), warmup_runs=0, steady=True)
    return Turns(latency=latency, medians_ms=tuple(medians_ms.tolist()))


def payoff(low: float | None, speedup: float, high: float | None) -> Payoff:
    return Payoff(speedup=speedup, low=low, high=high, turns=30)


class TestRatio:
    def test_is_the_median_over_neighbours_with_the_interval_of_its_order(self) -> None:
        rng = np.random.default_rng(0)
        fp32, int8 = rng.uniform(2, 3, 41), rng.uniform(1, 2, 41)
        found = compare_turns(turns(fp32), turns(int8))
        ratios = sorted((fp32 / int8).tolist())
        assert found.speedup == statistics.median(ratios)
        # Ranks of the median of 41, from a table of the sign test: the 14th from either end.
        assert (found.low, found.high, found.turns) == (ratios[13], ratios[27], 41)

    def test_a_load_that_slows_both_changes_nothing(self) -> None:
        rng = np.random.default_rng(1)
        fp32, int8, load = rng.uniform(2, 3, 30), rng.uniform(1, 2, 30), rng.uniform(1, 9, 30)
        calm, busy = compare_turns(turns(fp32), turns(int8)), compare_turns(turns(fp32 * load), turns(int8 * load))
        assert (calm.speedup, calm.low, calm.high) == pytest.approx((busy.speedup, busy.low, busy.high))

    def test_the_interval_holds_the_true_ratio_as_often_as_it_says(self) -> None:
        rng = np.random.default_rng(2)
        held = 0
        for _ in range(400):
            noise = rng.lognormal(0, 0.2, (2, 30))
            found = compare_turns(turns(2 * noise[0]), turns(noise[1]))
            assert found.low is not None
            assert found.high is not None
            held += found.low <= 2 <= found.high
        # 95 % or more by construction; 400 trials of it fall below 92 % once in 200.
        assert held / 400 >= 0.92

    def test_too_few_turns_have_no_interval_and_no_verdict(self) -> None:
        found = compare_turns(turns(np.array([1.0, 1.0])), turns(np.array([5.0, 5.0])))
        assert (found.low, found.high) == (None, None)
        assert found.is_open
        assert not found.fails

    def test_a_row_says_what_it_is(self) -> None:
        row = payoff(1.7, 1.834, 1.9).measurement("speedup", where="This machine", machine=Machine.TARGET)
        assert (row.stage, row.name, row.unit, row.n, row.kind) == (
            Stage.ARTIFACT,
            "speedup",
            "times",
            30,
            Kind.MEASURED,
        )
        assert (row.low, row.value, row.high) == (1.7, 1.834, 1.9)
        assert (measure_title(row.name), format_amount(row.name, row.value)) == ("Speed-up by quantisation", "1.83 ×")


class TestVerdict:
    @pytest.mark.parametrize(
        ("ends", "fails", "is_open"),
        [
            ((0.8, 0.83, 0.86), True, False),
            ((0.99, 1.0, 1.02), True, False),  # as fast is no gain
            ((0.9, 1.1, 1.3), False, True),
            ((1.01, 1.04, 1.07), False, True),  # two sessions of one graph differ by as much
            ((1.7, 1.8, 1.9), False, False),
        ],
    )
    def test_needs_the_whole_interval(self, ends: tuple[float, float, float], *, fails: bool, is_open: bool) -> None:
        found = payoff(*ends)
        assert (found.fails, found.is_open) == (fails, is_open)

    def test_a_loss_is_told_with_its_reasons_and_the_way_out(self) -> None:
        note = payoff_note(payoff(0.8, 0.83, 0.86), ["one", "two"], Scheme.U8S8)
        assert note == (
            "int8 does not pay here, 0.83 times FP32's speed (0.80 to 0.86, 30 turns): one; two; "
            "quantize.scheme = 'float32' is as fast or faster"
        )

    def test_what_may_be_noise_is_no_loss(self) -> None:
        note = payoff_note(payoff(0.7, 0.9, 1.3), [], Scheme.FLOAT16)
        assert note.startswith("whether float16 pays here could not be told, 0.90 times")
        assert "quiet" in note


def qdq_net(*, inside: bool) -> onnx.ModelProto:
    """A convolution with roundings on all sides, which onnxruntime fuses, or one in float between roundings of nothing."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(16, 16, 3, 3)).astype(np.float32)
    constants = {"scale": np.float32(0.02), "zero": np.uint8(128), "one": np.float32(0.01), "none": np.int8(0)}
    nodes = []

    def rounded(name: str) -> str:
        nodes.append(helper.make_node("QuantizeLinear", [name, "scale", "zero"], [f"{name}.q"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}.q", "scale", "zero"], [f"{name}.d"]))
        return f"{name}.d"

    if inside:
        constants["weight"] = np.clip(np.round(weight / 0.01), -127, 127).astype(np.int8)
        nodes.append(helper.make_node("DequantizeLinear", ["weight", "one", "none"], ["w"]))
        nodes.append(helper.make_node("Conv", [rounded("input"), "w"], ["conv"], pads=[1] * 4))
        last = rounded("conv")
    else:
        constants["w"] = weight
        nodes.append(helper.make_node("Conv", [rounded("input"), "w"], ["conv"], pads=[1] * 4))
        last = "conv"
        for i in range(4):
            nodes.append(helper.make_node("Sin", [last], [f"sin{i}"]))
            last = rounded(f"sin{i}")
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["logits"]))
    ends = [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 16, 32, 32])]
    out = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 16, 1, 1])]
    held = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "qdq", ends, out, held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def profiled(tmp_path: Path, *, inside: bool) -> list[Kernel]:
    onnx.save(qdq_net(inside=inside), tmp_path / "net.onnx")
    tensor = np.random.default_rng(1).normal(size=(1, 16, 32, 32)).astype(np.float32)
    before = set(tmp_path.iterdir())
    found = profile_kernels(tmp_path / "net.onnx", tensor, runs=5)
    assert set(tmp_path.iterdir()) == before
    return found


class TestProfile:
    def test_a_fused_convolution_computes_in_integers(self, tmp_path: Path) -> None:
        work = {kernel.op: kernel.work for kernel in profiled(tmp_path, inside=True)}
        assert work["QLinearConv"] is Work.INTEGER
        assert work["QuantizeLinear"] is Work.CONVERSION
        assert "Conv" not in work

    def test_what_is_not_fused_is_seen_in_float(self, tmp_path: Path) -> None:
        found = profiled(tmp_path, inside=False)
        assert {kernel.op for kernel in found if kernel.work is Work.FLOAT} >= {"Conv", "Sin"}
        assert sum(kernel.op == "QuantizeLinear" for kernel in found) == 5
        assert all(kernel.ms >= 0 for kernel in found)

    def test_reasons_name_what_is_not_fused(self, tmp_path: Path) -> None:
        found = profiled(tmp_path, inside=False)
        why = " ".join(reasons(found, found, scheme=Scheme.U8S8, host=NEW))
        assert "compute in float and take" in why
        assert "1 Conv" in why
        assert "4 Sin" in why


def kernels(*told: tuple[str, Work, float]) -> list[Kernel]:
    return [Kernel(op=op, work=work, ms=ms) for op, work, ms in told]


FP32 = kernels(("Conv", Work.FLOAT, 1.0))


class TestReasons:
    def test_roundings_that_cost_are_named_with_their_share(self) -> None:
        found = kernels(
            ("QLinearConv", Work.INTEGER, 0.5), ("QuantizeLinear", Work.CONVERSION, 0.3), ("Cast", Work.CONVERSION, 0.2)
        )
        why = reasons(FP32, found, scheme=Scheme.U8S8, host=NEW)
        assert why == ["1 QuantizeLinear, 1 Cast take 50% of its time"]

    def test_of_many_types_the_commonest_are_named(self) -> None:
        told = [(op, Work.FLOAT, 0.1) for op in ("Conv", "Conv", "Add", "Add", "Sin", "Cos", "Tan")]
        why = reasons(FP32, kernels(*told), scheme=Scheme.U8S8, host=NEW)
        assert why == ["2 Conv, 2 Add, 1 Sin and 2 others compute in float and take 100% of its time"]

    def test_where_nothing_stands_out_the_integer_operators_do(self) -> None:
        found = kernels(("QLinearConv", Work.INTEGER, 0.9), ("MaxPool", Work.FLOAT, 0.1))
        assert reasons(FP32, found, scheme=Scheme.U8S8, host=NEW) == [
            "its integer operators take 90% of the time of FP32's"
        ]

    def test_small_layers_pay_for_the_call(self) -> None:
        found = kernels(*[("QLinearConv", Work.INTEGER, 0.004)] * 9)
        assert reasons(FP32, found, scheme=Scheme.U8S8, host=NEW) == [
            "the layers are small: most of its 9 operators take less than 10 µs"
        ]

    def test_float16_is_not_blamed_for_its_operators_one_by_one(self) -> None:
        why = reasons(FP32, kernels(("Conv", Work.FLOAT, 1.2)), scheme=Scheme.FLOAT16, host=ARM)
        assert why == ["onnxruntime's CPU operators compute float16 graphs in float32"]

    def test_a_cpu_without_dot_products_is_named(self) -> None:
        found = kernels(("QLinearConv", Work.INTEGER, 1.1))
        assert reasons(FP32, found, scheme=Scheme.U8S8, host=NEW) == [
            "its integer operators alone take as long as all of FP32's"
        ]
        assert reasons(FP32, found, scheme=Scheme.U8S8, host=OLD)[0].endswith(" on a CPU without VNNI")

    def test_the_slow_scheme_is_named_on_x86_only(self) -> None:
        found = kernels(("QLinearConv", Work.INTEGER, 1.1))
        assert "'u8s8' is the scheme for it" in reasons(FP32, found, scheme=Scheme.S8S8, host=NEW)[0]
        assert "u8s8" not in " ".join(reasons(FP32, found, scheme=Scheme.S8S8, host=ARM))
