"""The report's page, comparisons of two bundles, and what CI systems are told."""

from __future__ import annotations

__all__: list[str] = []
