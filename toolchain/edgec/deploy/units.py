"""systemd units: one that serves what runs at a site, and a service with its timer that follow a registry's tag."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from edgec.core.errors import ConfigError
from edgec.deploy.agent import JITTER
from edgec.deploy.reference import Reference

__all__ = ["agent_units", "serve_unit"]

_PLAIN = re.compile(r"[A-Za-z0-9._/+-]+")


def serve_unit(root: Path, *, python: Path | None = None) -> str:
    """The unit's text, for the Python that runs this.

    Raises:
        ConfigError: A path that systemd would read otherwise: with blanks, quotes, `%` or `$`.
    """
    return _filled("edgec-serve.service", **_places(root, python))


def agent_units(
    reference: Reference, root: Path, *, every_s: int, options: Sequence[str] = (), python: Path | None = None
) -> dict[str, str]:
    """The units by their file names.

    Args:
        reference: The tag to follow.
        root: The site.
        every_s: Between two looks, on average; each comes 15 % earlier or later, at random.
        options: Of `edgec agent`.
        python: What runs it; by default the Python that runs this.

    Raises:
        ConfigError: A path that systemd would read otherwise: with blanks, quotes, `%` or `$`.
    """
    places = _places(root, python)
    times = {"wait_s": round(every_s * (1 - JITTER)), "spread_s": round(every_s * 2 * JITTER)}
    given = "".join(f" {_quoted(option)}" for option in options)
    names = ("edgec-agent.service", "edgec-agent.timer")
    return {name: _filled(name, reference=reference, options=given, **places, **times) for name in names}


def _filled(name: str, **fields: object) -> str:
    text = resources.files("edgec.deploy").joinpath(f"templates/{name}").read_text(encoding="utf-8")
    return text.format(**fields)


def _places(root: Path, python: Path | None) -> dict[str, str]:
    places = {"root": str(root.absolute()), "python": str(python or sys.executable)}
    for place in places.values():
        if not _PLAIN.fullmatch(place):
            raise ConfigError(
                f"'{place}' cannot stand in a systemd unit", hint="use a path of letters, digits and . _ - + /"
            )
    return places


def _quoted(option: str) -> str:
    """An argument as systemd reads it back: neither specifiers nor variables in it."""
    escaped = option.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return escaped if _PLAIN.fullmatch(option) else f'"{escaped}"'
