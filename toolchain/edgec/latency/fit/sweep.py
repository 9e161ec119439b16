"""Fits the latency model to a machine: a sweep of small graphs through onnxruntime, in float32 and in int8.

Every graph is timed in several rounds, and its quietest round counts: other work on a machine only ever makes it
slower. Before a graph runs, its weights are driven out of the near caches, as in a net, where a weight was read last
one image ago; what one operator hands to the next is still there.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import BaseModel

from edgec.core.compute import Compute, Resident
from edgec.core.target import Scheme, Target
from edgec.latency.fit.costs import Timed, cross_validated, fit_costs, predicted_ms, weight_bytes
from edgec.latency.fit.probes import EMPTY, HEAVY, Probe, probe_graph, probes
from edgec.latency.workload import Work, read_workload
from edgec.runtime.timing import Clock, median_ms

__all__ = ["PROBE_S", "Fitted", "calibrate_machine", "clock_here", "profile_text", "toml_text"]

PROBE_S = 0.06
"""For a graph, in each round."""
_ROUNDS = 4
_SPILL_MB = 8
"""As much as the smallest nets hold, and more than the near caches do."""
_SPILLS_MB = (_SPILL_MB, 16, 24, 32, 48, 64, 96, 128, 256)
"""As much as ever larger nets hold."""
_LEAST_GAIN = 1.05
"""Of weights in a cache over weights in memory, to be worth a figure."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What a sweep found.

    Attributes:
        compute: Figures for a profile.
        probes: Timed graphs.
        median_error: Of the fit, as a share.
        worst_error: The largest relative error.
    """

    compute: Compute
    probes: int
    median_error: float
    worst_error: float


class _Job(NamedTuple):
    """A graph to time, among other weights of so many megabytes."""

    probe: Probe
    scheme: Scheme
    spill_mb: int = _SPILL_MB


_NOTHING = _Job(EMPTY, Scheme.FLOAT32)


def calibrate_machine(target: Target, clock: Clock, *, graphs: Sequence[Probe] | None = None) -> Fitted:
    """Times the sweep on a machine and fits the parameters to it; takes about three minutes.

    Args:
        target: The profile of the machine; its scheme and rules are used.
        clock: Times a graph on the machine.
        graphs: Default: `probes()`.
    """
    schemes = tuple(dict.fromkeys((Scheme.FLOAT32, target.quantization.scheme)))
    jobs = [_Job(probe, scheme) for probe in graphs or probes() for scheme in schemes]
    heavy = [_Job(probe, scheme, size) for probe in HEAVY for scheme in schemes for size in _SPILLS_MB]
    best_ms = _time([_NOTHING, *jobs, *heavy], clock)
    works = {job: _works(job, target) for job in {*jobs, *(job._replace(spill_mb=_SPILL_MB) for job in heavy)}}
    memory = _Memory.of({job: best_ms[job] for job in heavy}, works)
    alone_ms = {job: max(best_ms[job] - best_ms[_NOTHING], best_ms[job] / 10) for job in jobs}
    timed = [
        Timed(works=works[job], ms=memory.near_ms(works[job], alone_ms[job]), is_net=job.probe.is_stack) for job in jobs
    ]
    near = fit_costs(timed)
    compute = memory.applied(near)
    errors = [predicted_ms(works[job], compute) / alone_ms[job] - 1 for job in jobs]
    spread = max(float(np.sqrt(np.mean(np.square(cross_validated(timed, near))))), 0.01)
    return Fitted(
        compute=compute.model_copy(update={"spread": spread}),
        probes=len(jobs),
        median_error=float(np.median(np.abs(errors))),
        worst_error=float(np.max(np.abs(errors))),
    )


def _time(jobs: Iterable[_Job], clock: Clock) -> dict[_Job, float]:
    """The quietest round of each graph, in ms."""
    best_ms = dict.fromkeys(jobs, math.inf)
    for _ in range(_ROUNDS):
        for (probe, scheme), same in groupby(best_ms, key=lambda job: (job.probe, job.scheme)):
            model = probe_graph(probe, scheme).SerializeToString()
            for job in same:
                best_ms[job] = min(best_ms[job], clock(model, job.spill_mb))
    return best_ms


def _works(job: _Job, target: Target) -> tuple[Work, ...]:
    with tempfile.TemporaryDirectory(prefix="edgec-") as folder:
        path = Path(folder) / "probe.onnx"
        path.write_bytes(probe_graph(job.probe, job.scheme).SerializeToString())
        return read_workload(path, batch=job.probe.shape[0], engine=target.runtime.engine)


@dataclass(frozen=True, kw_only=True)
class _Memory:
    """What weights cost that no cache holds.

    Attributes:
        up_to_mb: Weights that a cache holds, those of the rest of the net among them.
        far_ms: What a byte of others takes longer; 0 where nothing is gained by holding them.
    """

    up_to_mb: int
    far_ms: float

    @classmethod
    def of(cls, heavy_ms: Mapping[_Job, float], works: Mapping[_Job, tuple[Work, ...]]) -> _Memory:
        """From heavy graphs, each among other weights of several sizes.

        A cache holds all of them where a graph takes less than halfway between what it takes at the least and at most;
        the median graph counts.
        """
        graphs = {job: weight_bytes(works[job]) for job in heavy_ms if job.spill_mb == _SPILL_MB}
        curves = {job: [heavy_ms[job._replace(spill_mb=spill)] for spill in _SPILLS_MB] for job in graphs}
        held_mb = [graphs[job] / 1e6 + _held(curve) for job, curve in curves.items()]
        near, *_, far = map(sum, zip(*curves.values(), strict=True))
        far_ms = (far - near) / sum(graphs.values()) if far > near * _LEAST_GAIN else 0.0
        return cls(up_to_mb=round(np.median(held_mb)), far_ms=far_ms)

    def near_ms(self, works: Sequence[Work], ms: float) -> float:
        """What a graph would take if its weights came from a cache."""
        size = weight_bytes(works)
        far = size + _SPILL_MB * 1e6 > self.up_to_mb * 1e6
        return max(ms - self.far_ms * size, ms / 2) if far else ms

    def applied(self, compute: Compute) -> Compute:
        """The figures of a machine, given those with all weights in a cache."""
        if not self.far_ms:
            return compute
        near = compute.bandwidth_gb_per_s
        resident = Resident(up_to_mb=self.up_to_mb, gb_per_s=near)
        return compute.model_copy(
            update={"bandwidth_gb_per_s": 1e-6 / (1e-6 / near + self.far_ms), "resident": resident}
        )


def _held(curve: Sequence[float]) -> int:
    """The most of `_SPILLS_MB` that still fit into a cache beside a graph's weights, by what it took among them."""
    middle = max(curve[0], (curve[0] + curve[-1]) / 2)
    return max(spill for spill, ms in zip(_SPILLS_MB, curve, strict=True) if ms <= middle)


