"""Fits the latency model to a machine: a sweep of small graphs through onnxruntime, in float32 and in int8.

Before a graph runs, everything is pushed out of the caches: in a net, too, a weight was read last one whole image ago.
What one operator hands to the next is still there.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from edgec.core.target import Compute, Efficiency, Fill, Scheme, Target
from edgec.evaluate.fit import Observation, Priors, fit_parameters
from edgec.evaluate.probes import EMPTY, Probe, probe_graph, probes
from edgec.evaluate.roofline import Precision, cost_of, precision_of
from edgec.evaluate.workload import Traffic, Work, read_workload
from edgec.runtime.timing import median_ms

__all__ = ["PROBE_S", "Calibrated", "TimeGraph", "calibrate_machine", "profile_text", "time_graph", "toml_lines"]

TimeGraph: TypeAlias = Callable[[Path, Target, int], float]
"""Times a graph on so many threads, in ms."""

PROBE_S = 0.4
"""For a graph."""
_EMPTY_TIMES = 7
_STACK_WEIGHT = 10.0
"""How much a piece of a net counts beside a single step: it is what predictions are about."""
_ROUNDS = 3
"""In which the parameters and the efforts of single operators settle."""


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


@dataclass(frozen=True, kw_only=True)
class Timed:
    """A graph that ran."""

    works: tuple[Work, ...]
    ms: float
    weight: float


def calibrate_machine(
    target: Target,
    *,
    threads: int,
    graphs: Sequence[Probe] | None = None,
    time_ms: TimeGraph | None = None,
) -> Calibrated:
    """Times the sweep on a machine and fits the parameters to it; takes about two minutes.

    The peaks are those of the fastest graph of each number format, so that efficiencies are shares of what this machine
    was seen to do: a nominal peak would have to be known.

    Args:
        target: The profile of the machine; its scheme and rules are used.
        threads: Threads within an operator.
        graphs: Default: `probes()`.
        time_ms: Times a graph. Default: on this machine.
    """
    timed = _time(graphs or probes(), target, threads, time_ms or time_graph)
    return _fitted(timed)


def _time(graphs: Sequence[Probe], target: Target, threads: int, time_ms: TimeGraph) -> list[Timed]:
    """Every graph in both number formats, without what running any graph takes."""
    found: list[Timed] = []
    with tempfile.TemporaryDirectory(prefix="edgec-") as folder:
        path = Path(folder) / "probe.onnx"

        def timed(probe: Probe, scheme: Scheme) -> float:
            path.write_bytes(probe_graph(probe, scheme).SerializeToString())
            return time_ms(path, target, threads)

        empty_ms = float(np.median([timed(EMPTY, Scheme.FLOAT32) for _ in range(_EMPTY_TIMES)]))
        for probe in graphs:
            for scheme in dict.fromkeys((Scheme.FLOAT32, target.quantization.scheme)):
                ms = timed(probe, scheme)
                works = read_workload(path, batch=probe.shape[0], engine=target.runtime.engine)
                found.append(
                    Timed(works=works, ms=max(ms - empty_ms, ms / 10), weight=_STACK_WEIGHT if probe.is_stack else 1.0)
                )
    return found


def _fitted(timed: Sequence[Timed]) -> Calibrated:
    """Parameters of whole classes, then how far single operators lie from their class, in turns."""
    nominal = _peaks(timed)
    effort: dict[tuple[str, bool], float] = {}
    fit = fit_parameters(_observed(timed, nominal, effort), _priors())
    for _ in range(_ROUNDS):
        effort = _efforts(timed, fit.compute("here", nominal))
        fit = fit_parameters(_observed(timed, nominal, effort), _priors())
    compute = fit.compute("here", nominal).model_copy(
        update={
            "effort": {name: value for (name, int8), value in sorted(effort.items()) if not int8},
            "int8_effort": {name: value for (name, int8), value in sorted(effort.items()) if int8},
        }
    )
    errors = np.log([_predicted_ms(each.works, compute) / each.ms for each in timed])
    sizes = np.abs(np.expm1(errors))
    spread = max(float(np.sqrt(np.mean(np.square(errors)))), 0.01)
    return Calibrated(
        compute=compute.model_copy(update={"spread": spread}),
        probes=len(timed),
        median_error=float(np.median(sizes)),
        worst_error=float(sizes.max()),
    )


def _observed(timed: Sequence[Timed], nominal: Compute, effort: Mapping[tuple[str, bool], float]) -> list[Observation]:
    return [
        Observation(
            works=tuple(_scaled(work, nominal, effort) for work in each.works),
            compute=nominal,
            group="here",
            ms=each.ms,
            weight=each.weight,
        )
        for each in timed
    ]


def _scaled(work: Work, compute: Compute, effort: Mapping[tuple[str, bool], float]) -> Work:
    return replace(work, effort=work.effort * effort.get(_key(work, compute), 1.0))


def _key(work: Work, compute: Compute) -> tuple[str, bool]:
    return work.op_type, precision_of(work, compute, half=False) is Precision.INT8


def _predicted_ms(works: Sequence[Work], compute: Compute) -> float:
    return sum(cost_of(work, compute, half=False).latency_ms for work in works)


def _efforts(timed: Sequence[Timed], compute: Compute) -> dict[tuple[str, bool], float]:
    """How many times what is assumed of an operator it takes, by its name and whether it computes in int8."""
    from scipy.optimize import least_squares

    concerned = [each for each in timed if any(work.effort for work in each.works)]
    fixed_ms = [_predicted_ms([work for work in each.works if not work.effort], compute) for each in concerned]
    open_works = [Counter(replace(work, name="") for work in each.works if work.effort) for each in concerned]
    keys = sorted({_key(work, compute) for works in open_works for work in works})
    measured = np.log([each.ms for each in concerned])
    scale = np.sqrt([each.weight for each in concerned]) / 0.1

    def distance(point: np.ndarray) -> np.ndarray:
        effort = dict(zip(keys, np.exp(point), strict=True))
        open_ms = [
            sum(
                count * cost_of(_scaled(w, compute, effort), compute, half=False).latency_ms
                for w, count in works.items()
            )
            for works in open_works
        ]
        predicted = np.add(fixed_ms, open_ms)
        return np.concatenate([(measured - np.log(predicted)) * scale, point / 3])

    found = least_squares(distance, np.zeros(len(keys)), max_nfev=30).x
    return dict(zip(keys, np.exp(found).tolist(), strict=True))


def time_graph(path: Path, target: Target, threads: int) -> float:
    """The median of runs on this machine that find nothing in the caches, in ms."""
    return median_ms(path.read_bytes(), providers=target.runtime.providers, threads=threads, seconds=PROBE_S)


def _peaks(timed: Sequence[Timed]) -> Compute:
    """The fastest of each number format, and the most bytes a second, before anything is known of efficiencies."""

    def fastest(*, int8: bool) -> float:
        speeds = [
            2 * sum(work.macs for work in each.works) / each.ms / 1e9
            for each in timed
            if any(work.macs for work in each.works) and any(work.runs_on_bytes for work in each.works) is int8
        ]
        return max(speeds, default=0.0)

    def moved(traffic: Traffic) -> int:
        return 4 * traffic.single + traffic.byte

    weights = max(sum(moved(work.weights) for work in each.works) / each.ms / 1e6 for each in timed)
    others = max(
        sum(moved(work.traffic) - moved(work.weights) for work in each.works) / each.ms / 1e6 for each in timed
    )
    fp32 = fastest(int8=False)
    return Compute(
        fp32_tflops=fp32,
        int8_tops=fastest(int8=True) or None,
        bandwidth_gb_per_s=weights,
        cache_gb_per_s=others,
        floor_us=1,
        efficiency=Efficiency(dense=1, pointwise=1, depthwise=1, elementwise=1),
        int8_fill=Fill(),
    )


def _priors() -> Priors:
    """Wide: the graphs decide."""
    base = Priors()
    one = {"share": 1.0, "cache": 1.0}
    return Priors(
        center={**base.center, **one, "floor_us": 5.0, "rows": 5.0, "outputs": 5.0, "depth": 5.0},
        width={**dict.fromkeys(base.width, 1.5), "share": 0.5, "cache": 0.5, "floor_us": 0.3},
    )


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
        if not table:
            continue
        yield ""
        yield f"[compute.{name}]"
        yield from (f"{key} = {_digits(value)}" for key, value in table.items())


def _digits(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3g}"
