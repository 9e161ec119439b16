"""What test images say of a model: accuracy with intervals, paired tests, gates, corruptions, the report as a value."""

from __future__ import annotations

__all__: list[str] = []
