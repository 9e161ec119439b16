"""What learning from few images takes, for compression and quantisation alike: draws, labels, distillation."""

from __future__ import annotations

__all__: list[str] = []
