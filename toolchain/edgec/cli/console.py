"""Progress on a terminal as bars, elsewhere as plain lines; always on stderr."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.progress import TimeRemainingColumn as TimeLeft
from rich.segment import Segment
from rich.table import Column, Table
from rich.text import Text

from edgec.core.plain import plain

__all__ = ["ConsoleProgress", "Terminal", "print_paragraph"]

T = TypeVar("T")

MIN_BAR, MAX_BAR = 8, 40
BESIDE_BAR = 55
"""Columns that the text on both sides of a bar takes."""


class Terminal(Console):
    """rich's console, for texts of others: what rich itself has to say to the terminal stands apart from them.

    Brackets and colons in a text are text: no style, no link, no picture.
    """

    def __init__(self, **options: Any) -> None:
        as_text: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False}
        super().__init__(**as_text | options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """The pieces of what is printed."""
        for piece in super().render(renderable, options):
            lines = piece.text.split("\n")
            yield piece if piece.control else Segment("\n".join(map(plain, lines)), piece.style)


class ConsoleProgress:
    """Stages, notes and bars for a person who waits."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Terminal(stderr=True, quiet=quiet)

    def stage(self, name: str, *, number: int, total: int, cached: bool) -> None:
        """A line per stage."""
        place = Text(f"[{number}/{total}]", style="bold cyan")
        self._console.print(Text.assemble(place, f" {name}", (" (cached)", "dim") if cached else ""))

    def note(self, text: str) -> None:
        """A line of its own."""
        print_paragraph(self._console, text, lead="      ", style="dim")

    def track(self, items: Iterable[T], *, total: int, what: str, unit: str = "it") -> Iterator[T]:
        """A bar with rate and time left on a terminal; nothing elsewhere: the stage's line stands for it."""
        if not self._console.is_terminal:
            yield from items
            return
        columns = (
            SpinnerColumn(),
            TextColumn("    {task.description}", markup=False),
            BarColumn(bar_width=max(MIN_BAR, min(MAX_BAR, self._console.width - BESIDE_BAR))),
            MofNCompleteColumn(),
            Rate(unit),
            TimeLeft(compact=True),
        )
        with Progress(*columns, console=self._console, transient=True) as bars:
            yield from bars.track(items, total=total, description=what)


def print_paragraph(console: Console, text: str, *, lead: str, style: str = "") -> None:
    """Prints text that wraps beside its lead on a terminal, and stays one line elsewhere."""
    text = plain(text)
    if not console.is_terminal:
        console.print(f"{lead}{text}", markup=False, soft_wrap=True)
        return
    grid = Table.grid(Column(no_wrap=True), Column(overflow="fold"))
    grid.add_row(Text(lead), Text(text))
    console.print(grid, style=style)


class Rate(ProgressColumn):
    """Steps a second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        """The column's text."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.3g} {self._unit}/s", style="progress.data.speed")
