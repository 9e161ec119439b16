"""Options that several commands have: one decorator adds all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["together"]

Command = TypeVar("Command", bound=Callable[..., Any])


def together(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Adds click's options and arguments in this order."""

    def added(function: Command) -> Command:
        for option in reversed(options):
            function = option(function)
        return function

    return added
