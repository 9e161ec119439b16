"""The compressions that the study compares, by name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

__all__ = ["Compression", "Kind", "parse_compression"]

Kind = Literal["none", "pruned", "quantised", "distilled"]

SPARSITY = {"mild": 0.15, "moderate": 0.715, "severe": 1.0}
"""Share of the filters that go, of which one stays in any case.

The paper gives what it comes to, 15, 71 and 97 % of ResNet-20's weights, not how many filters of which layer. These
shares leave 227,008, 76,672 and 6,688 of its 268,336 weights, the paper's 227,296, 77,248 and 6,688.
"""

_BITS = re.compile(r"(?P<distilled>distilled-)?a(?P<activations>[1-8])w(?P<weights>[2-8])")


@dataclass(frozen=True, kw_only=True)
class Compression:
    """One of them.

    Attributes:
        name: As it is asked for.
        kind: Which way it is made.
        sparsity: Share of the filters that go; 0 where nothing is pruned.
        weight_bits: Of DoReFa; 32 where nothing is quantised.
        activation_bits: Of activations.
    """

    name: str
    kind: Kind
    sparsity: float = 0.0
    weight_bits: int = 32
    activation_bits: int = 32

    @property
    def quantises(self) -> bool:
        """Whether weights and activations are rounded."""
        return self.kind in ("quantised", "distilled")


def parse_compression(name: str) -> Compression:
    """`none`, `pruned-mild`, `pruned-moderate`, `pruned-severe`, `a8w4`, `distilled-a8w4` or other numbers of bits.

    Raises:
        ValueError: No such compression.
    """
    if name == "none":
        return Compression(name=name, kind="none")
    kind, _, level = name.partition("-")
    if kind == "pruned" and level in SPARSITY:
        return Compression(name=name, kind="pruned", sparsity=SPARSITY[level])
    if found := _BITS.fullmatch(name):
        return Compression(
            name=name,
            kind="distilled" if found["distilled"] else "quantised",
            weight_bits=int(found["weights"]),
            activation_bits=int(found["activations"]),
        )
    known = ", ".join(("none", *(f"pruned-{level}" for level in SPARSITY)))
    raise ValueError(
        f"got '{name}', expected {known}, a8w4, distilled-a8w4, or other bits: activations 1 to 8, weights 2 to 8"
    )
