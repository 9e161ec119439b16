"""The central flow: config, plan, stages, cache."""

from __future__ import annotations

__all__: list[str] = []
