"""The stages of a build, one file each: what it depends on (`key`), what it does (`run`), what it finds (`Facts`)."""

from __future__ import annotations

__all__: list[str] = []
