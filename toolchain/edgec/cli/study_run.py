"""Carries out what `edgec study` was asked for: the runs and their files, or a list of what would run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from typing_extensions import Self

from edgec.cli.caches import opened_store

if TYPE_CHECKING:
    from edgec.pipeline.store import Store
    from edgec.study.few_sample.findings import Findings
    from edgec.study.few_sample.plan import Run
    from edgec.study.imbalance.findings import Findings as ImbalanceFindings
    from edgec.study.imbalance.plan import Run as ImbalanceRun
    from edgec.study.long_tail.findings import Findings as LongTailFindings
    from edgec.study.long_tail.plan import Run as LongTailRun

__all__ = ["Kind", "Outlet", "carry_out", "few_sample_record", "imbalance_record", "long_tail_record"]

RunT = TypeVar("RunT", bound="Run | ImbalanceRun | LongTailRun")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What studies do in their own way.

    Attributes:
        name: Of the command.
        run: Makes the findings of a study.
        write: Writes them into a folder.
        show: Prints them, and where the page is.
        record: What a run is about, for a dry run's JSON.
    """

    name: str
    run: Callable[..., Any]
    write: Callable[[Any, Path], None]
    show: Callable[[Any, Path], None]
    record: Callable[[Any], Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Outlet:
    """Options that say where results go, and how.

    Attributes:
        output: Folder for the results; None is the study's own.
        cache: Keeps finished runs.
        cache_from: Shared caches to take runs from.
        cache_to: Shared caches to keep runs in.
        workers: Processes that make runs.
        dry_run: Say what would run, and stop.
        as_json: One JSON object instead of tables.
    """

    output: Path | None
    cache: Path
    cache_from: tuple[str, ...]
    cache_to: tuple[str, ...]
    workers: int
    dry_run: bool
    as_json: bool

    @classmethod
    def taken(cls, options: dict[str, Any]) -> Self:
        """Takes its own options out of a command's."""
        return cls(**{field.name: options.pop(field.name) for field in fields(cls)})


def carry_out(kind: Kind, study: Any, outlet: Outlet) -> None:
    """Runs a bound study and writes its files, or says what would run."""
    from edgec.cli.console import ConsoleProgress
    from edgec.pipeline.store import Store
    from edgec.study.files import require_folder

    if outlet.dry_run:
        _print_plan(kind.name, study.runs, Store(outlet.cache), kind.record if outlet.as_json else None)
        return
    suffix = "" if kind.name == "few-sample" else f"-{kind.name}"
    folder = outlet.output or Path("study") / f"{study.plan.config.name}{suffix}"
    require_folder(folder)
    progress, places = ConsoleProgress(), {"cache_from": outlet.cache_from, "cache_to": outlet.cache_to}
    with opened_store(outlet.cache, **places, progress=progress) as store:
        findings = kind.run(study, store=store, progress=progress, workers=outlet.workers)
    kind.write(findings, folder)
    if outlet.as_json:
        _print_answer(findings, folder)
    else:
        kind.show(findings, folder)


def _print_plan(
    study: str, runs: Sequence[RunT], store: Store, record: Callable[[RunT], Mapping[str, Any]] | None
) -> None:
    """What would run: lines, or JSON where there is a record of a run."""
    held = [store.holds(run.key) for run in runs]
    if record is not None:
        told = [
            {**record(run), "seed": run.seed, "key": run.key.key, "cached": cached}
            for run, cached in zip(runs, held, strict=True)
        ]
        click.echo(json.dumps({"study": study, "runs": told}))
        return
    from rich.table import Table
    from rich.text import Text

    from edgec.cli.console import Terminal

    table = Table("run", "state", box=None, pad_edge=False)
    for run, cached in zip(runs, held, strict=True):
        table.add_row(Text(run.title), "cached" if cached else "to do")
    Terminal().print(table)


def few_sample_record(run: Run) -> Mapping[str, Any]:
    """What a run of `few-sample` is about."""
    cell = run.cell
    return {
        "method": cell.method,
        "variant": cell.variant.name,
        "samples": cell.samples,
        "imbalance": cell.imbalance,
    }


def imbalance_record(run: ImbalanceRun) -> Mapping[str, Any]:
    """What a run of `imbalance` is about."""
    draw = run.cell.draw
    return {
        "profile": draw.profile or "balanced",
        "minority": draw.minority,
        "imbalance": draw.imbalance,
        "compression": run.cell.compression,
    }


def long_tail_record(run: LongTailRun) -> Mapping[str, Any]:
    """What a run of `long-tail` is about."""
    from edgec.study.long_tail.table import cell_record

    return cell_record(run.cell)


def _print_answer(findings: Findings | ImbalanceFindings | LongTailFindings, folder: Path) -> None:
    from edgec.study.files import JSON

    answer = {
        "results": str(folder / JSON),
        "runs": len(findings.outcomes),
        "cached": findings.cached,
        "seconds": round(findings.seconds, 3),
    }
    click.echo(json.dumps(answer))
