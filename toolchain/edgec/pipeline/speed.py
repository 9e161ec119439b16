"""How fast the file that ships is beside the teacher and FP32: predicted for a device, measured on this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgec.bench.energy import measure_energy
from edgec.bench.footprint import peak_memory_mb
from edgec.bench.latency import Turns, latency_measurements, measure_in_turns
from edgec.bench.payoff import Payoff, compare_turns, payoff_note, profile_kernels, reasons
from edgec.bench.repeats import FEWEST
from edgec.core.compute import Compute
from edgec.core.errors import UnsupportedError
from edgec.core.facts import LatencyCurve, OperatorLatency
from edgec.core.host import describe_host, this_host
from edgec.core.measurement import Kind, Machine, Measurement, Stage
from edgec.core.target import Scheme, is_like
from edgec.pipeline.sources import Sources

if TYPE_CHECKING:
    from edgec.latency.roofline import Prediction

__all__ = ["Speed", "speed_of", "with_teacher"]

SLOWEST = 10
"""Operators that the report names."""
_SECONDS = 6.0


@dataclass(frozen=True, kw_only=True)
class Speed:
    """What was found.

    Attributes:
        measurements: Latencies, speed-ups, multiply-adds, memory and energy.
        operators: The slowest on the device, by its profile.
        curves: How the times of single runs were spread here.
        notes: What the reader should know.
    """

    measurements: tuple[Measurement, ...]
    operators: tuple[OperatorLatency, ...]
    curves: tuple[LatencyCurve, ...]
    notes: tuple[str, ...]


@contextmanager
def with_teacher(sources: Sources, models: Mapping[Stage, Path]) -> Iterator[Mapping[Stage, Path]]:
    """The graphs of a build, with the teacher's in FP32 before them while the block lasts, where it is another one."""
    plan = sources.plan
    if not plan.compresses:
        yield models
        return
    from edgec.export.onnx import export_onnx

    with tempfile.TemporaryDirectory(prefix="edgec-") as folder:
        path, raw = Path(folder) / "teacher.onnx", plan.config.export.preprocess_in_graph
        export_onnx(sources.classifier, path, opset=plan.target.runtime.opset, preprocess_in_graph=raw)
        yield {Stage.TEACHER: path, **models}


def speed_of(sources: Sources, models: Mapping[Stage, Path]) -> Speed:
    """Predicts for the target, where it has a profile, and measures here.

    Args:
        sources: Plan and test images.
        models: As `with_teacher` gives them; without a teacher among them, it is the one before quantisation.
    """
    teacher = Stage.TEACHER if Stage.TEACHER in models else Stage.COMPRESSED
    predicted, operators, notes = _on_device(sources, models, teacher)
    measured, curves, more = _on_this_machine(sources, models, teacher)
    work = [row for stage, of in _compared(teacher) for row in _multiply_adds(models[of], stage)]
    return Speed(
        measurements=(*work, *predicted, *measured),
        operators=tuple(operators),
        curves=tuple(curves),
        notes=(*notes, *more),
    )


def _compared(teacher: Stage) -> tuple[tuple[Stage, Stage], ...]:
    """Whose rows there are, and whose graph they are of."""
    return (Stage.TEACHER, teacher), (Stage.ARTIFACT, Stage.ARTIFACT)


def _multiply_adds(model: Path, stage: Stage) -> list[Measurement]:
    """Of one image; nothing where the graph has an operator whose work cannot be counted."""
    from edgec.latency.workload import read_workload

    try:
        count = sum(work.macs for work in read_workload(model, batch=1))
    except UnsupportedError:
        return []
    row = {"name": "multiply_adds", "value": count, "unit": "multiply-adds", "n": 1, "where": "the graph, one image"}
    return [Measurement(stage=stage, **row)] if count else []


def _on_device(
    sources: Sources, models: Mapping[Stage, Path], teacher: Stage
) -> tuple[list[Measurement], list[OperatorLatency], list[str]]:
    """What the profile predicts, where the device is not this machine."""
    from edgec.latency.advice import advise
    from edgec.latency.roofline import predict_latency

    target = sources.plan.target
    if target.compute is None:
        return [], [], []
    prediction = predict_latency(models[Stage.ARTIFACT], target)
    operators = _operators(prediction, target.compute)
    if target.family == "host":
        return [], operators, list(advise(prediction, target.compute))
    notes = [f"latency on {target.title} is predicted from its profile: no such device was at hand"]
    if target.runtime.engine == "tensorrt":
        notes.append("no TensorRT engine was built: engines fit one GPU and one TensorRT; the device builds its own")
    notes += advise(prediction, target.compute)
    before = predict_latency(models[teacher], target)
    rows = [before.measurement(Stage.TEACHER), prediction.measurement(Stage.ARTIFACT)]
    return [*rows, _predicted_speedup(before, prediction)], operators, notes


