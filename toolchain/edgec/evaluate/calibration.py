"""Fits the latency model to this machine: a sweep of small graphs through onnxruntime, in float32 and in int8.

Graphs are convolutions, matrix products and elementwise operators of the sizes that classifiers have, each twice in
a row, so that what running a graph costs does not pass for the operators' own.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgec.core.target import Compute, Efficiency, Scheme, Target
from edgec.evaluate.fit import Fit, Observation, Priors, fit_parameters
from edgec.evaluate.workload import Work, read_workload

__all__ = ["Calibrated", "Probe", "calibrate_host", "probe_graph", "profile_text", "sweep", "toml_lines"]

_REPEATS = 2
_PROBE_S = 0.4
_QUIET = 0.1
"""Quantile of the times that stands for a graph: what else runs on a machine only ever adds to them."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A small graph: an operator, `_REPEATS` times in a row.

    Attributes:
        op_type: `Conv`, `Gemm` or an elementwise ONNX operator.
        channels: In and out.
        wide: Channels between the first operator and the second, where there are others.
        size: Height and width of the image; for a Gemm the number of rows.
    """

    op_type: str
    channels: int
    size: int
    kernel: int = 1
    depthwise: bool = False
    wide: int | None = None

    @property
    def has_weight(self) -> bool:
        """Whether it multiplies by a constant."""
        return self.op_type in ("Conv", "Gemm")


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """What a sweep found.

    Attributes:
        compute: Figures for a profile.
        probes: Timed graphs.
        median_error: Of the fit, as a share.
        worst_error: Likewise.
    """

    compute: Compute
    probes: int
    median_error: float
    worst_error: float


def sweep() -> tuple[Probe, ...]:
    """The graphs to time, each in float32 and in int8."""
    sizes = ((16, 112), (32, 56), (64, 56), (128, 28), (256, 14), (512, 7))
    convolutions = [Probe(op_type="Conv", channels=c, size=s, kernel=3) for c, s in sizes]
    strided = [Probe(op_type="Conv", channels=c, size=s, kernel=5) for c, s in ((16, 56), (64, 28), (128, 14))]
    pointwise = [Probe(op_type="Conv", channels=c, size=s) for c, s in (*sizes, (24, 56), (1024, 7))]
    pointwise += [
        Probe(op_type="Conv", channels=c, size=s, wide=6 * c)
        for c, s in ((16, 112), (24, 56), (32, 28), (96, 14), (160, 7))
    ]
    depthwise = [
        Probe(op_type="Conv", channels=c, size=s, kernel=k, depthwise=True)
        for c, s, k in ((32, 112, 3), (96, 56, 3), (144, 28, 3), (384, 14, 3), (960, 7, 3), (240, 28, 5), (672, 14, 5))
    ]
    products = [
        Probe(op_type="Gemm", channels=c, size=m) for c, m in ((512, 1), (1024, 1), (768, 49), (384, 197), (256, 49))
    ]
    others = [
        Probe(op_type=op, channels=c, size=s)
        for op in ("Add", "Mul", "MaxPool", "Sigmoid", "HardSwish", "Softmax")
        for c, s in ((64, 56), (256, 14), (64, 7))
    ]
    return (*convolutions, *strided, *pointwise, *depthwise, *products, *others)


def calibrate_host(
    target: Target,
    *,
    threads: int,
    probes: Sequence[Probe] | None = None,
    time_ms: Callable[[Path, Target, int], float] | None = None,
) -> Calibrated:
    """Times the sweep on this machine and fits the parameters to it; takes about a minute.

    The peaks are those of the fastest probe of each number format, so that efficiencies are shares of what this machine
    was seen to do: a nominal peak would have to be known.

    Args:
        target: The profile of this machine; its scheme and rules are used.
        threads: Threads within an operator.
        probes: Default: `sweep()`.
        time_ms: Times a graph; a parameter for tests.
    """
    time_ms = time_ms or time_graph
    timed: list[tuple[tuple[Work, ...], float]] = []
    with tempfile.TemporaryDirectory(prefix="edgec-") as folder:
        for number, probe in enumerate(probes or sweep()):
            for scheme in (Scheme.FLOAT32, target.quantization.scheme):
                if scheme is Scheme.FLOAT32 or (scheme.is_int8 and _has_integers(probe)):
                    path = Path(folder) / f"{number}-{scheme.value}.onnx"
                    path.write_bytes(probe_graph(probe, scheme).SerializeToString())
                    batch = probe.size if probe.op_type == "Gemm" else 1
                    works = read_workload(path, batch=batch, engine=target.runtime.engine)
                    timed.append((works, time_ms(path, target, threads)))
    nominal = _peaks(timed)
    observations = [Observation(works=works, compute=nominal, group="here", ms=ms) for works, ms in timed]
    fit = fit_parameters(observations, _priors())
    errors = np.abs(np.expm1(-fit.residuals))
    return Calibrated(
        compute=_profile_compute(fit, nominal),
        probes=len(timed),
        median_error=float(np.median(errors)),
        worst_error=float(errors.max()),
    )


def _has_integers(probe: Probe) -> bool:
    return probe.op_type not in ("HardSwish", "MaxPool", "Softmax")


def probe_graph(probe: Probe, scheme: Scheme) -> onnx.ModelProto:
    """A graph of `_REPEATS` equal operators, in float32 or with Q/DQ around each."""
    rows = probe.op_type == "Gemm"
    shape = (probe.size, probe.channels) if rows else (1, probe.channels, probe.size, probe.size)
    builder = _Builder(int8=scheme.is_int8, unsigned=scheme is Scheme.U8S8)
    tensor = builder.rounded("x")
    for number in range(_REPEATS):
        tensor = builder.append(probe, tensor, widens=number % 2 == 0)
    graph = helper.make_graph(
        [*builder.nodes, helper.make_node("Identity", [tensor], ["y"])],
        "probe",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        builder.constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


class _Builder:
    """Nodes one after the other."""

    def __init__(self, *, int8: bool, unsigned: bool) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._int8 = int8
        zero = np.uint8(128) if unsigned else np.int8(0)
        if int8:
            self.constants += [
                numpy_helper.from_array(np.array(0.05, np.float32), "scale"),
                numpy_helper.from_array(np.asarray(zero), "zero"),
            ]

    def append(self, probe: Probe, tensor: str, *, widens: bool) -> str:
        """One more operator, and Q/DQ behind it."""
        name, inputs = f"t{len(self.nodes)}", [tensor]
        settings: dict[str, Any] = {}
        if probe.has_weight:
            inputs.append(self._weight(_weight_shape(probe, widens=widens), f"w{len(self.nodes)}"))
        if probe.op_type == "Conv":
            pads = [probe.kernel // 2] * 4
            settings = {"pads": pads, "group": probe.channels if probe.depthwise else 1}
        elif probe.op_type == "MaxPool":
            settings = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
        elif probe.op_type in ("Add", "Mul"):
            inputs.append(tensor)
        self.nodes.append(helper.make_node(probe.op_type, inputs, [name], **settings))
        return self.rounded(name)

    def rounded(self, tensor: str) -> str:
        """The tensor behind Q/DQ, where the graph is one of integers."""
        if not self._int8:
            return tensor
        self.nodes.append(helper.make_node("QuantizeLinear", [tensor, "scale", "zero"], [f"{tensor}_q"]))
        self.nodes.append(helper.make_node("DequantizeLinear", [f"{tensor}_q", "scale", "zero"], [f"{tensor}_d"]))
        return f"{tensor}_d"

    def _weight(self, shape: tuple[int, ...], name: str) -> str:
        fan_in = math.prod(shape[1:])
        values = np.random.default_rng(0).normal(size=shape)
        if not self._int8:
            self.constants.append(numpy_helper.from_array((values / math.sqrt(fan_in)).astype(np.float32), name))
            return name
        integers = np.clip(np.rint(values * 20), -63, 63).astype(np.int8)
        self.constants += [
            numpy_helper.from_array(integers, name),
            numpy_helper.from_array(np.full(shape[0], 0.05 / math.sqrt(fan_in), np.float32), f"{name}_scale"),
            numpy_helper.from_array(np.zeros(shape[0], np.int8), f"{name}_zero"),
        ]
        inputs = [name, f"{name}_scale", f"{name}_zero"]
        self.nodes.append(helper.make_node("DequantizeLinear", inputs, [f"{name}_d"], axis=0))
        return f"{name}_d"


def _weight_shape(probe: Probe, *, widens: bool) -> tuple[int, ...]:
    inward, outward = probe.channels, probe.wide or probe.channels
    if not widens:
        inward, outward = outward, inward
    if probe.op_type == "Gemm":
        return inward, outward
    return outward, 1 if probe.depthwise else inward, probe.kernel, probe.kernel


def time_graph(path: Path, target: Target, threads: int) -> float:
    """What a run takes where nothing disturbs it, in ms."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=list(target.runtime.providers))
    given = session.get_inputs()[0]
    tensor = np.random.default_rng(0).normal(size=given.shape).astype(np.float32)
    times_ms: list[float] = []
    start = time.perf_counter()
    while len(times_ms) < 3 or time.perf_counter() - start < _PROBE_S:
        before = time.perf_counter()
        session.run(None, {given.name: tensor})
        times_ms.append((time.perf_counter() - before) * 1e3)
    return float(np.quantile(times_ms, _QUIET))


