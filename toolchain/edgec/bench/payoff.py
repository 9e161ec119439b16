"""Whether int8 pays on a target like this machine: its speed against FP32's, and why where it does not."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np

from edgec.bench.latency import Turns
from edgec.core.host import Host
from edgec.core.measurement import Machine, Measurement, Stage
from edgec.core.target import Scheme
from edgec.evaluate.intervals import quantile_ranks

__all__ = ["Kernel", "Payoff", "Work", "compare_turns", "payoff_note", "profile_kernels", "reasons"]

_ALIKE = 0.03
"""Two sessions of one and the same graph differed by up to 1.2 % here, beyond the interval of their turns."""
_CONVERSIONS = frozenset({"QuantizeLinear", "DequantizeLinear", "Cast"})
_TELLING = 0.15
"""Share of the time from which a reason is worth a word."""
_CALL_MS = 0.01
"""An operator that takes less is mostly the call of it: those that do least show 2 to 5 µs in a profile."""
_NAMED = 3
"""Types of operators that a reason names."""


@dataclass(frozen=True, kw_only=True)
class Payoff:
    """How fast a graph is against FP32.

    Attributes:
        speedup: FP32's time over its own, the median over neighbouring turns.
        low: Lower end of the 95 % interval; None where there were too few turns.
        high: Upper end.
        turns: Pairs of turns.
    """

    speedup: float
    low: float | None
    high: float | None
    turns: int

    @property
    def fails(self) -> bool:
        """Whether it is, beyond chance, at best as fast as FP32."""
        return self.high is not None and self.high < 1 + _ALIKE

    @property
    def is_open(self) -> bool:
        """Whether it may be faster or not."""
        return not self.fails and (self.low is None or self.low <= 1 + _ALIKE)

    @property
    def text(self) -> str:
        """As in `0.83 times FP32's speed (0.80 to 0.86, 40 turns)`."""
        ends = "no interval" if self.low is None or self.high is None else f"{self.low:.2f} to {self.high:.2f}"
        return f"{self.speedup:.2f} times FP32's speed ({ends}, {self.turns} turns)"

    def measurement(self, name: str, *, where: str, machine: Machine) -> Measurement:
        """The row of the artifact that says so."""
        values = {"value": self.speedup, "low": self.low, "high": self.high, "n": self.turns}
        return Measurement(stage=Stage.ARTIFACT, name=name, unit="times", where=where, machine=machine, **values)


def compare_turns(fp32: Turns, other: Turns) -> Payoff:
    """The speed-up of a graph that took turns with FP32: what slows both for a while does not touch the ratio."""
    ratios = np.sort(np.divide(fp32.medians_ms, other.medians_ms))
    low, high = quantile_ranks(len(ratios), 0.5)
    return Payoff(
        speedup=float(np.quantile(ratios, 0.5, method="inverted_cdf")),
        low=None if low is None else float(ratios[low]),
        high=None if high is None else float(ratios[high]),
        turns=len(ratios),
    )


class Work(Enum):
    """What an operator of a running graph does."""

    CONVERSION = "conversion"
    INTEGER = "integer"
    FLOAT = "float"


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """An operator as onnxruntime runs it, after fusion, and its time, the least of all runs."""

    op: str
    work: Work
    ms: float


def profile_kernels(model: Path, tensor: np.ndarray, *, runs: int = 30) -> list[Kernel]:
    """Times every operator of a graph on this machine's CPU.

    Args:
        model: An ONNX file with one input.
        tensor: What it takes.
        runs: How often it runs.
    """
    import onnxruntime

    with tempfile.TemporaryDirectory(prefix="edgec-") as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        for _ in range(runs):
            session.run(None, {session.get_inputs()[0].name: tensor})
        events = json.loads(Path(session.end_profiling()).read_bytes())
    times_ms: dict[str, list[float]] = defaultdict(list)
    told = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times_ms[event["args"]["node_index"]].append(event["dur"] / 1e3)
            told[event["args"]["node_index"]] = event["args"]
    return [_kernel(told[node], min(taken)) for node, taken in times_ms.items()]


def _kernel(told: dict, ms: float) -> Kernel:
    op, inputs = told["op_name"], told["input_type_shape"]
    first = next(iter(inputs[0]), "float") if inputs else "float"
    integer = first in ("uint8", "int8") or op.startswith("QLinear")
    work = Work.CONVERSION if op in _CONVERSIONS else Work.INTEGER if integer else Work.FLOAT
    return Kernel(op=op, work=work, ms=ms)


def payoff_note(payoff: Payoff, why: Sequence[str], scheme: Scheme) -> str:
    """What to tell of a graph that is not faster than FP32 for certain; `why` as from `reasons`."""
    name = "int8" if scheme.is_int8 else scheme.value
    if payoff.is_open:
        return f"whether {name} pays here could not be told, {payoff.text}: build again when the machine is quiet"
    return (
        f"{name} does not pay here, {payoff.text}: {'; '.join(why)}; quantize.scheme = 'float32' is as fast or faster"
    )


def reasons(fp32: Sequence[Kernel], artifact: Sequence[Kernel], *, scheme: Scheme, host: Host) -> list[str]:
    """Why a graph is not faster than FP32, by where its time goes; at least one reason.

    Args:
        fp32: Operators of the FP32 graph.
        artifact: Operators of the graph in its scheme.
        scheme: Its number format.
        host: The machine that ran both.
    """
    whole_ms = _sum_ms(artifact)
    by_work = {work: [kernel for kernel in artifact if kernel.work is work] for work in Work}
    shares = {work: _sum_ms(kernels) / whole_ms for work, kernels in by_work.items()}
    integers = by_work[Work.INTEGER]
    x86 = host.architecture == "x86_64"
    found = []
    if scheme is Scheme.S8S8 and x86:
        found.append("onnxruntime on x86 has few kernels for int8 activations, 'u8s8' is the scheme for it")
    if scheme is Scheme.FLOAT16:
        found.append("onnxruntime's CPU operators compute float16 graphs in float32")
    elif shares[Work.FLOAT] >= _TELLING:
        found.append(f"{_types(by_work[Work.FLOAT])} compute in float and take {shares[Work.FLOAT]:.0%} of its time")
    if shares[Work.CONVERSION] >= _TELLING:
        found.append(f"{_types(by_work[Work.CONVERSION])} take {shares[Work.CONVERSION]:.0%} of its time")
    if statistics.median(kernel.ms for kernel in artifact) < _CALL_MS:
        found.append(
            f"the layers are small: most of its {len(artifact)} operators take less than {_CALL_MS * 1e3:.0f} µs"
        )
    if integers and _sum_ms(integers) >= _sum_ms(fp32) / (1 + _ALIKE):
        cpu = " on a CPU without VNNI" if x86 and not host.has_vnni else ""
        found.append(f"its integer operators alone take as long as all of FP32's{cpu}")
    return found or [f"its integer operators take {_sum_ms(integers) / _sum_ms(fp32):.0%} of the time of FP32's"]


def _sum_ms(kernels: Iterable[Kernel]) -> float:
    return sum(kernel.ms for kernel in kernels)


def _types(kernels: Iterable[Kernel]) -> str:
    """As in `11 Conv, 8 Add and 1 other`."""
    counts = Counter(kernel.op for kernel in kernels).most_common()
    rest = sum(count for _, count in counts[_NAMED:])
    named = ", ".join(f"{count} {op}" for op, count in counts[:_NAMED])
    return f"{named} and {rest} other{'s' * (rest > 1)}" if rest else named
