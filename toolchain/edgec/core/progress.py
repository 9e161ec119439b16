"""Progress as an injected value: the library reports, whoever called it decides what to draw."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar, runtime_checkable

__all__ = ["Lines", "Progress", "Silent"]

T = TypeVar("T")


@runtime_checkable
class Progress(Protocol):
    """What a stage may tell the person who waits."""

    def stage(self, name: str, *, number: int, total: int, cached: bool) -> None:
        """A stage begins, the `number`-th of `total`; a cached one is over at once."""
        ...

    def note(self, text: str) -> None:
        """One line worth keeping: a fact, a decision, a warning."""
        ...

    def track(self, items: Iterable[T], *, total: int, what: str, unit: str = "it") -> Iterator[T]:
        """Yields the items and shows how far they are; `what` is a short verb phrase."""
        ...


class Silent:
    """Shows nothing."""

    def stage(self, name: str, *, number: int, total: int, cached: bool) -> None:
        """Drops the news."""

    def note(self, text: str) -> None:
        """Drops the line."""

    def track(self, items: Iterable[T], *, total: int, what: str, unit: str = "it") -> Iterator[T]:
        """Yields the items."""
        del total, what, unit
        yield from items


class Lines(Silent):
    """A line of text for each stage and each fact.

    Args:
        tell: Takes the line, as `print` does.
    """

    def __init__(self, tell: Callable[[str], object]) -> None:
        self._tell = tell

    def stage(self, name: str, *, number: int, total: int, cached: bool) -> None:
        """Tells of the stage."""
        self._tell(f"[{number}/{total}] {name}{' (cached)' if cached else ''}")

    def note(self, text: str) -> None:
        """Tells the fact."""
        self._tell(f"      {text}")