def clock_here(target: Target, *, threads: int) -> Clock:
    """Times graphs on this machine."""

    def clock(model: bytes, spill_mb: int) -> float:
        providers = target.runtime.providers
        return median_ms(model, providers=providers, threads=threads, seconds=PROBE_S, spill_mb=spill_mb)

    return clock


def profile_text(target: Target, calibrated: Fitted, *, name: str, threads: int, where: str) -> str:
    """A profile as TOML: that of the target, with the figures of the sweep and their source."""
    head = {"name": name, "title": where, "family": target.family, "architecture": target.architecture}
    source = (
        "[[sources]]",
        'fields = ["compute"]',
        "derived = true",
        f'text = """\\\n{_source(calibrated, threads, where)}"""',
    )
    parts = (
        "\n".join(f"{key} = {_toml(value)}" for key, value in head.items()),
        toml_text("runtime", target.runtime.model_copy(update={"threads": threads})),
        toml_text("quantization", target.quantization),
        toml_text("rules", target.rules),
        toml_text("compute", calibrated.compute),
        "\n".join(source),
    )
    return "\n\n".join(parts) + "\n"


def _source(calibrated: Fitted, threads: int, where: str) -> str:
    return (
        f"Fitted by `edgec targets fit` to {calibrated.probes} small graphs timed on {where}, {threads} thread"
        f"{'s' * (threads > 1)}: median error {calibrated.median_error:.0%}, worst {calibrated.worst_error:.0%}. "
        "Peaks are those of the fastest graph, no data sheet's."
    )


def toml_text(name: str, table: BaseModel) -> str:
    """A table and those in it, floats to three digits; what is at its default goes without saying."""
    return "\n\n".join(_tables(name, table.model_dump(mode="json", exclude_none=True, exclude_defaults=True)))


def _tables(name: str, fields: Mapping[str, Any]) -> Iterator[str]:
    inner = {key: value for key, value in fields.items() if isinstance(value, dict)}
    lines = [f"{key} = {_toml(value)}" for key, value in fields.items() if key not in inner]
    if lines or not inner:
        yield "\n".join((f"[{name}]", *lines))
    for key, table in inner.items():
        yield from _tables(f"{name}.{key}", table)


def _toml(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
