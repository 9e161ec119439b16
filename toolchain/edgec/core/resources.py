"""Where the declarations that ship with the package lie: in a wheel, or in a checkout."""

from __future__ import annotations

from pathlib import Path

__all__ = ["declarations"]

_PACKAGE = Path(__file__).resolve().parents[1]


def declarations(kind: str) -> Path:
    """The folder of TOML declarations of a kind: `targets` or `calibration`."""
    packed = _PACKAGE / "_data" / kind
    return packed if packed.is_dir() else _PACKAGE.parents[1] / kind
