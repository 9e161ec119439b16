"""Values that flow between stages, errors, digests, and the target profile."""

from __future__ import annotations

__all__: list[str] = []
