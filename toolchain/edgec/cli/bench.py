"""`edgec bench`: what a bundle takes, on this machine or on a device."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgec.cli.devices import find_device, one_device
from edgec.cli.say import say
from edgec.cli.trust import find_trust, require_signed, signed_by
from edgec.core.errors import ConfigError, TransportError

if TYPE_CHECKING:
    from edgec.bench.bundle import BenchResult
    from edgec.deploy.fleet import Device
    from edgec.package import Trust

__all__ = ["command"]

MOST = 1024
"""Images at once; more would only fill the memory."""
DEVICE_S = 1800.0
"""What a device may take beside the measurement: for some engines it builds one first."""


class BatchesType(click.ParamType):
    """Numbers of images at once."""

    name = "n,n,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """The numbers, in ascending order, each once."""
        del ctx
        if isinstance(value, tuple):
            return value
        flag = param.opts[0] if param else "batch"
        try:
            numbers = sorted({int(part) for part in str(value).split(",")})
        except ValueError as error:
            raise ConfigError(f"{flag} {value}: expected whole numbers", hint=f"as in {flag} 1,8,32") from error
        if numbers[0] < 1 or numbers[-1] > MOST:
            raise ConfigError(f"{flag} {value}: expected numbers from 1 to {MOST}", hint=f"as in {flag} 1,8,32")
        return tuple(numbers)


@click.command("bench")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--batch", "batches", type=BatchesType(), default="1", show_default=True, help="Batch sizes, as in 1,8,32."
)
@click.option(
    "--threads", type=click.IntRange(min=1), metavar="N", help="Threads within an operator. Default: the bundle's."
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.1),
    metavar="S",
    default=10.0,
    show_default=True,
    help="Time for the latency of each batch size, warm-up included.",
)
@click.option(
    "--repeats",
    type=click.IntRange(min=1),
    metavar="N",
    default=6,
    show_default=True,
    help="Measurements of memory and energy; 6 or more give an interval.",
)
@signed_by
@one_device
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    bundle: Path,
    *,
    batches: tuple[int, ...],
    threads: int | None,
    seconds: float,
    repeats: int,
    key: Path | None,
    certificate: Path | None,
    device: str,
    as_json: bool,
    **login: Any,
) -> None:
    """Measure a BUNDLE here or on a device: latency, throughput by batch size, memory, and energy where known.

    BUNDLE is a folder or an archive. After a warm-up, it runs until times are steady. Clocks, power mode and
    temperature are noted; a drift during the runs is reported. On a device, the bundle is installed at PATH where it is
    missing, and stays there; the version that runs is not switched. --key and --certificate are checked here, before
    that; the device must measure the bundle with the same digest.
    """
    there, trust = find_device(device, login), find_trust(key, certificate)
    measure = partial(_on_device, device=there) if there else _here
    record, result = measure(bundle, batches, threads, seconds, repeats=repeats, trust=trust)
    if as_json:
        click.echo(json.dumps(record))
    else:
        _print(result)


def _here(
    bundle: Path,
    batches: tuple[int, ...],
    threads: int | None,
    seconds: float,
    *,
    repeats: int,
    trust: Trust | None,
) -> tuple[dict[str, Any], BenchResult]:
    from edgec.bench.bundle import bench
    from edgec.runtime import load_model

    model = load_model(bundle, trust=trust, threads=threads, batch=max(batches))
    if model.note:
        say(f"note: {model.note}", err=True)
    result = bench(model, batches=batches, seconds=seconds, repeats=repeats, threads=threads)
    return {"bundle": str(bundle), "digest": model.bundle.digest, **result.as_json()}, result


def _on_device(
    bundle: Path,
    batches: tuple[int, ...],
    threads: int | None,
    seconds: float,
    *,
    repeats: int,
    trust: Trust | None,
    device: Device,
) -> tuple[dict[str, Any], BenchResult]:
    import asyncio

    from pydantic import TypeAdapter, ValidationError

    from edgec.bench.bundle import BenchResult
    from edgec.deploy.payload import Payload
    from edgec.deploy.remote import bench_there

    require_signed(bundle, trust)
    payload = Payload.of(bundle)
    options = ["--batch", ",".join(map(str, batches)), "--seconds", str(seconds), "--repeats", str(repeats)]
    options += ["--threads", str(threads)] if threads else []
    limit_s = DEVICE_S + len(batches) * seconds
    work = bench_there(payload, device, options, limit_s=limit_s, tell=_teller(device))
    said = asyncio.run(work)
    for note in said.notes:
        say(note, err=True)
    try:
        result = TypeAdapter(BenchResult).validate_json(said.text)
    except ValidationError as error:
        raise TransportError(
            f"'{device.url}': the device gave no valid result", hint="install the same edgec on both sides"
        ) from error
    record = json.loads(said.text)
    if record.get("digest") != payload.version.digest:
        raise TransportError(
            f"'{device.url}': the device measured bundle {record.get('digest')!s:.12}, "
            f"expected {payload.version.digest:.12}",
            hint="look at the versions there: edgec status",
        )
    return {**record, "bundle": str(bundle), "device": device.url}, result


def _teller(device: Device) -> Callable[[str], None]:
    return lambda step: say(f"{device.name}: {step}", err=True)


def _print(result: BenchResult) -> None:
    from rich import box
    from rich.table import Table

    from edgec.cli.console import Terminal, print_paragraph

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True)
    with_energy = any(row.energy_j is not None for row in result.batches)
    times = ("p50 ms", "p90 ms", "p95 ms", "p99 ms")
    for column in ("batch", *times, "images/s", *(("J/image",) if with_energy else ()), "runs"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in result.batches:
        latency = row.latency
        times = (f"{percentile.value_ms:.4g}" for percentile in (latency.p50, latency.p90, latency.p95, latency.p99))
        energy = (f"{row.energy_j.value:.3g}" if row.energy_j is not None else "–",) if with_energy else ()
        rate = f"{row.images_per_s:,.{0 if row.images_per_s >= 100 else 2}f}"
        table.add_row(str(row.batch), *times, rate, *energy, f"{latency.runs:,}")
    console = Terminal()
    console.print(table, "", sep="\n")
    for lead, text in _lines(result):
        print_paragraph(console, text, lead=f"{lead}: ")
    for note in result.notes:
        print_paragraph(console, note, lead="note: ", style="dim")


def _lines(result: BenchResult) -> list[tuple[str, str]]:
    """Machine and memory, and in what state the machine was."""
    threads = f"{result.threads} thread{'s' * (result.threads > 1)}" if result.threads else "threads by the runtime"
    lines = [("measured on", f"{result.where}; {result.provider}, {threads}")]
    memory = result.memory_mb
    between = "" if memory.low is None else f" ({memory.low:.1f} to {memory.high:.1f})"
    lines.append(("peak memory", f"{memory.value:.1f} MB{between}, one image, n = {memory.runs}"))
    state, end = result.before, result.after
    told = [
        state.governor and f"governor {state.governor}",
        end.clock_mhz and f"{end.clock_mhz:.0f} MHz",
        end.clock_limit_mhz and f"at most {end.clock_limit_mhz:.0f} MHz",
        result.power_mode and f"power mode {result.power_mode}",
        end.temperature_c and f"{end.temperature_c:.0f} °C",
    ]
    if any(told):
        lines.append(("state", ", ".join(filter(None, told))))
    if result.energy_source:
        lines.append(("energy", result.energy_source))
    return lines
