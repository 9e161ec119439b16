"""The tables of README and docs that hold measured figures, written from `benchmarks/results/*.json`.

A benchmark keeps its rows there with `--output`. The name of a row has parts, the quantity last: `table` makes a line
of the rows that share all parts but the last, and a column of every quantity; `lines` picks single rows. Both say what
measured them. A figure that its file does not hold is a `KeyError`; where there is no file yet, a part stays as it is.
"""

from __future__ import annotations

import re
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from scipy.stats import t

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "benchmarks"))  # behind docs/, which has names of its own

from rows import Row, Run, read_runs  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
_MINUS = str.maketrans("-", "−")
Form = Callable[[Row], str]
"""How a row's figure is written."""


class NotMeasured(Exception):  # noqa: N818  no error: the part has to wait
    """No file of that name is in `benchmarks/results`."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table: its heading, the last part of its rows' names, and how their figures are written."""

    head: str
    quantity: str
    form: Form


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of a list: what it is, and rows of a file by name."""

    what: str
    file: str
    figures: Sequence[tuple[str, Form]]


def table(
    file: str,
    *,
    by: Sequence[str],
    columns: Sequence[Column],
    under: str = "",
    titles: Mapping[str, str] | None = None,
) -> str:
    """A table with a line for each group of rows.

    Args:
        file: Its name in `benchmarks/results`, without the ending.
        by: Headings of the parts that group rows, from the left; a row with fewer parts leaves the last ones empty.
        columns: Quantities, from left to right; a group that lacks one leaves it empty.
        under: Leading parts, as in "cifar10-resnet20: 50 at 100", of the rows to take; they are not shown.
        titles: What is written for a part instead of itself.
    """
    groups: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in _rows(file):
        if row.what.startswith(under):
            *parts, quantity = row.what.removeprefix(under).removeprefix(": ").split(": ")
            if len(parts) <= len(by) and quantity in {column.quantity for column in columns}:
                groups.setdefault(tuple(parts), {})[quantity] = row
    if not groups:
        raise KeyError(f"no row of {file} is named '{under}' with {len(by)} parts and one of the quantities behind it")
    shown = titles or {}
    body = [
        (
            *(shown.get(part, part) for part in parts),
            *[""] * (len(by) - len(parts)),
            *(column.form(found[column.quantity]) if column.quantity in found else "" for column in columns),
        )
        for parts, found in groups.items()
    ]
    return f"{markdown((*by, *(column.head for column in columns)), body)}\n\n{source(file)}"


def subjects(file: str) -> tuple[str, ...]:
    """The first parts of the names of a file's rows, each once, in their order."""
    return tuple(dict.fromkeys(row.what.partition(": ")[0] for row in _rows(file)))


def lines(listed: Sequence[Line], *, head: tuple[str, str, str] = ("what", "found", "measured by")) -> str:
    """A table of single figures, each with its command; those whose file is not there yet are left out."""
    body = []
    for line in (line for line in listed if is_measured(line.file)):
        found = [_find(line.file, what) for what, _ in line.figures]
        written = "; ".join(form(row) for (_, row), (_, form) in zip(found, line.figures, strict=True))
        commands = dict.fromkeys(f"`{short_command(run, row.what)}`" for run, row in found)
        body.append((line.what, written, ", ".join(commands)))
    return markdown(head, body)


def is_measured(file: str) -> bool:
    """Whether there is such a file."""
    return (RESULTS / f"{file}.json").exists()


def require_measured(file: str) -> None:
    """Raises `NotMeasured` where there is no such file."""
    if not is_measured(file):
        raise NotMeasured(file)


def source(file: str) -> str:
    """What measured a file's rows: command, commit, machine and day of each run."""
    return f"Measured by {'; '.join(map(_told, _runs(file)))}."


def short_command(run: Run, what: str) -> str:
    """The run's command that names most of what a row is about, the latest of several, without the file it writes."""
    words = set(re.split(r":?\s+", what))
    named = max(reversed(run.commands), key=lambda command: len(words.intersection(command.split())))
    return named.partition(" --output")[0]


def command_of(file: str, what: str) -> str:
    """The command that measured a row."""
    run, row = _find(file, what)
    return short_command(run, row.what)


def figure(file: str, what: str, form: Form) -> str:
    """A single figure, for a sentence."""
    return form(_find(file, what)[1])


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; a pipe inside a cell would end it."""
    body = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in body)


def percent(row: Row) -> str:
    """A share with its least and greatest value, or the ends of its interval."""
    return f"{_percents(row.value)} %{_ends(row, _percents)}"


def percent_alone(row: Row) -> str:
    """A share without a spread."""
    return _percents(row.value)


def plain_number(row: Row) -> str:
    """A number without a unit, to two digits behind the point."""
    return f"{row.value:.2f}".translate(_MINUS)


def percent_deviation(row: Row) -> str:
    """A share in percent, with its deviation over seeds."""
    if len(row.values) < 2:
        return _percents(row.value)
    return f"{_percents(row.value)} ± {_percents(statistics.stdev(row.values))}"


def interval_over_seeds(row: Row) -> str:
    """A share in percent with the 95 % interval of its mean over seeds, by Student's t."""
    n = len(row.values)
    if n < 2:
        return _percents(row.value)
    half = float(t.ppf(0.975, n - 1)) * statistics.stdev(row.values) / n**0.5
    return f"{_percents(row.value)} ({_percents(row.value - half)} to {_percents(row.value + half)})"


def points(row: Row) -> str:
    """A difference of shares in percentage points."""
    return f"{_percents(row.value)} points{_ends(row, _percents)}"


def times(row: Row) -> str:
    """What the row is against, as a multiple of it."""
    if row.ratio is None:
        raise KeyError(f"{row.what} is against nothing")
    return f"{row.ratio:.3g} ×"


def seconds(row: Row) -> str:
    """A time with its range."""
    return f"{row.value:.2g} s{_ends(row, lambda value: f'{value:.2g}')}"


def count(row: Row) -> str:
    """How many of how many."""
    return f"{row.value:,.0f} of {row.n:,}"


def _percents(share: float) -> str:
    return f"{100 * share:.1f}".translate(_MINUS)


def _ends(row: Row, text: Callable[[float], str]) -> str:
    """The spread and what it was taken over."""
    over = f"{len(row.seeds)} seeds" if row.seeds else f"n = {row.n:,}"
    if row.low is None or row.high is None:
        return f" ({over})"
    return f" ({text(row.low)} to {text(row.high)}, {over})"


def _find(file: str, what: str) -> tuple[Run, Row]:
    for run in _runs(file):
        for row in run.rows:
            if row.what == what:
                return run, row
    raise KeyError(f"{RESULTS.name}/{file}.json has no row '{what}'")


def _rows(file: str) -> list[Row]:
    return [row for run in _runs(file) for row in run.rows]


def _runs(file: str) -> tuple[Run, ...]:
    require_measured(file)
    return read_runs(RESULTS / f"{file}.json")


def _told(run: Run) -> str:
    commands = " and ".join(f"`{command}`" for command in run.commands)
    return f"{commands} at commit {_commit(run)} on {run.machine}, {_day(run.date)}"


def _commit(run: Run) -> str:
    commit, dirty, _ = run.commit.partition("-dirty")
    return f"`{commit[:12]}`{' with changes' if dirty else ''}"


def _day(text: str) -> str:
    day = date.fromisoformat(text)
    return f"{day.day} {day:%B %Y}"
