"""Figures and tables as people read them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edgec.core.plain import in_markdown
from edgec.study.spread import Spread

__all__ = ["format_points", "format_seconds", "format_share", "format_spread", "markdown_table", "network_name"]


def format_share(share: float) -> str:
    """In percent, without its sign."""
    return f"{100 * share:.1f}"


def format_spread(spread: Spread | None) -> str:
    """`86.3 ± 0.4` of shares; a dash where nothing was measured."""
    if spread is None:
        return "–"
    return format_share(spread.mean) + ("" if spread.deviation is None else f" ± {format_share(spread.deviation)}")


def format_points(spread: Spread) -> str:
    """`+14.2 (+12.9 to +15.5)`, a difference of shares in points with its 95 % interval."""
    ends = spread.interval
    return _points(spread.mean) + (f" ({_points(ends[0])} to {_points(ends[1])})" if ends else "")


def _points(share: float) -> str:
    return f"{'+' if share >= 0 else '−'}{format_share(abs(share))}"


def format_seconds(seconds: float) -> str:
    """`61.2`; whole ones from a hundred on."""
    return f"{seconds:.1f}" if seconds < 100 else f"{seconds:.0f}"


def markdown_table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table, short lines filled up; cells are text, whatever they hold."""
    whole = ((*line, *[""] * len(head))[: len(head)] for line in lines)
    return "\n".join(
        f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *(map(in_markdown, cells) for cells in whole))
    )


def network_name(model: str) -> str:
    """A model's name without its module."""
    return model.rpartition(":")[2]
