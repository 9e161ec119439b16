"""Studies: a paper's tables, run again on a person's own model and images."""

from __future__ import annotations

__all__: list[str] = []
