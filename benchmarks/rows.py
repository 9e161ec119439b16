"""Benchmark results: a table for people, a line of JSON for machines, a file from which README and docs are written.

With `--output benchmarks/results/NAME.json` the rows are kept, with command, commit, machine, date and versions. A file
holds runs. A later run of the same commit on the same machine adds its rows and its seeds to the run that is there. A
run of another commit replaces the rows of the same name in earlier runs.
"""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from edgec.core.host import describe_host

__all__ = ["Row", "Run", "arguments", "commit", "kept", "over_seeds", "read_runs", "record", "show"]

ROOT = Path(__file__).resolve().parents[1]
MEASURED = ("toolchain", "targets", "calibration", "benchmarks", "tests/support", ":(exclude)benchmarks/results")
"""What a figure depends on; git's pathspecs."""
PACKAGES = ("numpy", "onnxruntime", "torch")
_DIRTY = "-dirty"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure: what, how much of what, over how many, with its spread, and against what peer or limit.

    Attributes:
        what: Parts with ": " between them, the quantity last, as in "ResNet-20: ours: accuracy".
        n: Seeds, images, runs or whatever the figure was taken over.
        low: Lower end of the interval or the least value; `high` likewise.
        against: The peer or limit; `ratio` is the value over that.
        seeds: Those that the figure was taken over, if any.
        values: What each of the seeds gave.
    """

    what: str
    value: float
    unit: str
    n: int
    low: float | None = None
    high: float | None = None
    against: str | None = None
    ratio: float | None = None
    seeds: tuple[int, ...] = ()
    values: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Run:
    """Rows of one state of the code on one machine.

    Attributes:
        commands: As typed in the root of the repository.
        commit: Of git; ends in "-dirty" where files that matter had changes.
        machine: As `edgec` describes it.
        date: Of the latest row, in UTC.
        versions: Of Python and the libraries that compute.
    """

    commands: tuple[str, ...]
    commit: str
    machine: str
    date: str
    versions: Mapping[str, str]
    rows: tuple[Row, ...]


def arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser with the flags that every benchmark has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object on the last line")
    parser.add_argument("--quick", action="store_true", help="fewer runs")
    parser.add_argument("--output", type=_output, metavar="FILE", help="keep the rows: benchmarks/results/NAME.json")
    return parser


def _output(text: str) -> Path:
    """The file, once it is known which code will have been measured: a long run may outlast it."""
    commit()
    return Path(text)


def over_seeds(what: str, unit: str, values: Mapping[int, float]) -> Row:
    """The mean over seeds, from the lowest to the highest."""
    seeds = tuple(sorted(values))
    figures = tuple(values[seed] for seed in seeds)
    spread = {"low": min(figures), "high": max(figures)}
    return Row(
        what=what, value=statistics.fmean(figures), unit=unit, n=len(seeds), seeds=seeds, values=figures, **spread
    )


def show(rows: Sequence[Row], *, as_json: bool, output: Path | None = None) -> None:
    """Prints the rows, and keeps them in a file."""
    head = ("what", "value", "unit", "n", "low", "high", "against", "ratio")
    table = Table(*head, title=describe_host())
    for row in rows:
        table.add_row(*(_cell(getattr(row, name)) for name in head))
    Console().print(table)
    if output:
        record(rows, output)
    if as_json:
        print(json.dumps({"rows": [asdict(row) for row in rows], "machine": describe_host()}))


def record(rows: Sequence[Row], path: Path) -> None:
    """Keeps the rows in a file, beside what it holds already."""
    run = Run(
        commands=(_command(),),
        commit=commit(),
        machine=describe_host(),
        date=datetime.now(timezone.utc).date().isoformat(),
        versions={"python": platform.python_version(), **_versions()},
        rows=tuple(rows),
    )
    runs = _merged(read_runs(path) if path.exists() else (), run)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"runs": [asdict(run) for run in runs]}, indent=1, ensure_ascii=False) + "\n", "utf-8")


def read_runs(path: Path) -> tuple[Run, ...]:
    """What a file of results holds."""
    held = json.loads(path.read_text(encoding="utf-8"))["runs"]
    return tuple(
        Run(**run | {"commands": tuple(run["commands"]), "rows": tuple(map(_row, run["rows"]))}) for run in held
    )


def kept(path: Path) -> dict[str, dict[int, float]]:
    """What the code as it is now has measured already: by the names of rows, what each seed gave."""
    runs = [run for run in read_runs(path) if run.commit == commit()] if path.exists() else []
    return {row.what: dict(zip(row.seeds, row.values, strict=True)) for run in runs for row in run.rows}


def _row(held: Mapping[str, object]) -> Row:
    return Row(**{name: tuple(value) if isinstance(value, list) else value for name, value in held.items()})


def _merged(runs: Sequence[Run], new: Run) -> tuple[Run, ...]:
    names = {(row.what, row.unit) for row in new.rows}
    kept = []
    for run in runs:
        rows = tuple(row for row in run.rows if (row.what, row.unit) not in names)
        if _same_state(run, new):
            before = {(row.what, row.unit): row for row in run.rows}
            grown = tuple(_joined(before.get((row.what, row.unit)), row) for row in new.rows)
            commands = tuple(dict.fromkeys((*run.commands, *new.commands)))
            new = replace(new, commands=commands, rows=(*rows, *grown))
        elif rows:
            kept.append(replace(run, rows=rows))
    return (*kept, new)


def _same_state(run: Run, other: Run) -> bool:
    """Whether the same code ran on the same machine; of code with changes nobody knows."""
    same = (run.commit, run.machine, run.versions) == (other.commit, other.machine, other.versions)
    return same and not run.commit.endswith(_DIRTY)


def _joined(before: Row | None, row: Row) -> Row:
    """The row, over the seeds of both."""
    if before is None or not (before.seeds and row.seeds):
        return row
    values = dict(zip(before.seeds, before.values, strict=True)) | dict(zip(row.seeds, row.values, strict=True))
    return replace(over_seeds(row.what, row.unit, values), against=row.against)


def _command() -> str:
    """The command line; of paths outside the repository, the name alone."""
    script, *given = sys.argv
    return shlex.join(["python", *map(_relative, (str(Path(script).resolve()), *given))])


def _relative(argument: str) -> str:
    path = Path(argument)
    if not path.is_absolute():
        return argument
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name


@cache
def commit() -> str:
    """The commit when this process began, where the code that was imported is the checkout's."""
    import edgec

    if not Path(edgec.__file__).resolve().is_relative_to(ROOT):
        raise SystemExit(f"edgec was imported from {Path(edgec.__file__).parent}; results of {ROOT.name} need its own")
    return _git("rev-parse", "HEAD") + (_DIRTY if _git("status", "--porcelain", "--", *MEASURED) else "")


def _git(*command: str) -> str:
    done = subprocess.run(["git", *command], cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def _versions() -> dict[str, str]:
    """Of the packages that are installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _cell(value: str | float | None) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
