"""README and docs: measured figures come from committed files."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
RESULTS = ROOT / "benchmarks" / "results"
GENERATED = re.compile(r"<!-- begin [\w-]+ -->\n.*?<!-- end [\w-]+ -->", re.DOTALL)
TABLE = re.compile(r"(?:^\|.*\n?)+", re.MULTILINE)
MEASURED = re.compile(
    r"\| \**[+−]?\d[\d,.]*\** ?(?:[±(|]|(?:%|×|points|ms|s|kB|MB|GB|a second|periods)\**(?= ?[|(,;]))"
)
"""A cell that begins with a figure."""
BY_HAND = re.compile(r"commit\s`[0-9a-f]{7,40}`")
"""What the section of a table without a file must say."""
PENDING = {("results.md", "What brings it"), ("serving.md", "3. Serving")}
"""Sections whose tables are about to be measured anew, and one whose figures are limits that are set."""
NOT_YET = {"exported"}
"""Files of results that are to come; until then their parts stay as they are."""


def sections(page: Path) -> Iterator[tuple[str, str]]:
    """Heading and text of each section, without what is generated."""
    text = GENERATED.sub("", page.read_text(encoding="utf-8"))
    for part in re.split(r"^#+ ", text, flags=re.MULTILINE):
        heading, _, body = part.partition("\n")
        yield heading, body


def by_hand(page: Path) -> Iterator[tuple[str, str]]:
    """Headings and texts of sections that hold measured figures in tables which nobody generates."""
    for heading, body in sections(page):
        if any(MEASURED.search(found[0]) for found in TABLE.finditer(body)):
            yield heading, body


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """What README and docs say that was measured."""
    return import_module("measured")


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """With results of its own."""
    module = import_module("figures")
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    return module


def keep(figures: ModuleType, folder: Path, name: str, **figures_by_name: float) -> None:
    rows = [figures.Row(what=what, value=value, unit="share", n=50) for what, value in figures_by_name.items()]
    run = {
        "commands": ["python benchmarks/made_up.py --output benchmarks/results/a.json"],
        "commit": "0123456789abcdef0123",
        "machine": "a machine",
        "date": "2026-11-29",
        "versions": {},
        "rows": [vars(row) for row in rows],
    }
    (folder / f"{name}.json").write_text(json.dumps({"runs": [run]}), encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_table_without_a_file_says_at_which_commit_it_was_measured(page: Path) -> None:
    for heading, body in by_hand(page):
        if (page.name, heading) not in PENDING:
            assert BY_HAND.search(body), f"'{heading}' has figures from no file of benchmarks/results, and no commit"


def test_what_is_pending_is_still_written_by_hand() -> None:
    left = {(page.name, heading) for page in PAGES for heading, _ in by_hand(page)}
    assert left >= PENDING, "these tables are generated now: take them out of PENDING"


def test_the_readme_has_no_measured_table_of_its_own() -> None:
    assert [heading for heading, _ in by_hand(ROOT / "README.md")] == []


def test_every_file_of_results_has_a_command_that_writes_it_and_a_place_in_a_table(measured: ModuleType) -> None:
    kept = {path.stem for path in RESULTS.glob("*.json")}
    assert kept | NOT_YET == set(measured.COMMANDS)
    assert not kept & NOT_YET, "these are measured: take them out of NOT_YET"


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_a_file_of_results_says_what_measured_it(measured: ModuleType, path: Path) -> None:
    runs = import_module("rows").read_runs(path)
    for run in runs:
        assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", run.commit)
        assert run.rows
    wanted = measured.COMMANDS[path.stem].split()[1]
    assert wanted in {command.split()[1] for run in runs for command in run.commands}


@pytest.mark.skipif("digits" in NOT_YET, reason="digits.json is not there yet")
def test_the_gate_of_the_readme_s_example_holds_for_every_seed(measured: ModuleType) -> None:
    line = next(line for line in (ROOT / "README.md").read_text("utf-8").splitlines() if "edgec check build" in line)
    words = shlex.split(line)
    rows = {row.what: row for run in import_module("rows").read_runs(RESULTS / "digits.json") for row in run.rows}
    for name, option in {"accuracy": "--min-accuracy", "worst_class_accuracy": "--min-worst-class"}.items():
        row = rows[f"digits: artifact: {name}"]
        assert len(row.seeds) >= 5
        assert min(row.values) >= float(words[words.index(option) + 1])


def test_a_part_whose_file_is_not_there_yet_stays_as_it_is(
    measured: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(import_module("figures"), "RESULTS", tmp_path)
    text = "<!-- begin results-gates -->\nto come\n<!-- end results-gates -->"
    assert import_module("generate").filled(text) == text


def test_rows_that_share_all_but_the_last_part_are_a_line(figures: ModuleType, tmp_path: Path) -> None:
    rows = {
        "net: mir: ours: top-1": 0.5,
        "net: mir: ours: worst": 0.25,
        "net: teacher: top-1": 0.75,
        "other: x: top-1": 1,
    }
    keep(figures, tmp_path, "a", **rows)
    columns = [
        figures.Column(head=h, quantity=q, form=figures.percent_alone) for h, q in (("T", "top-1"), ("W", "worst"))
    ]
    text = figures.table("a", by=("method", "variant"), under="net", columns=columns, titles={"mir": "MiR"})
    assert text == (
        "| method | variant | T | W |\n| --- | --- | --- | --- |\n| MiR | ours | 50.0 | 25.0 |\n| teacher |  | 75.0 |  |\n\n"
        "Measured by `python benchmarks/made_up.py --output benchmarks/results/a.json` at commit `0123456789ab` on a "
        "machine, 29 November 2026."
    )


def test_a_figure_that_no_file_holds_is_a_mistake(figures: ModuleType, tmp_path: Path) -> None:
    keep(figures, tmp_path, "a", **{"x: top-1": 0.5})
    with pytest.raises(figures.NotMeasured, match="b"):
        figures.figure("b", "x: top-1", figures.percent)
    with pytest.raises(KeyError, match=r"has no row 'x: worst'"):
        figures.figure("a", "x: worst", figures.percent)
    column = figures.Column(head="T", quantity="worst", form=figures.percent)
    with pytest.raises(KeyError, match="no row of a"):
        figures.table("a", by=("net",), columns=[column])


def test_a_line_gives_its_figures_and_the_command_without_its_file(figures: ModuleType, tmp_path: Path) -> None:
    keep(figures, tmp_path, "a", **{"x: top-1": 0.5, "x: worst": -0.001})
    listed = [
        figures.Line(what="both", file="a", figures=[("x: top-1", figures.percent), ("x: worst", figures.points)])
    ]
    assert figures.lines(listed).splitlines()[2] == (
        "| both | 50.0 % (n = 50); −0.1 points (n = 50) | `python benchmarks/made_up.py` |"
    )


def test_of_several_commands_a_row_names_the_one_that_speaks_of_it(figures: ModuleType) -> None:
    commands = tuple(
        f"python benchmarks/x.py {rest} --output a.json" for rest in ("cat --samples 50", "cat --samples 10", "dog")
    )
    run = figures.Run(commands=commands, commit="", machine="", date="", versions={}, rows=())
    assert figures.short_command(run, "cat: 50 samples: ours: top-1") == "python benchmarks/x.py cat --samples 50"
    assert figures.short_command(run, "fox: 50 beside none") == "python benchmarks/x.py cat --samples 50"
    assert figures.short_command(run, "all: accepted") == "python benchmarks/x.py dog"


def test_a_spread_over_seeds_is_a_deviation(figures: ModuleType) -> None:
    rows = import_module("rows")
    row = rows.over_seeds("a", "share", {0: 0.1, 1: 0.3})
    assert figures.percent_deviation(row) == "20.0 ± 14.1"
    assert figures.percent(row) == "20.0 % (10.0 to 30.0, 2 seeds)"
    assert figures.percent_deviation(rows.over_seeds("a", "share", {0: 0.1})) == "10.0"
