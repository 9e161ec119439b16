"""Progress and paragraphs, on terminals of any width and where there is none."""

from __future__ import annotations

import io
import itertools
import time
from typing import Any

import pytest
from rich.console import Console

from edgec.cli.console import ConsoleProgress, print_paragraph

TEXT = "no out-of-distribution images given: using patches of scikit-learn's photographs and drawn images"


def printed(text: str, *, lead: str, width: int, terminal: bool) -> list[str]:
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=terminal, color_system=None)
    print_paragraph(console, text, lead=lead)
    return [line.rstrip() for line in file.getvalue().splitlines()]


@pytest.mark.parametrize("width", [30, 60, 140])
def test_a_paragraph_wraps_under_itself_on_a_terminal(width: int) -> None:
    lines = printed(TEXT, lead="note: ", width=width, terminal=True)
    assert max(map(len, lines)) <= width
    assert lines[0].startswith("note: no out-of-")
    assert all(line.startswith("      ") and line[6] != " " for line in lines[1:])
    assert " ".join(line[6:] for line in lines) == TEXT


def test_a_paragraph_is_one_line_where_nobody_looks() -> None:
    assert printed(TEXT, lead="note: ", width=60, terminal=False) == [f"note: {TEXT}"]


@pytest.mark.parametrize("terminal", [True, False])
def test_brackets_are_no_markup(terminal: bool) -> None:
    lines = printed("left out: '[red]x[/].png'", lead="[a] ", width=60, terminal=terminal)
    assert lines == ["[a] left out: '[red]x[/].png'"]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """What progress on a terminal of a width writes."""

    def terminal(width: int) -> str:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", str(width))
        progress = ConsoleProgress()
        progress.stage("compress", number=3, total=8, cached=False)
        for _ in progress.track(range(20), total=20, what="distilling", unit="step"):
            time.sleep(0.02)  # a bar is drawn ten times a second
        return capsys.readouterr().err

    return terminal


@pytest.mark.parametrize("width", [60, 140])
def test_a_bar_shows_what_how_far_and_how_fast_in_one_line(terminal: Any, width: int) -> None:
    written = terminal(width)
    assert "distilling" in written
    assert "20/20" in written
    assert "step/s" in written
    assert 8 <= max(len(list(run)) for char, run in itertools.groupby(written) if char == "━") <= 40


def test_a_folder_s_name_with_brackets_is_no_markup_beside_a_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert list(ConsoleProgress().track("ab", total=2, what="reading [/b]")) == ["a", "b"]
    assert "reading [/b]" in capsys.readouterr().err


def test_elsewhere_a_stage_is_a_line_and_bars_are_not_drawn(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    progress = ConsoleProgress()
    progress.stage("data", number=1, total=8, cached=True)
    progress.note(TEXT)
    assert list(progress.track("abc", total=3, what="reading")) == ["a", "b", "c"]
    caught = capsys.readouterr()
    assert caught.err == f"[1/8] data (cached)\n      {TEXT}\n"
    assert caught.out == ""
