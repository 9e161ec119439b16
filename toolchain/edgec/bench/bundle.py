"""What a bundle's model takes on this machine: latency and throughput by batch, memory, energy, and in what state."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgec.bench.energy import measure_energy
from edgec.bench.footprint import peak_memory_mb
from edgec.bench.latency import Latency, measure_latency
from edgec.bench.machine import EnergyMeter, MachineState, machine_state, power_mode
from edgec.bench.repeats import FEWEST, Repeated
from edgec.core.host import describe_host

if TYPE_CHECKING:
    from edgec.runtime import Model

__all__ = ["BatchResult", "BenchResult", "bench"]

_DRIFT = 0.05
"""A change over the measurement that is worth a word; steady runs here stay within 2 %."""
_ENOUGH = 1_000_000
"""More runs than any measurement makes: it lasts as long as it was asked to."""


@dataclass(frozen=True, kw_only=True)
class BatchResult:
    """Inferences of a number of images at once.

    Attributes:
        latency: Of the whole batch.
        energy_j: Per image; None where the machine does not tell.
    """

    batch: int
    latency: Latency
    energy_j: Repeated | None

    @property
    def images_per_s(self) -> float:
        """Throughput at the median."""
        return 1e3 * self.batch / self.latency.p50.value_ms


@dataclass(frozen=True, kw_only=True)
class BenchResult:
    """All of it.

    Attributes:
        where: The machine.
        provider: What ran the model.
        threads: Threads within an operator; None where the runtime chose.
        memory_mb: The most that a fresh process holds that runs one image.
        power_mode: Of a Jetson.
        before: State of the machine when it was idle.
        after: State at the end.
        energy_source: Who told the energy.
        notes: What was not available, and what to be wary of.
    """

    where: str
    provider: str
    threads: int | None
    memory_mb: Repeated
    power_mode: str | None
    before: MachineState
    after: MachineState
    energy_source: str | None
    batches: tuple[BatchResult, ...]
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """JSON values."""
        fields = asdict(self)
        for record, result in zip(fields["batches"], self.batches, strict=True):
            record["images_per_s"] = result.images_per_s
        return fields


def bench(
    model: Model,
    *,
    batches: Sequence[int],
    seconds: float,
    threads: int | None = None,
    repeats: int = FEWEST,
    measure: Callable[..., Latency] = measure_latency,
) -> BenchResult:
    """Measures a model, batch by batch; the images are grey, which the time does not depend on.

    Args:
        model: As `runtime.load_model` gives it, loaded for the largest batch.
        batches: Numbers of images at once.
        seconds: For the latency of each batch, warm-up included.
        repeats: Measurements of memory and energy, of which the median is told.
        threads: With which the model was loaded.
        measure: Times one call, again and again.
    """
    before, results = machine_state(), []
    meters: list[EnergyMeter] = []
    for batch in batches:
        run = _runner(model, batch)
        run()
        latency = measure(run, warmup_s=min(0.5, seconds / 4), min_runs=_ENOUGH, max_seconds=seconds)
        energy_j, meter = measure_energy(run, images=batch, times=repeats)
        results.append(BatchResult(batch=batch, latency=latency, energy_j=energy_j))
        meters.append(meter)
    memory_mb = _memory_mb(model, threads, repeats)
    after = machine_state()
    return BenchResult(
        where=describe_host(),
        provider=model.session.providers[0],
        threads=threads or model.bundle.manifest.runtime.threads,
        memory_mb=memory_mb,
        power_mode=power_mode(),
        before=before,
        after=after,
        energy_source=meters[0].source,
        batches=tuple(results),
        notes=tuple(_notes(results, before, after, meters[0])),
    )


def _runner(model: Model, batch: int) -> Callable[[], object]:
    spec = model.bundle.manifest.input
    tensor = model.session.feed(np.full((batch, spec.height, spec.width, spec.channels), 128, np.uint8))
    return lambda: model.session.logits(tensor)


def _memory_mb(model: Model, threads: int | None, times: int) -> Repeated:
    manifest = model.bundle.manifest
    with tempfile.TemporaryDirectory(prefix="edgec-") as folder:
        file = Path(folder) / "model.onnx"
        file.write_bytes(model.bundle.read_bytes(manifest.model.file))
        raw = manifest.preprocessing_in_graph
        return peak_memory_mb(file, manifest.input, times=times, preprocessing_in_graph=raw, threads=threads)


def _notes(results: Sequence[BatchResult], before: MachineState, after: MachineState, meter: EnergyMeter) -> list[str]:
    notes = []
    for result in results:
        drift, p50 = result.latency.drift, result.latency.p50
        if not result.latency.steady:
            notes.append(f"batch {result.batch}: times had not settled when the warm-up was over, measure for longer")
        if abs(drift - 1) > _DRIFT:
            way = "slower" if drift > 1 else "faster"
            notes.append(
                f"batch {result.batch}: the last third of the runs was {abs(drift - 1):.0%} {way} than the first"
                f"{_heat(before, after)}, the median of {p50.value_ms:.3g} ms is of no one state"
            )
    if before.governor and before.governor != "performance":
        notes.append(f"clocks follow the governor '{before.governor}': figures hold for it, not for full clocks")
    missing = [
        name for name, value in (("clocks", before.clock_mhz), ("temperature", before.temperature_c)) if value is None
    ]
    notes += [f"{' and '.join(missing)}: not available here"] if missing else []
    notes += [meter.reason] if meter.reason else []
    return notes


def _heat(before: MachineState, after: MachineState) -> str:
    if before.temperature_c is None or after.temperature_c is None:
        return ""
    return f" ({before.temperature_c:.0f} °C before, {after.temperature_c:.0f} °C after)"