def _operators(prediction: Prediction, compute: Compute) -> list[OperatorLatency]:
    from edgec.latency.advice import advice_of

    return [
        OperatorLatency(name=cost.name, op=cost.op_type, ms=cost.latency_ms, advice=advice_of(cost, compute))
        for cost in prediction.operators[:SLOWEST]
    ]


def _predicted_speedup(before: Prediction, after: Prediction) -> Measurement:
    """The teacher's time over the artifact's; errors of the two go together, so that there is no interval."""
    ratio = before.latency_ms / after.latency_ms
    row = {"name": "teacher_speedup", "value": ratio, "unit": "times", "n": 0, "where": after.where}
    return Measurement(stage=Stage.ARTIFACT, kind=Kind.PREDICTED, machine=Machine.TARGET, **row)


def _on_this_machine(
    sources: Sources, models: Mapping[Stage, Path], teacher: Stage
) -> tuple[list[Measurement], list[LatencyCurve], list[str]]:
    """Latency of one image, of every graph in turn; the memory that a process needs for it, its energy if known."""
    target, spec = sources.plan.target, sources.plan.model.input
    is_target = target.family == "host"
    where = target.title if is_target else describe_host()
    machine = Machine.TARGET if is_target else Machine.OTHER
    sessions = {stage: sources.session(path) for stage, path in models.items()}
    tensor = sessions[Stage.ARTIFACT].feed(sources.test.pixels[np.arange(1)])
    runs = {stage: (lambda session=session: session.logits(tensor)) for stage, session in sessions.items()}
    turns = dict(zip(models, measure_in_turns(list(runs.values()), max_seconds=_SECONDS), strict=True))
    shown = {Stage.TEACHER: turns[teacher], **turns}
    rows = [
        row
        for stage, taken in shown.items()
        for row in latency_measurements(taken.latency, stage=stage, where=where, machine=machine)
    ]
    found, notes = _speedups(sources, models, turns, teacher, tensor)
    rows += [payoff.measurement(name, where=where, machine=machine) for name, payoff in found.items()]
    # Of another machine one figure will do: it decides nothing.
    times = FEWEST if is_target else 1
    memory_mb = peak_memory_mb(models[Stage.ARTIFACT], spec, times=times, preprocessing_in_graph=sources.raw)
    rows.append(memory_mb.measurement("peak_memory_mb", "MB", where=where, machine=machine))
    energy_j, _ = measure_energy(runs[Stage.ARTIFACT], times=times)
    rows += [energy_j.measurement("energy_j", "J", where=where, machine=machine)] if energy_j else []
    curves = [
        LatencyCurve(stage=stage, where=where, n=taken.latency.runs, quantiles_ms=_rounded(taken.latency.quantiles_ms))
        for stage, taken in turns.items()
    ]
    return rows, curves, notes


def _rounded(times_ms: Sequence[float]) -> tuple[float, ...]:
    """To four digits: a picture needs no more."""
    return tuple(float(f"{time_ms:.4g}") for time_ms in times_ms)


def _speedups(
    sources: Sources, models: Mapping[Stage, Path], turns: Mapping[Stage, Turns], teacher: Stage, tensor: np.ndarray
) -> tuple[dict[str, Payoff], list[str]]:
    """By measure: against FP32 and against the teacher, where this machine is one that the target stands for.

    How fast another machine is says nothing of a device.
    """
    target, artifact = sources.plan.target, turns[Stage.ARTIFACT]
    if not is_like(target, this_host()) or sources.engine != target.runtime.engine or sources.plan.as_given:
        return {}, []
    found, notes, scheme = dict[str, Payoff](), list[str](), target.quantization.scheme
    if scheme is not Scheme.FLOAT32:
        found["speedup"] = compare_turns(turns[Stage.COMPRESSED], artifact)
        notes += _payoff_notes(found["speedup"], scheme, models, tensor)
    if teacher is Stage.TEACHER:
        found["teacher_speedup"] = compare_turns(turns[teacher], artifact)
    return found, notes


def _payoff_notes(payoff: Payoff, scheme: Scheme, models: Mapping[Stage, Path], tensor: np.ndarray) -> list[str]:
    """Says so where the scheme does not pay on a machine that is both builder and target, and why."""
    if not (payoff.fails or payoff.is_open):
        return []
    why: list[str] = []
    if payoff.fails:
        fp32, artifact = (profile_kernels(models[stage], tensor) for stage in (Stage.COMPRESSED, Stage.ARTIFACT))
        why = reasons(fp32, artifact, scheme=scheme, host=this_host())
    return [payoff_note(payoff, why, scheme)]
