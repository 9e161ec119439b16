"""A study's four files: all of it for machines, a line for each run, the page for people, and the picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgec import __version__
from edgec.core.files import require_writable, write_bytes, write_json
from edgec.core.host import describe_host
from edgec.core.plain import plain

__all__ = ["CSV", "JSON", "PAGE", "PLOT", "document_head", "require_folder", "write_files"]

JSON, CSV, PAGE, PLOT = "results.json", "results.csv", "results.md", "plot.svg"
SCHEMA = 1


def require_folder(folder: Path) -> None:
    """Says before anything runs whether the files could be written.

    Raises:
        ConfigError: The folder cannot be made or written to.
    """
    require_writable(folder / PAGE)


def write_files(
    folder: Path,
    document: Mapping[str, Any],
    *,
    fields: Sequence[str],
    page: str,
    plot: str,
) -> None:
    """Writes the four files, each whole or not at all.

    Args:
        folder: Where to.
        document: What the JSON holds; its `runs` are the lines of the CSV.
        fields: Columns of the CSV; a run that lacks one leaves it empty.
        page: Markdown.
        plot: SVG.
    """
    write_json(folder / JSON, dict(document))
    write_bytes(folder / CSV, _lines(document["runs"], fields).encode())
    write_bytes(folder / PLOT, plot.encode())
    write_bytes(folder / PAGE, page.encode())


def document_head(study: str, name: str) -> dict[str, Any]:
    """What every study's JSON begins with."""
    return {"schema": SCHEMA, "study": study, "name": name, "edgec": __version__, "machine": describe_host()}


def _lines(runs: Iterable[Mapping[str, Any]], fields: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fields, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in run.items()} for run in runs)
    return text.getvalue()


def _cell(value: Any) -> Any:
    """No formula: what spreadsheets would compute becomes a text for them."""
    if not isinstance(value, str):
        return value
    text = plain(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