def _peaks(timed: Sequence[tuple[tuple[Work, ...], float]]) -> Compute:
    """The fastest of each number format, and the most bytes a second, before anything is known of efficiencies."""

    def fastest(*, int8: bool) -> float:
        speeds = [
            2 * sum(work.macs for work in works) / ms / 1e9
            for works, ms in timed
            if any(work.macs for work in works) and any(work.runs_on_bytes for work in works) is int8
        ]
        return max(speeds, default=0.0)

    byte = {work: 4 * work.traffic.single + work.traffic.byte for works, _ in timed for work in works}
    bandwidth = max(sum(byte[work] for work in works) / ms / 1e6 for works, ms in timed)
    fp32 = fastest(int8=False)
    return Compute(
        fp32_tflops=fp32,
        int8_tops=fastest(int8=True) or None,
        bandwidth_gb_per_s=bandwidth,
        floor_us=1,
        efficiency=Efficiency(dense=1, pointwise=1, depthwise=1, elementwise=1),
    )


def _priors() -> Priors:
    """Wide: the probes decide."""
    base = Priors()
    return Priors(
        center={**base.center, "share": 1.0, "floor_us": 3.0, "rows": 5.0, "outputs": 5.0, "depth": 5.0},
        width={**dict.fromkeys(base.width, 1.5), "share": 0.5},
    )


