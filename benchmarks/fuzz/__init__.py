"""What reads bytes that strangers made, fuzzed by coverage: one module a reader.

A module has `check`, which raises where a promise is broken and else says whether the bytes were taken, `seeds`, sound
bytes to begin from, `INSTRUMENTED`, the modules whose branches are counted, and perhaps `mutate`, which changes bytes
as only somebody would who knows the format. `EdgecError` is the right answer to nearly all inputs; any other exception
is a finding.
"""

from __future__ import annotations

from importlib import import_module
from typing import Protocol, cast

__all__ = ["TARGETS", "Target", "load"]

TARGETS = ("archive", "arrays", "body", "graph", "image", "manifest", "registry", "reply", "session", "signature")


class Target(Protocol):
    """A reader, as its module describes it."""

    INSTRUMENTED: tuple[str, ...]

    @staticmethod
    def check(data: bytes) -> bool:
        """Gives the bytes to the reader; whether it takes them."""
        ...

    @staticmethod
    def seeds() -> list[bytes]:
        """Sound bytes."""
        ...


def load(name: str) -> Target:
    """The module of a target."""
    return cast("Target", import_module(f"fuzz.{name}"))
