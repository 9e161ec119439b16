"""All compression methods that ship with edgec; importing this module registers them."""

from __future__ import annotations

from edgec.compress import cd, fskd, learngene, mir, practise
from edgec.compress.job import methods

__all__ = ["cd", "fskd", "learngene", "methods", "mir", "practise"]
