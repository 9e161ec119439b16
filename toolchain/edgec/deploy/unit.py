"""The systemd unit that serves what runs at a site."""

from __future__ import annotations

import re
import sys
from importlib import resources
from pathlib import Path

from edgec.core.errors import ConfigError

__all__ = ["serve_unit"]

_PLAIN = re.compile(r"[A-Za-z0-9._/+-]+")


def serve_unit(root: Path, *, python: Path | None = None) -> str:
    """The unit's text, for the Python that runs this.

    Raises:
        ConfigError: A path that systemd would read otherwise: with blanks, quotes, `%` or `$`.
    """
    template = resources.files("edgec.deploy").joinpath("templates/edgec-serve.service").read_text(encoding="utf-8")
    places = {"root": str(root.absolute()), "python": str(python or sys.executable)}
    for place in places.values():
        if not _PLAIN.fullmatch(place):
            raise ConfigError(
                f"'{place}' cannot stand in a systemd unit", hint="use a path of letters, digits and . _ - + /"
            )
    return template.format(**places)
