"""Finished bundles as runs in an experiment tracker."""

from __future__ import annotations

__all__: list[str] = []