def _profile_compute(fit: Fit, nominal: Compute) -> Compute:
    spread = float(np.sqrt(np.mean(np.square(fit.residuals))))
    return fit.compute("here", nominal, spread=max(spread, 0.01))


def profile_text(target: Target, calibrated: Calibrated, *, name: str, threads: int, where: str) -> str:
    """A profile as TOML: that of the target, with the figures of the sweep and their source."""
    quantization = target.quantization
    lines = [
        f"name = {json.dumps(name)}",
        f"title = {json.dumps(where, ensure_ascii=False)}",
        f'family = "{target.family}"',
        f'architecture = "{target.architecture}"',
        "",
        "[runtime]",
        f'engine = "{target.runtime.engine}"',
        f"opset = {target.runtime.opset}",
        f"threads = {threads}",
        "",
        "[quantization]",
        f'scheme = "{quantization.scheme.value}"',
        f"reduce_range = {str(quantization.reduce_range).lower()}",
        "",
        "[rules]",
        f"channel_multiple = {target.rules.channel_multiple}",
        "",
        *toml_lines(calibrated.compute),
        "",
        "[[sources]]",
        'fields = ["compute"]',
        "derived = true",
        f'text = """\\\n{_source(calibrated, threads, where)}"""',
        "",
    ]
    return "\n".join(lines)


def _source(calibrated: Calibrated, threads: int, where: str) -> str:
    return (
        f"Fitted by `edgec targets calibrate` to {calibrated.probes} small graphs timed on {where}, {threads} thread"
        f"{'s' * (threads > 1)}: median error {calibrated.median_error:.0%}, worst {calibrated.worst_error:.0%}. "
        "Peaks and bandwidth are those of the fastest graph, no data sheet's."
    )


def toml_lines(compute: Compute) -> Iterator[str]:
    """The tables `[compute]`, to three digits."""
    fields = compute.model_dump(exclude_none=True)
    tables = {name: fields.pop(name) for name in list(fields) if isinstance(fields[name], dict)}
    yield "[compute]"
    yield from (f"{name} = {_digits(value)}" for name, value in fields.items())
    for name, table in tables.items():
        yield ""
        yield f"[compute.{name}]"
        yield from (f"{key} = {_digits(value)}" for key, value in table.items())


def _digits(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3g}"
