"""The systemd service and timer that look at a registry's tag, for devices that shall not keep a process for it."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from edgec.core.errors import ConfigError
from edgec.deploy.agent import JITTER
from edgec.deploy.reference import Reference

__all__ = ["agent_units"]

_PLAIN = re.compile(r"[A-Za-z0-9._/+-]+")


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
    places = {"root": str(root.absolute()), "python": str(python or sys.executable)}
    for place in places.values():
        if not _PLAIN.fullmatch(place):
            raise ConfigError(
                f"'{place}' cannot stand in a systemd unit", hint="use a path of letters, digits and . _ - + /"
            )
    times = {"wait_s": round(every_s * (1 - JITTER)), "spread_s": round(every_s * 2 * JITTER)}
    given = "".join(f" {_quoted(option)}" for option in options)
    templates = resources.files("edgec.deploy").joinpath("templates")
    return {
        name: templates.joinpath(name)
        .read_text(encoding="utf-8")
        .format(reference=reference, options=given, **places, **times)
        for name in ("edgec-agent.service", "edgec-agent.timer")
    }


def _quoted(option: str) -> str:
    """An argument as systemd reads it back: neither specifiers nor variables in it."""
    escaped = option.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return escaped if _PLAIN.fullmatch(option) else f'"{escaped}"'
