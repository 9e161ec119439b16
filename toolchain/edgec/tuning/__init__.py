"""`edgec tune`: the fastest model on a device at which every class still agrees with the teacher."""

from __future__ import annotations

__all__: list[str] = []
