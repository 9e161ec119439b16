"""What students learn from teachers that saw a long tail (LTKD, arXiv 2506.18496), on a person's own images."""

from __future__ import annotations

__all__: list[str] = []
