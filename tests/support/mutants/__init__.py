"""Ways to tamper with a bundle. Each makes one mutant in a folder; `mutations.py` tries them."""

from __future__ import annotations

from support.mutants import contents, damage, graphs, places  # noqa: F401 - they register their ways
from support.mutants.specimen import KINDS, Mutant, Specimen

__all__ = ["KINDS", "Mutant", "Specimen", "damage"]
