"""Registries: a name, the function that does it and the config class that it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from edgec.core.errors import unknown_name

__all__ = ["Registered", "Registry"]

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class Registered(Generic[F]):
    """A registered function.

    Attributes:
        name: What it is found by.
        function: Itself.
        config: The config class that it takes.
        requires: Raises where what it is meant for cannot be done to something; None where it takes anything.
    """

    name: str
    function: F
    config: type[BaseModel]
    requires: Callable[..., object] | None = None


class Registry(Generic[F]):
    """Names of one kind of thing. Third parties add theirs by the entry point `edgec.<kind>`."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Registered[F]] = {}
        self._searched = False

    def register(
        self, name: str, config: type[BaseModel], *, requires: Callable[..., object] | None = None
    ) -> Callable[[F], F]:
        """Decorator: registers a function under a name.

        Args:
            name: To find it by.
            config: The config class that it takes.
            requires: As `Registered` has it.

        Raises:
            ValueError: The name is taken.
        """

        def add(function: F) -> F:
            if name in self._entries:
                raise ValueError(f"{self.kind} '{name}' is registered twice")
            self._entries[name] = Registered(name=name, function=function, config=config, requires=requires)
            return function

        return add

    def __getitem__(self, name: str) -> Registered[F]:
        self._search()
        if name not in self._entries:
            raise unknown_name(self.kind, name, self._entries)
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        self._search()
        return iter(sorted(self._entries))

    def _search(self) -> None:
        """Loads third-party entries once; importing such a module registers what it holds."""
        if not self._searched:
            self._searched = True
            for entry in entry_points(group=f"edgec.{self.kind.replace(' ', '_')}"):
                entry.load()
