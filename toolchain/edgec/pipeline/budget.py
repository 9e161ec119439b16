"""Which of two budgets holds where a config and what lies over or under it each name one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from edgec.learn.config import BUDGETS

__all__ = ["beside_budget", "on_top", "settle_budget_"]


def settle_budget_(compress: Any, overrides: Collection[str]) -> None:
    """Takes budgets out of a table `[compress]` that an override by dotted name replaces."""
    given = [name for name in BUDGETS if f"compress.{name}" in overrides]
    if isinstance(compress, dict) and given:
        for name in set(BUDGETS) - set(given):
            compress.pop(name, None)


def on_top(given: Sequence[tuple[str, Any]], more: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Overrides with others over them, whose budget replaces theirs."""
    budgets = {f"compress.{name}" for name in BUDGETS}
    replaced = budgets if budgets & more.keys() else set()
    return [*((name, value) for name, value in given if name not in replaced), *more.items()]


def beside_budget(defaults: dict[str, Any], compress: Any) -> dict[str, Any]:
    """Defaults for a config, without their budget where its table `[compress]` names one."""
    if not isinstance(compress, dict) or not any(name in compress for name in BUDGETS):
        return defaults
    left = {name: value for name, value in defaults["compress"].items() if name not in BUDGETS}
    return {**defaults, "compress": left}
