"""What running a study asks of its runs, and of what makes them."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from edgec.core.progress import Progress
from edgec.pipeline.store import StageKey, Store

__all__ = ["Hands", "Open", "OutcomeT", "RunT", "Titled"]


class Titled(Protocol):
    """A run of any study."""

    @property
    def title(self) -> str:
        """For people."""
        ...

    @property
    def cell(self) -> Hashable:
        """What it has in common with runs that take as long: those of other seeds."""
        ...

    @property
    def key(self) -> StageKey:
        """What its result is stored under."""
        ...

    @property
    def before(self) -> tuple[StageKey, ...]:
        """What it makes first, and other runs need too: they wait for it rather than making it again."""
        ...


RunT = TypeVar("RunT", bound=Titled)
OutcomeT = TypeVar("OutcomeT")


@dataclass(frozen=True, kw_only=True)
class Hands(Generic[RunT, OutcomeT]):
    """What makes the runs of a study.

    Attributes:
        title: Of the study, for who asks later what an entry of the stage cache belongs to.
        prepare: Fails before anything is made where something would not do.
        make: The outcome of a run, from the store where it is there.
    """

    title: str
    prepare: Callable[[], None]
    make: Callable[[RunT], OutcomeT]


Open = Callable[[Store, Progress], Hands[Any, Any]]
"""Opens model and images of a study. Processes of a pool call it, too, so that it can be pickled."""
